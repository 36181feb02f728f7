"""What was learned: last accepted generations, pending keys, progress."""
