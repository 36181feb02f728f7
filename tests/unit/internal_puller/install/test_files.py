"""Formats, owners and handles: what is on disk is what was asked, and nobody can redirect it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import ssl
import stat
import subprocess
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    load_der_private_key,
    load_pem_private_key,
    pkcs12,
)

from internal_puller.install import layout
from internal_puller.install.durable import Directory
from internal_puller.install.generations import Generations
from internal_puller.install.presets import check_target
from internal_puller.install.verify import verify_active
from internal_puller.settings.targets import FORMATS, Target
from shared.contract.errors import ConfigurationError, LooseFileMode, StageFailed
from tests.unit.internal_puller.install.helpers import NAME, material, put


@pytest.fixture
def target(tmp_path: Path) -> Target:
    return Target(NAME, (NAME,), tmp_path / "live")


def password_file(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text("tr\u00e4um süß\nsecond line\n")
    path.chmod(0o600)
    return path


def test_every_format_holds_the_same_pair(target: Target, tmp_path: Path) -> None:
    target = dataclasses.replace(
        target, formats=FORMATS, pkcs12_password_file=password_file(tmp_path)
    )
    assert put(target, 1).error is None
    current = target.directory / "current"
    fullchain = (current / "fullchain.pem").read_bytes()
    leaf, intermediate = x509.load_pem_x509_certificates(fullchain)
    assert (current / "cert.pem").read_bytes() + (current / "chain.pem").read_bytes() == fullchain
    assert x509.load_pem_x509_certificate((current / "chain.pem").read_bytes()) == intermediate

    key_pem = (current / "privkey.pem").read_bytes()
    assert key_pem.startswith(b"-----BEGIN PRIVATE KEY-----")
    assert load_pem_private_key(key_pem, None).public_key() == leaf.public_key()
    assert (current / "combined.pem").read_bytes() == fullchain + key_pem
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(current / "combined.pem")

    store = pkcs12.load_pkcs12((current / "bundle.p12").read_bytes(), "träum süß".encode())
    assert store.cert is not None
    assert store.cert.certificate == leaf
    assert [each.certificate for each in store.additional_certs] == [intermediate]
    assert store.key is not None
    assert store.key.public_key() == leaf.public_key()

    assert x509.load_der_x509_certificate((current / "cert.der").read_bytes()) == leaf
    key = load_der_private_key((current / "privkey.der").read_bytes(), None)
    assert key.public_key() == leaf.public_key()

    assert verify_active(target).problems == ()
    assert put(target, 1).changed is False  # salted, yet recognised


def test_only_the_asked_formats_are_written(target: Target) -> None:
    assert put(dataclasses.replace(target, formats=("combined",)), 1).error is None
    names = {path.name for path in (target.directory / "current").iterdir()}
    assert names == {"combined.pem", "generation.json"}
    assert verify_active(dataclasses.replace(target, formats=("combined",))).problems == ()
    assert verify_active(target).problems[0] == "fullchain.pem is missing"


@pytest.mark.parametrize(
    ("text", "mode"), [(b"", 0o600), (b"\n", 0o600), (b"x\n", 0o604), (b"\xff\n", 0o600)]
)
def test_password_file_that_will_not_do(
    target: Target, tmp_path: Path, text: bytes, mode: int
) -> None:
    path = tmp_path / "password"
    path.write_bytes(text)
    path.chmod(mode)
    target = dataclasses.replace(target, pkcs12_password_file=path)
    with pytest.raises(LooseFileMode if mode == 0o604 else ConfigurationError):
        put(target, 1)
    assert not target.directory.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_owner_group_and_modes(target: Target) -> None:
    target = dataclasses.replace(target, owner="daemon", group="nogroup", mode=0o640)
    assert put(target, 1).error is None
    current = target.directory / "current"
    for name, mode in (("fullchain.pem", 0o640), ("privkey.pem", 0o640)):
        status = (current / name).stat()
        assert ((current / name).owner(), (current / name).group()) == ("daemon", "nogroup")
        assert stat.S_IMODE(status.st_mode) == mode
    assert (current.resolve().stat().st_uid, target.directory.stat().st_uid) == (0, 0)
    assert put(target, 1).changed is False
    assert put(dataclasses.replace(target, key_mode=0o400), 1).changed is True
    assert stat.S_IMODE((current / "privkey.pem").stat().st_mode) == 0o400


@pytest.mark.parametrize("setting", ["owner", "group"])
def test_unknown_account(target: Target, setting: str) -> None:
    with pytest.raises(ConfigurationError, match="no-such-account"):
        check_target(dataclasses.replace(target, **{setting: "no-such-account"}))
    assert not target.directory.exists()


# --- directories that will not do ------------------------------------------------------------


def test_directory_is_a_file(target: Target) -> None:
    target.directory.write_text("")
    with pytest.raises(ConfigurationError, match="cannot be used as a directory"):
        put(target, 1)


def test_directory_is_a_link(target: Target, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    target.directory.symlink_to("elsewhere")
    with pytest.raises(ConfigurationError, match="symbolic link"):
        put(target, 1)
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o777])
def test_directory_that_others_can_change(target: Target, mode: int) -> None:
    target.directory.mkdir()
    target.directory.chmod(mode)
    with pytest.raises(ConfigurationError, match="can be changed by other users"):
        put(target, 1)
    target.directory.chmod(mode | stat.S_ISVTX)
    assert put(target, 1).error is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_directory_of_somebody_else(target: Target) -> None:
    target.directory.mkdir()
    os.chown(target.directory, 65534, 65534)
    with pytest.raises(ConfigurationError, match="can be changed by other users"):
        put(target, 1)


def test_generations_is_a_link(target: Target, tmp_path: Path) -> None:
    target.directory.mkdir()
    (target.directory / "generations").symlink_to(tmp_path)
    with pytest.raises(ConfigurationError, match="no directory"):
        put(target, 1)


@pytest.mark.parametrize("kind", ["directory", "file", "foreign link"])
def test_current_is_not_ours(target: Target, kind: str) -> None:
    target.directory.mkdir()
    current = target.directory / "current"
    if kind == "directory":
        current.mkdir()
    elif kind == "file":
        current.write_text("")
    else:
        current.symlink_to("/etc")
    with pytest.raises(ConfigurationError, match="current"):
        put(target, 1)
    with pytest.raises(ConfigurationError, match="current"):
        layout.active_generation(target)


def staging_of(target: Target) -> Path:
    return target.directory.parent / ".live.staging"


def test_leftovers_of_a_killed_run_are_removed(target: Target) -> None:
    put(target, 1)
    left = staging_of(target) / ".tmp-0123"
    left.mkdir()
    (left / "privkey.pem").write_bytes(b"half")
    (staging_of(target) / ".tmp-4567").symlink_to("generations/9")
    put(target, 2)
    assert list(staging_of(target).iterdir()) == []


def test_staging_twice_keeps_what_is_there(target: Target) -> None:
    put(target, 1)
    inode = (target.directory / "current/privkey.pem").stat().st_ino
    (target.directory / "current").unlink()  # as if killed between staging and activating
    assert put(target, 1).active == 1
    assert (target.directory / "current/privkey.pem").stat().st_ino == inode


def test_a_note_that_is_not_ours(target: Target) -> None:
    put(target, 1)
    groups = target.directory.parent / "state/groups"
    member = '{"certificate": "x", "to": "%s", "previous": %s, "verdict": null}'
    before = '"boot_id": "", "before": {"running": {}, "points": {}}'
    whole = '{%s, "members": {"/x": %s}}'
    for text in (
        "",
        "[]",
        "{}",
        whole % (before, member % ("../../etc", "null")),
        whole % (before, member % ("1", "7")),
    ):
        (groups / "some.json").write_text(text)
        with pytest.raises(ConfigurationError, match=r"some\.json"):
            put(target, 2)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_disk_really_full(tmp_path: Path) -> None:
    mount = tmp_path / "small"
    mount.mkdir()
    try:
        options = ["mount", "-t", "tmpfs", "-o", "size=32k,mode=755", "none", str(mount)]
        subprocess.run(options, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no tmpfs can be mounted here")
    try:
        target = Target(NAME, (NAME,), mount / "live", keep=1, formats=("fullchain", "privkey"))
        assert put(target, 1).error is None
        with contextlib.suppress(OSError), (mount / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))
        report = put(target, 2)
        assert isinstance(report.error, StageFailed)
        assert "the disk is full" in report.error.what
        assert (report.verdict, report.active, report.exit_code) == (None, 1, 9)
        assert verify_active(target).generation == 1
        assert not layout.set_aside(target)
        (mount / "filler").unlink()
        assert put(target, 2).active == 2
    finally:
        subprocess.run(["umount", str(mount)], check=True)


# --- races -----------------------------------------------------------------------------------


def test_links_put_in_the_way_redirect_nothing(tmp_path: Path) -> None:
    """A local user may write into the parent: nothing ever lands where the link points."""
    parent, bait = tmp_path / "open", tmp_path / "bait"
    parent.mkdir()
    bait.mkdir()
    target = Target(NAME, (NAME,), parent / "live")
    put(target, 1)
    stop, aside = threading.Event(), parent / "aside"

    def race() -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError):
                target.directory.rename(aside)
                target.directory.symlink_to(bait)
            with contextlib.suppress(OSError):
                target.directory.unlink()
                aside.rename(target.directory)

    racer = threading.Thread(target=race)
    racer.start()
    try:
        for generation in range(2, 40):
            with contextlib.suppress(ConfigurationError):
                put(target, generation)
    finally:
        stop.set()
        racer.join()
    assert list(bait.iterdir()) == []


def test_links_inside_are_not_followed(target: Target, tmp_path: Path) -> None:
    put(target, 1)
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    victim.chmod(0o600)
    with Directory.open(target.directory) as directory:
        (target.directory / "planted").symlink_to(victim)
        with pytest.raises(OSError, match="planted"):
            directory.read("planted")
        directory.remove("planted")
        with pytest.raises(FileExistsError):
            (target.directory / "there").symlink_to(victim)
            directory.write("there", b"x", _private())
    assert victim.read_text() == "untouched"


def _private() -> object:
    from internal_puller.install.durable import Ownership

    return Ownership(-1, -1, 0o600)


def test_key_is_secret_from_birth(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the umask, and before owner and mode are set, nobody else can read it."""
    modes = set[int]()
    original = os.write

    def watch(descriptor: int, data: bytes) -> int:
        modes.add(stat.S_IMODE(os.fstat(descriptor).st_mode))
        return original(descriptor, data)

    monkeypatch.setattr(os, "write", watch)
    earlier = os.umask(0)
    try:
        put(target, 1)
    finally:
        os.umask(earlier)
    assert modes == {0o600}


def test_reading_changes_nothing(target: Target) -> None:
    put(target, 1)
    (staging_of(target) / ".tmp-0123").mkdir()
    verify_active(target)
    assert (staging_of(target) / ".tmp-0123").exists()
    with Generations(target, read_only=True) as generations:
        assert generations.names() == ["1"]
    assert material(1).leaf_sha256 == verify_active(target).leaf_sha256
