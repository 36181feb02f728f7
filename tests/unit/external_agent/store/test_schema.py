"""The database file: its schema, its mode, its durability, and what happens without it."""

from __future__ import annotations

import os
import resource
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from external_agent.store import schema
from external_agent.store.interface import Store
from external_agent.store.open import open_store
from external_agent.store.sqlite import has_wal_reset_bug
from external_agent.store.tables import metadata
from shared.contract.errors import ConfigurationError, LooseFileMode, StoreUnavailable

pytestmark = pytest.mark.sqlite
NAME = "www.intra.example.com"


def _add(store: Store, name: str = NAME) -> None:
    store.add_certificate(name, [name], directory_url="https://ca.example.com/dir", now=1)


def test_migrations_lead_to_the_tables(store: Store, tmp_path: Path) -> None:
    with create_engine(f"sqlite:///{tmp_path / 'relay.db'}").connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    heads = ScriptDirectory(str(Path(schema.__file__).parent / "migrations")).get_heads()
    assert heads == [schema.HEAD]


def test_opening_again_keeps_what_is_there(url: str) -> None:
    first = open_store(url)
    _add(first)
    second = open_store(url)
    assert [row.id for row in second.certificates()] == [NAME]
    first.close()
    second.close()


def test_a_newer_schema_is_refused(store: Store, url: str, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "relay.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreUnavailable, match="newer than this release") as refused:
        open_store(url)
    assert "newer release" in refused.value.do


def test_the_file_is_private_from_birth(store: Store, tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        other = open_store(f"sqlite:///{tmp_path / 'other.db'}")
        _add(other)
        other.close()
    finally:
        os.umask(previous)
    for path in tmp_path.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "loose.db").touch(mode=0o644)
    with pytest.raises(LooseFileMode):
        open_store(f"sqlite:///{tmp_path / 'loose.db'}")


def test_a_symlink_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "elsewhere.db")
    with pytest.raises(StoreUnavailable):
        open_store(f"sqlite:///{tmp_path / 'link.db'}")
    assert not (tmp_path / "elsewhere.db").exists()


@pytest.mark.parametrize("url", ["mysql://h/x", "sqlite://", "nonsense"])
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(ConfigurationError):
        open_store(url)


def test_no_database_at_all(tmp_path: Path) -> None:
    (tmp_path / "junk.db").write_bytes(b"this is no database, whatever it says" * 100)
    (tmp_path / "junk.db").chmod(0o600)
    with pytest.raises(StoreUnavailable):
        open_store(f"sqlite:///{tmp_path / 'junk.db'}")


def test_locked_by_another_process(url: str, tmp_path: Path) -> None:
    store = open_store(url, busy_seconds=0.05)
    other = sqlite3.connect(tmp_path / "relay.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreUnavailable, match="locked"):
        _add(store)
    with pytest.raises(StoreUnavailable):
        store.pending_challenges()
    other.execute("ROLLBACK")
    other.close()
    _add(store)
    store.close()


def test_while_it_is_locked_nobody_waits_for_those_before_him_in_the_queue(
    url: str, tmp_path: Path
) -> None:
    store = open_store(url, busy_seconds=0.4)
    other = sqlite3.connect(tmp_path / "relay.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")

    def refused(_: int) -> float:
        came = time.monotonic()
        with pytest.raises(StoreUnavailable, match="locked"):
            store.pending_challenges()
        return time.monotonic() - came

    with ThreadPoolExecutor(12) as pool:
        waited = list(pool.map(refused, range(12)))
    assert max(waited) < 3, "each of the twelve waits its own time, not the others' too"
    other.execute("ROLLBACK")
    other.close()
    assert store.pending_challenges() == {}
    store.close()


def test_deleted_under_us(store: Store, tmp_path: Path) -> None:
    (tmp_path / "relay.db").unlink()
    with pytest.raises(StoreUnavailable, match="gone"):
        _add(store)


def test_replaced_under_us(store: Store, tmp_path: Path) -> None:
    (tmp_path / "relay.db").rename(tmp_path / "old.db")
    (tmp_path / "relay.db").touch(mode=0o600)
    with pytest.raises(StoreUnavailable, match="another file"):
        _add(store)


FULL_DISK = """
import resource, signal, sys
from external_agent.store.open import open_store
from shared.contract.errors import StoreUnavailable
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = open_store(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
written = 0
try:
    while written < 2000:
        name = f"host{written}.example.com"
        store.add_certificate(name, [name], directory_url="https://ca.example.com/dir", now=1)
        written += 1
except StoreUnavailable:
    print(written)
"""


def test_no_room_left(tmp_path: Path) -> None:
    """A file size limit stands for a full disk: what was acknowledged is there, nothing else."""
    url = f"sqlite:///{tmp_path / 'relay.db'}"
    open_store(url).close()
    limit = (tmp_path / "relay.db").stat().st_size + 64 * 1024
    root = Path(__file__).resolve().parents[4]
    ended = subprocess.run(
        [sys.executable, "-c", FULL_DISK, url, str(limit)],
        env={"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    store = open_store(url)
    assert len(store.certificates()) == int(ended.stdout)
    assert store.verify_events() is None
    store.close()
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("version", "has_it"),
    [
        ((3, 6, 23), False),
        ((3, 7, 0), True),
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 45, 0), True),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 52, 0), False),
    ],
)
def test_versions_with_the_wal_reset_bug(version: tuple[int, int, int], has_it: bool) -> None:
    assert has_wal_reset_bug(version) is has_it


def test_durability_of_the_connection(store: Store, tmp_path: Path) -> None:
    assert sqlite3.sqlite_version in store.description
    bug = has_wal_reset_bug(sqlite3.sqlite_version_info)
    assert ("DELETE, synchronous=EXTRA" in store.description) is bug
    with sqlite3.connect(tmp_path / "relay.db") as connection:
        mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
    assert mode == ("delete" if bug else "wal")


def test_changes_are_counted(store: Store, url: str) -> None:
    before = store.change_counter()
    other = open_store(url)
    _add(other)
    other.close()
    assert store.change_counter() > before
