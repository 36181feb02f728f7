"""Which of a certificate's CAs has its turn, and after which failures the next one is tried.

The rules are those of docs/decisions/0014. Pure: times are unix seconds and arguments.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from shared.contract.errors import (
    CaNotConfigured,
    DnsUnavailable,
    IssuanceRateLimited,
    IssuanceRejected,
    IssuanceUnavailable,
    IssuanceUnfinished,
    OrderGone,
    RelayError,
    ValidationFailed,
)
from shared.issuing.renewal import Life, asked_pause, latest_moment, pause_after

PATIENCE = 3
"""So many failures in a row without an answer, or without an end, are waited out at one CA."""
CLOCK_STEP = 300
"""A pause written further ahead than this was written by a clock that was set back since."""
# Any CA would say the same of the same CSR, or the next attempt at this CA heals it by itself.
_STAYS = frozenset(
    ("accountDoesNotExist", "alreadyReplaced", "badCSR", "badPublicKey", "orderNotReady")
)
_ACME_ERROR = "urn:ietf:params:acme:error:"


@dataclass(frozen=True, slots=True)
class Standing:
    """How one CA stands with one certificate.

    Attributes:
        paused_at, paused_until: no attempt in between; 0 for none.
        asked_until: the part of the pause that the CA asked for; 0 for none.
        failures: in a row since the last certificate.
        why: the last error, in words.
        why_type: a type of :mod:`shared.contract.errors`.
    """

    directory_url: str
    paused_at: int = 0
    paused_until: int = 0
    asked_until: int = 0
    failures: int = 0
    why: str = ""
    why_type: str = ""

    def is_paused(self, now: int) -> bool:
        return self.paused_at <= now + CLOCK_STEP and now < self.paused_until


@dataclass(frozen=True, slots=True)
class Setback:
    """What follows from a failure of a certificate that has several CAs.

    Attributes:
        standing: of the CA that failed.
        gives_way: the attempt is over, and another CA is asked next.
        turn: the CA that is asked next.
        paused_until: when, at the earliest; 0 for at once.
    """

    standing: Standing
    gives_way: bool
    turn: str
    paused_until: int


def after_failure(
    directories: Sequence[str],
    standings: Mapping[str, Standing],
    directory_url: str,
    error: RelayError,
    *,
    certificate: str,
    life: Life | None,
    now: int,
) -> Setback:
    """Return what to do after a failed attempt at one of several CAs.

    A failure that another CA may not have leaves only this CA alone for a while; any other one
    leaves them all alone.

    Args:
        directories: all CAs, the preferred first.
        life: of the certificate in place; ``None`` before the first.
    """
    failures = _of(standings, directory_url).failures + 1
    pause = pause_after(error, failures, f"{certificate} {directory_url}")
    asked = asked_pause(error)
    standing = Standing(
        directory_url,
        paused_at=now,
        paused_until=now + pause,
        asked_until=0 if asked is None else now + int(asked),
        failures=failures,
        why=error.what,
        why_type=error.type,
    )
    known = {**standings, directory_url: standing}
    if not gives_way(error, failures=failures, life=life, now=now):
        return Setback(standing, False, directory_url, standing.paused_until)
    turn = in_turn(directories, known, now)
    return Setback(standing, True, turn, paused_until(directories, known, now))


def gives_way(error: RelayError, *, failures: int, life: Life | None, now: int) -> bool:
    """Tell whether another CA may succeed where this one failed.

    Args:
        failures: in a row at this CA, this one counted.
        life: of the certificate in place; ``None`` before the first.
    """
    if isinstance(error, CaNotConfigured):
        return True
    if isinstance(error, IssuanceRateLimited):
        return _asks_too_much(error, failures, life, now)
    if isinstance(error, DnsUnavailable):
        return False
    if isinstance(error, IssuanceUnavailable | IssuanceUnfinished):
        return failures >= PATIENCE
    if isinstance(error, IssuanceRejected):
        return _is_its_own(error)
    return False


def _asks_too_much(error: IssuanceRateLimited, failures: int, life: Life | None, now: int) -> bool:
    """A rate limit is kept to while there is time: what is left ends at the latest safe moment."""
    if life is None:
        return True
    asked = asked_pause(error)
    if asked is None:
        return failures >= PATIENCE
    return now + asked > latest_moment(life)


def _is_its_own(error: IssuanceRejected) -> bool:
    """A failed validation is ours, but for CAA, which names CAs; other refusals are the CA's."""
    codes = set(_codes(error.problem))
    if "caa" in codes:
        return True
    if isinstance(error, ValidationFailed | OrderGone):
        return False
    return not codes & _STAYS


def _codes(problem: Mapping[str, object] | None) -> Iterator[str]:
    kind = (problem or {}).get("type")
    if isinstance(kind, str):
        yield kind.removeprefix(_ACME_ERROR)
    below = (problem or {}).get("subproblems")
    for one in below if isinstance(below, list) else []:
        if isinstance(one, dict):
            yield from _codes(one)


def in_turn(directories: Sequence[str], standings: Mapping[str, Standing], now: int) -> str:
    """Return the first CA that is not left alone, else the one whose pause ends first."""
    free = [one for one in directories if not _of(standings, one).is_paused(now)]
    if free:
        return free[0]
    return min(directories, key=lambda one: _of(standings, one).paused_until)


def paused_until(directories: Sequence[str], standings: Mapping[str, Standing], now: int) -> int:
    """Return until when every CA is left alone; 0 if one is not."""
    first = _of(standings, in_turn(directories, standings, now))
    return first.paused_until if first.is_paused(now) else 0


def without_own_pauses(standings: Mapping[str, Standing], now: int) -> dict[str, Standing]:
    """Return what CAs asked for and is still to be kept to; all else is forgotten."""
    kept = {}
    for url, one in standings.items():
        until = one.paused_until if one.why_type == IssuanceRateLimited.type else one.asked_until
        if until > now and one.is_paused(now):
            kept[url] = replace(one, paused_until=until, failures=0)
    return kept


def _of(standings: Mapping[str, Standing], directory_url: str) -> Standing:
    return standings.get(directory_url) or Standing(directory_url)
