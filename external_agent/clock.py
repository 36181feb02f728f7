"""The one place where the agent asks what time it is."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], int]
"""Unix seconds."""


def system_clock() -> int:
    return int(time.time())
