"""Receipts and reports: many in a call, and what a refusal does."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from internal_puller.outbox.delivery import SHORTEST_PAUSE, deliver
from internal_puller.state.progress import LONGEST_PAUSE, Progress
from shared.contract.batches import BatchAnswer, Refusal, decode_batch
from shared.contract.errors import PullerRevoked, RefusedForNow, RequestRefused, TransportError
from shared.contract.wire import DirectReport, Receipt

NOW = 1_800_000_000


class Agent:
    """Takes everything, but for what it was told to refuse."""

    def __init__(self) -> None:
        self.receipts: list[list[str]] = []
        self.reports: list[list[str]] = []
        self.refuses: dict[str, TransportError] = {}
        self.refused: Sequence[Refusal] = ()

    def send_receipts(self, batch: bytes) -> BatchAnswer:
        return self._take("receipts", self.receipts, decode_batch(batch, "receipts", Receipt.read))

    def send_direct(self, batch: bytes) -> BatchAnswer:
        return self._take(
            "reports", self.reports, decode_batch(batch, "reports", DirectReport.read)
        )

    def _take(self, name: str, kept: list[list[str]], sent: Sequence[object]) -> BatchAnswer:
        if name in self.refuses:
            raise self.refuses[name]
        kept.append([str(getattr(one, "certificate", one)) for one in sent])
        return BatchAnswer(tuple(self.refused))


def waiting(receipts: int, reports: int = 0) -> Progress:
    progress = Progress()
    for number in range(receipts):
        name = f"host{number}.example.org"
        receipt = Receipt(name, NOW, "0" * 64, "installed", "none", (), NOW)
        progress.of(name).receipt = receipt.encode().decode()
    for number in range(reports):
        name = f"direct{number}.example.org"
        report = DirectReport(name, (name,), NOW, NOW, None, 0, "installed", "none", (), NOW)
        progress.of(name).receipt = report.encode().decode()
        progress.of(name).direct = True
    return progress


def test_a_thousand_go_in_ten_calls() -> None:
    agent, progress = Agent(), waiting(1000)
    assert deliver(agent, progress, NOW) == []
    assert [len(one) for one in agent.receipts] == [100] * 10
    assert progress.reports_waiting == 0
    assert {name for call in agent.receipts for name in call} == set(progress.certificates)


def test_receipts_and_reports_have_calls_of_their_own() -> None:
    agent, progress = Agent(), waiting(2, 3)
    assert deliver(agent, progress, NOW) == []
    assert ([len(one) for one in agent.receipts], [len(one) for one in agent.reports]) == ([2], [3])


def test_nothing_waits_nothing_is_sent() -> None:
    agent = Agent()
    assert deliver(agent, waiting(0), NOW) == []
    assert agent.receipts == []


def test_one_refused_for_good_is_dropped_with_its_words() -> None:
    agent, progress = Agent(), waiting(3)
    agent.refused = [Refusal(1, "certificate-unknown", "It is not granted."), Refusal(99, "x", "")]
    assert deliver(agent, progress, NOW) == [
        "host1.example.org: the receipt was not taken: It is not granted."
    ]
    assert progress.reports_waiting == 0


@pytest.mark.parametrize(
    ("asked", "pause"),
    [(None, SHORTEST_PAUSE), (5.0, SHORTEST_PAUSE), (600.0, 600.0), (1e9, LONGEST_PAUSE)],
)
def test_a_refused_call_has_a_pause_of_its_own(asked: float | None, pause: float) -> None:
    agent, progress = Agent(), waiting(2)
    agent.refuses["receipts"] = RefusedForNow("The agent refuses: too many.", retry_after=asked)
    [warning] = deliver(agent, progress, NOW)
    assert f"takes no more receipts now; again in {pause:.0f} s" in warning
    assert progress.reports_waiting == 2
    agent.refuses.clear()
    later = Progress.decode(progress.encode())  # the pause outlives the process
    assert deliver(agent, later, NOW + pause - 1) == []
    assert later.reports_waiting == 2
    assert deliver(agent, later, NOW + pause) == []
    assert (later.reports_waiting, later.reports_paused_until) == (0, 0)


@pytest.mark.parametrize(
    "refusal", [RequestRefused("no", problem_type="malformed-request"), PullerRevoked("no")]
)
def test_a_call_refused_whole_loses_nothing(refusal: RequestRefused) -> None:
    agent, progress = Agent(), waiting(2)
    agent.refuses["receipts"] = refusal
    assert len(deliver(agent, progress, NOW)) == 1
    assert progress.reports_waiting == 2


def test_refused_receipts_keep_no_report_from_being_sent() -> None:
    agent, progress = Agent(), waiting(1, 1)
    agent.refuses["receipts"] = RefusedForNow("no")
    assert len(deliver(agent, progress, NOW)) == 1
    assert [len(one) for one in agent.reports] == [1]
    assert progress.reports_waiting == 1


def test_a_clock_set_back_makes_no_pause_longer() -> None:
    agent, progress = Agent(), waiting(1)
    progress.reports_paused_until = NOW + 86400
    assert deliver(agent, progress, NOW) == []
    assert progress.reports_waiting == 0


def test_lost_contact_is_the_callers_to_say_and_loses_nothing() -> None:
    agent, progress = Agent(), waiting(250)
    taken = agent.send_receipts

    def cut(batch: bytes) -> BatchAnswer:
        if len(agent.receipts) == 2:
            raise TransportError("The cable is cut.")
        return taken(batch)

    agent.send_receipts = cut  # type: ignore[method-assign]
    with pytest.raises(TransportError, match="cable"):
        deliver(agent, progress, NOW)
    assert (progress.reports_waiting, progress.reports_paused_until) == (50, 0)
