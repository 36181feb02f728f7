"""A certificate that several CAs may issue: who is asked when one fails, and who comes first."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.acme.ports import ExternalAccountBinding
from shared.contract.errors import IssuanceRateLimited
from shared.issuing.renewal import DAY
from tests.agent_world import AgentWorld, ChallengeBoard, Port80
from tests.e2e.test_issuance_lab import ManualClock
from tests.lab.ca import LabCa

pytestmark = pytest.mark.lab
NAME = "www.intra.example.com"


class Two:
    """An agent, and two CAs that look at the same port 80."""

    def __init__(
        self,
        directory: Path,
        first: LabCa,
        second: LabCa,
        board: ChallengeBoard,
        clock: ManualClock,
    ) -> None:
        self.first, self.second, self.clock = first, second, clock
        roots = directory / "roots.pem"
        roots.write_text(first.tls_root_pem + second.tls_root_pem)
        self.world = AgentWorld(
            directory,
            directory_url=first.directory_url,
            roots=roots,
            board=board,
            clock=self.clock,
        )

    @property
    def cas(self) -> tuple[str, str]:
        return self.first.directory_url, self.second.directory_url

    def add(self, **wanted: object) -> None:
        self.world.add(NAME, cas=self.cas, **wanted)

    def run(self) -> int:
        return self.world.scheduler.run_until_idle()

    def at(self) -> str:
        row = self.world.store.certificate(NAME)
        assert row is not None
        return row.directory_url

    def issuers(self) -> list[str]:
        """The CAs of the generations that were issued, the newest first."""
        rows = self.world.store.generations(NAME)
        return [row.directory_url for row in rows if row.issued_at is not None]


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    board, clock = ChallengeBoard(), ManualClock()
    with (
        Port80(board) as port80,
        LabCa(http_port=port80.port, retry_after=None, clock=clock) as first,
        LabCa(http_port=port80.port, retry_after=None, clock=clock) as second,
    ):
        made = Two(tmp_path, first, second, board, clock)
        yield made
        made.world.close()


def test_a_ca_that_may_not_issue_is_passed_over_at_once(two: Two) -> None:
    two.first.faults.refuse("newOrder", 403, kind="rejectedIdentifier", times=None)
    two.add()
    assert two.run() == 2  # both in one turn: nobody waits for the first one's pause
    assert two.issuers() == [two.second.directory_url]
    assert two.at() == two.first.directory_url  # it comes first again
    events = {event.kind: event for event in two.world.store.events()}
    assert events["issuance-failed"].details["next_ca"] == two.second.directory_url
    two.first.faults.clear()
    two.world.store.request_renewal(NAME, "a test", now=two.world.now())
    two.run()
    assert two.issuers() == [two.first.directory_url, two.second.directory_url]


def test_a_ca_that_is_away_is_left_after_three_times(two: Two) -> None:
    two.first.faults.refuse("newOrder", 503, times=None)
    two.add()
    for _ in range(2):
        two.run()
        assert two.at() == two.first.directory_url
        two.clock.now += 3600
    two.run()
    assert two.issuers() == [two.second.directory_url]


def test_a_rate_limit_beyond_the_time_that_is_left(two: Two) -> None:
    two.add()
    two.run()
    assert two.issuers() == [two.first.directory_url]
    store = two.world.store
    issued = store.newest_issued(NAME)
    assert issued is not None
    assert issued.not_after is not None
    two.clock.now = issued.not_after - 20 * DAY
    two.first.faults.rate_limited("newOrder", retry_after=2 * DAY, times=1)
    two.run()
    assert two.at() == two.first.directory_url  # there is time enough to wait
    row = store.certificate(NAME)
    assert row is not None
    assert row.last_error is not None
    assert row.last_error.type == IssuanceRateLimited.type
    two.clock.now = issued.not_after - 2 * DAY
    two.first.faults.rate_limited("newOrder", retry_after=2 * DAY, times=1)
    two.run()
    assert two.issuers() == [two.second.directory_url, two.first.directory_url]


def test_what_every_ca_would_find_is_no_reason_to_go(two: Two) -> None:
    two.first.faults.invalid_authorization(times=1)
    two.add()
    two.run()
    assert two.at() == two.first.directory_url
    assert not two.second.orders


def test_a_binding_that_is_missing_at_one_ca(two: Two) -> None:
    two.world.cas[two.first.directory_url] = dataclasses.replace(
        two.world.ca_settings(two.first.directory_url),
        eab=lambda: ExternalAccountBinding("nobody", "bm90aGluZw"),
        terms_agreed=False,
    )
    two.first.state.options.terms_of_service = "https://ca.example.com/terms"
    two.add()
    two.run()
    assert two.issuers() == [two.second.directory_url]
    (failed,) = [one for one in two.world.store.events() if one.kind == "issuance-failed"]
    assert "terms of service" in str(failed.details["what"])


def test_a_profile_is_asked_for_where_it_is_advertised(two: Two) -> None:
    two.add(profile="lab-only")
    two.first.faults.refuse("newOrder", 403, kind="caa", times=1)
    two.run()
    assert two.issuers() == [two.second.directory_url]
    assert [order.profile for order in two.second.orders] == [None]
