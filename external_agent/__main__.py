"""``python -m external_agent``: the same as the command ``external-agent``."""

from external_agent.cli import main

main()
