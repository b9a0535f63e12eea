"""What we know: the only SQL in the project."""
