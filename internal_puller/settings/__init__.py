"""What an administrator decides about this machine: settings files, read once."""
