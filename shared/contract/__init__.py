"""The contract of both sides: no I/O, no clock."""
