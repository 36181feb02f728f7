"""Where certificates come from: an agent, or a CA directly."""
