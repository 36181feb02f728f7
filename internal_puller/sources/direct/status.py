"""How direct mode stands with each certificate: for ``status`` and ``direct list``."""

from __future__ import annotations

import time
from dataclasses import dataclass

from internal_puller.settings.config import Settings
from internal_puller.sources.direct.record import DirectFiles, DirectProgress
from internal_puller.sources.direct.settings import DirectCertificate, DirectSettings
from internal_puller.state.progress import LastError
from shared.issuing.ca_choice import Standing, in_turn

_REASONS = {
    "": "there is none yet",
    "lifetime": "so much of its lifetime is used up then",
    "window": "the CA suggests it",
    "window-past": "the CA suggests to renew at once",
    "window-late": "the CA suggests a moment too close to the end, or beyond it",
    "braked": "the CA suggests to renew at once, again right after a renewal",
}


@dataclass(frozen=True)
class DirectStatus:
    """
    Attributes:
        directory: of the CA that is asked next.
        directories: of all its CAs, the preferred first.
        left_alone: directory URL to unix seconds until when it is left alone.
        issued_by: directory URL of the CA that issued the newest generation.
        issued: the newest generation; 0 is none.
        not_after: unix seconds of it.
        next_renewal: unix seconds; 0 is as soon as possible.
        why: why then, in words.
        window: the CA's suggestion (RFC 9773), unix seconds.
        explanation_url: where the CA says why.
        failures: orders that failed in a row; no order is made before ``paused_until``.
        persist_until: name to the end of its dns-persist-01 record, unix seconds.
        unfinished: an order is under way.
    """

    directory: str
    challenge: str
    key_algorithm: str
    profile: str | None
    issued: int
    not_after: int
    next_renewal: int
    why: str
    window: tuple[int, int] | None
    explanation_url: str | None
    failures: int
    paused_until: int
    persist_until: dict[str, int]
    unfinished: bool
    error: LastError | None
    directories: tuple[str, ...]
    left_alone: dict[str, int]
    issued_by: str | None


def direct_status(direct: DirectSettings, settings: Settings) -> dict[str, DirectStatus]:
    """Return how each certificate stands. Raises ``ConfigurationError``, ``LooseFileMode``."""
    files = DirectFiles(settings.state_directory)
    found = {}
    for one in direct.certificates:
        own = files.of(one.certificate)
        known = own.progress() or DirectProgress()
        found[one.certificate] = _status(
            direct, one, known, unfinished=own.has_attempt(), now=int(time.time())
        )
    return found


def _status(
    direct: DirectSettings,
    one: DirectCertificate,
    known: DirectProgress,
    *,
    unfinished: bool,
    now: int,
) -> DirectStatus:
    directories = direct.directories(one)
    standings = {url: Standing(**members) for url, members in known.standings.items()}
    advice = known.advice or {}
    start, end = advice.get("start"), advice.get("end")
    next_renewal, why = known.due_at, _REASONS.get(known.reason, known.reason)
    if known.renew:
        next_renewal, why = 0, known.renew
    if known.failures:
        next_renewal = known.paused_until
        why = f"after {known.failures} failed orders the next one waits"
    return DirectStatus(
        directory=in_turn(directories, standings, now),
        directories=directories,
        left_alone={
            url: standings[url].paused_until
            for url in directories
            if url in standings and standings[url].is_paused(now)
        },
        issued_by=known.issued_by or None,
        challenge=one.challenge,
        key_algorithm=one.key_algorithm,
        profile=one.profile,
        issued=known.generation,
        not_after=known.not_after,
        next_renewal=next_renewal,
        why=why,
        window=None if start is None or end is None else (int(start), int(end)),
        explanation_url=advice.get("explanation_url"),
        failures=known.failures,
        paused_until=known.paused_until,
        persist_until=known.persist_until,
        unfinished=unfinished,
        error=known.error,
    )
