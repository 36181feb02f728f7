"""What the agent serves: challenges, the relay API for pullers, the operator's view."""
