"""The whole way of a certificate with a staging CA: ordered, sealed, signed, and never published.

Nothing of it gets into the store but the account at the staging CA; what comes of it is kept in
memory for the puller that asked, and for a while.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from external_agent.clock import Clock
from external_agent.facts import quotas
from external_agent.orders.certificate_authority import Connector
from external_agent.orders.keymaker import KeyMaker
from external_agent.orders.keymaker_messages import KeyRequest
from external_agent.orders.solvers.http01 import Board, BoardSolver
from external_agent.records.rows import CertificateRow, PullerRow
from external_agent.settings.config import Settings
from external_agent.store.interface import Store
from shared.acme.directories import staging_of
from shared.acme.dns01 import dns01_solver
from shared.acme.order import drive_order
from shared.acme.ports import ChallengeSolver
from shared.contract.bundle import REHEARSAL_TYPE, Manifest, sign_bundle
from shared.contract.errors import (
    ConfigurationError,
    IssuanceError,
    PolicyError,
    RelayError,
    RequestRefused,
)
from shared.contract.rehearsal import State, Step
from shared.contract.signing import SigningKey
from shared.contract.x509 import chain_to_pem, load_chain

KEPT_SECONDS = 900
MOST_AT_ONCE = 2
ORDER_SECONDS = 180.0


@dataclass(frozen=True)
class RehearsalTools:
    """What a rehearsal works with.

    Attributes:
        connector: gives connections to CAs.
        board: of the running challenge listener.
        clock: unix seconds.
    """

    store: Store
    settings: Callable[[], Settings]
    connector: Callable[[], Connector]
    key_maker: KeyMaker
    board: Board
    signing_key: SigningKey
    clock: Clock


@dataclass
class _Entry:
    state: State
    at: int
    bundle: bytes | None = field(default=None, repr=False)


class Rehearsals:
    """Runs them in threads of their own; may be asked from any thread."""

    def __init__(self, tools: RehearsalTools) -> None:
        self._tools = tools
        self._lock = threading.Lock()
        self._entries: dict[tuple[str, str], _Entry] = {}
        self._begun: dict[str, list[int]] = {}

    def begin(self, certificate: str, puller: str) -> State:
        """Begin one for a puller, unless one is under way already; return how it stands.

        Raises:
            RequestRefused: too many are under way ("rehearsals-under-way"), or were begun
                ("too-many-rehearsals").
            PolicyError: no such certificate is granted.
            ConfigurationError: there is no staging CA to rehearse with.
        """
        row, recipient = self._wanted(certificate, puller)
        staging = staging_directory(self._tools.settings(), row)
        key, now = (certificate, puller), self._tools.clock()
        most = quotas.rehearsals(len(self._tools.store.grants(puller)))
        with self._lock:
            self._forget_old(now)
            found = self._entries.get(key)
            if found is not None and found.state.outcome == "running":
                return found.state
            running = sum(one.state.outcome == "running" for one in self._entries.values())
            if running >= MOST_AT_ONCE:
                raise RequestRefused(
                    "Other rehearsals are under way.", problem_type="rehearsals-under-way"
                )
            self._count(puller, most, now)
            entry = self._entries[key] = _Entry(State("running", staging), now)
        thread = threading.Thread(
            target=self._run, args=(entry, row, recipient, staging), daemon=True, name="rehearsal"
        )
        thread.start()
        return entry.state

    def state(self, certificate: str, puller: str) -> tuple[State, bytes | None]:
        """Return how it stands, and the bundle once it is done.

        Raises:
            PolicyError: none was begun, or it is too long ago.
        """
        with self._lock:
            self._forget_old(self._tools.clock())
            entry = self._entries.get((certificate, puller))
        if entry is None:
            raise PolicyError(f"No rehearsal of {certificate} was begun for this puller.")
        return entry.state, entry.bundle

    def _count(self, puller: str, most: int, now: int) -> None:
        begun = [at for at in self._begun.get(puller, ()) if 0 <= now - at < 3600]
        if len(begun) >= most:
            raise RequestRefused(
                f"This puller has begun {len(begun)} rehearsals within an hour.",
                problem_type="too-many-rehearsals",
                retry_after=float(max(1, begun[0] + 3600 - now)),
            )
        self._begun[puller] = [*begun, now]

    def _forget_old(self, now: int) -> None:
        self._entries = {
            key: one
            for key, one in self._entries.items()
            if one.state.outcome == "running" or 0 <= now - one.at < KEPT_SECONDS
        }

    def _wanted(self, certificate: str, puller: str) -> tuple[CertificateRow, PullerRow]:
        row = self._tools.store.certificate(certificate)
        recipients = {one.id: one for one in self._tools.store.recipients(certificate)}
        if row is None or row.removed_at is not None or puller not in recipients:
            raise PolicyError(f"{certificate} is not granted to this puller.")
        return row, recipients[puller]

    def _run(self, entry: _Entry, row: CertificateRow, recipient: PullerRow, staging: str) -> None:
        def told(name: str, what: str) -> None:
            entry.state = entry.state.after(Step(name, True, what))

        try:
            bundle = rehearse(self._tools, row, recipient, staging, told)
            self._wanted(row.id, recipient.id)  # it took its time
            entry.bundle = bundle
            entry.state = replace(entry.state, outcome="done")
        except RelayError as error:
            step = Step("failed", False, error.what, error.do)
            entry.state = replace(entry.state.after(step), outcome="failed")
        except Exception as error:  # a thread that dies would leave the puller waiting
            step = Step("failed", False, f"Unexpected {type(error).__name__}: {error!s:.200}")
            entry.state = replace(entry.state.after(step), outcome="failed")
        entry.at = self._tools.clock()


def staging_directory(settings: Settings, row: CertificateRow) -> str:
    """Return the directory URL to rehearse with: ``acme.staging``, or the staging of a known CA.

    Raises:
        ConfigurationError: there is none, or it is one that the certificate really uses.
    """
    named = settings.acme.staging
    found = settings.acme.directory_of(named) if named else staging_of(row.directory_url)
    if found is None:
        raise ConfigurationError(
            f"No staging directory of {row.directory_url} is known.",
            do="Set acme.staging to its URL, or to the NAME of a section [acme.cas.NAME].",
        )
    if found in row.cas:
        raise ConfigurationError(
            f"acme.staging is {found}, which {row.id} really uses.", do="Name a staging CA."
        )
    return found


def rehearse(
    tools: RehearsalTools,
    row: CertificateRow,
    recipient: PullerRow,
    staging: str,
    told: Callable[[str, str], None],
) -> bytes:
    """Go the way of an issuance with a staging CA; return the signed bundle.

    Raises:
        RelayError: the step that is under way failed.
    """
    with tools.connector().connect(staging, time.sleep) as client:
        told("account", f"The staging CA {staging} answers, and knows our account.")
        solver = _solver(tools, row)
        generation = tools.clock()
        prepared = tools.key_maker.make(
            KeyRequest(
                names=row.names,
                algorithm=row.key_algorithm,
                agent=tools.signing_key.id,
                certificate=row.id,
                generation=generation,
                recipients={recipient.id: recipient.sealing_key},
            )
        )
        told("key", f"A key was made and sealed to {recipient.host}.")
        issued = drive_order(
            client,
            names=row.names,
            csr_pem=prepared.csr,
            order_url=None,
            adopt_unfinished=False,
            solvers={row.challenge: solver},
            journal=_NoJournal(),
            deadline_seconds=ORDER_SECONDS + tools.settings().dns01.longest_wait,
        )
    told("order", f"Validated by {row.challenge} and issued for {', '.join(row.names)}.")
    chain = load_chain(issued.chain_pem.decode("ascii"))
    manifest = Manifest(
        agent=tools.signing_key.id,
        recipient=recipient.sealing_id,
        certificate=row.id,
        names=row.names,
        generation=generation,
        issued_at=tools.clock(),
        not_after=int(chain[0].not_valid_after_utc.timestamp()),
        key_origin="agent",
        spki_sha256=prepared.spki_sha256,
        chain=chain_to_pem(chain),
        sealed_key=prepared.sealed[recipient.id],
    )
    envelope, _ = sign_bundle(manifest, tools.signing_key, payload_type=REHEARSAL_TYPE)
    told("bundle", "Key and chain are sealed and signed; nothing was published.")
    return envelope


def _solver(tools: RehearsalTools, row: CertificateRow) -> ChallengeSolver:
    if row.challenge == "http-01":
        return BoardSolver(tools.board)
    if row.challenge == "dns-01":
        return dns01_solver(tools.settings().dns01)
    raise IssuanceError(
        "A dns-persist-01 record names the account of one CA, so a staging CA would want another "
        "record.",
        do=f"See whether the record stands: external-agent dns-persist check {row.names[0]}",
    )


class _NoJournal:
    """``OrderJournal``: a rehearsal that is killed is begun anew."""

    def order_created(self, order_url: str, expires: float | None) -> None:
        return None

    def finalizing(self) -> None:
        return None

    def certificate_url(self, url: str) -> None:
        return None
