"""dns-persist-01 through a whole agent: refused until the record stands, issued, watched."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from shared.acme.dns01 import Dns01Settings
from shared.acme.dns_persist_use import advise
from tests.agent_world import AgentWorld
from tests.lab.ca import LabCa
from tests.lab.split_dns import SplitDns

pytestmark = pytest.mark.lab

NAME = "www.intra.example.com"
NAMES = (NAME, f"*.{NAME}")
OWNER = f"_validation-persist.{NAME}"
DAY = 86_400


@pytest.mark.parametrize("draft", [1, 2])
def test_issued_once_the_record_stands(tmp_path: Path, draft: int) -> None:
    ahead = [0.0]

    def clock() -> float:
        return time.time() + ahead[0]

    with (
        SplitDns("example.com") as dns,
        LabCa(resolver=dns.resolver, persist_draft=draft, retry_after=None, clock=clock) as ca,
    ):
        roots = tmp_path / "root.pem"
        roots.write_text(ca.tls_root_pem)
        server = ":".join(map(str, dns.outside_address))
        settings = Dns01Settings(resolvers=(server,), name_servers=(server,))
        with AgentWorld(
            tmp_path, directory_url=ca.directory_url, roots=roots, clock=clock, dns01=settings
        ) as world:
            certificate, puller = world.add(*NAMES, challenge="dns-persist-01")
            world.scheduler.run_until_idle()
            row = world.store.certificate(certificate)
            assert row is not None
            assert row.last_error is not None
            assert row.last_error.type == "issuance/dns"
            assert "there is no TXT record" in row.last_error.what
            assert not ca.requests("challenge")

            (kept,) = world.store.persist_records()
            until = world.now() + 10 * DAY
            (record,) = advise(kept.offer, NAMES, now=clock(), until=until)
            dns.set("outside", OWNER, "TXT", record.line.split(" IN TXT ")[1])
            ahead[0] += 2 * 3600
            world.scheduler.run_until_idle()
            assert world.published == [certificate]
            assert len(ca.orders) == 1, "the same order went on"
            pulled = world.pull(puller, certificate)
            assert pulled is not None
            assert set(pulled[0].names) == set(NAMES)

            dns.set("outside", OWNER, "TXT")
            ahead[0] += DAY
            world.scheduler.look()
            (kept,) = world.store.persist_records()
            assert kept.seen.verdict == "missing"
            kinds = [one.kind for one in world.store.events() if one.kind.startswith("persist-")]
            assert kinds == [
                "persist-record-bad",
                "persist-record-good",
                "persist-record-ends",
                "persist-record-bad",
            ]
