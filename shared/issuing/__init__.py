"""Deciding about CAs and renewal; no I/O, no clock."""
