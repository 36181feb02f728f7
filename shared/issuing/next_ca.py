"""Which CA is asked next, when a certificate may come from several (docs/decisions/0014)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shared.contract.errors import RelayError
from shared.issuing.ca_choice import gives_way
from shared.issuing.renewal import Life

ANY_TIMES = 6
"""After so many failures of whatever kind: CAs look from other places, and asking costs little."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """What stands against a CA for one certificate since its last success.

    Attributes:
        failures: in a row, at this CA.
        until: it is left alone until then, unix seconds.
        what: its last error in words.
    """

    failures: int
    until: int
    what: str


@dataclass(frozen=True, slots=True)
class Course:
    """What to do after a failure.

    Attributes:
        directory_url: the CA that is asked next.
        paused_until: not before then, unix seconds.
        troubles: by directory URL.
    """

    directory_url: str
    paused_until: int
    troubles: Mapping[str, Trouble]


def after_failure(
    cas: Sequence[str],
    current: str,
    troubles: Mapping[str, Trouble],
    error: RelayError,
    *,
    now: int,
    pause: int,
    life: Life | None,
) -> Course:
    """Return the next step: the same CA after its pause, or another one that is not left alone.

    Args:
        cas: directory URLs, the preferred first; ``current`` is one of them.
        pause: seconds for which ``current`` is to be left alone.
        life: of the certificate in place; ``None`` before the first.
    """
    failures = failures_at(troubles, current) + 1
    known = {**troubles, current: Trouble(failures, now + pause, error.what)}
    others = [url for url in cas if url != current]
    leaves = failures >= ANY_TIMES or gives_way(error, failures=failures, life=life, now=now)
    if not others or not leaves:
        return Course(current, now + pause, known)
    ready = [url for url in others if _until(known, url) <= now]
    if ready:
        return Course(ready[0], now, known)
    first = min(cas, key=lambda url: _until(known, url))
    return Course(first, _until(known, first), known)


def failures_at(troubles: Mapping[str, Trouble], directory_url: str) -> int:
    """Return how often in a row this CA has failed."""
    found = troubles.get(directory_url)
    return 0 if found is None else found.failures


def _until(troubles: Mapping[str, Trouble], directory_url: str) -> int:
    found = troubles.get(directory_url)
    return 0 if found is None else found.until
