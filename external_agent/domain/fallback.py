"""Which CA is asked next, when a certificate may come from several (docs/decisions/0014)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shared.acme.problems import problem_code
from shared.errors import (
    ClockWrong,
    ConfigurationError,
    IssuanceRateLimited,
    IssuanceRejected,
    IssuanceUnavailable,
    OrderGone,
    RelayError,
    ValidationFailed,
)
from shared.renewal import DAY, asked_pause

UNAVAILABLE_TIMES = 3
"""So many failures without an answer in a row, and another CA is asked."""
ANY_TIMES = 6
"""After so many failures of whatever kind: CAs look from other places, and asking costs little."""

# What every CA would find: our listener, our DNS, our CSR.
_EVERYWHERE = frozenset(
    (
        *("badCSR", "badPublicKey", "compound", "connection", "dns", "incorrectResponse"),
        *("tls", "unauthorized"),
    )
)

# What a validation may end with though our answer was there.
_OF_THIS_CA = frozenset(("caa", "rejectedIdentifier", "serverInternal", "unsupportedIdentifier"))


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
    end: int,
) -> Course:
    """Return the next step: the same CA after its pause, or another one that is not left alone.

    Args:
        cas: directory URLs, the preferred first; ``current`` is one of them.
        pause: seconds for which ``current`` is to be left alone.
        end: when the newest leaf expires, unix seconds; 0 for none.
    """
    failures = failures_at(troubles, current) + 1
    known = {**troubles, current: Trouble(failures, now + pause, error.what)}
    others = [url for url in cas if url != current]
    if not others or not is_reason_to_leave(error, failures, now=now, end=end):
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


def is_reason_to_leave(error: RelayError, failures: int, *, now: int, end: int) -> bool:
    """Tell whether another CA may do better.

    Args:
        failures: at this CA in a row, this one counted.
        end: as for :func:`after_failure`.
    """
    match error:
        case OrderGone() | ClockWrong():
            leave = False
        case IssuanceRateLimited():
            leave = now + (asked_pause(error) or 0) > end - DAY
        case IssuanceUnavailable():
            leave = failures >= UNAVAILABLE_TIMES
        case ValidationFailed():
            leave = problem_code(error.problem) in _OF_THIS_CA
        case IssuanceRejected():
            leave = problem_code(error.problem) not in _EVERYWHERE
        case _:  # no binding, terms not agreed to, no such profile: this CA's
            leave = isinstance(error, ConfigurationError)
    return leave or failures >= ANY_TIMES


def _until(troubles: Mapping[str, Trouble], directory_url: str) -> int:
    found = troubles.get(directory_url)
    return 0 if found is None else found.until
