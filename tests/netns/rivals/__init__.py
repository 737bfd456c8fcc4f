"""What goes wrong in mwan3 and its like, case by case, on a real kernel: here it goes right."""
