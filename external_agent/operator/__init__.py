"""The operator API: everything the agent knows, and the one way to change it."""
