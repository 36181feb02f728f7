"""What follows from what this machine knows, and where it is shown."""
