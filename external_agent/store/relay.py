"""Queries of the relay API: what a puller may see, what it says, and the pending challenges."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from external_agent.facts.audit import canonical
from external_agent.facts.generation import believed, is_believable
from external_agent.facts.machines import is_news, remembered, two_machines
from external_agent.facts.quotas import WINDOW, allowed
from external_agent.facts.renewal import come_back
from external_agent.records.model import AttemptState
from external_agent.records.rows import MachineRow, ReceiptRow
from external_agent.store.admission import admit, granted_certificates
from external_agent.store.csr_rows import forget_csr, waiting_csrs
from external_agent.store.database import CHANGES
from external_agent.store.machines import machines_of, note_machine
from external_agent.store.queries import (
    Queries,
    append_event,
    grants_held,
    receipt_row,
    want_generation,
)
from external_agent.store.tables import (
    bundles,
    certificates,
    challenges,
    csrs,
    facts,
    generations,
    grants,
    pullers,
    receipts,
)
from shared.contract.errors import KeyMismatch, RequestRefused
from shared.contract.wire import BundleAnswer, Listing, Machine, Offer, Receipt
from shared.issuing.renewal import DAY, HOUR

RECEIPTS_KEPT = 100
RESTORE_EVERY = 3 * DAY
"""A claim that we were restored costs a duplicate certificate: Let's Encrypt gives 5 in 7 days."""
_SEEN_EVERY = 60
_HELD = ("installed", "rolled_back")
"""Outcomes of which a puller has accepted the generation."""
_FETCH_NOTED_EVERY = HOUR


class RelayQueries(Queries):
    """``RelayStore``."""

    def listing_for(self, puller: str, *, now: int, machine: Machine | None = None) -> Listing:
        with self._database.read() as connection:
            row = admit(connection, puller)
            known = machines_of(connection, puller) if machine else ()
            newest = _newest_bundles(connection, puller)
            rows = connection.execute(granted_certificates(puller)).all()
            waiting = waiting_csrs().with_only_columns(csrs.c.certificate)
            left = set(connection.execute(waiting).scalars())
        self._touch(row, now)
        if machine is not None and is_news(known, machine, now):
            self._note_machine(puller, known, machine, now)
        offers = tuple(_offer(one, newest, csr_left=one.id in left) for one in rows)
        return Listing.of(offers, min((_come_back(one, now) for one in rows), default=DAY))

    def _touch(self, row: Row[Any], now: int) -> None:
        if row.last_seen_at is not None and 0 <= now - row.last_seen_at < _SEEN_EVERY:
            return
        with self._database.write(bump=False) as connection:
            connection.execute(
                update(pullers).where(pullers.c.id == row.id).values(last_seen_at=now)
            )

    def _note_machine(
        self, puller: str, known: Sequence[MachineRow], machine: Machine, now: int
    ) -> None:
        """The overview is judged anew at once only for the second machine."""
        before, after = known, remembered(known, machine, now)
        noticed = two_machines(before, now) is None and two_machines(after, now) is not None
        with self._database.write(bump=noticed) as connection:
            note_machine(connection, admit(connection, puller), machine, now)

    def bundle_for(self, puller: str, certificate: str, after: int, *, now: int) -> BundleAnswer:
        with self._database.read() as connection:
            admit(connection, puller, certificate)
            known = _highest_known(connection, certificate, now)
            newest = _newest_bundle(connection, puller, certificate)
            told = not is_believable(after, now) and _told_ahead(
                connection, puller, certificate, now
            )
        if after > known and not told:
            with self._database.write() as connection:
                admit(connection, puller, certificate)
                _note_held(connection, puller, certificate, after, now)
        if newest is None or newest.generation <= after:
            return BundleAnswer(0 if newest is None else newest.generation, None)
        if _worth_noting(newest, now):
            with self._database.write(bump=newest.first_fetched_at is None) as connection:
                admit(connection, puller, certificate)
                _note_fetched(connection, newest, now)
        return BundleAnswer(newest.generation, newest.envelope)

    def record_receipts(
        self, puller: str, sent: Sequence[Receipt], *, now: int
    ) -> dict[int, RequestRefused]:
        refused: dict[int, RequestRefused] = {}
        admitted: list[Receipt] = []
        with self._database.write() as connection:
            admit(connection, puller)
            for place, receipt in enumerate(sent):
                try:
                    admit(connection, puller, receipt.certificate)
                except RequestRefused as error:
                    refused[place] = error
                else:
                    admitted.append(receipt)
            _keep_quota(connection, puller, len(admitted), now)
            for receipt in admitted:
                _record_receipt(connection, puller, receipt, now)
        return refused

    def receipts(self, certificate: str, *, limit: int = 50) -> list[ReceiptRow]:
        query = (
            select(receipts)
            .where(receipts.c.certificate == certificate)
            .order_by(receipts.c.id.desc())
            .limit(limit)
        )
        with self._database.read() as connection:
            return [receipt_row(row) for row in connection.execute(query)]

    def pending_challenges(self) -> Mapping[str, str]:
        query = select(challenges.c.token, challenges.c.key_authorization)
        with self._database.read() as connection:
            return {row.token: row.key_authorization for row in connection.execute(query)}

    def record_challenge_hits(self, hits: Mapping[str, int]) -> None:
        if not hits:
            return
        with self._database.write(bump=False) as connection:
            for token, count in hits.items():
                connection.execute(
                    update(challenges)
                    .where(challenges.c.token == token)
                    .values(hits=challenges.c.hits + count)
                )

    def change_counter(self) -> int:
        with self._database.read() as connection:
            return int(
                connection.execute(
                    select(facts.c.number).where(facts.c.key == CHANGES)
                ).scalar_one()
            )


def _newest_bundles(connection: Connection, puller: str) -> dict[str, tuple[int, int]]:
    """Return (generation, not_after) of the newest bundle for this puller, by certificate."""
    query = (
        select(bundles.c.certificate, bundles.c.generation, generations.c.not_after)
        .join(
            generations,
            (generations.c.certificate == bundles.c.certificate)
            & (generations.c.generation == bundles.c.generation),
        )
        .where(bundles.c.puller == puller)
        .order_by(bundles.c.generation)
    )
    return {row.certificate: (row.generation, row.not_after) for row in connection.execute(query)}


def _newest_bundle(connection: Connection, puller: str, certificate: str) -> Row[Any] | None:
    query = (
        select(bundles)
        .where(bundles.c.puller == puller, bundles.c.certificate == certificate)
        .order_by(bundles.c.generation.desc())
        .limit(1)
    )
    return connection.execute(query).first()


def _offer(row: Row[Any], newest: Mapping[str, tuple[int, int]], *, csr_left: bool) -> Offer:
    generation, not_after = newest.get(row.id, (0, 0))
    names = tuple(json.loads(row.names))
    wanted = row.key_origin == "puller" and not csr_left
    return Offer(row.id, names, generation, not_after, row.key_origin, csr_wanted=wanted)


def _come_back(row: Row[Any], now: int) -> int:
    under_way = row.wanted > row.satisfied or row.due_at is None
    return come_back(now, max(now, row.paused_until) if under_way else row.due_at)


def _worth_noting(bundle: Row[Any], now: int) -> bool:
    return (
        bundle.first_fetched_at is None
        or not 0 <= now - bundle.last_fetched_at < _FETCH_NOTED_EVERY
    )


def _note_fetched(connection: Connection, bundle: Row[Any], now: int) -> None:
    first = bundle.first_fetched_at is None
    connection.execute(
        update(bundles)
        .where(
            bundles.c.puller == bundle.puller,
            bundles.c.certificate == bundle.certificate,
            bundles.c.generation == bundle.generation,
        )
        .values(last_fetched_at=now, **({"first_fetched_at": now} if first else {}))
    )


def _highest_known(connection: Connection, certificate: str, now: int) -> int:
    own = connection.execute(
        select(func.max(generations.c.generation)).where(generations.c.certificate == certificate)
    ).scalar()
    seen = connection.execute(
        select(certificates.c.highest_seen).where(certificates.c.id == certificate)
    ).scalar()
    return max(own or 0, believed(seen or 0, now))


def _note_held(
    connection: Connection, puller: str, certificate: str, generation: int, now: int
) -> None:
    """Learn what a puller holds: above all we know, it proves that we were restored.

    A lie is bounded twice: at most an hour ahead, and one new generation in RESTORE_EVERY, of
    whichever pullers it comes.
    """
    if generation <= _highest_known(connection, certificate, now):
        return
    if not is_believable(generation, now):
        _note_unbelievable(connection, puller, certificate, generation, now)
        return
    row = connection.execute(select(certificates).where(certificates.c.id == certificate)).one()
    changes: dict[str, object] = {"highest_seen": generation}
    forget_csr(connection, certificate)  # it may have been used after the backup was made
    if row.restored_at is None or not 0 <= now - row.restored_at < RESTORE_EVERY:
        changes["restored_at"] = now
        want_generation(
            connection, certificate, "a puller holds a newer generation than this agent knows"
        )
        append_event(
            connection,
            "restore-noticed",
            now=now,
            actor="relay",
            certificate=certificate,
            puller=puller,
            details={"generation": generation},
        )
    connection.execute(update(certificates).where(certificates.c.id == certificate).values(changes))


def _replace_lost_key(connection: Connection, puller: str, receipt: Receipt, now: int) -> None:
    """A puller that has lost the key of the newest generation needs another, with its next CSR.

    A puller that says so again and again gets one new generation a day.
    """
    query = (
        select(generations)
        .where(
            generations.c.certificate == receipt.certificate,
            generations.c.state == str(AttemptState.ISSUED),
        )
        .order_by(generations.c.generation.desc())
        .limit(1)
    )
    newest = connection.execute(query).one_or_none()
    if newest is None or (newest.generation, newest.key_origin) != (receipt.generation, "puller"):
        return
    lately = connection.execute(
        select(receipts.c.id).where(
            receipts.c.certificate == receipt.certificate,
            receipts.c.error == KeyMismatch.type,
            receipts.c.received_at > now - DAY,
        )
    ).first()
    if lately is not None:
        return
    want_generation(connection, receipt.certificate, "the puller has lost the key")
    append_event(
        connection,
        "key-lost",
        now=now,
        actor="relay",
        certificate=receipt.certificate,
        puller=puller,
        details={"generation": receipt.generation},
    )


def _note_unbelievable(
    connection: Connection, puller: str, certificate: str, generation: int, now: int
) -> None:
    """One event a day for each puller and certificate, however often it is said."""
    if _told_ahead(connection, puller, certificate, now):
        return
    mine = (grants.c.puller == puller) & (grants.c.certificate == certificate)
    connection.execute(update(grants).where(mine).values(ahead_noted_at=now))
    append_event(
        connection,
        "generation-ahead",
        now=now,
        actor="relay",
        certificate=certificate,
        puller=puller,
        details={"generation": generation},
    )


def _told_ahead(connection: Connection, puller: str, certificate: str, now: int) -> bool:
    mine = (grants.c.puller == puller) & (grants.c.certificate == certificate)
    noted = connection.execute(select(grants.c.ahead_noted_at).where(mine)).scalar()
    return noted is not None and 0 <= now - noted < DAY


def _keep_quota(connection: Connection, puller: str, more: int, now: int) -> None:
    recent = connection.execute(
        select(func.count())
        .select_from(receipts)
        .where(receipts.c.puller == puller, receipts.c.received_at > now - WINDOW)
    ).scalar_one()
    most = allowed(grants_held(connection, puller))
    if recent + more > most:
        raise RequestRefused(
            f"More than {most} receipts in {WINDOW} s.",
            retry_after=float(WINDOW),
            problem_type="too-many-receipts",
        )


def _record_receipt(connection: Connection, puller: str, receipt: Receipt, now: int) -> None:
    if receipt.error == KeyMismatch.type:
        _replace_lost_key(connection, puller, receipt, now)
    news = _differs_from_last(connection, puller, receipt)
    _insert_receipt(connection, puller, receipt, now)
    if receipt.outcome in _HELD:
        _note_held(connection, puller, receipt.certificate, receipt.generation, now)
    if news:
        append_event(
            connection,
            "receipt",
            now=now,
            actor="relay",
            certificate=receipt.certificate,
            puller=puller,
            details={
                "generation": receipt.generation,
                "outcome": receipt.outcome,
                "error": receipt.error,
                "digest": receipt.digest,
                "served": [one.leaf_sha256 for one in receipt.served],
            },
        )


def _differs_from_last(connection: Connection, puller: str, receipt: Receipt) -> bool:
    """Tell whether a receipt says anything that the puller's last one did not."""
    mine = (receipts.c.puller == puller) & (receipts.c.certificate == receipt.certificate)
    last = connection.execute(
        select(receipts).where(mine).order_by(receipts.c.id.desc()).limit(1)
    ).first()
    return last is None or (
        (last.generation, last.digest, last.outcome, last.error)
        != (receipt.generation, receipt.digest, receipt.outcome, receipt.error)
        or {one["leaf_sha256"] for one in json.loads(last.served)}
        != {one.leaf_sha256 for one in receipt.served}
    )


def _insert_receipt(connection: Connection, puller: str, receipt: Receipt, now: int) -> None:
    connection.execute(
        insert(receipts).values(
            puller=puller,
            certificate=receipt.certificate,
            generation=receipt.generation,
            digest=receipt.digest,
            outcome=receipt.outcome,
            error=receipt.error,
            served=canonical([one.members() for one in receipt.served]),
            at=receipt.at,
            received_at=now,
        )
    )
    mine = (receipts.c.puller == puller) & (receipts.c.certificate == receipt.certificate)
    oldest_kept = (
        select(receipts.c.id)
        .where(mine)
        .order_by(receipts.c.id.desc())
        .offset(RECEIPTS_KEPT - 1)
        .limit(1)
    )
    edge = connection.execute(oldest_kept).scalar()
    if edge is not None:
        connection.execute(delete(receipts).where(mine, receipts.c.id < edge))
