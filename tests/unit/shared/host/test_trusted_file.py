"""Each file that an administrator writes or names, with each fault that lets another change it."""

from __future__ import annotations

import grp
import os
import shlex
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from external_agent.composition.agent import _tls
from external_agent.composition.authorities import _account_binding
from external_agent.present.alerts.receivers import read_receivers
from external_agent.settings import keys
from external_agent.settings.config import CaSection
from external_agent.settings.config import load_settings as load_agent
from internal_puller.install.formats import read_password
from internal_puller.install.remote_openssh import Machine
from internal_puller.install.remote_settings import check_files
from internal_puller.install.roots import roots_in
from internal_puller.settings.config import CONFIG_VARIABLE, load_settings
from internal_puller.settings.targets import load_targets
from internal_puller.sources.agent.network import verifying_context
from internal_puller.sources.direct.connection import _binding
from internal_puller.sources.direct.settings import DirectSettings, load_direct
from shared.acme.dns01.acme_dns import AcmeDnsPublisher, read_accounts
from shared.acme.dns01.lexicon import read_credentials
from shared.acme.dns01.settings import AcmeDnsSettings, LexiconSettings, Rfc2136Settings
from shared.acme.dns01.tsig_key import read_tsig_key
from shared.acme.network import _roots_file
from shared.contract.errors import ConfigurationError, LooseFileMode, RelayError
from shared.host import trusted_file
from shared.host.trusted_file import PUBLIC, SECRET, read_trusted

NOBODY = 65534
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs files of another account")
Read = Callable[[Path], object]


def _known_hosts(path: Path) -> None:
    check_files(Machine("u", "h", known_hosts=path))


def _ssh_key(path: Path) -> None:
    check_files(Machine("u", "h", key=path))


def _ssh_config(path: Path) -> None:
    check_files(Machine("u", "h", config=path))


def _acme_dns_root(path: Path) -> None:
    accounts = path.with_name("accounts")
    accounts.write_text("{}")
    accounts.chmod(0o600)
    AcmeDnsPublisher(AcmeDnsSettings(accounts, ca_root=path))


def _relay_certificate(path: Path) -> None:
    key = path.with_name("tls.key")
    key.touch(mode=0o600)
    _tls(path, key)


FILES: dict[str, Read] = {
    "agent.toml": load_agent,
    "puller.toml": load_settings,
    "puller.toml, from the environment": lambda path: load_settings(
        environment={CONFIG_VARIABLE: str(path)}
    ),
    "targets.toml": load_targets,
    "targets.toml, from the environment": lambda path: load_targets(
        load_settings(environment={"RELAY_PULLER_TARGETS_FILE": str(path)}).targets_file
    ),
    "direct.toml": load_direct,
    "roots of a target": roots_in,
    "roots_file of puller.toml": verifying_context,
    "ca_root": _roots_file,
    "ca_root of acme-dns": _acme_dns_root,
    "ssh_known_hosts": _known_hosts,
    "ssh_config": _ssh_config,
    "certificate_file": _relay_certificate,
}
SECRETS: dict[str, Read] = {
    "ssh_key": _ssh_key,
    "pkcs12_password_file": read_password,
    "eab_hmac_key_file": lambda path: _account_binding(
        CaSection(eab_key_id="x", eab_hmac_key_file=path)
    ),
    "eab_hmac_key_file of direct.toml": lambda path: _binding(
        replace(DirectSettings(path, "https://ca"), eab_key_id="x", eab_hmac_key_file=path)
    ),
    "key_file": lambda path: _tls(path, path),
    "receivers_file": read_receivers,
    "a key of the agent": keys.read_secret,
    "TSIG key": lambda path: read_tsig_key(Rfc2136Settings("192.0.2.1", path)),
    "accounts of acme-dns": lambda path: read_accounts(AcmeDnsSettings(path)),
    "credentials of lexicon": lambda path: read_credentials(LexiconSettings("x", path)),
}


def writable_by_others(path: Path) -> None:
    path.chmod(0o606)


def writable_by_a_group(path: Path) -> None:
    path.chmod(0o660)


def owned_by_another(path: Path) -> None:
    os.chown(path, NOBODY, 0)


def directory_writable(path: Path) -> None:
    path.parent.chmod(0o777)


def directory_writable_by_a_group(path: Path) -> None:
    os.chown(path.parent, 0, 1)
    path.parent.chmod(0o775)


def directory_above_writable(path: Path) -> None:
    path.parent.parent.chmod(0o777)


def directory_of_another(path: Path) -> None:
    os.chown(path.parent, NOBODY, 0)


def link_of_another(path: Path) -> None:
    """In a place like /tmp, where anybody may make a link."""
    real = path.with_name("real")
    path.rename(real)
    path.symlink_to(real)
    os.chown(path, NOBODY, 0, follow_symlinks=False)
    path.parent.chmod(0o1777)


def link_into_a_loose_directory(path: Path) -> None:
    loose = path.parent / "loose"
    loose.mkdir()
    path.rename(loose / "real")
    path.symlink_to("loose/real")
    loose.chmod(0o777)


def linked_directory_that_is_loose(path: Path) -> None:
    """The file is named by way of a link; what it leads to counts."""
    away = path.parent.parent / "away"
    path.parent.rename(away)
    path.parent.symlink_to(away)
    away.chmod(0o777)


FAULTS = (
    writable_by_others,
    writable_by_a_group,
    owned_by_another,
    directory_writable,
    directory_writable_by_a_group,
    directory_above_writable,
    directory_of_another,
    link_of_another,
    link_into_a_loose_directory,
    linked_directory_that_is_loose,
)


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    directory = tmp_path / "above" / "etc"
    directory.mkdir(parents=True, mode=0o755)
    file = directory / "the file.toml"
    file.touch(mode=0o600)
    yield file
    directory.parent.chmod(0o755)


def refused(read: Read, path: Path) -> RelayError | None:
    """Return why it was not trusted; any other error is about its content, which is empty."""
    try:
        read(path)
    except RelayError as error:
        if any(words in error.what for words in ("by other users", "others can reach it")):
            assert str(path.parent.parent) in error.what
            return error
    return None


def carry_out(command: str) -> None:
    """What a shell would do, in this process: there are hundreds of them."""
    match shlex.split(command):
        case ["chmod", "go-w", place]:
            Path(place).chmod(stat.S_IMODE(Path(place).stat().st_mode) & ~0o022)
        case ["chmod", ("0600" | "0640") as mode, place]:
            Path(place).chmod(int(mode, 8))
        case ["chown", "root", place]:
            os.chown(place, 0, -1)
        case ["chown", "-h", "root", place]:
            os.chown(place, 0, -1, follow_symlinks=False)
        case other:
            raise AssertionError(other)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
@pytest.mark.parametrize("name", [*FILES, *SECRETS])
def test_each_fault_of_each_file_and_the_command_that_fixes_it(
    path: Path, name: str, fault: Callable[[Path], None]
) -> None:
    read = {**FILES, **SECRETS}[name]
    assert refused(read, path) is None
    fault(path)
    error = refused(read, path)
    assert error is not None
    assert error.exit_code in (3, 9)
    for _ in range(3):  # a fault may be two, such as a file and its directory
        carry_out(error.do)
        if (error := refused(read, path)) is None:
            return
    raise AssertionError(error)


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("mode", [0o604, 0o644, 0o444])
def test_a_secret_that_others_may_read(path: Path, name: str, mode: int) -> None:
    path.chmod(mode)
    error = refused(SECRETS[name], path)
    assert error is not None
    assert f"mode {mode:04o}" in error.what
    carry_out(error.do)
    assert refused(SECRETS[name], path) is None


def test_a_group_may_read_a_secret_if_it_is_the_services_or_roots(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.chmod(0o640)
    assert read_trusted(path, "key", mask=SECRET) == b""
    os.chown(path, 0, 1)  # daemon
    with pytest.raises(LooseFileMode, match="mode 0640"):
        read_trusted(path, "key", mask=SECRET)
    monkeypatch.setattr(trusted_file, "ACCOUNTS", ("daemon",))
    assert read_trusted(path, "key", mask=SECRET) == b""
    path.chmod(0o644)
    with pytest.raises(LooseFileMode) as caught:  # the service has to read it afterwards
        read_trusted(path, "key", mask=SECRET)
    assert caught.value.do.startswith("chmod 0640 ")


def test_a_directory_of_roots_group_is_roots_only_while_that_has_no_members(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.parent.chmod(0o775)
    assert read_trusted(path, "settings", commands=True) == b""
    crowded = grp.struct_group(("root", "x", 0, ["daemon"]))
    monkeypatch.setattr(grp, "getgrgid", lambda gid: crowded)
    with pytest.raises(LooseFileMode, match="mode 0775"):
        read_trusted(path, "settings", commands=True)


def test_roots_believe_what_belongs_to_our_services_but_no_commands(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.chown(path, 1, 1)
    monkeypatch.setattr(trusted_file, "ACCOUNTS", ("daemon",))
    assert read_trusted(path, "roots") == b""
    with pytest.raises(LooseFileMode, match="belongs to the account daemon"):
        read_trusted(path, "settings", commands=True)


def test_links_that_nobody_else_could_change_are_followed(path: Path) -> None:
    """As certbot's ``live`` links to its ``archive``."""
    path.write_text("content")
    link = path.parent.parent / "link"
    link.symlink_to("etc/../etc/the file.toml")
    (path.parent.parent / "directory").symlink_to(path.parent)
    assert read_trusted(link, "file") == b"content"
    assert read_trusted(path.parent.parent / "directory" / path.name, "file") == b"content"


def test_a_file_in_a_place_like_tmp_is_fine_if_it_is_ours(path: Path) -> None:
    path.parent.chmod(0o1777)
    assert read_trusted(path, "file") == b""


def test_a_directory_that_its_owners_own_group_may_write(path: Path) -> None:
    path.parent.chmod(0o775)  # of root's group, as umask 002 leaves it
    assert read_trusted(path, "file") == b""


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_is_no_file(path: Path, make: Callable[[Path], None]) -> None:
    path.unlink()
    make(path)
    with pytest.raises(ConfigurationError):
        read_trusted(path, "file")


def test_too_large_missing_and_in_a_circle(path: Path) -> None:
    path.write_bytes(b"x" * 11)
    with pytest.raises(ConfigurationError, match="larger than 10 octets"):
        read_trusted(path, "file", most=10)
    path.unlink()
    assert trusted_file.find_trusted(path, "file") is None
    with pytest.raises(ConfigurationError, match="There is no file"):
        read_trusted(path, "file")
    path.symlink_to(path)
    with pytest.raises(ConfigurationError, match="too many links"):
        read_trusted(path, "file")


def test_a_relative_path_is_looked_at_from_here(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    path.parent.chmod(0o777)
    with pytest.raises(LooseFileMode, match="its directory"):
        read_trusted(Path(path.name), "file")


def test_as_another_account_only_roots_files_and_its_own(path: Path) -> None:
    """In a child, which gives root up."""
    path.chmod(0o644)
    for one in path.parents:
        mode = stat.S_IMODE(one.stat().st_mode)
        if mode & 0o005 != 0o005:
            one.chmod(mode | 0o055)
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(1)
            os.setuid(1)
            read_trusted(path, "file", mask=PUBLIC, commands=True)
            os._exit(0)
        finally:
            os._exit(1)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert ended == 0
