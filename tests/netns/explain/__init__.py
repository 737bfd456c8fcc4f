"""What connbal explain says, against what the kernel does."""
