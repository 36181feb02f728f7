"""What ends with a restore: every token that was good when the backup was taken."""

from __future__ import annotations

from sqlalchemy import update

from external_agent.records.rows import Voided
from external_agent.store.queries import Queries, append_event
from external_agent.store.tables import access_tokens, tokens


class RestoreQueries(Queries):
    """``RestoreStore``."""

    def note_restored(self, made_at: int, release: str, *, now: int, actor: str) -> Voided:
        with self._database.write() as connection:
            enrolment = connection.execute(
                update(tokens)
                .where(tokens.c.redeemed_at.is_(None), tokens.c.voided_at.is_(None))
                .values(voided_at=now)
            ).rowcount
            access = connection.execute(
                update(access_tokens)
                .where(access_tokens.c.voided_at.is_(None))
                .values(voided_at=now)
            ).rowcount
            append_event(
                connection,
                "restored",
                now=now,
                actor=actor,
                details={
                    "backup_of": made_at,
                    "backup_release": release,
                    "enrolment_tokens_voided": enrolment,
                    "access_tokens_voided": access,
                },
            )
            return Voided(enrolment, access)
