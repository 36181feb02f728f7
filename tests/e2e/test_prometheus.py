"""Prometheus' own tool reads our metrics, our alert rules and the tests of the rules."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from external_agent.present.metrics.metrics import Metrics
from internal_puller.facts.textfile import write_metrics
from internal_puller.outbox.report import PullReport
from internal_puller.state.progress import Progress
from shared.contract.errors import IssuanceRateLimited, IssuanceUnavailable
from tests.fake_agent import FakeAgent
from tests.machine import NAME, Machine
from tests.unit.external_agent.harness import CERTIFICATE, running_agent

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "deploy" / "prometheus" / "rules.yml"
DASHBOARD = ROOT / "deploy" / "grafana" / "split-horizon-relay.json"
pytestmark = [
    pytest.mark.servers,
    pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed"),
]


def promtool(*arguments: str, given: bytes | None = None, cwd: Path | None = None) -> str:
    done = subprocess.run(
        ["promtool", *arguments], input=given, capture_output=True, cwd=cwd, check=False
    )
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, said
    return said


def exposition(tmp_path: Path) -> bytes:
    """What a running agent shows after some work."""
    with running_agent(tmp_path, CERTIFICATE) as running:
        client = running.enrolled(CERTIFICATE)
        running.publish(CERTIFICATE)
        client.get("/nothing")
        with urlopen(f"http://127.0.0.1:{running.port('operator')}/metrics", timeout=30) as answer:
            return bytes(answer.read())


def test_the_metrics_keep_to_the_conventions(tmp_path: Path) -> None:
    text = exposition(tmp_path)
    assert promtool("check", "metrics", given=text) == ""
    metrics = Metrics()
    metrics.observe_order("failed", IssuanceRateLimited("Too many."))
    metrics.observe_call("ca.example.com", "new_order", 0.2, IssuanceUnavailable("Away."))
    text = metrics.render((), (), int(time.time()))
    assert promtool("check", "metrics", given=text) == ""
    assert b'relay_orders_total{error="issuance/rate-limited",outcome="failed"} 1.0' in text
    assert b'call="new_order",outcome="unavailable"} 1.0' in text


def test_the_file_of_a_puller_keeps_to_them_too(
    tmp_path: Path, agent: FakeAgent, machine: Machine
) -> None:
    target = machine.target(agent)
    agent.issue(NAME)
    report = machine.pull()
    file = tmp_path / "relay.prom"
    write_metrics(file, [target], machine.state.progress(), report, time.time())
    assert promtool("check", "metrics", given=file.read_bytes()) == ""
    write_metrics(file, [], Progress(), PullReport(), 0.0)
    assert promtool("check", "metrics", given=file.read_bytes()) == ""


def test_the_rules_fire_when_they_should_and_only_then(tmp_path: Path) -> None:
    promtool("check", "rules", str(RULES))
    for file in (RULES, ROOT / "tests" / "prometheus" / "rules_test.yml"):
        shutil.copy(file, tmp_path)
    assert "SUCCESS" in promtool("test", "rules", "rules_test.yml", cwd=tmp_path)


def test_every_alert_is_tested() -> None:
    alerts = set(re.findall(r"- alert: (\w+)", RULES.read_text()))
    text = (ROOT / "tests" / "prometheus" / "rules_test.yml").read_text()
    assert set(re.findall(r"alertname: (\w+)", text)) == alerts
    assert set(re.findall(r'alertname="(\w+)"', text)) == alerts


def test_rules_and_dashboard_ask_for_metrics_that_there_are(tmp_path: Path) -> None:
    told = set(re.findall(r"^\| `(relay_\w+)` \|", _operations(), re.MULTILINE))
    panels = json.loads(DASHBOARD.read_text())["panels"]
    wanted = " ".join(target["expr"] for panel in panels for target in panel["targets"])
    for name in re.findall(r"\brelay_\w+", wanted + RULES.read_text()):
        assert re.sub(r"_(bucket|count|sum)$", "", name) in told, name


def _operations() -> str:
    return (ROOT / "docs" / "operations.md").read_text()


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[FakeAgent]:
    with FakeAgent(tmp_path) as agent:
        yield agent


@pytest.fixture
def machine(tmp_path: Path, agent: FakeAgent) -> Machine:
    machine = Machine(tmp_path / "machine")
    machine.base.mkdir()
    machine.enrol(agent)
    return machine
