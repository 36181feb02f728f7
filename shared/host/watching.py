"""Shows something again and again on a terminal, until Ctrl-C."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from shared.contract.errors import ConfigurationError

SECONDS = 5.0
NEEDS_ATTENTION = 13
"""What a command that shows how things stand ends with when something needs a person."""
_CLEAR = "\x1b[H\x1b[2J\x1b[3J"


def watch(
    draw: Callable[[], int],
    *,
    seconds: float = SECONDS,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Draw until Ctrl-C; return what the last drawing returned.

    Raises:
        ConfigurationError: standard output is no terminal.
    """
    if not sys.stdout.isatty():
        raise ConfigurationError(
            "--watch is for a terminal.", do="Without it the command shows how things stand once."
        )
    code = 0
    try:
        while True:
            sys.stdout.write(_CLEAR)
            code = draw()
            stamp = time.strftime("%H:%M:%S")
            sys.stdout.write(f"\n{stamp}, again every {seconds:.0f} s; Ctrl-C ends it\n")
            sys.stdout.flush()
            sleep(seconds)
    except KeyboardInterrupt:
        sys.stdout.write("\n")
        return code
