"""Of the values and numbers everything else is made from."""
