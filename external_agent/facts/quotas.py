"""How much a puller may do within a window: by this agent's clock, and growing with its grants.

What the other side says of itself (a time, a name, a number) is never what is counted: rows that
this agent wrote are, by when it wrote them. A machine with a thousand certificates has a thousand
times as much to say as one with one.
"""

from __future__ import annotations

from shared.issuing.renewal import DAY

WINDOW = 600
"""Seconds in which :func:`allowed` and :func:`calls` count."""
EVENTS_WINDOW = DAY
"""Seconds in which :func:`event_bytes` counts."""
REDEMPTIONS = 60
"""Attempts to redeem one enrolment token within :data:`WINDOW`."""
DIRECT_AT_LEAST = 1000
"""Certificates of its own that any puller may report."""


def allowed(grants: int) -> int:
    """Return how many messages of one kind a puller may send within :data:`WINDOW`.

    Four for each certificate are what an honest machine sends at worst: installed, rolled back,
    and twice that something else is served; the rest is for a small machine that is being repaired.

    Args:
        grants: certificates granted to the puller.
    """
    return 60 + 4 * grants


def direct_certificates(grants: int) -> int:
    """Return how many certificates of its own a puller may report."""
    return DIRECT_AT_LEAST + grants


def calls(grants: int) -> int:
    """Return how many calls of any kind that change something fit into :data:`WINDOW`.

    That is :func:`allowed`, and two for each certificate that it may report. How many it does
    report is not asked: a puller could raise its own quota by it.
    """
    return allowed(grants) + 2 * direct_certificates(grants)


def rehearsals(grants: int) -> int:
    """Return how many rehearsals a puller may begin in an hour: a staging CA has limits, too."""
    return 12 + grants


def event_bytes(grants: int) -> int:
    """Return how many bytes of the audit trail a puller's messages may fill in a day.

    A renewal fills about 1 KiB, with its CSR; the first report of a certificate half of that.
    """
    return 1024 * 1024 + 2 * 1024 * grants
