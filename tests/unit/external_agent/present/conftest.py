"""A running agent."""

from tests.unit.external_agent.running import own_agent, running, shared_agent, snapshot

__all__ = ["own_agent", "running", "shared_agent", "snapshot"]
