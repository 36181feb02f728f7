"""How often Python looks for garbage that holds itself."""

from __future__ import annotations

import gc

_NEW_OBJECTS = 50_000
"""Python's own number is 700. What imports make stays, and to look through it over and over is a
fifth of the time that a command takes to start."""


def seldom() -> None:
    """Look less often; called before the first large import."""
    gc.set_threshold(_NEW_OBJECTS)
