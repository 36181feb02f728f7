"""How much one puller may say: counted by our clock, and growing with what it is granted."""

from __future__ import annotations

REPORT_WINDOW = 600
"""Seconds, by the agent's clock, in which receipts and reports are counted."""


def receipts_in_window(grants: int) -> int:
    """Return how many receipts of one puller are taken in :data:`REPORT_WINDOW`.

    A renewal of everything is one for each certificate; looking again at what is served every five
    minutes, and one try after a failure, may be as many again.

    Args:
        grants: certificates that are granted to it, or that it gets by itself.
    """
    return 60 + 4 * grants
