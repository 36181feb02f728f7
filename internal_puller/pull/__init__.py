"""One pull, the service, the rehearsal; the lean path."""
