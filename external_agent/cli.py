"""The command ``external-agent``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from shared.host.collector import seldom


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and end with its exit code."""
    seldom()
    from external_agent.commands.app import run

    sys.exit(run(arguments))


if __name__ == "__main__":
    main()
