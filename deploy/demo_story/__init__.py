"""The whole story on one machine: what `deploy/demo` runs."""
