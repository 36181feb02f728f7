"""Queries over renewal windows: whose CA to ask next, and what it suggested."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)

from external_agent.records.model import AttemptState
from external_agent.records.rows import Look
from external_agent.store.queries import Queries, append_event
from external_agent.store.tables import certificates, generations, windows
from shared.issuing.renewal import CLOCK_STEP, HOUR, HURRY_PERIOD, Advice, Due, Life, Reason

_CLAIMED_SECONDS = 120
"""How long nobody else looks; so late is a look at most whose agent was killed."""
_HURRIED = (str(Reason.WINDOW_PAST), str(Reason.BRAKED))


class WindowQueries(Queries):
    """``IssuingStore``, its part about renewal information."""

    def claim_looks(self, *, now: int, limit: int = 100) -> list[Look]:
        query = _looks_due(now).limit(limit)
        with self._database.read() as connection:
            if connection.execute(query).first() is None:
                return []
        with self._database.write(bump=False) as connection:
            rows = connection.execute(query).all()
            connection.execute(
                update(windows)
                .where(windows.c.certificate.in_([row.certificate for row in rows]))
                .values(next_look=now + _CLAIMED_SECONDS, looked_at=now)
            )
            return [_look(row, _hurried(connection, row.certificate, now)) for row in rows]

    def record_look(self, look: Look, advice: Advice, due: Due, *, now: int) -> None:
        same = (windows.c.certificate == look.certificate) & (
            windows.c.generation == look.generation
        )
        with self._database.write(bump=due.at <= now) as connection:
            known = connection.execute(select(windows).where(same)).one_or_none()
            if known is None:
                return
            connection.execute(update(windows).where(same).values(_columns(advice)))
            connection.execute(
                update(certificates)
                .where(certificates.c.id == look.certificate)
                .values(due_at=due.at, due_reason=str(due.reason))
            )
            _note(connection, look, advice, due, now)


def begin_window(connection: Connection, certificate: str, generation: int, next_look: int) -> None:
    """Nothing is known of a new generation, whatever was of the one before."""
    connection.execute(delete(windows).where(windows.c.certificate == certificate))
    connection.execute(
        insert(windows).values(
            certificate=certificate, generation=generation, **_columns(Advice(next_look))
        )
    )


def mark_replaced(connection: Connection, certificate: str, generation: int) -> None:
    """Note at earlier generations which one took their place."""
    connection.execute(
        update(generations)
        .where(
            generations.c.certificate == certificate,
            generations.c.state == str(AttemptState.ISSUED),
            generations.c.generation < generation,
            generations.c.replaced_by.is_(None),
        )
        .values(replaced_by=generation)
    )


def all_advice(connection: Connection, which: ColumnElement[bool]) -> dict[str, Advice]:
    """Return by certificate what its CA suggests about the newest generation."""
    query = select(windows).where(which)
    return {row.certificate: _advice(row) for row in connection.execute(query)}


def _looks_due(now: int) -> Select[Any]:
    """What is to be ordered anyway needs no advice."""
    permitted = or_(windows.c.next_look <= now, windows.c.looked_at > now + CLOCK_STEP)
    return (
        select(
            windows,
            generations.c.directory_url,
            generations.c.chain,
            generations.c.not_before,
            generations.c.not_after,
            generations.c.issued_at,
        )
        .join(certificates, certificates.c.id == windows.c.certificate)
        .join(
            generations,
            (generations.c.certificate == windows.c.certificate)
            & (generations.c.generation == windows.c.generation),
        )
        .where(
            permitted,
            certificates.c.removed_at.is_(None),
            certificates.c.wanted <= certificates.c.satisfied,
            certificates.c.due_at > now,
        )
        .order_by(windows.c.next_look, windows.c.certificate)
    )


def _hurried(connection: Connection, certificate: str, now: int) -> int:
    query = select(func.count()).where(
        generations.c.certificate == certificate,
        generations.c.state == str(AttemptState.ISSUED),
        generations.c.issued_at > now - HURRY_PERIOD,
        generations.c.why.in_(_HURRIED),
    )
    return int(connection.execute(query).scalar_one())


def _look(row: Row[Any], hurried: int) -> Look:
    return Look(
        certificate=row.certificate,
        generation=row.generation,
        directory_url=row.directory_url,
        chain=row.chain,
        life=Life(row.not_before, row.not_after, row.issued_at),
        advice=_advice(row),
        hurried=hurried,
    )


def _advice(row: Row[Any]) -> Advice:
    return Advice(
        next_look=row.next_look,
        looked_at=row.looked_at,
        start=row.window_start,
        end=row.window_end,
        chosen=row.chosen,
        seen_at=row.seen_at,
        explanation_url=row.explanation_url,
        failures=row.failures,
        problem=row.problem,
    )


def _columns(advice: Advice) -> dict[str, object]:
    return {
        "next_look": advice.next_look,
        "looked_at": advice.looked_at,
        "window_start": advice.start,
        "window_end": advice.end,
        "chosen": advice.chosen,
        "seen_at": advice.seen_at,
        "explanation_url": advice.explanation_url,
        "failures": advice.failures,
        "problem": advice.problem,
    }


def _note(connection: Connection, look: Look, advice: Advice, due: Due, now: int) -> None:
    """An event for what an operator would want to know; none for what stayed as it was."""
    details: dict[str, object]
    if advice.failures == 1:
        kind, details = "renewal-information-failed", {"what": advice.problem}
    elif advice.chosen is not None and _has_moved(look.advice, advice):
        kind = "renewal-window"
        details = {
            "start": advice.start,
            "end": advice.end,
            "renewal": due.at,
            "reason": str(due.reason),
            "explanation": advice.explanation_url or "",
        }
    else:
        return
    details["generation"] = look.generation
    append_event(
        connection, kind, now=now, actor="agent", certificate=look.certificate, details=details
    )


def _has_moved(before: Advice, after: Advice) -> bool:
    """A window that creeps with the CA's clock is news once an hour has come together."""
    if before.start is None or after.start is None or before.chosen is None:
        return True
    if after.seen_at != before.seen_at and after.chosen is not None:
        past = after.chosen <= after.seen_at
        return past or abs(after.start - before.start) > HOUR
    return False
