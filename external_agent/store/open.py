"""Opens the store: the file, its schema, and everything that is asked of it."""

from __future__ import annotations

from external_agent.store.access import AccessQueries
from external_agent.store.admission import AdmissionQueries
from external_agent.store.alerts import AlertQueries
from external_agent.store.attempts import AttemptQueries
from external_agent.store.certificates import CertificateQueries
from external_agent.store.csrs import CsrQueries
from external_agent.store.direct import DirectQueries
from external_agent.store.engines import open_database
from external_agent.store.enrolment import EnrolmentQueries
from external_agent.store.holds import HoldQueries
from external_agent.store.leases import LeaseQueries
from external_agent.store.pages import PageQueries
from external_agent.store.persist import PersistQueries
from external_agent.store.pullers import PullerQueries
from external_agent.store.relay import RelayQueries
from external_agent.store.renewal_info import WindowQueries
from external_agent.store.restored import RestoreQueries
from external_agent.store.retention import RetentionQueries
from external_agent.store.schema import migrate
from external_agent.store.status import StatusQueries
from external_agent.store.trail import TrailQueries


class SqlStore(
    CertificateQueries,
    EnrolmentQueries,
    PullerQueries,
    AdmissionQueries,
    RelayQueries,
    CsrQueries,
    TrailQueries,
    LeaseQueries,
    AttemptQueries,
    PersistQueries,
    DirectQueries,
    StatusQueries,
    WindowQueries,
    RetentionQueries,
    AccessQueries,
    HoldQueries,
    PageQueries,
    AlertQueries,
    RestoreQueries,
):
    """``external_agent.store.interface.Store`` over SQLAlchemy Core."""

    @property
    def description(self) -> str:
        return self._database.description

    @property
    def spread_seconds(self) -> float:
        return self._database.spread_seconds

    def close(self) -> None:
        self._database.close()


def open_store(url: str, *, busy_seconds: float = 5.0) -> SqlStore:
    """Open, create and migrate; safe to call from several processes at once.

    Args:
        url: ``sqlite:////absolute/file``, or ``postgresql://USER@/NAME?host=…``.
        busy_seconds: how long to wait for another process's lock.

    Raises:
        StoreUnavailable: locked, gone, full, or written by a newer release.
        ConfigurationError: another URL; LooseFileMode.
    """
    database = open_database(url, busy_seconds=busy_seconds)
    try:
        migrate(database)
    except BaseException:
        database.close()
        raise
    return SqlStore(database)
