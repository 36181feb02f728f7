"""What is in place and was not seen to be served: whether it is so now, and in words. Lean."""

from __future__ import annotations

import time

from internal_puller.outbox.verdict import NOT_SERVED, Verdict
from internal_puller.state.progress import Standing


def is_served(seen: bool | None, standing: Standing | None) -> bool | None:
    """Tell whether what is in place is served: by what is seen, and the verdict that stands.

    Args:
        seen: whether the probe points show it; ``None``: not known, or nobody looks.
    """
    if standing is None:
        return seen
    verdict = standing.verdict
    if verdict == Verdict.SEEN_BEFORE or (verdict == Verdict.ANOTHER_SERVER and not seen):
        return None  # what is seen says nothing of the server that reads the files
    return False if seen is None and verdict in NOT_SERVED else seen


def tell(standing: Standing, now: float) -> str:
    """Return it as sentences: what, since when, and when it is looked at again.

    Args:
        now: unix seconds.
    """
    again = f"at {_minute(standing.again_at)}" if standing.again_at > now else "by the next pull"
    if standing.verdict == Verdict.BACK_UNSEEN:
        return f"{standing.what} Not seen as it was since {_minute(standing.since)}; again {again}."
    return (
        f"{standing.what} In place, and not seen served since {_minute(standing.since)}; looked at "
        f"again {again}."
    )


def _minute(moment: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(moment))
