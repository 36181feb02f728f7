"""Small private files: whole or not at all, and nobody else's."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from external_agent.settings import keys
from internal_puller.sources.direct.record import DirectFiles
from internal_puller.state.files import private_directory, read_private, sweep, write_private
from internal_puller.state.floor import Floor
from internal_puller.state.pending import Entry, PendingKeys, pending_certificates
from internal_puller.state.state import StateDirectory
from shared.contract.errors import ConfigurationError, LooseFileMode


def test_private_from_birth_whatever_the_umask(tmp_path: Path) -> None:
    for mask in (0, 0o777):
        before = os.umask(mask)
        try:
            write_private(tmp_path / "file", b"x")
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600


@pytest.mark.parametrize("write", [write_private, keys.write_secret])
def test_secrets_are_born_private(
    write: Callable[[Path, bytes], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mode that is set afterwards comes too late: who has opened the file reads on."""
    monkeypatch.setattr(os, "fchmod", lambda descriptor, mode: None)
    before = os.umask(0)
    try:
        write(tmp_path / "file", b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600


def test_failed_write_keeps_the_old_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_private(path, b"old")

    def fail(descriptor: int) -> None:
        raise OSError(5, os.strerror(5))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(ConfigurationError, match="Input/output error"):
        write_private(path, b"new")
    assert read_private(path) == b"old"
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601])
def test_loose_file(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "file"
    write_private(path, b"x")
    path.chmod(mode)
    with pytest.raises(LooseFileMode, match="file"):
        read_private(path)


def test_links_and_oddities_are_no_files(tmp_path: Path) -> None:
    write_private(tmp_path / "file", b"x")
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "fifo", 0o600)
    for name in ("link", "fifo", "."):
        with pytest.raises(ConfigurationError):
            read_private(tmp_path / name)
    assert read_private(tmp_path / "missing") is None


def test_directory(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no state directory"):
        private_directory(tmp_path / "state", create=False)
    private_directory(tmp_path / "state", create=True)
    (tmp_path / "state").chmod(0o750)
    with pytest.raises(LooseFileMode):
        private_directory(tmp_path / "state", create=True)
    (tmp_path / "link").symlink_to("state")
    with pytest.raises(ConfigurationError):
        private_directory(tmp_path / "link", create=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError):
        private_directory(tmp_path / "file", create=True)
    with pytest.raises(ConfigurationError):
        private_directory(tmp_path / "file" / "below", create=True)


def test_sweep_removes_only_old_left_overs(tmp_path: Path) -> None:
    old, new, other = (
        tmp_path / f".progress.json.{'a' * 12}",
        tmp_path / f".progress.json.{'b' * 12}",
        tmp_path / ".kept",
    )
    for path in (old, new, other):
        path.write_text("")
    os.utime(old, (0, 0))
    os.utime(other, (0, 0))
    sweep(tmp_path)
    assert sorted(one.name for one in tmp_path.iterdir()) == [".kept", new.name]


def test_floor_only_rises(tmp_path: Path) -> None:
    state = StateDirectory.create(tmp_path / "state")
    state.raise_floor("a", Floor(5, "0" * 64))
    state.raise_floor("b", Floor(1, "1" * 64))
    state.raise_floor("a", Floor(4, "2" * 64))
    assert state.floors() == {"a": Floor(5, "0" * 64), "b": Floor(1, "1" * 64)}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"floors": [{"certificate": "../x", "generation": 1, "digest": "00"}]}',
        '{"floors": [{"certificate": "a", "generation": 1.5, "digest": "00"}]}',
    ],
)
def test_damaged_floors_are_refused(tmp_path: Path, content: str) -> None:
    state = StateDirectory.create(tmp_path / "state")
    write_private(state.path / "floors.json", content.encode())
    with pytest.raises(ConfigurationError):
        state.floors()
    with pytest.raises(ConfigurationError):
        state.raise_floor("a", Floor(5, "0" * 64))


def test_keys_are_made_once(tmp_path: Path) -> None:
    state = StateDirectory.create(tmp_path / "state")
    first = state.make_keys()
    again = state.make_keys()
    assert (first[0].id, first[1].id) == (again[0].id, again[1].id)
    assert first[0].seed().hex() not in repr(first)


@pytest.mark.parametrize("make", [partial(private_directory, create=True), keys.make_directory])
def test_a_new_state_directory_is_durable_in_its_parent(
    make: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    make(tmp_path / "state")
    assert synced == [tmp_path.stat().st_ino]
    make(tmp_path / "state")
    assert len(synced) == 1


@pytest.mark.parametrize("link", ["pending", "pending/www", "direct", "direct/certificates/www"])
def test_no_link_of_the_accounts_leads_a_removal_elsewhere(tmp_path: Path, link: str) -> None:
    """What root types works in directories that the account may exchange."""
    state, others = tmp_path / "state", tmp_path / "others"
    entry = Entry(1, "ab" * 32, 0).name
    for place in (others, others / "www", others / "certificates" / "www"):
        place.mkdir(parents=True, exist_ok=True)
        for name in (entry, "passwd", ".passwd.0123456789ab"):
            (place / name).touch()
            os.utime(place / name, (0, 0))
    (others / "empty").mkdir()
    before = sorted(others.rglob("*"))
    (state / link).parent.mkdir(parents=True)
    (state / link).symlink_to(others)
    for certificate in ("www", "empty", *pending_certificates(state)):
        PendingKeys(state, certificate).clear()
        PendingKeys(state, certificate).came("ab" * 32, 7)
    files = DirectFiles(state).of("www")
    files.sweep()
    with contextlib.suppress(ConfigurationError):
        files.remove()
    assert sorted(others.rglob("*")) == before
