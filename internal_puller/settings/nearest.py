"""What somebody may have meant. Only the standard library, and that only for an error."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def nearest(given: str, known: Iterable[str]) -> str:
    """Return ``; the nearest is 'x'``, to end a sentence with; empty where none is near."""
    import difflib

    spelled = {one.lower(): one for one in known}
    near = difflib.get_close_matches(given.lower(), spelled, n=1, cutoff=0.5)
    return f"; the nearest is {spelled[near[0]]!r}" if near else ""
