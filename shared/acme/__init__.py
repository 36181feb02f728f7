"""The ACME client (RFC 8555) that both sides use, over the `acme` library."""
