"""The listeners for pullers and for challenges: admission, calls, waking."""
