"""Direct mode: this machine speaks ACME itself, outward only; no agent is needed."""
