"""Shows something again and again on a terminal, until Ctrl-C."""

from __future__ import annotations

import time
from collections.abc import Callable

from shared.contract.errors import ConfigurationError
from shared.host.terminal import clear, emit, flush, is_terminal

SECONDS = 5.0
NEEDS_ATTENTION = 13
"""What a command that shows how things stand ends with when something needs a person."""


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
    if not is_terminal():
        raise ConfigurationError(
            "--watch is for a terminal.", do="Without it the command shows how things stand once."
        )
    code = 0
    try:
        while True:
            clear()
            code = draw()
            stamp = time.strftime("%H:%M:%S")
            emit("", f"{stamp}, again every {seconds:.0f} s; Ctrl-C ends it")
            flush()
            sleep(seconds)
    except KeyboardInterrupt:
        emit()
        return code
