"""A target on another machine: a real sshd, and a server there that reads the files."""

from __future__ import annotations

import dataclasses
import os
import shlex
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from internal_puller.doctor.machine import target_findings
from internal_puller.install import notes
from internal_puller.install.probe import probe_target
from internal_puller.outbox import verdict
from internal_puller.outbox.outcome import Outcome
from internal_puller.settings.probe_point import ProbePoint
from internal_puller.settings.targets import Target, load_targets, save_targets
from internal_puller.state.progress import Progress
from shared.contract.diagnosis import Verdict
from shared.contract.errors import ConfigTestFailed, ConfigurationError, StageFailed
from tests.intranet import Intranet
from tests.lab.peers import require
from tests.line import wait_until
from tests.machine import Machine
from tests.ssh_server import SSHD, SshServer, make_key, ssh_server
from tests.unit.internal_puller.install.helpers import (
    NAME,
    engine_of,
    installed,
    material,
    rolled_back,
)

pytestmark = [pytest.mark.servers, pytest.mark.timeout(120)]


@dataclass
class Elsewhere:
    ssh: SshServer
    there: Path
    target: Target
    server: Intranet
    base: Path

    def put(self, generation: int, **changes: object) -> Outcome:
        target = dataclasses.replace(self.target, **changes)  # type: ignore[arg-type]
        return installed(target, material(generation))

    @property
    def served(self) -> str | None:
        return probe_target(self.target)[0].leaf_sha256

    @property
    def current(self) -> str:
        return (self.there / "current").readlink().name


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Elsewhere]:
    if SSHD is None:
        require("sshd")
    base, there = tmp_path / "ssh", tmp_path / "there" / "tls"
    base.mkdir()
    with ssh_server(base) as ssh, Intranet(tmp_path / "server", there) as server:
        reload = tuple(server.command("reload"))
        target = Target(
            NAME,
            (NAME,),
            tmp_path / "here",
            test_command=("test", "-e", str(there / "current" / "fullchain.pem")),
            reload_command=reload,
            probe=(ProbePoint("127.0.0.1", server.port, NAME),),
            probe_timeout=5,
            ssh=ssh.target,
            ssh_key=ssh.key,
            ssh_known_hosts=ssh.known_hosts,
            remote_directory=there,
            keep=2,
        )
        yield Elsewhere(ssh, there, target, server, base)


def test_installed_renewed_pruned_and_rolled_back(elsewhere: Elsewhere) -> None:
    for generation in (1, 2, 3, 4):
        report = elsewhere.put(generation)
        assert report.error is None, report.error.explain()
        assert elsewhere.served == material(generation).leaf_sha256
        assert elsewhere.current == str(generation)
    there = {path.name for path in (elsewhere.there / "generations").iterdir()}
    assert there == {"2", "3", "4"}, "as many as here, and the one that was left last"
    key = elsewhere.there / "current" / "privkey.pem"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE((key.parent / "fullchain.pem").stat().st_mode) == 0o644
    assert key.read_bytes() == (elsewhere.target.directory / "current/privkey.pem").read_bytes()
    back = rolled_back(elsewhere.target)
    assert (back.error, back.active, elsewhere.current) == (None, 3, "3")
    assert elsewhere.served == material(3).leaf_sha256


def test_a_configuration_that_is_refused_there_is_rolled_back_there(elsewhere: Elsewhere) -> None:
    assert elsewhere.put(1).error is None
    refuses = f"readlink {elsewhere.there}/current | grep -q 1 || {{ echo syntax error; exit 1; }}"
    report = elsewhere.put(2, test_command=("sh", "-c", refuses))
    assert isinstance(report.error, ConfigTestFailed)
    assert "syntax error" in report.error.what
    assert (report.active, elsewhere.current) == (1, "1")
    assert elsewhere.served == material(1).leaf_sha256


def test_a_server_that_keeps_the_old_one_is_told_again(elsewhere: Elsewhere) -> None:
    assert elsewhere.put(1).error is None
    report = elsewhere.put(2, reload_command=("true",), probe_timeout=0.5)
    assert (report.verdict, report.active) == (verdict.Verdict.NOT_TAKEN_UP, 2)
    assert (elsewhere.current, elsewhere.served) == ("2", material(1).leaf_sha256)


def test_a_host_key_that_changed_is_refused_and_nothing_is_done(elsewhere: Elsewhere) -> None:
    assert elsewhere.put(1).error is None
    other = make_key(elsewhere.base / "other")
    kept = elsewhere.ssh.known_hosts.read_text()
    elsewhere.ssh.known_hosts.write_text(f"[127.0.0.1]:{elsewhere.ssh.port} {other}")
    report = elsewhere.put(2)
    assert isinstance(report.error, StageFailed) and "host key" in report.error.what
    assert "somebody may be in between" in report.error.do
    assert (report.active, elsewhere.current) == (1, "1")
    elsewhere.ssh.known_hosts.write_text("")
    assert "host key" in elsewhere.put(2).error.what  # type: ignore[union-attr]
    elsewhere.ssh.known_hosts.write_text(kept)
    assert elsewhere.put(2).error is None


def test_whom_it_does_not_let_in_and_a_machine_that_is_away(elsewhere: Elsewhere) -> None:
    make_key(elsewhere.base / "stranger")
    report = elsewhere.put(1, ssh_key=elsewhere.base / "stranger")
    assert isinstance(report.error, StageFailed) and "does not let us in" in report.error.what
    report = elsewhere.put(1, ssh="nobody@127.0.0.1:1")
    assert isinstance(report.error, StageFailed) and "127.0.0.1:1" in report.error.what
    assert not elsewhere.there.exists()
    assert elsewhere.put(1).error is None


def test_a_command_there_that_does_not_end(elsewhere: Elsewhere, tmp_path: Path) -> None:
    """It is ended there, too: nothing that comes after it must run beside it."""
    assert elsewhere.put(1).error is None
    pid = tmp_path / "pid"
    endless = f"trap '' TERM; echo $$ > {pid}; while :; do sleep 1; done"
    endless = f'test "$RELAY_GENERATION" = 1 && exit; {endless}'
    report = elsewhere.put(2, test_command=("sh", "-c", endless), command_timeout=1.0)
    assert isinstance(report.error, StageFailed) and "did not end" in report.error.what
    assert elsewhere.current == "1"
    process = Path("/proc") / pid.read_text().strip()
    wait_until(lambda: not process.exists(), 10, what="the end of the command")


def test_commands_there_are_told_of_the_directory_there(elsewhere: Elsewhere) -> None:
    told = f'test "$RELAY_GENERATION $RELAY_DIRECTORY" = "1 {elsewhere.there}/current"'
    report = elsewhere.put(1, test_command=("sh", "-c", told))
    assert report.error is None, report.error.explain()


def test_what_cannot_be_tidied_there_takes_nothing_back(elsewhere: Elsewhere) -> None:
    """An old generation that does not go away, and what a killed run left beside `current`."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    assert elsewhere.put(1).error is None
    kept = elsewhere.there / "generations" / "1" / "cert.pem"
    subprocess.run(["chattr", "+i", str(kept)], check=True)
    (elsewhere.there / ".tmp-0123456789abcdef").symlink_to("generations/1")
    try:
        for generation in (2, 3, 4):
            report = elsewhere.put(generation)
            assert report.error is None, report.error.explain()
        assert elsewhere.served == material(4).leaf_sha256
        assert kept.exists()
    finally:
        subprocess.run(["chattr", "-i", str(kept)], check=True)
    assert not list(elsewhere.there.glob(".tmp-*"))
    assert elsewhere.put(5).error is None
    assert not kept.exists()


def test_the_known_hosts_that_ssh_compares_with(elsewhere: Elsewhere) -> None:
    """Where none is named it is what ssh takes, held to the same."""
    own, config = elsewhere.base / "own_hosts", elsewhere.base / "config"
    config.write_text(f"UserKnownHostsFile {own}\nGlobalKnownHostsFile none\n")
    changes = {"ssh_known_hosts": None, "ssh_config": config}
    missing = elsewhere.put(1, **changes).error
    assert isinstance(missing, StageFailed) and f"known_hosts file {own}" in missing.what
    own.write_text(elsewhere.ssh.known_hosts.read_text())
    own.chmod(0o666)
    loose = elsewhere.put(1, **changes).error
    assert isinstance(loose, StageFailed) and "can be changed by other users" in loose.what
    own.chmod(0o644)
    assert elsewhere.put(1, **changes).error is None


def test_what_others_could_read_or_change_is_refused(elsewhere: Elsewhere) -> None:
    ssh = elsewhere.ssh
    for path, mode, words in (
        (ssh.key, 0o644, "others can reach it"),
        (ssh.known_hosts, 0o666, "can be changed by other users"),
    ):
        before = stat.S_IMODE(path.stat().st_mode)
        path.chmod(mode)
        report = elsewhere.put(1)
        assert isinstance(report.error, StageFailed) and words in report.error.what
        path.chmod(before)
    elsewhere.there.mkdir(parents=True)
    elsewhere.there.chmod(0o777)
    report = elsewhere.put(1)
    assert isinstance(report.error, StageFailed) and "there (mode 0777)" in report.error.what
    elsewhere.there.chmod(0o755)
    assert elsewhere.put(1).error is None


def test_a_key_that_cannot_be_used(elsewhere: Elsewhere, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "a passphrase", "-f", str(locked)]
    subprocess.run(make, check=True, timeout=30)
    damaged = tmp_path / "damaged"
    damaged.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nxx\n")
    damaged.chmod(0o600)
    for key in (locked, damaged, tmp_path / "missing"):
        report = elsewhere.put(1, ssh_key=key)
        assert isinstance(report.error, StageFailed), report.error
        assert str(key) in report.error.what


def test_what_was_cut_off_is_gone_on_with(elsewhere: Elsewhere) -> None:
    assert elsewhere.put(1).error is None
    assert elsewhere.put(2).error is None
    state = elsewhere.target.directory.parent / "state"
    member = notes.Noted(NAME, "2", "1")
    notes.write(state, notes.Note("cut-off", "", {str(elsewhere.target.directory): member}))
    (elsewhere.there / "current").unlink()
    (elsewhere.there / "generations" / ".tmp-0123456789abcdef").mkdir()
    [report] = engine_of(elsewhere.target, patient=True).resume()
    assert report.error is None
    assert elsewhere.current == "2" and not notes.has_note(state)
    assert not list((elsewhere.there / "generations").glob(".tmp-*"))


def test_files_there_that_somebody_changed_are_not_written_over(elsewhere: Elsewhere) -> None:
    assert elsewhere.put(1).error is None
    (elsewhere.there / "generations" / "2").mkdir()
    report = elsewhere.put(2)
    assert isinstance(report.error, StageFailed) and "another content" in report.error.what
    assert (report.active, elsewhere.current) == (1, "1")


def test_the_doctor_looks_there(elsewhere: Elsewhere, tmp_path: Path) -> None:
    assert elsewhere.put(1).error is None
    machine = Machine(tmp_path / "machine")
    found = list(target_findings(elsewhere.target, machine.settings, Progress()))
    assert {one.verdict for one in found} <= {Verdict.OK, Verdict.NOTE}, found
    assert any(one.check == "configuration" for one in found)
    away = dataclasses.replace(elsewhere.target, ssh="nobody@127.0.0.1:1")
    (bad, *_) = [one for one in target_findings(away, machine.settings, Progress()) if one.do]
    assert bad.verdict is Verdict.PROBLEM and "127.0.0.1:1" in bad.what


def test_the_file_of_targets_keeps_it(elsewhere: Elsewhere, tmp_path: Path) -> None:
    file = tmp_path / "targets.toml"
    save_targets(file, [elsewhere.target])
    assert load_targets(file) == (elsewhere.target,)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ssh": "host"}, "not USER@HOST"),
        ({"ssh": "u@h;reboot"}, "not USER@HOST"),
        ({"owner": "root"}, "not for another machine"),
        ({"ssh": None}, "go with ssh"),
    ],
)
def test_settings_that_cannot_be(
    elsewhere: Elsewhere, changes: dict[str, str | None], said: str
) -> None:
    with pytest.raises(ConfigurationError, match=said):
        dataclasses.replace(elsewhere.target, **changes)  # type: ignore[arg-type]


def test_words_are_quoted_for_the_shell_there(elsewhere: Elsewhere, tmp_path: Path) -> None:
    mark = tmp_path / "it's here"
    argv = (sys.executable, "-c", "import sys; open(sys.argv[1], 'w')", str(mark))
    assert elsewhere.put(1, test_command=argv).error is None
    assert mark.exists() and "'" in shlex.join(argv)
