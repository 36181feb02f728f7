"""An address of loopback for one peer, so that ports 53 and 80 are free for everybody."""

from __future__ import annotations

import itertools
import os

_count = itertools.count(64)


def own_address() -> str:
    """Return an address in 127.64.0.0/10 that no other running test process takes."""
    pid = os.getpid()
    return f"127.{64 + next(_count) % 64}.{pid >> 8 & 0xFF}.{pid & 0xFF}"
