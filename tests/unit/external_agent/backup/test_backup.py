"""Backups: whole or not at all, checked to the last octet, and nothing in their way is replaced."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import sqlite3
import stat
import tarfile
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from external_agent.backup import archive as archives
from external_agent.backup import database_copy
from external_agent.backup.restoring import Restored, restore
from external_agent.backup.taking import take
from external_agent.facts.access import Role
from external_agent.settings import keys
from external_agent.settings.config import Settings, settings_from
from external_agent.store import schema
from external_agent.store.interface import Store
from external_agent.store.open import open_store
from shared.contract import strict_json
from shared.contract.errors import ConfigurationError, LooseFileMode, RelayError, StoreUnavailable

NAME, NOW = "www.intra.example.com", 1_800_000_000
Files = dict[str, bytes]


@dataclass
class Place:
    """An agent's files; `gone` is the machine after a loss."""

    base: Path

    @property
    def config(self) -> Path:
        return self.base / "etc" / "agent.toml"

    @property
    def state(self) -> Path:
        return self.base / "state"

    @property
    def archive(self) -> Path:
        return self.base / "monday.tar"

    @property
    def settings(self) -> Settings:
        return settings_from(tomllib.loads(self.config.read_text()), source="the test")

    def write_settings(self, more: str = "") -> None:
        self.config.parent.mkdir(exist_ok=True)
        self.config.write_text(
            f'state_directory = "{self.state}"\n{more}\n[relay]\nurl = "https://relay.example.com"\n'
        )

    def store(self) -> Store:
        return open_store(self.settings.database_url)

    def take(self, target: Path | None = None) -> Files:
        take(self.settings, self.config, target or self.archive, now=NOW)
        return self.files()

    def files(self) -> Files:
        return {
            str(path.relative_to(self.base)): path.read_bytes()
            for path in sorted(self.base.rglob("*"))
            if path.is_file() and path != self.archive
        }

    def lose(self) -> None:
        self.config.unlink()
        shutil.rmtree(self.state)

    def restore(self, archive: Path | None = None) -> Restored:
        return restore(archive or self.archive, self.config, now=NOW + 60, actor="user root")

    def refused(self, words: str, kind: type[RelayError] = ConfigurationError) -> RelayError:
        """Restore in vain, and leave nothing."""
        before = self.files()
        with pytest.raises(kind, match=words) as refused:
            self.restore()
        assert self.files() == before
        return refused.value


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path)
    made.write_settings()
    keys.make_directory(made.state)
    keys.make_keys(made.state, "relay.example.com", NOW)
    store = made.store()
    store.add_certificate(NAME, [NAME], directory_url="https://ca.example.com/dir", now=NOW)
    for number in (1, 2):
        key = bytes([number]) * 32
        store.create_token(key, [NAME], now=NOW, expires_at=NOW + 3600)
    for number in (1, 2, 3):
        store.create_access(
            f"person{number}",
            Role.ADMIN,
            hashlib.sha256(bytes([number])).hexdigest(),
            now=NOW,
            expires_at=NOW + 86400,
            actor="root",
        )
    store.void_access(store.access_tokens()[0].id, now=NOW, actor="root")
    store.close()
    return made


def test_what_was_saved_is_there_again(place: Place) -> None:
    relay = place.state / "relay-tls"
    keys.make_directory(relay)
    keys.write_secret(relay / f"{'a' * 64}.key", b"key of the relay's public certificate")
    keys.write_secret(place.state / keys.NEXT_ACCOUNT_KEY_FILE, b"a roll-over under way")
    before = place.take()
    assert stat.S_IMODE(place.archive.stat().st_mode) == 0o600
    place.lose()
    done = place.restore()
    after = place.files()
    assert set(after) == set(before)
    assert {name for name in before if after[name] != before[name]} == {"state/relay.db"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in place.state.rglob("*")} == {0o600, 0o700}
    assert (done.made_at, done.voided.enrolment, done.voided.access) == (NOW, 2, 2)
    store = place.store()
    assert [row.id for row in store.certificates()] == [NAME]
    assert all(row.voided_at for row in (*store.tokens(), *store.access_tokens()))
    assert store.verify_events() is None
    last = store.latest_events(1)[0]
    store.close()
    assert (last.kind, last.actor, last.details["backup_of"]) == ("restored", "user root", NOW)
    assert last.details["enrolment_tokens_voided"] == last.details["access_tokens_voided"] == 2


def test_a_backup_replaces_nothing(place: Place) -> None:
    place.archive.write_text("precious")
    with pytest.raises(ConfigurationError, match="exists already"):
        place.take()
    assert place.archive.read_text() == "precious"
    place.archive.unlink()
    place.archive.symlink_to(place.base / "elsewhere")
    with pytest.raises(ConfigurationError, match="exists already"):
        place.take()
    assert not (place.base / "elsewhere").exists()


def test_a_file_that_came_meanwhile_is_kept(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    import external_agent.backup.taking as taking

    write = taking.write_archive

    def slow(*arguments: object, **named: object) -> None:
        write(*arguments, **named)  # type: ignore[arg-type]
        place.archive.write_text("precious")

    monkeypatch.setattr(taking, "write_archive", slow)
    with pytest.raises(ConfigurationError, match="exists already"):
        place.take()
    assert place.archive.read_text() == "precious"
    assert [one.name for one in place.base.iterdir() if one.name.startswith(".")] == []


def test_a_backup_that_fails_leaves_nothing(place: Place) -> None:
    before = place.files()
    with pytest.raises(ConfigurationError, match="cannot be used: No such file"):
        place.take(place.base / "missing" / "monday.tar")
    (place.state / "account.key").chmod(0o644)
    with pytest.raises(LooseFileMode, match=r"account\.key"):
        place.take()
    (place.state / "account.key").chmod(0o600)
    (place.state / "relay.db").write_bytes(b"no database" * 100)
    with pytest.raises(StoreUnavailable, match="cannot be copied"):
        place.take()
    assert set(place.files()) == set(before)


def test_what_no_restore_would_take_is_no_backup(place: Place) -> None:
    place.config.write_text(place.config.read_text() + "# " + "x" * archives.MOST_OCTETS)
    before = place.files()
    with pytest.raises(ConfigurationError, match=r"was not made.*settings\.toml") as refused:
        place.take()
    assert str(place.archive) in refused.value.what
    assert place.files() == before
    assert not place.archive.exists()


def test_keys_that_change_meanwhile_are_read_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A roll-over of the account key in the middle would leave key and database of two states."""
    import external_agent.backup.taking as taking

    copy, rounds = taking.copy_database, []

    def rolled_over(source: Path, target: Path) -> str:
        rounds.append(source)
        if len(rounds) == 1:
            keys.begin_roll_over(place.state)
        if len(rounds) == 2:
            keys.end_roll_over(place.state)
        return copy(source, target)

    monkeypatch.setattr(taking, "copy_database", rolled_over)
    files = place.take()
    assert len(rounds) == 3
    place.lose()
    place.restore()
    assert place.files()["state/account.key"] == files["state/account.key"]


def test_while_others_write(place: Place) -> None:
    """What was committed before is in it; what is not committed is not."""
    database = place.state / "relay.db"
    with sqlite3.connect(database, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("UPDATE certificates SET names = '[]'")
        place.take()
        other.execute("COMMIT")
    other.close()
    place.lose()
    place.restore()
    store = place.store()
    assert [row.names for row in store.certificates()] == [(NAME,)]
    store.close()


def test_a_database_that_stays_locked(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_copy, "SECONDS", 0.1)
    with sqlite3.connect(place.state / "relay.db", isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreUnavailable, match=r"(?i)locked"):
            place.take()
    other.close()
    assert not place.archive.exists()


def test_files_that_the_settings_name(place: Place) -> None:
    inside, outside = place.state / "eab.key", place.base / "tsig.key"
    for path in (inside, outside):
        keys.write_secret(path, b"secret")
    place.write_settings()
    place.config.write_text(
        place.config.read_text()
        + f'[acme.cas.zerossl]\neab_key_id = "k"\neab_hmac_key_file = "{inside}"\n'
        + f'[dns01.rfc2136]\nserver = "192.0.2.53"\nkey_file = "{outside}"\n'
    )
    taken = take(place.settings, place.config, place.archive, now=NOW)
    assert taken.elsewhere == (outside,)
    place.lose()
    place.restore()
    assert inside.read_bytes() == b"secret"


def test_roots_come_along(place: Place) -> None:
    """Without them the restored agent reaches no private CA; a key in such a file stays out."""
    root, mixed = place.base / "roots" / "ca-root.pem", place.base / "mixed.pem"
    root.parent.mkdir()
    root.write_bytes((place.state / keys.TLS_CERTIFICATE_FILE).read_bytes())
    mixed.write_bytes(root.read_bytes() + (place.state / keys.TLS_KEY_FILE).read_bytes())
    place.config.write_text(
        place.config.read_text()
        + f'[acme]\nca_root = "{root}"\n[acme.cas.zerossl]\nca_root = "{mixed}"\n'
    )
    content = root.read_bytes()
    taken = take(place.settings, place.config, place.archive, now=NOW)
    assert taken.elsewhere == (mixed,)
    place.lose()
    root.write_bytes(b"another")
    with pytest.raises(ConfigurationError, match="exists already"):
        place.restore()
    assert not place.config.exists() and not place.state.exists()
    shutil.rmtree(root.parent)
    place.restore()
    assert (root.read_bytes(), root.stat().st_mode & 0o777) == (content, 0o644)


def test_roots_go_nowhere_that_the_settings_do_not_name(place: Place) -> None:
    """An archive is a file from elsewhere, and root restores it."""
    root = place.base / "ca-root.pem"
    root.write_bytes((place.state / keys.TLS_CERTIFICATE_FILE).read_bytes())
    place.config.write_text(place.config.read_text() + f'[acme]\nca_root = "{root}"\n')
    take(place.settings, place.config, place.archive, now=NOW)
    place.lose()
    root.unlink()
    bait = place.base / "cron.pem"
    content = place.archive.read_bytes()
    old, new = f"roots{root}".encode(), f"roots{bait}".encode()
    assert content.count(old) == 2, "the statement and the member's header"
    place.archive.write_bytes(_with_sums(content.replace(old, new.ljust(len(old), b"x"))))
    with pytest.raises(ConfigurationError, match="no file of roots that its settings name"):
        place.restore()
    assert not list(place.base.glob("cron*"))


def _with_sums(content: bytes) -> bytes:
    """Put the sums of a tar's headers right."""
    found = bytearray(content)
    for at in range(0, len(found), 512):
        if found[at + 257 : at + 262] == b"ustar":
            found[at + 148 : at + 156] = b" " * 8
            found[at + 148 : at + 156] = b"%06o\0 " % sum(found[at : at + 512])
    return bytes(found)


def test_what_else_lies_there(place: Place) -> None:
    """An editor's file is left, a root that everybody may read is taken, an open key is refused."""
    public, stray = place.state / "root.pem", place.state / "relay-tls" / ".chain.pem.swp"
    public.write_text("-----BEGIN CERTIFICATE-----\nMII=\n-----END CERTIFICATE-----\n")
    public.chmod(0o644)
    stray.parent.mkdir()
    stray.write_text("x")
    place.write_settings()
    place.config.write_text(place.config.read_text() + f'[acme]\nca_root = "{public}"\n')
    place.take()
    before = public.read_bytes()
    public.write_bytes(before + b"-----BEGIN PRIVATE KEY-----\n")
    with pytest.raises(LooseFileMode):
        place.take(place.base / "second")
    place.lose()
    place.restore()
    assert public.read_bytes() == before
    assert not stray.exists()


def test_another_database_has_tools_of_its_own(place: Place) -> None:
    place.write_settings('database = "postgresql+psycopg://localhost/relay"')
    with pytest.raises(ConfigurationError, match="not SQLite") as refused:
        place.take()
    assert "pg_dump" in refused.value.do


# --- restoring ----------------------------------------------------------------------------------


def test_a_restore_replaces_nothing(place: Place) -> None:
    place.take()
    assert "replaces nothing" in place.refused("exists already").what
    place.config.unlink()
    place.refused("state/.* exists already")
    shutil.rmtree(place.state)
    place.state.mkdir(mode=0o700)  # as a package makes it
    place.restore()


def test_a_database_elsewhere(place: Place) -> None:
    other = place.base / "srv" / "relay.db"
    other.parent.mkdir()
    shutil.move(place.state / "relay.db", other)
    place.write_settings(f'database = "sqlite:///{other}"')
    place.take()
    place.lose()
    place.refused(r"srv/relay\.db exists already")
    shutil.rmtree(other.parent)
    place.restore()
    assert other.exists()


Edit = Callable[[list[tuple[tarfile.TarInfo, bytes]]], list[tuple[tarfile.TarInfo, bytes]]]


def edited(path: Path, edit: Edit) -> None:
    """Write the archive anew with other members."""
    with tarfile.open(path) as tar:
        members = []
        for member in tar:
            source = tar.extractfile(member)
            assert source is not None
            members.append((member, source.read()))
    with tarfile.open(path, "w") as tar:
        for member, content in edit(members):
            member.size = len(content) if member.isreg() else 0
            tar.addfile(member, io.BytesIO(content))


def named(name: str, content: bytes = b"x") -> tuple[tarfile.TarInfo, bytes]:
    return tarfile.TarInfo(name), content


def link(name: str) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, "/etc/shadow"
    return member, b""


def restated(**changes: object) -> Edit:
    """Say something else in the statement."""

    def edit(members: list[tuple[tarfile.TarInfo, bytes]]) -> list[tuple[tarfile.TarInfo, bytes]]:
        told = strict_json.json.loads(members[0][1])
        told.update(changes)
        return [(members[0][0], strict_json.encode(told)), *members[1:]]

    return edit


def with_member(name: str) -> Edit:
    """Add a member, and say so in the statement."""

    def edit(members: list[tuple[tarfile.TarInfo, bytes]]) -> list[tuple[tarfile.TarInfo, bytes]]:
        told = strict_json.json.loads(members[0][1])
        told["members"].insert(
            0, {"name": name, "size": 1, "sha256": hashlib.sha256(b"x").hexdigest()}
        )
        return [(members[0][0], strict_json.encode(told)), named(name), *members[1:]]

    return edit


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda members: members[1:], "not where it belongs"),
        (lambda members: members[:-1], "not where it belongs"),
        (lambda members: [*members[:2], *members[3:]], "not where it belongs"),
        (lambda members: [*members, named("more")], "more than it says"),
        (lambda members: [members[0], link(members[1][0].name), *members[2:]], "not where"),
        (
            lambda members: [*members[:2], (members[2][0], members[2][1][:-1]), *members[3:]],
            "not what was put into it",
        ),
        (
            lambda members: [*members[:-1], (members[-1][0], members[-1][1][:-1] + b"!")],
            "not what was put into it",
        ),
        (lambda members: [*members[:-1], (members[-1][0], b"")], "not what was put into it"),
        (with_member("../etc/passwd"), "not what a backup holds"),
        (with_member("/etc/passwd"), "not what a backup holds"),
        (with_member("state/../../passwd"), "not what a backup holds"),
        (with_member("state/deep/er"), "not what a backup holds"),
        (with_member("state/.hidden"), "not what a backup holds"),
        (restated(members=[]), "list of members"),
        (restated(more=1), "more"),
        (restated(format=2, release="9.0.0"), "has format 2"),
        (restated(made_at=1.5), "not an integer"),
    ],
)
def test_what_is_not_as_it_was_written(place: Place, edit: Edit, words: str) -> None:
    place.take()
    edited(place.archive, edit)
    place.lose()
    place.refused(words)


def test_every_truncation_is_noticed(place: Place) -> None:
    place.take()
    whole = place.archive.read_bytes()
    place.lose()
    for length in (0, 1, 511, 512, 700, 2048, 5000, len(whole) // 2, len(whole) - 11_000):
        place.archive.write_bytes(whole[:length])
        place.refused("no backup that can be restored")
    place.archive.unlink()
    place.refused("There is no file")
    place.archive.mkdir()
    place.refused("is a directory")


def test_files_that_are_no_archive(place: Place) -> None:
    place.take()
    place.lose()
    for content in (b"\0" * 4096, b"x" * 4096, os.urandom(4096)):
        place.archive.write_bytes(content)
        place.refused("no backup that can be restored")


def changed_database(place: Place, statement: str) -> None:
    with sqlite3.connect(place.state / "relay.db") as connection:
        connection.execute(statement)
    connection.close()


def test_a_newer_schema_is_refused_with_the_way_on(place: Place) -> None:
    changed_database(place, "UPDATE alembic_version SET version_num = '9999'")
    place.take()
    edited(place.archive, restated(release="7.1.0"))
    place.lose()
    assert "Install release 7.1.0" in place.refused("newer than this release").do
    # ... also when the statement hides it
    edited(place.archive, restated(schema=schema.HEAD))
    place.refused("newer than this release")


def test_an_older_schema_is_migrated(place: Place) -> None:
    """A backup of an earlier release: what is missing is added, like at a start."""
    place.lose()
    keys.make_directory(place.state)
    keys.make_keys(place.state, "relay.example.com", NOW)
    place.write_settings()
    old = place.state / "relay.db"
    old.touch(0o600)
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import create_engine

    config = Config()
    config.set_main_option("script_location", str(Path(schema.__file__).parent / "migrations"))
    with create_engine(f"sqlite:///{old}").connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.commit()
    place.take()
    place.lose()
    place.restore()
    assert database_copy.inspect(place.state / "relay.db") == schema.HEAD


def test_a_damaged_database_is_refused(place: Place) -> None:
    place.take()

    def broken(members: list[tuple[tarfile.TarInfo, bytes]]) -> list[tuple[tarfile.TarInfo, bytes]]:
        content = b"SQLite format 3\0" + b"\xff" * 8192
        told = strict_json.json.loads(members[0][1])
        told["members"][-1] |= {
            "size": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        statement = (members[0][0], strict_json.encode(told))
        return [statement, *members[1:-1], (members[-1][0], content)]

    edited(place.archive, broken)
    place.lose()
    place.refused("cannot be read|damaged", StoreUnavailable)


def test_settings_of_a_later_release(place: Place) -> None:
    place.write_settings('invented_later = "yes"')
    with pytest.raises(ConfigurationError, match="invented_later"):
        _ = place.settings
    text = place.config.read_bytes()
    place.write_settings()
    place.take()

    def later(members: list[tuple[tarfile.TarInfo, bytes]]) -> list[tuple[tarfile.TarInfo, bytes]]:
        told = strict_json.json.loads(members[0][1])
        (one,) = [one for one in told["members"] if one["name"] == archives.SETTINGS]
        one |= {"size": len(text), "sha256": hashlib.sha256(text).hexdigest()}
        return [
            (members[0][0], strict_json.encode(told)),
            *((m, text if m.name == archives.SETTINGS else content) for m, content in members[1:]),
        ]

    edited(place.archive, later)
    place.lose()
    assert "the release that made the backup" in place.refused("invented_later").do
