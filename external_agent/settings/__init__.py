"""Settings, keys and addresses, read once; logs."""
