"""The agent's durable memory; see ``interface`` for what it promises."""
