"""What is in place and was not seen to be served: in status, attention, doctor and metrics."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from internal_puller.doctor.machine import target_findings
from internal_puller.facts.alarm import troubles
from internal_puller.facts.standing import is_served, tell
from internal_puller.facts.status import Status, read_status
from internal_puller.facts.textfile import write_metrics
from internal_puller.outbox.look import Answer, Look, Trouble, matches
from internal_puller.outbox.report import PullReport
from internal_puller.outbox.verdict import ERRORS, LOOKED_AT_AGAIN, NOT_SERVED, Verdict
from internal_puller.settings.targets import Target
from internal_puller.state.progress import LastError, Progress, Standing
from shared.contract.diagnosis import Verdict as Finds
from tests.fake_agent import FakeAgent
from tests.machine import NAME, Machine

SINCE = 1_796_083_200  # 2026-12-01
NEW, OLD = "a1" * 32, "b2" * 32
SAID = f"{NAME}, generation 7: nginx goes on showing the certificate before."


def standing(verdict: Verdict = Verdict.NOT_TAKEN_UP) -> Standing:
    return Standing(verdict=str(verdict), since=SINCE, again_at=int(time.time()) + 3600, what=SAID)


@pytest.fixture
def target(agent: FakeAgent, machine: Machine) -> Target:
    """Installed, without a probe: nothing but what stands tells whether it is served."""
    target = machine.target(agent)
    agent.issue(NAME)
    machine.pull()
    return target


def leave(machine: Machine, target: Target, found: Standing, *, error: str = "") -> None:
    progress = machine.progress
    progress.standing[str(target.directory)] = found
    if error:
        progress.of(NAME).error = LastError(error, SAID, SINCE)
    machine.state.save_progress(progress, durable=True)


# --- three values -----------------------------------------------------------------------------


def look(answer: Answer, leaf: str | None = None) -> Look:
    return Look("192.0.2.1", 443, NAME, answer, leaf)


@pytest.mark.parametrize(
    ("looks", "shown"),
    [
        ((), None),
        ((look(Answer.PROVEN, NEW),), True),
        ((look(Answer.SHOWN, NEW), look(Answer.PROVEN, NEW)), True),
        ((look(Answer.PROVEN, NEW), look(Answer.PROVEN, OLD)), False),
        ((look(Answer.NONE),), False),
        ((look(Answer.NOT_KNOWN),), None),
        ((look(Answer.PROVEN, NEW), look(Answer.NOT_KNOWN)), None),
        ((look(Answer.PROVEN, OLD), look(Answer.NOT_KNOWN)), False),
    ],
)
def test_shown_has_three_values(looks: tuple[Look, ...], shown: bool | None) -> None:
    assert matches(looks, NEW) is shown


@pytest.mark.parametrize("verdict", sorted(LOOKED_AT_AGAIN))
def test_served_by_what_is_seen_and_what_stands(verdict: Verdict) -> None:
    found = standing(verdict)
    other_server = verdict in (Verdict.SEEN_BEFORE, Verdict.ANOTHER_SERVER)
    assert is_served(True, found) is (None if verdict is Verdict.SEEN_BEFORE else True)
    assert is_served(False, found) is (None if other_server else False)
    assert is_served(None, found) is (False if verdict in NOT_SERVED else None)
    for seen in (True, False, None):
        assert is_served(seen, None) is seen


def test_it_is_told_since_when_and_when_it_is_looked_at_again() -> None:
    found = replace(standing(), again_at=SINCE + 3600)
    assert tell(found, SINCE + 60) == (
        f"{SAID} In place, and not seen served since 2026-12-01 00:00 UTC; looked at again at "
        "2026-12-01 01:00 UTC."
    )
    assert tell(found, SINCE + 3601).endswith("; looked at again by the next pull.")


# --- where operators look ---------------------------------------------------------------------


def test_it_needs_attention_once_and_in_its_words(machine: Machine, target: Target) -> None:
    assert read_status(machine.settings).attention == ()
    leave(machine, target, standing(), error="install/not-taken-up")
    found = read_status(machine.settings)
    (what,) = found.attention
    assert what.startswith(f"{NAME}: {SAID} In place, and not seen served since 2026-12-01")
    (one,) = found.certificates[0].targets
    assert one.installed
    assert one.served_matches is False
    assert one.standing is not None


def test_what_failed_is_still_said(machine: Machine, target: Target) -> None:
    progress = machine.progress
    progress.of(NAME).error = LastError("install/config-test-failed", "It was taken back.", SINCE)
    machine.state.save_progress(progress, durable=True)
    assert read_status(machine.settings).attention == (f"{NAME}: It was taken back.",)


def status_of(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, *answers: tuple[Answer, bool]
) -> Status:
    """As if its probe points had answered so; the second says whether it is the leaf in place."""

    def probed(target: Target) -> tuple[Look, ...]:
        from internal_puller.install.active import read_active

        active = read_active(target)
        assert active is not None
        return tuple(
            replace(
                look(answer, active.leaf_sha256 if ours else None),
                why="" if ours else "no answer in 5 s",
                trouble=Trouble.MIXED_PAIR if answer is Answer.SHOWN else None,
            )
            for answer, ours in answers
        )

    monkeypatch.setattr("internal_puller.facts.status.probe_target", probed)
    return read_status(machine.settings)


def test_what_was_taken_up_meanwhile_stands_no_more(
    machine: Machine, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(machine, target, standing(), error="install/not-taken-up")
    assert status_of(machine, monkeypatch, (Answer.PROVEN, True)).attention == ()
    leave(machine, target, standing(Verdict.SEEN_BEFORE))
    found = status_of(machine, monkeypatch, (Answer.PROVEN, True))
    assert len(found.attention) == 1
    assert found.certificates[0].targets[0].served_matches is None


def test_what_cannot_be_seen_is_neither_yes_nor_no(
    machine: Machine, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = status_of(machine, monkeypatch, (Answer.NOT_KNOWN, False))
    assert found.certificates[0].targets[0].served_matches is None
    (what,) = found.attention
    assert f"whether it serves what is in {target.directory} cannot be seen from here" in what
    (what,) = status_of(machine, monkeypatch, (Answer.NONE, False)).attention
    assert f"not what is in {target.directory}" in what


def test_a_server_that_lost_its_key_is_told_beside_the_leaf(
    machine: Machine, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    (what,) = status_of(machine, monkeypatch, (Answer.SHOWN, True)).attention
    assert "whose key it does not have" in what


@pytest.mark.parametrize("verdict", sorted(LOOKED_AT_AGAIN))
def test_the_doctor_says_it_with_what_to_do(
    machine: Machine, target: Target, verdict: Verdict
) -> None:
    leave(machine, target, standing(verdict))
    found = list(target_findings(target, machine.settings, machine.progress))
    (one,) = [each for each in found if each.check == "not-served"]
    assert one.verdict is Finds.WARNING
    assert SAID in one.what
    kind = ERRORS[verdict]
    assert kind is not None
    assert one.do == kind.do


def samples(machine: Machine, target: Target, progress: Progress, file: Path) -> dict[str, str]:
    write_metrics(file, [target], progress, PullReport(), 1.0)
    lines = [one for one in file.read_text().splitlines() if not one.startswith("#")]
    return {line.partition("{")[0]: line for line in lines}


@pytest.mark.parametrize("verdict", sorted(LOOKED_AT_AGAIN))
def test_as_numbers_it_has_neither_failed_nor_is_it_served(
    machine: Machine, target: Target, verdict: Verdict, tmp_path: Path
) -> None:
    kind = ERRORS[verdict]
    assert kind is not None
    leave(machine, target, standing(verdict), error=kind.type)
    found = samples(machine, target, machine.progress, tmp_path / "x.prom")
    assert found["relay_puller_certificate_failing"].endswith(" 0.0")
    since = found["relay_puller_certificate_unserved_since_timestamp_seconds"]
    assert f'verdict="{verdict}"' in since
    assert since.endswith(f" {float(SINCE)}")
    served = found.get("relay_puller_certificate_served")
    assert (served is not None and served.endswith(" 0.0")) is (verdict in NOT_SERVED)


def test_what_was_taken_back_has_failed(machine: Machine, target: Target, tmp_path: Path) -> None:
    progress = machine.progress
    progress.of(NAME).error = LastError("install/server-died", SAID, SINCE)
    found = samples(machine, target, progress, tmp_path / "x.prom")
    assert found["relay_puller_certificate_failing"].endswith(" 1.0")
    assert "relay_puller_certificate_unserved_since_timestamp_seconds" not in found


def test_an_alarm_tells_each_once(machine: Machine) -> None:
    """Of two targets of one certificate too; what failed besides is told beside it."""
    progress = machine.progress
    progress.standing = {"/etc/relay/www": standing(), "/etc/relay/mail": standing()}
    progress.of(NAME).error = LastError("install/not-taken-up", SAID, SINCE)
    found = troubles(machine.settings, [NAME], progress, PullReport(), SINCE)
    assert found == {"unserved /etc/relay/www": SAID, "unserved /etc/relay/mail": SAID}
    progress.of(NAME).error = LastError("install/server-died", "It died.", SINCE)
    found = troubles(machine.settings, [NAME], progress, PullReport(), SINCE)
    assert found[f"failing {NAME}"] == f"{NAME}: It died."
    assert len(found) == 3


# --- kept, and gone with its target -------------------------------------------------------------


def test_it_is_kept_on_the_disk() -> None:
    progress = Progress(standing={"/etc/relay/www": standing()})
    assert Progress.decode(progress.encode()) == progress


def test_of_a_removed_target_nothing_stands(machine: Machine, target: Target) -> None:
    leave(machine, target, standing(), error="install/not-taken-up")
    machine.settings.targets_file.unlink()
    shutil.rmtree(target.directory)
    found = read_status(machine.settings)
    assert not any(SAID in what for what in found.attention)
    assert [one.targets for one in found.certificates] == [()]
