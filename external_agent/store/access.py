"""Queries over access tokens of the operator API."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from external_agent.facts.access import Role
from external_agent.records.rows import AccessRow
from external_agent.store.database import before_change
from external_agent.store.queries import Queries, append_event
from external_agent.store.tables import access_tokens
from shared.contract.errors import PolicyError

USE_NOTED_EVERY = 3600


@contextmanager
def acting_for(
    token: str, now: Callable[[], int], refusal: Callable[[], Exception]
) -> Iterator[None]:
    """Let every change inside decide in its own transaction whether an access token still lives.

    Args:
        token: its id.
        refusal: makes what is raised, and undoes the transaction, when it does not.
    """

    def decide(connection: Connection) -> None:
        row = connection.execute(select(access_tokens).where(access_tokens.c.id == token)).first()
        if row is None or not _row(row).is_live(now()):
            raise refusal()

    mark = before_change.set(decide)
    try:
        yield
    finally:
        before_change.reset(mark)


class AccessQueries(Queries):
    """``AccessStore``."""

    def create_access(
        self, name: str, role: Role, digest: str, *, now: int, expires_at: int, actor: str
    ) -> AccessRow:
        with self._database.write() as connection:
            taken = connection.execute(
                select(access_tokens.c.id).where(
                    access_tokens.c.name == name,
                    access_tokens.c.voided_at.is_(None),
                    access_tokens.c.expires_at > now,
                )
            ).first()
            if taken is not None:
                raise PolicyError(
                    f"There is an access token named {name!r} already.",
                    do="Void that one first, or give this one another name.",
                )
            row = AccessRow(digest[:16], name, role, digest, now, expires_at, None, None)
            connection.execute(
                insert(access_tokens).values(
                    id=row.id,
                    name=name,
                    role=str(role),
                    digest=digest,
                    created_at=now,
                    expires_at=expires_at,
                )
            )
            append_event(
                connection,
                "access-created",
                now=now,
                actor=actor,
                details={
                    "token": row.id,
                    "name": name,
                    "role": str(role),
                    "expires_at": expires_at,
                },
            )
            return row

    def void_access(self, token: str, *, now: int, actor: str) -> AccessRow:
        with self._database.write() as connection:
            query = select(access_tokens).where(access_tokens.c.id == token)
            row = connection.execute(query).one_or_none()
            if row is None:
                raise PolicyError(
                    f"There is no access token {token!r:.40}.",
                    do="List them: external-agent access list.",
                )
            if row.voided_at is None:
                connection.execute(
                    update(access_tokens).where(access_tokens.c.id == token).values(voided_at=now)
                )
                append_event(
                    connection,
                    "access-voided",
                    now=now,
                    actor=actor,
                    details={"token": token, "name": row.name},
                )
            return _row(connection.execute(query).one())

    def access_tokens(self) -> list[AccessRow]:
        query = select(access_tokens).order_by(access_tokens.c.created_at, access_tokens.c.id)
        with self._database.read() as connection:
            return [_row(row) for row in connection.execute(query)]

    def access_by_digest(self, digest: str) -> AccessRow | None:
        query = select(access_tokens).where(access_tokens.c.digest == digest)
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
            return None if row is None else _row(row)

    def access_token(self, token: str) -> AccessRow | None:
        with self._database.read() as connection:
            query = select(access_tokens).where(access_tokens.c.id == token)
            row = connection.execute(query).one_or_none()
            return None if row is None else _row(row)

    def note_access_used(self, token: str, *, now: int) -> None:
        with self._database.write(bump=False) as connection:
            connection.execute(
                update(access_tokens).where(access_tokens.c.id == token).values(used_at=now)
            )


def _row(row: Row[Any]) -> AccessRow:
    return AccessRow(
        id=row.id,
        name=row.name,
        role=Role(row.role),
        digest=row.digest,
        created_at=row.created_at,
        expires_at=row.expires_at,
        voided_at=row.voided_at,
        used_at=row.used_at,
    )
