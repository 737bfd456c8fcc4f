"""The drop-in for mwan3's command, and connbal use, on a real kernel."""
