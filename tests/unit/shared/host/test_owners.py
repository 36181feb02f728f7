"""What root makes for a service belongs to it, and what it keeps for it is no loose file."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path

import pytest

from internal_puller.install.lock import installation_lock
from internal_puller.settings import account
from internal_puller.settings.toml_file import read_toml, replace_toml
from internal_puller.state.files import private_directory, write_private
from shared.contract.errors import LooseFileMode
from shared.host import trusted_file
from shared.host.trusted_file import SECRET, read_trusted
from shared.host.whole_file import replace_whole

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes things for others")
ACCOUNT = 65534


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A directory of the account's."""
    place = tmp_path / "state"
    place.mkdir(mode=0o700)
    os.chown(place, ACCOUNT, ACCOUNT)
    return place


def owner(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_uid, status.st_gid


def test_in_a_directory_of_the_account_all_is_the_accounts(
    theirs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account, "ACCOUNT", "nobody")
    replace_whole(theirs / "file", b"x", durable=True)
    private_directory(theirs / "inner", create=True)
    write_private(theirs / "inner" / "deep", b"x")
    with installation_lock(theirs / "install.lock"):
        pass
    for name in ("file", "inner", "inner/deep", "install.lock"):
        assert owner(theirs / name) == (ACCOUNT, ACCOUNT), name


def test_a_link_leads_roots_files_to_nobody(theirs: Path, tmp_path: Path) -> None:
    """The account puts a link where root writes next: what is there stays root's."""
    (tmp_path / "cron.d").mkdir()
    (theirs / "inner").symlink_to(tmp_path / "cron.d")
    write_private(theirs / "inner" / "file", b"x")
    assert owner(tmp_path / "cron.d" / "file") == (0, 0)


def test_a_lock_that_is_there_keeps_its_owner(theirs: Path) -> None:
    (theirs / "install.lock").touch()
    with installation_lock(theirs / "install.lock"):
        assert owner(theirs / "install.lock") == (0, 0), "a link to a file of root's, maybe"


def test_settings_are_for_the_group_of_the_service_to_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "targets.toml"
    for name, wanted in (("no-such-account", (0, 0, 0o600)), ("nobody", (0, ACCOUNT, 0o640))):
        monkeypatch.setattr(account, "ACCOUNT", name)
        replace_toml(path, "a = 1\n")
        assert (*owner(path), path.stat().st_mode & 0o777) == wanted
        assert read_toml(path) == "a = 1\n"


@pytest.mark.parametrize(
    ("uid", "gid", "mode", "loose"),
    [
        (0, 0, 0o600, False),
        (0, ACCOUNT, 0o640, False),
        (ACCOUNT, ACCOUNT, 0o600, False),
        (0, ACCOUNT, 0o660, True),
        (0, ACCOUNT, 0o644, True),
        (0, 1, 0o640, True),
        (ACCOUNT, ACCOUNT, 0o640, False),
        (1, 1, 0o600, True),
    ],
)
def test_a_secret_of_roots_may_be_read_by_the_group_of_its_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uid: int, gid: int, mode: int, *, loose: bool
) -> None:
    monkeypatch.setattr(trusted_file, "ACCOUNTS", ("nobody", "nogroup", "no-such-account"))
    path = tmp_path / "eab.key"
    path.touch()
    os.chown(path, uid, gid)
    path.chmod(mode)
    refused = pytest.raises(LooseFileMode) if loose else nullcontext()
    with refused:
        assert read_trusted(path, "EAB key file", mask=SECRET) == b""
