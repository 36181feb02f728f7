"""A rehearsal goes the whole way with a staging CA, and touches nothing that is live."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from internal_puller.install.layout import TEMPORARY, staging_name
from tests.lab import LabCa
from tests.lab.ports import free_port
from tests.lab.resolver import TableResolver
from tests.line import Agent, Puller, active, wait_until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]
WWW = "www.intra.example.com"


@dataclass
class Line:
    ca: LabCa
    staging: LabCa
    agent: Agent
    puller: Puller
    directory: Path
    relay: int

    def live(self) -> dict[str, tuple[int, int, int, bytes]]:
        """Everything below the target and the state that a pull could change."""
        found = {}
        for top in (self.directory, self.puller.state):
            for path in sorted(top.rglob("*")):
                status = path.lstat()
                content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
                link = path.readlink().name.encode() if path.is_symlink() else content
                found[str(path)] = (status.st_ino, status.st_mode, status.st_mtime_ns, link)
        return found


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    challenge, relay = free_port(), free_port()
    with (
        LabCa(TableResolver(None), http_port=challenge, retry_after=None) as ca,
        LabCa(TableResolver(None), http_port=challenge, retry_after=None) as staging,
    ):
        agent = Agent(tmp_path / "agent", RELAY_AGENT_LOG__FORMAT="json")
        agent.init(
            *(ca.directory_url, ca.tls_root_pem, f"https://localhost:{relay}"),
            *("--challenge-listen", f"127.0.0.1:{challenge}"),
            *("--relay-listen", f"127.0.0.1:{relay}"),
            *("--operator-listen", f"127.0.0.1:{free_port()}"),
        )
        root = tmp_path / "staging-tls.pem"
        root.write_text(staging.tls_root_pem)
        with agent.config.open("a") as settings:
            settings.write(
                f'\n[acme.cas.staging]\ndirectory = "{staging.directory_url}"\n'
                f'terms_agreed = true\nca_root = "{root}"\n'
            )
        agent.environment["RELAY_AGENT_ACME__STAGING"] = "staging"
        puller = Puller(tmp_path / "puller")
        with agent.serving():
            puller.enroll(agent.add(WWW))
            directory = puller.target(
                WWW, ca.root_pem, "--test-command", "true", "--reload-command", "true"
            )
            wait_until(lambda: puller.pull() and active(directory))
            yield Line(ca, staging, agent, puller, directory, relay)


def test_the_whole_way_and_nothing_live(line: Line, tmp_path: Path) -> None:
    before, asked = line.live(), len(line.ca.log)
    status = line.agent.certificate(WWW)
    events = [row["kind"] for row in json.loads(line.agent.call("events", "--json").out)]
    said = line.puller.call("rehearse", WWW).out
    for step in ("account", "key", "order", "bundle", "verified", "staged", "configuration"):
        assert re.search(rf"^ok +{step} ", said, re.MULTILINE), said
    assert "nothing live was touched" in said
    assert len(line.staging.issued) == 1 and len(line.ca.issued) == 1
    assert len(line.ca.log) == asked, "the production CA was not contacted"
    assert line.live() == before
    after = line.agent.certificate(WWW)
    assert [after[key] for key in ("issued", "next_renewal", "attempt", "state")] == [
        status[key] for key in ("issued", "next_renewal", "attempt", "state")
    ]
    kinds = [row["kind"] for row in json.loads(line.agent.call("events", "--json").out)]
    assert [one for one in kinds if one not in events] in ([], ["account-registered"])
    root = tmp_path / "root.pem"
    root.write_text(line.staging.root_pem)
    said = line.puller.call("rehearse", WWW, "--root", str(root), "--json").out
    assert json.loads(said)["good"]


def test_what_would_fail_fails_now(line: Line, tmp_path: Path) -> None:
    before = line.live()
    line.staging.faults.invalid_authorization()
    failed = line.puller.call("rehearse", WWW, expect=7)
    assert "At the agent:" in failed.err and "Traceback" not in failed.err
    wrong = tmp_path / "wrong.pem"
    wrong.write_text(line.ca.root_pem)
    failed = line.puller.call("rehearse", WWW, "--root", str(wrong), expect=8)
    assert "which is not trusted here" in failed.err
    targets = line.puller.base / "targets.toml"
    kept = targets.read_text()
    targets.write_text(kept.replace('test_command = ["true"]', 'test_command = ["false"]'))
    failed = line.puller.call("rehearse", WWW, "--json", expect=9)
    assert "exit code 1" in json.loads(failed.out)["steps"][-1]["what"]
    targets.write_text(kept)
    assert line.live() == before
    assert "No target here" in line.puller.call("rehearse", "x.example.com", expect=4).err


def test_a_staging_ca_that_is_not_set_up_is_refused_at_the_start(line: Line) -> None:
    line.agent.environment["RELAY_AGENT_ACME__STAGING"] = "nobody"
    assert "is not in the settings" in line.agent.call("status", expect=3).err


@pytest.mark.faults
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_a_trace_shows_it(line: Line, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    calls = "openat,open,creat,rename,renameat,renameat2,unlink,unlinkat,symlinkat,linkat,mkdirat"
    done = subprocess.run(
        [
            *("strace", "-f", "-y", "-qq", "-o", str(trace), "-e", f"trace={calls},connect"),
            *line.puller.argv("rehearse", WWW),
        ],
        env=line.puller.variables(),
        cwd=line.puller.base,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = trace.read_text().splitlines()
    staging = line.directory.parent / staging_name(line.directory)
    places = (str(line.directory), str(staging), str(line.puller.state))
    changing = [
        one
        for one in lines
        if any(place in one for place in places)
        and " = -1 " not in one
        and ("openat(" not in one or re.search("O_WRONLY|O_RDWR|O_CREAT", one))
    ]
    assert any("privkey.pem" in one for one in changing), "it was staged"
    assert [one for one in changing if TEMPORARY not in one] == []
    ports = {int(found) for one in lines for found in re.findall(r"sin6?_port=htons\((\d+)\)", one)}
    assert ports <= {line.relay, 53, 0}, "it spoke to the agent, and to nobody else"
