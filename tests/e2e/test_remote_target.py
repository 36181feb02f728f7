"""A target on another machine: a real sshd, and a server there that reads the files."""

from __future__ import annotations

import dataclasses
import shlex
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from internal_puller.doctor.machine import target_findings
from internal_puller.install.installer import install, resume, roll_back
from internal_puller.install.probe import probe_target
from internal_puller.install.report import InstallReport
from internal_puller.progress import Progress
from internal_puller.targets import ProbePoint, Target, load_targets, save_targets
from shared.diagnosis import Verdict
from shared.errors import ConfigTestFailed, ConfigurationError, ServedMismatch, StageFailed
from tests.intranet import Intranet
from tests.lab.peers import require
from tests.machine import Machine
from tests.ssh_server import SSHD, SshServer, make_key, ssh_server
from tests.unit.install.helpers import NAME, NOW, material

pytestmark = [pytest.mark.servers, pytest.mark.timeout(120)]


@dataclass
class Elsewhere:
    ssh: SshServer
    there: Path
    target: Target
    server: Intranet
    base: Path

    def put(self, generation: int, **changes: object) -> InstallReport:
        target = dataclasses.replace(self.target, **changes)  # type: ignore[arg-type]
        return install(material(generation), target, now=NOW)

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
    back = roll_back(elsewhere.target, now=NOW)
    assert (back.error, back.active, elsewhere.current) == (None, 3, "3")
    assert elsewhere.served == material(3).leaf_sha256


def test_a_configuration_that_is_refused_there_is_rolled_back_there(elsewhere: Elsewhere) -> None:
    assert elsewhere.put(1).error is None
    report = elsewhere.put(2, test_command=("sh", "-c", "echo syntax error >&2; exit 1"))
    assert isinstance(report.error, ConfigTestFailed)
    assert "syntax error" in report.error.what
    assert (report.active, elsewhere.current) == (1, "1")
    assert elsewhere.served == material(1).leaf_sha256


def test_a_server_that_keeps_the_old_one_is_rolled_back(elsewhere: Elsewhere) -> None:
    assert elsewhere.put(1).error is None
    report = elsewhere.put(2, reload_command=("true",), probe_timeout=0.5)
    assert isinstance(report.error, ServedMismatch)
    assert (report.active, elsewhere.current) == (1, "1")


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


def test_a_command_there_that_does_not_end(elsewhere: Elsewhere) -> None:
    assert elsewhere.put(1).error is None
    report = elsewhere.put(2, test_command=("sleep", "60"), command_timeout=1.0)
    assert isinstance(report.error, ConfigTestFailed) and "did not end" in report.error.what
    assert elsewhere.current == "1"


def test_what_was_cut_off_is_gone_on_with(elsewhere: Elsewhere) -> None:
    assert elsewhere.put(1).error is None
    assert elsewhere.put(2).error is None
    note = elsewhere.target.directory / "unfinished.json"
    note.write_text('{"to": "2", "previous": "1"}')
    (elsewhere.there / "current").unlink()
    (elsewhere.there / "generations" / ".tmp-0123456789abcdef").mkdir()
    report = resume(elsewhere.target, now=NOW)
    assert report is not None and report.error is None
    assert elsewhere.current == "2" and not note.exists()
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
