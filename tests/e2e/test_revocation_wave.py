"""A wave of revocations: all windows move to the past, and waiting pullers have it in a minute."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.request import urlopen

import pytest

from external_agent.composition.changes import Changes, Worker
from external_agent.orders.certificate_authority import CaSettings, CertificateAuthorities
from external_agent.orders.keymaker import ProcessKeyMaker
from external_agent.orders.scheduler import make_scheduler
from external_agent.present.metrics.metrics import Metrics
from external_agent.settings.config import Settings, settings_from
from external_agent.settings.keys import load_keys
from external_agent.store.open import open_store
from shared.contract.wire import Listing
from shared.issuing.renewal import DAY, HOUR, MINUTE, Reason
from tests.lab import LabCa
from tests.lab.ports import free_port
from tests.unit.external_agent.harness import (
    AUTHORITY,
    Client,
    FakeClock,
    RunningAgent,
    running_agent,
    wait_until,
)

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]
NAMES = [f"host{number}.intra.example.com" for number in range(20)]


class Wave:
    """An agent that issues from a lab CA by a clock that is told."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock = FakeClock(int(time.time()))
        self.port = free_port()
        self.ca = LabCa(http_port=self.port, clock=self.clock, retry_after=None)
        self.key_maker = ProcessKeyMaker()

    def settings(self) -> Settings:
        return settings_from(
            {
                "state_directory": str(self.directory / "state"),
                "acme": {"directory": self.ca.directory_url, "terms_agreed": True},
                "challenge": {"listen": [f"127.0.0.1:{self.port}"]},
                "relay": {"url": f"https://{AUTHORITY}", "listen": ["127.0.0.1:0"]},
                "operator": {"listen": ["127.0.0.1:0"], "open_read": True},
            },
            source="the test",
        )

    def make_worker(
        self, changes: Changes, settings: Callable[[], Settings], metrics: Metrics
    ) -> Worker:
        """The issuing side as the agent has it, but for the clock."""
        roots = self.directory / "roots.pem"
        roots.write_text(self.ca.tls_root_pem)
        store = open_store(settings().database_url)
        agent_keys = load_keys(settings().state_directory)
        own = CaSettings(account_key=agent_keys.account, terms_agreed=True, trusted_roots=roots)

        def now() -> int:
            return int(self.clock())

        return make_scheduler(
            store,
            signing_key=agent_keys.signing,
            authorities=CertificateAuthorities(store, lambda _: own, clock=self.clock, now=now),
            key_maker=self.key_maker,
            board=changes.answers,
            clock=now,
            on_published=changes.published,
            poll_seconds=0.2,
        )


def listing(client: Client, query: str = "") -> Listing:
    answer = client.get("/v1/certificates", query, timeout=70)
    assert answer.status == 200, answer.body
    return Listing.decode(answer.body)


def generation(shown: Listing) -> int:
    return shown.offers[0].generation


def wait_for_more(client: Client) -> tuple[int, float]:
    """Stay until there is a newer generation; return it and when it was there."""
    shown = listing(client)
    old = generation(shown)
    while generation(shown) == old:
        shown = listing(client, f"since={shown.version}&wait=50")
    return generation(shown), time.monotonic()


def parked(running: RunningAgent) -> int:
    with urlopen(f"http://127.0.0.1:{running.port('operator')}/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    return int(
        float(next(one for one in lines if one.startswith("relay_parked_polls ")).split()[1])
    )


def all_issued(running: RunningAgent) -> bool:
    return all(one.issued is not None for one in running.store.status(int(running.clock())))


def test_twenty_certificates_are_renewed_and_delivered_within_a_minute(tmp_path: Path) -> None:
    wave = Wave(tmp_path)
    with (
        wave.ca as ca,
        running_agent(
            tmp_path,
            *NAMES,
            clock=wave.clock,
            make_worker=wave.make_worker,
            settings=wave.settings(),
        ) as running,
        ThreadPoolExecutor(len(NAMES)) as pool,
    ):
        clients = [running.enrolled(name, host=name) for name in NAMES]
        wait_until(lambda: all_issued(running), 60)
        wave.clock.now += 2 * HOUR
        wait_until(lambda: len(ca.requests("renewalInfo")) == len(NAMES), 30)
        first = {order.names: order for order in ca.orders}
        waiting = [pool.submit(wait_for_more, client) for client in clients]
        wait_until(lambda: parked(running) == len(NAMES), 30)

        now = wave.clock.now
        ca.set_renewal_window((now - DAY, now - HOUR))
        ca.set_renewal_answer(explanation_url="https://ca.example.net/incident")
        wave.clock.now += 6 * HOUR + 31  # the looks that the CA permits
        permitted = time.monotonic()

        delivered = [one.result(timeout=90) for one in waiting]
        assert max(at for _, at in delivered) - permitted < MINUTE
        assert len(ca.orders) == 2 * len(NAMES)
        for order in ca.orders[len(NAMES) :]:
            assert order.replaces == first[order.names].certificate.certid
        for one in running.store.status(int(wave.clock())):
            assert one.issued is not None
            assert one.issued.why == Reason.WINDOW_PAST
        assert running.store.verify_events() is None
    wave.key_maker.close()
