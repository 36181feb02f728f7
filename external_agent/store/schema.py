"""Brings a database to the schema that this program knows, and refuses a newer one."""

from __future__ import annotations

import logging
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from external_agent.store.database import Database
from shared.contract.errors import StoreUnavailable

HEAD = "0009"
_MIGRATIONS = Path(__file__).parent / "migrations"


def migrate(database: Database) -> None:
    """Apply what is missing, in one transaction.

    Raises:
        StoreUnavailable: a newer release has written this database.
    """
    with database.read() as connection:
        if _revision(connection) == HEAD:
            return
    with database.write(bump=False) as connection:
        if _revision(connection) != HEAD:
            _upgrade(connection)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _upgrade(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    found = _revision(connection)
    if found is not None and found not in known:
        raise StoreUnavailable(
            f"The database has schema {found}, which is newer than this release knows ({HEAD}).",
            do="Install the newer release again, or restore a backup made by this one.",
        )
    logging.getLogger("alembic").setLevel(logging.WARNING)
    command.upgrade(config, "head")
