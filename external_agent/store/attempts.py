"""Queries of the issuance: one attempt from its prepared key to the published bundles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from external_agent.facts.audit import canonical
from external_agent.facts.generation import believed, next_generation
from external_agent.records.model import UNFINISHED, AttemptState, PullerStatus, may_move
from external_agent.records.rows import (
    Claim,
    ErrorNote,
    GenerationRow,
    IssuedLeaf,
    PreparedBundle,
    PreparedKey,
    PullerRow,
)
from external_agent.store.csr_rows import waiting_csrs
from external_agent.store.leases import drop_challenges, hold
from external_agent.store.queries import (
    Queries,
    append_event,
    certificate_row,
    dump_error,
    generation_row,
    puller_row,
)
from external_agent.store.renewal_info import begin_window, mark_replaced
from external_agent.store.tables import (
    bundles,
    certificates,
    challenges,
    csrs,
    generations,
    grants,
    pullers,
    sealed_keys,
)
from shared.contract.errors import FenceLost, IssuanceUnavailable
from shared.issuing.renewal import Reason

GENERATIONS_WITH_BUNDLES = 3
_UNFINISHED = sorted(str(state) for state in UNFINISHED)


class AttemptQueries(Queries):
    """``IssuingStore``, its part about attempts."""

    def recipients(self, certificate: str) -> list[PullerRow]:
        query = (
            select(pullers)
            .join(grants, grants.c.puller == pullers.c.id)
            .where(
                grants.c.certificate == certificate,
                pullers.c.status == str(PullerStatus.ACTIVE),
            )
            .order_by(pullers.c.id)
        )
        with self._database.read() as connection:
            return [puller_row(row) for row in connection.execute(query)]

    def unfinished_attempt(self, certificate: str) -> GenerationRow | None:
        with self._database.read() as connection:
            row = _unfinished(connection, certificate)
            return None if row is None else generation_row(row)

    def newest_issued(self, certificate: str) -> GenerationRow | None:
        query = (
            select(generations)
            .where(
                generations.c.certificate == certificate,
                generations.c.state == str(AttemptState.ISSUED),
            )
            .order_by(generations.c.generation.desc())
            .limit(1)
        )
        with self._database.read() as connection:
            row = connection.execute(query).first()
            return None if row is None else generation_row(row)

    def choose_generation(self, certificate: str, *, now: int) -> int:
        with self._database.read() as connection:
            own = connection.execute(
                select(func.max(generations.c.generation)).where(
                    generations.c.certificate == certificate
                )
            ).scalar()
            seen = connection.execute(
                select(certificates.c.highest_seen).where(certificates.c.id == certificate)
            ).scalar()
        return next_generation(now, max(own or 0, believed(seen or 0, now)))

    def commit_prepared(
        self, claim: Claim, generation: int, prepared: PreparedKey, *, now: int, wanted: int
    ) -> GenerationRow:
        key = {"certificate": claim.certificate, "generation": generation}
        with self._database.write() as connection:
            row = hold(connection, claim)
            taken = connection.execute(_this(claim.certificate, generation)).first()
            if taken is not None or _unfinished(connection, claim.certificate) is not None:
                raise FenceLost(f"Another worker has prepared {claim.certificate} already.")
            _require_origin(connection, row, prepared)
            connection.execute(
                insert(generations).values(
                    **key,
                    state=str(AttemptState.PREPARED),
                    names=row.names,
                    key_origin=row.key_origin,
                    csr=prepared.csr,
                    spki_sha256=prepared.spki_sha256,
                    directory_url=row.directory_url,
                    profile=row.profile,
                    wanted=wanted,
                    recipients=canonical(prepared.recipients),
                    prepared_at=now,
                    fence=claim.fence,
                    why=_why(row),
                )
            )
            for puller, sealed in prepared.sealed.items():
                connection.execute(insert(sealed_keys).values(**key, puller=puller, sealed=sealed))
            return generation_row(connection.execute(_this(claim.certificate, generation)).one())

    def commit_order(
        self,
        claim: Claim,
        generation: int,
        order_url: str,
        expires: int | None,
        *,
        account_url: str | None = None,
        replaces: str | None = None,
    ) -> None:
        with self._database.write() as connection:
            _refuse_shared_order(connection, claim.certificate, order_url)
            _move(
                connection,
                claim,
                generation,
                AttemptState.ORDERED,
                order_url=order_url,
                order_expires=expires,
                account_url=account_url,
                replaces=replaces,
            )

    def commit_state(self, claim: Claim, generation: int, certificate_url: str | None) -> None:
        with self._database.write() as connection:
            drop_challenges(connection, claim.certificate)
            if certificate_url is None:
                _move(connection, claim, generation, AttemptState.FINALIZING)
            else:
                _move(
                    connection,
                    claim,
                    generation,
                    AttemptState.CERTIFIED,
                    certificate_url=certificate_url,
                )

    def put_challenge(
        self, claim: Claim, token: str, key_authorization: str, name: str, *, now: int
    ) -> None:
        with self._database.write() as connection:
            hold(connection, claim)
            connection.execute(delete(challenges).where(challenges.c.token == token))
            connection.execute(
                insert(challenges).values(
                    token=token,
                    key_authorization=key_authorization,
                    certificate=claim.certificate,
                    name=name,
                    created_at=now,
                    hits=0,
                )
            )

    def sealed_keys(self, certificate: str, generation: int) -> dict[str, bytes]:
        with self._database.read() as connection:
            rows = connection.execute(
                select(sealed_keys).where(
                    sealed_keys.c.certificate == certificate,
                    sealed_keys.c.generation == generation,
                )
            )
            return {row.puller: row.sealed for row in rows}

    def publish(
        self,
        claim: Claim,
        generation: int,
        leaf: IssuedLeaf,
        bundles: Sequence[PreparedBundle],
        *,
        due_at: int,
        now: int,
        next_look: int = 0,
    ) -> None:
        with self._database.write() as connection:
            attempt = _move(
                connection,
                claim,
                generation,
                AttemptState.ISSUED,
                chain=leaf.chain,
                leaf_sha256=leaf.leaf_sha256,
                serial=leaf.serial,
                not_before=leaf.not_before,
                not_after=leaf.not_after,
                issued_at=leaf.issued_at,
                ari_id=leaf.ari_id,
            )
            mark_replaced(connection, claim.certificate, generation)
            begin_window(connection, claim.certificate, generation, next_look)
            _store_bundles(connection, claim.certificate, generation, bundles)
            _drop_sealed_keys(connection, claim.certificate, generation)
            drop_challenges(connection, claim.certificate)
            connection.execute(
                update(certificates)
                .where(certificates.c.id == claim.certificate)
                .values(
                    satisfied=attempt.wanted,
                    directory_url=_preferred_ca(connection, claim.certificate),
                    troubles=None,
                    due_at=due_at,
                    due_reason=str(Reason.LIFETIME),
                    failures=0,
                    paused_at=0,
                    paused_until=0,
                    asked_until=None,
                    last_error=None,
                    lease_owner=None,
                    lease_until=0,
                )
            )
            append_event(
                connection,
                "issued",
                now=now,
                actor="agent",
                certificate=claim.certificate,
                details={
                    "generation": generation,
                    "leaf_sha256": leaf.leaf_sha256,
                    "serial": leaf.serial,
                    "not_after": leaf.not_after,
                    "order": attempt.order_url,
                    "why": attempt.why,
                    "replaces": attempt.replaces,
                    "bundles": {one.puller: one.manifest_digest for one in bundles},
                },
            )

    def end_attempt(
        self, claim: Claim, generation: int, error: ErrorNote | None, *, now: int
    ) -> None:
        state = AttemptState.ABANDONED if error is None else AttemptState.FAILED
        with self._database.write() as connection:
            _move(connection, claim, generation, state, error=dump_error(error))
            _drop_sealed_keys(connection, claim.certificate, generation)
            drop_challenges(connection, claim.certificate)
            append_event(
                connection,
                f"attempt-{state}",
                now=now,
                actor="agent",
                certificate=claim.certificate,
                details={
                    "generation": generation,
                    "error": "" if error is None else error.what,
                },
            )


def _preferred_ca(connection: Connection, certificate: str) -> str:
    """After a success the first of the list is tried first again."""
    row = connection.execute(select(certificates).where(certificates.c.id == certificate)).one()
    return certificate_row(row).cas[0]


def _why(row: Row[Any]) -> str:
    if row.wanted > row.satisfied:
        return str(row.wanted_reason)
    return row.due_reason or str(Reason.LIFETIME)


def _require_origin(connection: Connection, row: Row[Any], prepared: PreparedKey) -> None:
    """What was prepared must still be what is wanted: a newer CSR, or another origin, wins."""
    if row.key_origin == "agent" and prepared.puller is None:
        return
    found = connection.execute(
        waiting_csrs().where(
            csrs.c.certificate == row.id,
            csrs.c.puller == prepared.puller,
            csrs.c.spki_sha256 == prepared.spki_sha256,
        )
    ).first()
    if found is None:
        raise FenceLost(f"Another key is wanted for {row.id} than the one prepared.")


def _this(certificate: str, generation: int) -> Any:
    return select(generations).where(
        generations.c.certificate == certificate, generations.c.generation == generation
    )


def _unfinished(connection: Connection, certificate: str) -> Row[Any] | None:
    query = (
        select(generations)
        .where(generations.c.certificate == certificate, generations.c.state.in_(_UNFINISHED))
        .order_by(generations.c.generation.desc())
        .limit(1)
    )
    return connection.execute(query).first()


def _move(
    connection: Connection,
    claim: Claim,
    generation: int,
    state: AttemptState,
    **values: object,
) -> Row[Any]:
    """Bring an attempt on, if the lease is ours and the move is one of the table's."""
    hold(connection, claim)
    row = connection.execute(_this(claim.certificate, generation)).one_or_none()
    if row is None or not may_move(AttemptState(row.state), state):
        raise FenceLost(
            f"Generation {generation} of {claim.certificate} is not where this worker left it."
        )
    connection.execute(
        update(generations)
        .where(
            generations.c.certificate == claim.certificate,
            generations.c.generation == generation,
        )
        .values(state=str(state), fence=claim.fence, **values)
    )
    return row


def _refuse_shared_order(connection: Connection, certificate: str, order_url: str) -> None:
    """A CA may give one pending order to two certificates with the same names: one at a time."""
    other = connection.execute(
        select(generations.c.certificate).where(
            generations.c.order_url == order_url,
            generations.c.certificate != certificate,
            generations.c.state.in_(_UNFINISHED),
        )
    ).first()
    if other is not None:
        raise IssuanceUnavailable(
            f"The CA gave {certificate} the order that {other.certificate} has: "
            "both are for the same names.",
            do="Nothing to do: it waits until the other one is through.",
        )


def _store_bundles(
    connection: Connection, certificate: str, generation: int, prepared: Sequence[PreparedBundle]
) -> None:
    for one in prepared:
        connection.execute(
            insert(bundles).values(
                certificate=certificate,
                generation=generation,
                puller=one.puller,
                manifest_digest=one.manifest_digest,
                envelope=one.envelope,
            )
        )
    kept = (
        select(bundles.c.generation)
        .where(bundles.c.certificate == certificate)
        .distinct()
        .order_by(bundles.c.generation.desc())
        .limit(GENERATIONS_WITH_BUNDLES)
    )
    oldest = min(connection.execute(kept).scalars(), default=0)
    connection.execute(
        delete(bundles).where(bundles.c.certificate == certificate, bundles.c.generation < oldest)
    )


def _drop_sealed_keys(connection: Connection, certificate: str, generation: int) -> None:
    connection.execute(
        delete(sealed_keys).where(
            sealed_keys.c.certificate == certificate, sealed_keys.c.generation <= generation
        )
    )
