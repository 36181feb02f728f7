"""Queries over what receivers of alerts were told."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import Connection, delete, insert, select, update

from external_agent.facts.issues import Severity
from external_agent.records.alert_rows import AlertReceiver, ToldAlert
from external_agent.store.queries import Queries
from external_agent.store.tables import alert_receivers, alerts


class AlertQueries(Queries):
    """``AlertStore``."""

    def told_alerts(self, receiver: str) -> list[ToldAlert]:
        query = select(alerts).where(alerts.c.receiver == receiver).order_by(alerts.c.key)
        with self._database.read() as connection:
            return [
                ToldAlert(
                    row.key,
                    row.certificate,
                    Severity(row.severity),
                    row.what,
                    row.told_at,
                    row.gone_at,
                )
                for row in connection.execute(query)
            ]

    def keep_told(self, receiver: str, told: Sequence[ToldAlert], forget: Collection[str]) -> None:
        with self._database.write(bump=False) as connection:
            for key in {*forget, *(one.key for one in told)}:
                connection.execute(
                    delete(alerts).where(alerts.c.receiver == receiver, alerts.c.key == key)
                )
            for one in told:
                connection.execute(
                    insert(alerts).values(
                        receiver=receiver,
                        key=one.key,
                        certificate=one.certificate,
                        severity=int(one.severity),
                        what=one.what,
                        told_at=one.told_at,
                        gone_at=one.gone_at,
                    )
                )

    def alert_receivers(self) -> list[AlertReceiver]:
        query = select(alert_receivers).order_by(alert_receivers.c.name)
        with self._database.read() as connection:
            return [AlertReceiver(**row._mapping) for row in connection.execute(query)]

    def note_alert_sent(self, receiver: str, *, problem: str, now: int) -> AlertReceiver:
        with self._database.write(bump=False) as connection:
            values = (
                {"last_failure_at": now, "failures": alert_receivers.c.failures + 1}
                if problem
                else {"last_success_at": now, "failures": 0}
            )
            _make_sure(connection, receiver)
            connection.execute(
                update(alert_receivers)
                .where(alert_receivers.c.name == receiver)
                .values(problem=problem, **values)
            )
            query = select(alert_receivers).where(alert_receivers.c.name == receiver)
            return AlertReceiver(**connection.execute(query).one()._mapping)

    def forget_alert_receivers(self, but: Collection[str]) -> None:
        with self._database.write(bump=False) as connection:
            for table, column in ((alerts, "receiver"), (alert_receivers, "name")):
                connection.execute(delete(table).where(table.c[column].not_in(but)))


def _make_sure(connection: Connection, receiver: str) -> None:
    query = select(alert_receivers.c.name).where(alert_receivers.c.name == receiver)
    if connection.execute(query).first() is None:
        connection.execute(
            insert(alert_receivers).values(
                name=receiver, last_success_at=0, last_failure_at=0, failures=0, problem=""
            )
        )
