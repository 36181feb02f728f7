"""What is known, as plain records; no SQL."""
