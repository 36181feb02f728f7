"""What is removed or at fault inside, as the agent's operator sees it: both sides as processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.test_whole_line import Line, identity, issued, place, pull_until
from tests.lab import LabCa
from tests.lab.ports import free_port
from tests.line import Agent, Puller, leaf_sha256, wait_until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]
WWW = "www.intra.example.com"


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    challenge, relay, operator = free_port(), free_port(), free_port()
    with LabCa(http_port=challenge, retry_after=None) as ca:
        agent = Agent(tmp_path / "agent", RELAY_AGENT_LOG__FORMAT="json")
        agent.init(
            *(ca.directory_url, ca.tls_root_pem, f"https://localhost:{relay}"),
            *("--challenge-listen", f"127.0.0.1:{challenge}"),
            *("--relay-listen", f"127.0.0.1:{relay}"),
            *("--operator-listen", f"127.0.0.1:{operator}"),
        )
        yield Line(ca, agent, tmp_path)


def kinds(line: Line) -> list[str]:
    return [one["kind"] for one in line.agent.certificate(WWW)["concerns"]]


def offered_after(line: Line, puller: Puller, count: int) -> None:
    """Wait until the agent has a bundle of the newest generation for it."""

    def there() -> bool:
        found = line.agent.certificate(WWW)
        (mine,) = [one for one in found["pullers"] if one["puller"] == identity(puller)]
        return bool(mine["offered"] == found["issued"]["generation"])

    issued(line, count)
    wait_until(there, what="offered")


def test_a_fault_inside_and_a_target_that_is_removed(line: Line) -> None:
    token = line.agent.add(WWW)
    with line.agent.serving():
        puller = line.puller("puller", token, WWW)
        issued(line, 1)
        pull_until(puller, line.newest())
        assert kinds(line) == []
        # --- a fault of that machine, and its end
        line.agent.call("renew", WWW)
        offered_after(line, puller, 2)
        floors = puller.state / "floors.json"
        kept = floors.read_bytes()
        floors.write_bytes(b"{}")
        assert "floors.json" in puller.call("pull", expect=3).err
        assert kinds(line) == ["puller-fault"]
        assert "internal-puller doctor" in line.agent.call("status", WWW, expect=None).out
        floors.write_bytes(kept)
        pull_until(puller, line.newest())
        assert kinds(line) == []
        # --- a target that fails, and is removed
        place(puller).chmod(0o777)
        line.agent.call("renew", WWW)
        offered_after(line, puller, 3)
        assert puller.call("pull", expect=None).code != 0
        assert kinds(line) not in ([], ["no-target"])
        puller.call("target", "remove", WWW)
        puller.call("pull")
        assert kinds(line) == ["no-target"]
        assert puller.call("status").code == 0
        # --- the grant is withdrawn, and given again: nothing of before is left
        line.agent.call("puller", "withdraw", os.uname().nodename, WWW)
        puller.call("pull")
        assert WWW not in puller.call("status").out
        assert leaf_sha256(place(puller)) != ""
        assert line.agent.certificate(WWW)["pullers"] == []
        line.agent.call("puller", "grant", os.uname().nodename, WWW)
        (mine,) = line.agent.certificate(WWW)["pullers"]
        assert mine["last_receipt"] is None
