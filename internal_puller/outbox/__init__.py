"""What is to be reported to the agent."""
