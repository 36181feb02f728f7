"""What needs an operator, over all certificates: kept in memory, so that a first look is quick.

Ten thousand certificates take seconds to judge; nobody should wait for that, and no puller should
wait behind it. So they are read in slices, each a short transaction, and the result is kept: for a
small number it is renewed when it is asked for, for a large one in the background.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from external_agent.facts.issues import (
    USUAL,
    Concern,
    Severity,
    Thresholds,
    concerns_of,
    concerns_of_direct,
    worst,
)
from external_agent.facts.policy import RELAY_CERTIFICATE
from external_agent.facts.serving import is_direct_served
from external_agent.records.direct_rows import DirectRow
from external_agent.records.rows import CertificateStatus
from external_agent.store.interface import Store
from shared.contract.errors import StoreError

SLICE = 500
SMALL = 1000
"""So many are judged in a fraction of a second: nobody notices."""
FRESH_SECONDS = 60
"""Facts grow older without any change in the database; severities follow within a minute."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Line:
    """One certificate on the first screen.

    Attributes:
        served: everywhere as issued; ``None`` while nobody has told.
        not_before, issued_at, due_at, not_after: unix seconds; 0 for none.
        direct: a puller gets it by itself; then ``host`` is that machine's.
    """

    certificate: str
    names: tuple[str, ...]
    concerns: tuple[Concern, ...]
    not_before: int
    issued_at: int
    due_at: int
    not_after: int
    generation: int
    pulled: bool
    installed: bool
    served: bool | None
    hosts: tuple[str, ...]
    pullers: tuple[str, ...]
    challenge: str
    last_error: str
    direct: bool = False

    @property
    def severity(self) -> Severity:
        return worst(self.concerns)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All of them at one moment, the worst first, then those that end first."""

    taken_at: int
    lines: tuple[Line, ...] = ()
    counts: Mapping[Severity, int] = field(default_factory=dict)
    own: tuple[Concern, ...] = ()

    @property
    def concerns(self) -> Iterable[Concern]:
        """All of them, also those (``own``) of the relay's certificate, which has no line."""
        yield from self.own
        yield from (concern for line in self.lines for concern in line.concerns)

    def find(
        self, *, text: str = "", least: Severity = Severity.OK, puller: str = ""
    ) -> list[Line]:
        """Return the lines with ``text`` in a name, at least so severe, of that puller."""
        wanted = text.strip().lower()
        return [
            line
            for line in self.lines
            if line.severity >= least
            and (not puller or puller in line.pullers)
            and (
                not wanted
                or wanted in line.certificate
                or any(wanted in one for one in (*line.names, *line.hosts))
            )
        ]


class Overview:
    """
    Args:
        clock: unix seconds.
        limits: as they are now.
    """

    def __init__(
        self,
        store: Store,
        clock: Callable[[], float],
        limits: Callable[[], Thresholds] = lambda: USUAL,
    ) -> None:
        self._store, self._clock, self._limits = store, clock, limits
        self._snapshot = Snapshot(0)
        self._seen = -1
        self._judging = threading.Lock()

    def snapshot(self) -> Snapshot:
        """Return the newest; may block, for a small number of certificates.

        Raises:
            StoreUnavailable: there is nothing to show yet, or what is shown is small and old.
        """
        now, counter = int(self._clock()), self._store.change_counter()
        fresh = 0 <= now - self._snapshot.taken_at < FRESH_SECONDS
        if counter == self._seen and fresh:
            return self._snapshot
        if len(self._snapshot.lines) <= SMALL:
            with self._judging:
                self._judge(counter)
        elif self._judging.acquire(blocking=False):
            threading.Thread(target=self._judge_aside, args=(counter,), daemon=True).start()
        return self._snapshot

    def _judge_aside(self, counter: int) -> None:
        try:
            self._judge(counter)
        except StoreError as error:
            _log.warning("the overview is not renewed", error=error.what)
        finally:
            self._judging.release()

    def _judge(self, counter: int) -> None:
        now, lines, after = int(self._clock()), list[Line](), ""
        own, limits = tuple[Concern, ...](), self._limits()
        while page := self._store.status(now, after=after, limit=SLICE):
            after = page[-1].certificate.id
            for one in page:
                if one.certificate.id == RELAY_CERTIFICATE:
                    own = concerns_of(one, now, limits)
                else:
                    lines.append(line_of(one, now, limits))
        lines += [direct_line(one, now) for one in self._store.direct_certificates()]
        lines.sort(key=lambda one: (-one.severity, one.not_after, one.certificate))
        counts = Counter(one.severity for one in lines)
        self._snapshot, self._seen = Snapshot(now, tuple(lines), counts, own), counter


def line_of(status: CertificateStatus, now: int, limits: Thresholds = USUAL) -> Line:
    """Return what the first screen shows of one certificate."""
    row, issued = status.certificate, status.issued
    active = [one for one in status.deliveries if one.takes_it]
    newest = 0 if issued is None else issued.generation
    return Line(
        certificate=row.id,
        names=row.names,
        concerns=concerns_of(status, now, limits),
        not_before=0 if issued is None else issued.not_before or 0,
        issued_at=0 if issued is None else issued.issued_at or 0,
        due_at=row.due_at or 0,
        not_after=0 if issued is None else issued.not_after or 0,
        generation=newest,
        pulled=bool(newest and active) and all(one.pulled == newest for one in active),
        installed=bool(newest and active) and all(one.installed == newest for one in active),
        served=_served([one.served_matches for one in active]),
        hosts=tuple(one.host for one in active),
        pullers=tuple(one.puller for one in status.deliveries),
        challenge=row.challenge,
        last_error="" if row.last_error is None else row.last_error.what,
    )


def direct_line(row: DirectRow, now: int) -> Line:
    """The same of a certificate that a puller gets by itself."""
    installed = row.outcome == "installed"
    return Line(
        certificate=row.certificate,
        names=row.names,
        concerns=concerns_of_direct(row, now),
        not_before=row.generation,
        issued_at=row.generation,
        due_at=row.next_renewal,
        not_after=row.not_after,
        generation=row.generation,
        pulled=installed,
        installed=installed,
        served=is_direct_served(row),
        hosts=(row.host,),
        pullers=(row.puller,),
        challenge="direct",
        last_error="" if row.error == "none" else row.error,
        direct=True,
    )


def _served(matches: Sequence[bool | None]) -> bool | None:
    if not matches or None in matches:
        return None if False not in matches else False
    return all(matches)
