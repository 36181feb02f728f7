"""One record from the judge to the receipt, and what is told of a certificate at many targets."""

from __future__ import annotations

import json

import pytest

from internal_puller.outbox.look import Answer, Look
from internal_puller.outbox.outbox import Outbox
from internal_puller.outbox.outcome import Outcome, sum_up, worst_code
from internal_puller.outbox.report import PullReport
from internal_puller.outbox.verdict import BACK, ERRORS, Verdict
from internal_puller.state.progress import Progress
from shared.contract.errors import (
    BundleError,
    ConfigurationError,
    RollbackFailed,
    StageFailed,
    TransportError,
)

NAME, OTHER = "www.example.org", "app.example.org"


def look(port: int, leaf: str = "a") -> Look:
    return Look("192.0.2.1", port, NAME, Answer.PROVEN, leaf * 64, 9)


def outcome(verdict: Verdict, port: int = 443, generation: int = 5, name: str = NAME) -> Outcome:
    kind = ERRORS[verdict]
    return Outcome(
        name,
        generation,
        verdict,
        kind("So it is.") if kind else None,
        directory=f"/tls/{port}",
        looks=(look(port),),
    )


class Teller:
    """Keeps what it is to word."""

    is_direct = False

    def __init__(self) -> None:
        self.told: list[Outcome] = []

    def receipt(self, outcome: Outcome) -> str:
        self.told.append(outcome)
        return f"{outcome.generation} {outcome.word}"


@pytest.mark.parametrize("verdict", Verdict)
def test_the_word_of_a_verdict(verdict: Verdict) -> None:
    assert outcome(verdict).word == ("rolled_back" if verdict in BACK else "installed")


def test_the_word_without_a_verdict() -> None:
    assert Outcome(NAME, 5, None, BundleError("No.")).word == "refused"
    for error in (ConfigurationError("No."), StageFailed("No."), TransportError("No.")):
        assert Outcome(NAME, 5, None, error).word == "failed"


def test_the_worst_target_is_told_and_what_all_serve() -> None:
    served, kept, back, unseen = (
        outcome(verdict, port)
        for port, verdict in enumerate(
            (Verdict.SERVED, Verdict.NOT_TAKEN_UP, Verdict.BACK_BY_TEST, Verdict.BACK_UNSEEN), 1
        )
    )
    for others, worst in (
        ((served, kept), kept),
        ((kept, served), kept),
        ((served, kept, back), back),
        ((back, kept), back),
        ((back, unseen, served), unseen),
    ):
        found = sum_up(others)
        assert (found.verdict, found.error) == (worst.verdict, worst.error)
        assert {one.port for one in found.looks} == {one.looks[0].port for one in others}


def test_only_the_newest_generation_counts() -> None:
    older = outcome(Verdict.BACK_UNSEEN, 1, generation=4)
    found = sum_up([older, outcome(Verdict.SERVED, 2)])
    assert (found.generation, found.error, len(found.looks)) == (5, None, 1)


def test_codes_that_want_a_person_sooner_go_first() -> None:
    assert worst_code([]) == worst_code([0]) == 0
    assert worst_code([9, 12, 3]) == 12
    assert worst_code([7, 3]) == 3
    assert worst_code([10, 99]) == 10


def test_one_receipt_for_each_certificate() -> None:
    progress, teller = Progress(), Teller()
    outbox = Outbox(progress, lambda name: teller, lambda: 7.0)
    outbox.keep(
        [
            outcome(Verdict.SERVED, 1),
            outcome(Verdict.SERVED, 3, name=OTHER),
            outcome(Verdict.CANNOT_BE_SEEN, 2),
        ]
    )
    assert [one.certificate for one in teller.told] == [NAME, OTHER]
    mine = progress.of(NAME)
    assert (mine.receipt, mine.reported, mine.fault) == ("5 installed", 5, "")
    assert mine.error is not None and mine.error.type == "install/cannot-be-seen"
    assert progress.of(OTHER).error is None


def test_what_went_back_is_told_once_and_known_to_be_told() -> None:
    progress, teller = Progress(), Teller()
    outbox = Outbox(progress, lambda name: teller, lambda: 7.0)
    outbox.keep([outcome(Verdict.BACK_BY_TEST)])
    mine = progress.of(NAME)
    assert mine.has_told_of(5) and not mine.has_told_of(4)
    assert (mine.reported, mine.receipt) == (0, "5 rolled_back")
    outbox.keep([outcome(Verdict.SERVED, generation=6)])
    assert not mine.has_told_of(5)


def test_a_fault_is_told_once_for_as_long_as_it_is_the_same() -> None:
    progress, teller = Progress(), Teller()
    outbox = Outbox(progress, lambda name: teller, lambda: 7.0)
    for _ in range(3):
        outbox.keep_fault(NAME, 5, ConfigurationError("No."))
    assert len(teller.told) == 1
    outbox.keep_fault(NAME, 6, ConfigurationError("No."))
    outbox.keep_fault(NAME, 6, RollbackFailed("No."))
    assert [one.word for one in teller.told] == ["failed"] * 3


def test_of_what_is_withdrawn_nothing_is_told() -> None:
    progress, teller = Progress(), Teller()
    progress.of(NAME).withdrawn_at = 1
    outbox = Outbox(progress, lambda name: teller, lambda: 7.0)
    outbox.keep([outcome(Verdict.SERVED)])
    assert teller.told == [] and progress.of(NAME).receipt is None


def test_for_json_it_is_the_same_record() -> None:
    report = PullReport(
        outcomes=[outcome(Verdict.SERVED)], standing=[outcome(Verdict.NOT_RUNNING, 25)]
    )
    told = json.loads(json.dumps(report.members()))
    assert told["exit_code"] == report.exit_code == 9
    (done,), (stands,) = told["certificates"], told["standing"]
    assert (done["outcome"], done["verdict"], done["error"]) == ("installed", "served", None)
    assert done["looks"][0] | {"leaf_sha256": ""} == {
        "address": "192.0.2.1",
        "port": 443,
        "sni": NAME,
        "answer": "proven",
        "leaf_sha256": "",
        "why": "",
    }
    assert (stands["verdict"], stands["error"]["type"]) == ("not-running", "install/not-running")
