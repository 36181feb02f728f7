"""What is beside ``current``: fixed links, or the one file; and who sees what of a switch."""

from __future__ import annotations

import dataclasses
import os
import ssl
import stat
import struct
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from internal_puller.install import layout
from internal_puller.install.durable import TEMPORARY
from internal_puller.install.generations import Generations
from internal_puller.install.mounts import Mounted
from internal_puller.install.presets import check_target, resolve
from internal_puller.install.verify import verify_active
from internal_puller.settings.targets import Target
from shared.contract.errors import ConfigurationError, StageFailed
from tests.inotify import watched
from tests.unit.internal_puller.install.helpers import NAME
from tests.unit.internal_puller.install.layouts import (
    NOTHING,
    fixed_names,
    links,
    place,
    rendered,
    staging_of,
)

PEM = ("cert.pem", "chain.pem", "fullchain.pem", "privkey.pem")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts, and gives files away")


@pytest.fixture
def target(tmp_path: Path) -> Target:
    return Target(NAME, (NAME,), tmp_path / "live")


@pytest.fixture
def copied(tmp_path: Path) -> Target:
    return Target(NAME, (NAME,), tmp_path / "live", layout="copy")


def loads(path: Path) -> bool:
    """Let OpenSSL open the one file."""
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(path)
    return True


# --- links -----------------------------------------------------------------------------------


def test_each_file_has_a_fixed_link(target: Target) -> None:
    for generation in (1, 2):
        place(target, generation)
        assert fixed_names(target) == links(*PEM)
        for name in PEM:
            found = (target.directory / name).read_bytes()
            assert found == rendered(target, generation)[name].content


def test_links_follow_the_formats(target: Target) -> None:
    place(target, 1)
    combined = dataclasses.replace(target, formats=("combined", "privkey"))
    assert place(combined, 1) == "1.1"
    assert fixed_names(target) == links("combined.pem", "privkey.pem")
    with Generations(target) as generations:
        generations.activate("1")  # going back to what is written otherwise
    assert fixed_names(target) == links(*PEM)
    with Generations(target) as generations:
        generations.activate(None)
    assert fixed_names(target) == {}
    assert not (target.directory / "current").is_symlink()


def test_what_is_not_ours_is_left_alone(target: Target) -> None:
    target.directory.mkdir()
    (target.directory / "fullchain.pem").write_text("by hand")
    (target.directory / "privkey.pem").symlink_to("/etc/ssl/private/other.pem")
    (target.directory / "bundle.p12").symlink_to("generations/1/bundle.p12")
    (target.directory / "notes.txt").symlink_to("current/notes.txt")
    before = fixed_names(target)
    place(target, 1)
    assert fixed_names(target) == {**before, **links("cert.pem", "chain.pem")}
    with Generations(target) as generations:
        generations.activate(None)
    assert fixed_names(target) == before
    assert (target.directory / "fullchain.pem").read_text() == "by hand"


def stage(target: Target, generation: int) -> str:
    plan = resolve(target)
    with Generations(target) as generations:
        files = rendered(target, generation)
        return generations.stage(generation, files, plan.accounts, plan.password)


def test_what_is_in_place_already_gets_its_links_back(target: Target) -> None:
    place(target, 1)
    (target.directory / "privkey.pem").unlink()
    assert stage(target, 2) == "2"
    assert fixed_names(target) == links("cert.pem", "chain.pem", "fullchain.pem")
    assert stage(target, 1) == "1"
    assert fixed_names(target) == links(*PEM)


# --- the one file ----------------------------------------------------------------------------


def test_the_one_file_is_replaced(copied: Target) -> None:
    copied = dataclasses.replace(copied, key_mode=0o400)
    for generation in (1, 2):
        place(copied, generation)
        assert fixed_names(copied) == {"combined.pem": "file"}
        one = copied.directory / "combined.pem"
        assert one.read_bytes() == rendered(copied, generation)["combined.pem"].content
        assert stat.S_IMODE(one.stat().st_mode) == 0o400
        assert layout.active_generation(copied) == generation
        assert loads(one)
    with Generations(copied) as generations:
        generations.activate("1")
        assert one.read_bytes() == rendered(copied, 1)["combined.pem"].content
        generations.activate(None)
    assert fixed_names(copied) == {}


@needs_root
def test_the_one_file_has_the_group_of_the_others(copied: Target) -> None:
    place(dataclasses.replace(copied, group="daemon"), 1)
    one = copied.directory / "combined.pem"
    assert (one.group(), stat.S_IMODE(one.stat().st_mode)) == ("daemon", 0o640)
    place(dataclasses.replace(copied, group="nogroup"), 1)  # the same key and chain
    assert one.group() == "nogroup"


def test_a_reader_of_the_one_file_never_sees_two(copied: Target) -> None:
    """Layout ``copy`` is for servers that open one file once: no read is mixed, none finds none."""
    place(copied, 1)
    whole = {rendered(copied, number)["combined.pem"].content for number in (1, 2)}
    seen, stop = set[bytes](), threading.Event()

    def read() -> None:
        while not stop.is_set():
            seen.add((copied.directory / "combined.pem").read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    try:
        with Generations(copied) as generations:
            plan = resolve(copied)
            generations.stage(2, rendered(copied, 2), plan.accounts, plan.password)
            for _ in range(60):
                for name in ("1", "2"):
                    generations.activate(name)
    finally:
        stop.set()
        reader.join()
    assert seen <= whole


def test_a_file_of_another_is_not_replaced(copied: Target) -> None:
    copied.directory.mkdir()
    one = copied.directory / "combined.pem"
    for make in (lambda: one.write_text("by hand"), lambda: one.symlink_to("/etc/ssl/other.pem")):
        make()
        before = os.lstat(one)
        with pytest.raises(ConfigurationError, match=r"combined\.pem was not made by internal"):
            place(copied, 1)
        assert os.lstat(one) == before
        assert layout.list_generations(copied) == ()
        one.unlink()
    place(copied, 1)


def test_the_one_file_is_verified(copied: Target) -> None:
    place(copied, 1)
    assert verify_active(copied).problems == ()
    (copied.directory / "combined.pem").write_bytes(rendered(copied, 2)["combined.pem"].content)
    (problem,) = verify_active(copied).problems
    assert problem.endswith("combined.pem is not the file of the generation in place")


def test_from_one_layout_to_the_other_and_back(target: Target, copied: Target) -> None:
    combined = dataclasses.replace(target, formats=("combined",))
    for before, after in ((target, copied), (combined, copied)):
        assert before.shape != after.shape
        place(before, 1)
        place(after, 1)
        assert fixed_names(after) == {"combined.pem": "file"}
        place(before, 1)
        assert fixed_names(before) == links(*(PEM if before == target else ("combined.pem",)))
    assert stage(copied, 1) == layout.active_name(copied), "the same files: nothing is activated"
    assert fixed_names(copied) == {"combined.pem": "file"}


# --- who sees what ---------------------------------------------------------------------------


def test_a_watcher_sees_one_switch(target: Target) -> None:
    place(target, 1)
    with watched(target.directory, target.directory / "generations") as watch:
        place(target, 2)
        assert watch.events() == [
            ("generations", "moved to", "2"),
            ("live", "moved to", "current"),
        ]
        place(target, 3, keep=1)
        assert watch.events() == [
            ("generations", "moved to", "3"),
            ("live", "moved to", "current"),
            ("generations", "moved from", "1"),
            ("generations", "moved from", "2"),
        ]
    assert list(staging_of(target).iterdir()) == []


def test_a_watcher_sees_the_one_file_come_whole(copied: Target) -> None:
    place(copied, 1)
    with watched(copied.directory) as watch:
        place(copied, 2)
        assert watch.events() == [
            ("live", "moved to", "combined.pem"),
            ("live", "moved to", "current"),
        ]


def test_notes_and_rehearsals_make_no_temporary_names(target: Target) -> None:
    place(target, 1)
    plan = resolve(target)
    with (
        watched(target.directory, target.directory / "generations") as watch,
        Generations(target) as generations,
    ):
        generations.try_out(rendered(target, 2), plan.accounts, plan.password)
        assert watch.events() == []
        generations.mark(2, layout.SetAside("x", "y", 3))
        assert [one for one in watch.events() if TEMPORARY in one[2]] == []
    assert list(staging_of(target).iterdir()) == []


def test_what_is_staged_is_hidden(target: Target) -> None:
    check_target(target)
    assert stat.S_IMODE(staging_of(target).stat().st_mode) == 0o700
    assert [one.name for one in target.directory.iterdir()] == ["generations"]


@needs_root
def test_root_makes_the_staging_for_whoever_has_the_directory(target: Target) -> None:
    check_target(target)
    os.chown(target.directory, 12345, 12345)
    with pytest.raises(ConfigurationError, match="owner 12345"):
        check_target(target)  # not one that root trusts
    os.chown(target.directory, 0, 0)
    os.chown(staging_of(target), 12345, 12345)
    with pytest.raises(ConfigurationError, match="owner 12345"):
        check_target(target)


@needs_root
def test_an_account_that_may_only_pass_the_parent() -> None:
    """As /etc/ssl/private is for the group ssl-cert: what root made there once is enough."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # pytest's is root's alone
        target = Target(NAME, (NAME,), Path(folder) / "live")
        Path(folder).chmod(0o711)
        check_target(target)
        for one in (target.directory, target.directory / "generations", staging_of(target)):
            os.chown(one, 12345, 12345)
        os.seteuid(12345)
        try:
            for generation in (1, 2, 3):
                place(target, generation, keep=1)
        finally:
            os.seteuid(0)
        assert fixed_names(target) == links(*PEM)
        assert layout.list_generations(target) == (3,)


def access_list(*entries: tuple[int, int, int]) -> bytes:
    """As the kernel has it (posix_acl_xattr.h): tag, permissions, id of each entry."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


@needs_root
def test_files_get_what_their_directory_gives(target: Target) -> None:
    """A rename does not change the label of SELinux, or the list of who else may read."""
    place(target, 1)
    everywhere, label = 0xFFFFFFFF, b"system_u:object_r:container_file_t:s0\0"
    rules = [(1, 7, everywhere), (2, 4, 33), (4, 5, everywhere), (16, 7, everywhere)]
    generations = target.directory / "generations"
    try:
        default = access_list(*rules, (32, 5, everywhere))
        os.setxattr(generations, "system.posix_acl_default", default)
        os.setxattr(generations, "security.selinux", label)
    except OSError:
        pytest.skip("this file system has no access lists")
    place(dataclasses.replace(target, key_mode=0o640), 2)
    found = os.getxattr(target.directory / "privkey.pem", "system.posix_acl_access")
    assert struct.pack("<HHI", 2, 4, 33) in found
    assert os.getxattr(staging_of(target), "security.selinux") == label
    os.removexattr(generations, "system.posix_acl_default")
    place(target, 3)
    assert "system.posix_acl_access" not in os.listxattr(target.directory / "privkey.pem")


def test_staging_that_cannot_be_used(target: Target) -> None:
    staging_of(target).write_text("")
    with pytest.raises(
        StageFailed, match=r"\.live\.staging, from which .* cannot be used"
    ) as caught:
        check_target(target)
    assert caught.value.do == f"As root: install -d -m 0700 -o {os.geteuid()} {staging_of(target)}"


@contextmanager
def mounted_on(directory: Path, *options: str) -> Iterator[None]:
    directory.mkdir(exist_ok=True)
    try:
        subprocess.run(["mount", *options, str(directory)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("nothing can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", str(directory)], check=True)


@needs_root
@pytest.mark.parametrize("kind", ["file system", "bind mount", "generations"])
def test_a_mount_of_its_own_is_refused(target: Target, tmp_path: Path, kind: str) -> None:
    """Same device or not: a rename does not leave a mount."""
    other = tmp_path / "other"
    other.mkdir()
    options = ("--bind", str(other)) if kind == "bind mount" else ("-t", "tmpfs", "none")
    place_of_mount = target.directory
    if kind == "generations":
        target.directory.mkdir()
        place_of_mount /= "generations"
    with mounted_on(place_of_mount, *options):
        with pytest.raises(ConfigurationError, match="is a mount of its own") as caught:
            check_target(target)
        assert f"--directory {target.directory / NAME}" in str(caught.value.do)
        assert kind == "generations" or not staging_of(target).exists()
        below = dataclasses.replace(target, directory=target.directory / NAME)
        place(below, 1)
        assert fixed_names(below) == links(*PEM)


# --- what a mount names ----------------------------------------------------------------------


def test_what_a_mount_names_is_not_pruned(target: Target) -> None:
    for generation in (1, 2, 3, 4):
        place(target, generation)
    named = Mounted(frozenset({target.directory / "generations/2"}), complete=True)
    with Generations(target) as generations:
        generations.prune(1, mounted=lambda: named)
        assert generations.names() == ["2", "4"]
        generations.prune(1, mounted=lambda: NOTHING)
        assert generations.names() == ["4"]


def test_what_could_not_be_looked_at_is_not_pruned(target: Target) -> None:
    for generation in (1, 2, 3, 4):
        place(target, generation)
    with Generations(target) as generations:
        generations.prune(1, mounted=lambda: Mounted(frozenset(), complete=False))
        assert generations.names() == ["1", "2", "3", "4"]


def test_mounts_are_looked_at_only_before_something_goes(target: Target) -> None:
    def look() -> Mounted:
        raise AssertionError

    for generation in (1, 2):
        place(target, generation)
    with Generations(target) as generations:
        generations.prune(2, mounted=look)
        generations.prune(1, "1", mounted=look)
        with pytest.raises(AssertionError):
            generations.prune(1, mounted=look)


@needs_root
def test_a_mount_of_the_directory_sees_the_switch(target: Target, tmp_path: Path) -> None:
    """In a mount namespace of its own, as a container has it: three ways to mount, three ends."""
    place(target, 1)
    inside = {name: tmp_path / "inside" / name for name in ("all", "current", "file")}
    for each in inside.values():
        each.mkdir(parents=True)
    inside["file"] = inside["file"] / "fullchain.pem"
    inside["file"].touch()
    given = {
        "all": target.directory,
        "current": target.directory / "current",
        "file": target.directory / "fullchain.pem",
    }
    script = "".join(f"mount --bind {given[one]} {inside[one]} && " for one in inside)
    command = ["unshare", "-m", "--propagation", "private", "sh", "-c", f"{script} echo ok; cat"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as container:  # type: ignore[call-overload]
        try:
            assert container.stdout
            if container.stdout.readline() != "ok\n":
                pytest.skip("no mount namespace can be made here")
            within = Path(f"/proc/{container.pid}/root")
            plan = resolve(target)
            with Generations(target) as generations:
                for number in (2, 3):
                    files = rendered(target, number)
                    name = generations.stage(number, files, plan.accounts, plan.password)
                    generations.activate(name)
                generations.prune(1)
                assert generations.names() == ["1", "3"], "what current/ was is mounted; 2 is not"

            def seen(path: Path) -> bytes:
                return Path(f"{within}{path}").read_bytes()

            old, new = (rendered(target, one)["fullchain.pem"].content for one in (1, 3))
            assert seen(inside["all"] / "fullchain.pem") == new
            assert seen(inside["current"] / "fullchain.pem") == old
            assert seen(inside["file"]) == old
        finally:
            container.communicate("")
    with Generations(target) as generations:
        generations.prune(1)
        assert generations.names() == ["3"], "the container is gone"
