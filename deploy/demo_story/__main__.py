"""Make the environment with nothing but the standard library, then tell the story inside it."""

from __future__ import annotations

import argparse
import os
import sys
from typing import NoReturn

from tools import environment


def main() -> NoReturn:
    parser = argparse.ArgumentParser(prog="deploy/demo", description=_ABOUT)
    parser.add_argument("--keep", action="store_true", help="leave it running until Ctrl-C")
    parser.add_argument(
        "--all",
        action="store_true",
        help="the other ways, too: keys made inside, dns-01, dns-persist-01, direct mode",
    )
    options = parser.parse_args()
    try:
        python = environment.ensure(environment.DEMO)
    except environment.EnvironmentFailed as error:
        print(f"deploy/demo: {error}", file=sys.stderr)
        sys.exit(2)
    variables = environment.variables(environment.DEMO) | {"PYTHONPATH": str(environment.ROOT)}
    arguments = [str(python), "-m", "deploy.demo_story.telling", *(["--keep"] * options.keep)]
    arguments += ["--all"] * options.all
    os.execve(python, arguments, variables)


_ABOUT = (
    "A lab CA, split DNS, the external agent, an intranet server and a puller that nothing can "
    "connect to, all on this machine; everything it writes is in a temporary directory."
)

if __name__ == "__main__":
    main()
