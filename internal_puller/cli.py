"""The command ``internal-puller``: a quick way for ``pull``, and the whole command line."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point of the console script."""
    from internal_puller.pull.lean_pull import parse, run_pull
    from shared.host.terminal import guard

    guard()
    options = parse(sys.argv[1:])
    if options is not None:
        sys.exit(run_pull(options))
    from internal_puller.commands.app import run

    sys.exit(run())


if __name__ == "__main__":
    main()
