"""Settings and targets of this machine, and the account it runs as."""
