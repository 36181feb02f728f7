"""One machine with a thousand certificates: one pull brings and reports all of them."""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import insert, select

from external_agent.settings.keys import load_keys
from external_agent.store.tables import bundles, generations, receipts
from internal_puller.settings.targets import Target, save_targets
from internal_puller.sources.agent.enrolment import enrol
from shared.contract.bundle import Manifest, sign_bundle
from shared.contract.key_policy import key_to_der
from shared.contract.sealing import Recipient, SealContext
from shared.contract.wire import MAX_ANSWER
from shared.contract.x509 import chain_to_pem, leaf_sha256, spki_sha256
from tests.authority import Authority, common_authority, new_key
from tests.fake_agent import FakeAgent
from tests.lab.ports import free_port
from tests.machine import Machine
from tests.unit.external_agent.harness import (
    FakeClock,
    RunningAgent,
    running_agent,
    settings_in,
)

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]
MANY = 1000
NAMES = tuple(f"host{number}.intra.example.com" for number in range(MANY))
MEMORY = 200 * 1024
"""KiB that a whole renewal may add to this process."""


@pytest.fixture
def base(tmp_path: Path) -> Iterator[Path]:
    """Twenty thousand ``fsync`` are about the disk; where there is one, this is in memory."""
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else tmp_path) as found:
        yield Path(found)


def with_targets(machine: Machine, ca: Authority) -> Machine:
    roots = machine.base / "root.pem"
    roots.write_bytes(ca.root_pem)
    save_targets(
        machine.settings.targets_file,
        [Target(one, (one,), machine.base / "tls" / one, roots=roots) for one in NAMES],
    )
    return machine


def measured(machine: Machine, what: str, received: Callable[[], int]) -> None:
    """One pull: everything installed, everything reported, nothing to complain of."""
    before, memory = received(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin, processor = time.monotonic(), time.process_time()
    report = machine.pull()
    took, processor = time.monotonic() - begin, time.process_time() - processor
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
    print(f"{what}: {took:.1f} s, {processor:.1f} s of a processor, {grown >> 10} MiB more")
    assert (report.exit_code, report.contact, report.warnings) == (0, None, [])
    assert [one.word for one in report.outcomes] == ["installed"] * MANY
    assert received() - before == MANY
    assert machine.progress.reports_waiting == 0
    assert grown < MEMORY
    quiet = machine.pull()
    assert (quiet.exit_code, quiet.outcomes) == (0, [])


def test_at_an_honest_relay(base: Path) -> None:
    with FakeAgent(base) as agent:
        machine = Machine(base / "machine", timeout=60.0)
        machine.base.mkdir()
        machine.enrol(agent, *NAMES)
        with_targets(machine, agent.ca)
        for what in ("first installation", "renewal"):
            for name in NAMES:
                agent.issue(name)
            measured(machine, what, lambda: len(agent.receipts))
        assert agent.requests.count("POST /v1/receipts") <= 2 * 11


class RealAgent:
    """A running agent whose generations come from a CA of the tests, all at once."""

    def __init__(self, running: RunningAgent) -> None:
        self.running, self.ca = running, common_authority()
        self.key = load_keys(running.settings.state_directory).signing

    def issue_all(self) -> None:
        (puller,) = self.running.store.pullers()
        now = int(self.running.clock())
        made = [self._issue(one, puller.sealing_key, now) for one in NAMES]
        with self.running.store._database.write() as connection:
            connection.execute(insert(generations), [one for one, _ in made])
            connection.execute(insert(bundles), [one | {"puller": puller.id} for _, one in made])

    def _issue(
        self, name: str, sealing_key: bytes, now: int
    ) -> tuple[dict[str, object], dict[str, object]]:
        recipient, key = Recipient(sealing_key), new_key()
        leaf = self.ca.leaf((name,), key, not_before=now - 60, lifetime=90 * 86400)
        spki, not_after = spki_sha256(leaf), int(leaf.not_valid_after_utc.timestamp())
        context = SealContext(self.key.id, recipient.id, now, spki, name)
        manifest = Manifest(
            agent=self.key.id,
            recipient=recipient.id,
            certificate=name,
            names=(name,),
            generation=now,
            issued_at=now,
            not_after=not_after,
            key_origin="agent",
            spki_sha256=spki,
            chain=chain_to_pem(self.ca.chain(leaf)),
            sealed_key=recipient.seal(key_to_der(key), context),
        )
        envelope, digest = sign_bundle(manifest, self.key)
        about = {"certificate": name, "generation": now}
        row = about | {
            "state": "issued",
            "names": f'["{name}"]',
            "key_origin": "agent",
            "csr": b"",
            "spki_sha256": spki,
            "directory_url": "https://ca.example.com/directory",
            "wanted": 1,
            "recipients": "[]",
            "prepared_at": now,
            "leaf_sha256": leaf_sha256(leaf),
            "not_before": now - 60,
            "not_after": not_after,
            "issued_at": now,
            "fence": 1,
        }
        return row, about | {"manifest_digest": digest, "envelope": envelope}


def test_at_the_agent_itself(base: Path) -> None:
    port, clock = free_port(), FakeClock(time.time())
    own = settings_in(base / "state", url=f"https://127.0.0.1:{port}", listen=[f"127.0.0.1:{port}"])
    with running_agent(base, *NAMES, clock=clock, settings=own) as running:
        machine = Machine(base / "machine", clock=clock, timeout=60.0)
        machine.base.mkdir()
        enrol(running.token(*NAMES).encode(), machine.settings, clock=clock)
        agent = RealAgent(running)
        with_targets(machine, agent.ca)
        puller = machine.state.require_enrolment().puller

        def received() -> int:
            with running.store._database.read() as connection:
                return len(connection.execute(select(receipts.c.id)).all())

        for what in ("first installation", "renewal"):
            agent.issue_all()
            measured(machine, what, received)
            listing = running.store.listing_for(puller, now=int(clock()))
            assert len(listing.offers) == MANY
            assert len(listing.encode()) < MAX_ANSWER / 4
            clock.now += 60
        for status in running.store.status(int(clock())):
            (delivery,) = status.deliveries
            assert status.issued is not None
            assert delivery.installed == delivery.pulled == status.issued.generation
