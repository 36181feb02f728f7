"""What follows from records; pure: no I/O, no clock."""
