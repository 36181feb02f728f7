"""The heart of the agent."""
