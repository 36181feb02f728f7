"""The puller through real proxies: outward only, and nothing but the agent is believed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.contract.errors import AnswerUnauthenticated, EnrolmentError, TransportError
from tests.fake_agent import FakeAgent
from tests.machine import NAME, Machine
from tests.proxies import ConnectProxy

pytestmark = pytest.mark.lab


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[FakeAgent]:
    with FakeAgent(tmp_path) as agent:
        yield agent


def machine_behind(proxy: ConnectProxy, base: Path, *, trust: bool = True) -> Machine:
    (base / "machine").mkdir()
    roots = base / "proxy-root.pem"
    roots.write_bytes(proxy.root_pem)
    return Machine(base / "machine", proxy=proxy.url, roots_file=roots if trust else None)


@pytest.mark.parametrize("tls", [False, True])
def test_whole_way_through_a_connect_proxy(agent: FakeAgent, tmp_path: Path, tls: bool) -> None:
    with ConnectProxy(tmp_path, tls=tls) as proxy:
        machine = machine_behind(proxy, tmp_path)
        machine.enrol(agent)
        machine.target(agent)
        issued = agent.issue(NAME)
        assert machine.pull().exit_code == 0
        assert machine.active() == issued.generation
        assert machine.progress.tls_check == "pin"
        assert set(proxy.connected) == {f"127.0.0.1:{agent.port}"}
        assert b"/v1/certificates" not in proxy.seen


def test_proxy_with_a_password(agent: FakeAgent, tmp_path: Path) -> None:
    with ConnectProxy(tmp_path, credentials="puller:secret") as proxy:
        machine = machine_behind(proxy, tmp_path)
        machine.enrol(agent)
        machine.change(proxy=proxy.url.replace("secret", "guess"))
        report = machine.pull()
        assert isinstance(report.contact, TransportError)
        assert "guess" not in report.contact.explain()


def test_proxy_from_the_environment(
    agent: FakeAgent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_PROXY", "no_proxy", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with ConnectProxy(tmp_path) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        machine = machine_behind(proxy, tmp_path)
        machine.change(proxy="")
        machine.enrol(agent)
        assert proxy.connected
        proxy.connected.clear()
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        assert machine.pull().exit_code == 0
        machine.change(proxy="none")
        monkeypatch.delenv("NO_PROXY")
        assert machine.pull().exit_code == 0
        assert proxy.connected == []


def test_proxy_that_opens_tls_with_its_root(agent: FakeAgent, tmp_path: Path) -> None:
    with ConnectProxy(tmp_path, opens=True) as proxy:
        machine = machine_behind(proxy, tmp_path)
        machine.enrol(agent)
        machine.target(agent)
        issued = agent.issue(NAME)
        assert machine.pull().exit_code == 0
        assert machine.active() == issued.generation
        assert machine.progress.tls_check == "roots"
        assert b"/v1/certificates" in proxy.seen
        key = (machine.targets()[0].directory / "current" / "privkey.pem").read_bytes()
        assert key.splitlines()[1] not in proxy.seen


def test_proxy_that_opens_tls_without_its_root_is_told_nothing(
    agent: FakeAgent, tmp_path: Path
) -> None:
    with ConnectProxy(tmp_path, opens=True) as proxy:
        machine = machine_behind(proxy, tmp_path, trust=False)
        with pytest.raises(TransportError) as caught:
            machine.enrol(agent)
        assert "roots_file" in caught.value.do
        assert b"/v1/enrolments" not in proxy.seen
        assert machine.state.enrolment() is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"signing_key":"', b'"signing_key":"A'),
        (b'"sealing_key":"', b'"sealing_key":"A'),
        (b'"host":"', b'"host":"x'),
        (b"shr1-token", b"shr1-tokem"),
        (b"created=1", b"created=2"),
    ],
)
def test_proxy_that_swaps_a_field_while_enrolling(
    agent: FakeAgent, tmp_path: Path, old: bytes, new: bytes
) -> None:
    def swap(data: bytes) -> bytes:
        at = data.find(old)
        return data if at < 0 else data[:at] + new + data[at + len(new) :]

    with ConnectProxy(tmp_path, opens=True, rewrite=swap) as proxy:
        machine = machine_behind(proxy, tmp_path)
        with pytest.raises((TransportError, EnrolmentError)):
            machine.enrol(agent)
        assert machine.state.enrolment() is None
        assert agent.pullers == {}


def test_proxy_that_changes_an_answer(agent: FakeAgent, tmp_path: Path) -> None:
    with ConnectProxy(
        tmp_path, opens=True, rewrite_back=lambda data: data.replace(b"3600", b"3601")
    ) as proxy:
        machine = machine_behind(proxy, tmp_path)
        machine.enrol(agent)
        assert isinstance(machine.pull().contact, AnswerUnauthenticated)
