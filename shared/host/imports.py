"""Imports of many modules, sooner."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collection() -> Iterator[None]:
    """What an import makes is kept, so looking for garbage among it takes time and finds none."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
