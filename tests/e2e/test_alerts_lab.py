"""A real agent tells a real webhook through apprise: once when it begins, once when it is over."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import LabCa
from tests.lab.ports import free_port
from tests.lab.resolver import TableResolver
from tests.lab.webhook import Webhook
from tests.line import Agent, Puller, wait_until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]
WWW = "www.intra.example.com"


@pytest.fixture
def ca() -> Iterator[LabCa]:
    with LabCa(TableResolver(None), http_port=free_port(), retry_after=None) as ca:
        yield ca


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with Webhook() as server:
        yield server


def agent_that_tells(tmp_path: Path, ca: LabCa, webhook: Webhook) -> Agent:
    receivers = tmp_path / "receivers"
    receivers.write_text(f"ops={webhook.apprise_url}\n")
    receivers.chmod(0o600)
    agent = Agent(
        tmp_path / "agent",
        RELAY_AGENT_LOG__FORMAT="json",
        RELAY_AGENT_ALERTS__RECEIVERS_FILE=str(receivers),
        RELAY_AGENT_ALERTS__PATIENCE_MINUTES="0",
    )
    relay = free_port()
    agent.init(
        *(ca.directory_url, ca.tls_root_pem, f"https://localhost:{relay}"),
        *("--challenge-listen", f"127.0.0.1:{ca.http_port}"),
        *("--relay-listen", f"127.0.0.1:{relay}"),
        *("--operator-listen", f"127.0.0.1:{free_port()}"),
    )
    return agent


def test_told_once_and_called_over_once(tmp_path: Path, ca: LabCa, webhook: Webhook) -> None:
    agent = agent_that_tells(tmp_path, ca, webhook)
    ca.faults.invalid_authorization(times=None)
    with agent.serving() as serving:
        puller = Puller(tmp_path / "puller")
        puller.enroll(agent.add(WWW))
        wait_until(lambda: webhook.bodies, 60)
        told = json.loads(webhook.bodies[0])
        assert told["type"] == "warning" and WWW in told["title"]
        assert "attempts failed in a row" in told["message"] and "To do:" in told["message"]
        assert agent.call("status", expect=13).code == 13, "cron and monitoring are told, too"
        assert "attempts failed in a row" in agent.call("alerts").out
        serving.stop()
        serving.start()
        agent.await_listening(serving)  # a restart repeats nothing: see the count below
        ca.faults.clear()
        agent.call("renew", WWW)
        wait_until(lambda: len(webhook.bodies) > 1, 60)
        over = json.loads(webhook.bodies[1])
        assert over["type"] == "success" and "Over:" in over["message"]
        wait_until(lambda: agent.status()["certificates"][0]["issued"])
        assert agent.call("status", expect=0).code == 0
        assert [one["told"] for one in json.loads(agent.call("alerts", "--json").out)] == [[]]
        assert len(webhook.bodies) == 2
        assert webhook.apprise_url not in serving.text(), "addresses hold passwords"


def test_a_test_says_who_cannot_be_told(tmp_path: Path, ca: LabCa, webhook: Webhook) -> None:
    agent = agent_that_tells(tmp_path, ca, webhook)
    assert "ops: sent" in agent.call("alerts", "test").err
    assert json.loads(webhook.bodies[0])["type"] == "info"
    webhook.status = 500
    failed = agent.call("alerts", "test", "ops", expect=7)
    assert "Not told: ops." in failed.err and "Traceback" not in failed.err
    assert "no receiver 'nobody'" in agent.call("alerts", "test", "nobody", expect=3).err


def test_a_receivers_file_that_others_may_read_is_refused_at_the_start(
    tmp_path: Path, ca: LabCa, webhook: Webhook
) -> None:
    agent = agent_that_tells(tmp_path, ca, webhook)
    (tmp_path / "receivers").chmod(0o644)
    refused = agent.call("serve", expect=3)
    assert "receivers has mode 0644" in refused.err
