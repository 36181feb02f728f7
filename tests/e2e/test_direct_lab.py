"""Direct mode against the lab's CA and DNS: ordered, checked, installed, renewed; no agent."""

from __future__ import annotations

import base64
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from internal_puller.install.engine import Engine, Job
from internal_puller.outbox.outcome import EXIT_EXPIRING, Outcome
from internal_puller.settings.targets import save_targets
from internal_puller.sources.direct.issuing import DirectIssuing
from internal_puller.sources.direct.settings import require_direct
from internal_puller.sources.direct.status import direct_status
from internal_puller.state.progress import LastError
from shared.contract.errors import (
    BundleError,
    ClockWrong,
    ConfigurationError,
    DnsFailure,
    IssuanceError,
    IssuanceRateLimited,
    IssuanceRejected,
    IssuanceUnavailable,
    NameMismatch,
    UntrustedChain,
)
from tests.authority import Authority
from tests.direct_world import DirectWorld, direct_world
from tests.fake_agent import FakeAgent
from tests.lab.ca import LabCa
from tests.lab.peers import clean_environment
from tests.machine import NAME
from tests.proxies import ConnectProxy

pytestmark = pytest.mark.lab
DAY = 86400


class Clock:
    """Seconds that the test moves on; the CA's clock is the same."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def world(tmp_path: Path, clock: Clock) -> Iterator[DirectWorld]:
    with direct_world(tmp_path, clock=clock) as world:
        yield world


def error_of(world: DirectWorld) -> IssuanceError:
    [outcome] = world.machine.pull().outcomes
    assert outcome.word == "failed"
    assert isinstance(outcome.error, IssuanceError)
    return outcome.error


def test_dns_01_by_update_without_any_agent(world: DirectWorld) -> None:
    world.want()
    target = world.target()
    report = world.machine.pull()
    assert [one.word for one in report.outcomes] == ["installed"], report.members()
    assert len(world.ca.orders) == 1
    [issued] = world.ca.issued
    assert issued.names == (NAME,)
    assert world.machine.active(target) == world.progress().generation
    assert world.machine.state.floors()[NAME].generation == world.progress().generation
    assert world.dns.get("outside", f"_acme-challenge.{NAME}", "TXT") == []
    assert not world.of().has_attempt()
    assert world.machine.state.own_keys() == {NAME}
    assert world.machine.pull().members()["certificates"] == []
    assert len(world.ca.orders) == 1


def test_wildcard_and_apex_with_another_key(world: DirectWorld) -> None:
    names = ("example.org", "*.example.org")
    world.want(*names, key_algorithm="ec-p384", profile="shortlived")
    world.target("example.org", names=names)
    assert world.machine.pull().exit_code == 0
    [issued] = world.ca.issued
    assert sorted(issued.names) == sorted(names)
    assert world.ca.orders[0].profile == "shortlived"


def test_dns_persist_01(world: DirectWorld) -> None:
    world.want(challenge="dns-persist-01")
    world.target()
    error = error_of(world)
    assert isinstance(error, DnsFailure)
    assert "_validation-persist" in error.do
    world.persist_record()
    assert world.machine.pull().exit_code == 6  # it still waits
    world.change(paused_until=0)
    assert world.machine.pull().exit_code == 0
    assert len(world.ca.orders) == 1, "the same order went on"
    assert len(world.ca.issued) == 1


def test_the_end_of_a_standing_record_is_warned_of(world: DirectWorld, clock: Clock) -> None:
    world.want(challenge="dns-persist-01")
    world.target()
    world.machine.pull()
    until = int(clock()) + 40 * DAY
    world.persist_record(until=until)
    world.change(paused_until=0)
    assert world.machine.pull().warnings == []
    assert world.progress().persist_until == {NAME: until}
    clock.ahead += 11 * DAY
    [warning] = world.machine.pull().warnings
    assert "ends at" in warning


def test_caa_that_forbids_is_named(world: DirectWorld) -> None:
    world.want()
    world.target()
    world.dns.set("outside", NAME, "CAA", '0 issue "other-ca.example"')
    error = error_of(world)
    assert isinstance(error, IssuanceRejected)
    assert "other-ca.example" in error.what + error.do


def test_renewed_in_time_and_replaces(world: DirectWorld, clock: Clock) -> None:
    world.want()
    target = world.target()
    world.machine.pull()
    first = world.progress()
    lifetime = first.not_after - first.not_before
    assert first.due_at < first.not_after - lifetime / 3 + 60
    clock.ahead = first.due_at - clock() - 3600
    world.machine.pull()
    assert len(world.ca.orders) == 1
    clock.ahead += world.progress().due_at - clock() + 10  # the CA has suggested a moment
    assert world.machine.pull().exit_code == 0
    assert len(world.ca.orders) == 2
    assert world.ca.orders[1].replaces == world.ca.issued[0].certid
    assert world.machine.active(target) == world.progress().generation > first.generation


def test_window_of_the_ca_is_followed(world: DirectWorld, clock: Clock) -> None:
    world.want()
    world.target()
    world.machine.pull()
    clock.ahead += 700
    now = clock()
    world.ca.set_renewal_answer(explanation_url="https://ca.example.com/why")
    world.ca.set_renewal_window((now - 7200, now - 3600))
    assert world.machine.pull().exit_code == 0
    assert len(world.ca.issued) == 2, "the window is past, so it was renewed at once"
    assert world.progress().hurried
    world.machine.pull()
    clock.ahead += 700
    world.machine.pull()
    assert len(world.ca.issued) == 2, "not again and again"
    assert world.progress().reason == "braked"


@pytest.mark.parametrize("answer", ["refused", "nonsense", "slow", "gone"])
def test_no_answer_about_renewal_keeps_nothing_from_renewing(
    world: DirectWorld, clock: Clock, answer: str
) -> None:
    world.want()
    world.target()
    world.machine.pull()
    faults: dict[str, Callable[[], Any]] = {
        "refused": lambda: world.ca.faults.refuse("renewalInfo", 403, times=None),
        "nonsense": lambda: world.ca.faults.nonsense("renewalInfo", b"<html>", times=None),
        "slow": lambda: world.ca.faults.refuse("renewalInfo", 503, times=None),
        "gone": lambda: world.ca.faults.cut("renewalInfo", times=None),
    }
    faults[answer]()
    clock.ahead += 700
    assert world.machine.pull().exit_code == 0
    assert (world.progress().advice or {})["problem"]
    clock.ahead = world.progress().due_at - clock() + clock.ahead + 10
    assert world.machine.pull().exit_code == 0
    assert len(world.ca.issued) == 2


def test_other_names_are_ordered_at_once(world: DirectWorld) -> None:
    world.want()
    target = world.target()
    world.machine.pull()
    world.tables = []
    world.want(NAME, "app.example.org")
    assert world.machine.pull().exit_code == 0
    assert world.ca.issued[1].names == ("app.example.org", NAME)
    assert world.machine.active(target) == world.progress().generation


def test_failures_pause_longer_each_time(world: DirectWorld, clock: Clock) -> None:
    world.want()
    world.target()
    world.ca.faults.invalid_authorization("dns", "no such record", times=None)
    pauses = []
    for number in (1, 2, 3):
        error = error_of(world)
        assert isinstance(error, IssuanceRejected)
        assert "The next attempt is made" in error.what
        assert world.machine.pull().exit_code == 6, "a pause is said, and nothing is ordered"
        assert len(world.ca.orders) == number
        pauses.append(world.progress().paused_until - world.progress().paused_at)
        clock.ahead += pauses[-1] + 1
    assert pauses[0] >= 270
    assert pauses[1] > 1.5 * pauses[0]
    assert pauses[2] > 1.5 * pauses[1]
    world.ca.faults.clear()
    assert world.machine.pull().exit_code == 0
    assert (world.progress().failures, world.progress().error) == (0, None)


def test_rate_limit_is_kept(world: DirectWorld, clock: Clock) -> None:
    world.want()
    world.target()
    world.ca.faults.rate_limited("newOrder", retry_after=7200)
    assert isinstance(error_of(world), IssuanceRateLimited)
    assert world.progress().paused_until >= clock() + 7190
    clock.ahead += 7100
    world.machine.pull()
    assert world.ca.orders == []
    clock.ahead += 900
    assert world.machine.pull().exit_code == 0


def test_lost_answer_to_new_order_makes_no_second_order(world: DirectWorld, clock: Clock) -> None:
    world.want()
    world.target()
    world.ca.faults.lose_answer("newOrder")
    error = error_of(world)
    assert isinstance(error, IssuanceUnavailable)
    clock.ahead += 200
    assert world.machine.pull().exit_code == 0
    assert len(world.ca.orders) == 1


def test_issued_but_not_downloaded_is_gone_on_with(world: DirectWorld, clock: Clock) -> None:
    world.want()
    world.target()
    world.ca.faults.refuse("cert", 503, times=20)
    assert error_of(world).retry
    attempt = world.of().attempt()
    assert attempt is not None
    assert attempt.order_url == world.ca.orders[0].url
    world.ca.faults.clear()
    clock.ahead += 200
    assert world.machine.pull().exit_code == 0
    assert (len(world.ca.orders), len(world.ca.issued)) == (1, 1)
    assert world.progress().generation == attempt.generation


@pytest.mark.parametrize("fault", ["key", "names", "chain"])
def test_what_a_hostile_ca_issues_is_not_kept(world: DirectWorld, fault: str) -> None:
    world.want()
    target = world.target()
    if fault == "key":
        world.ca.faults.wrong_key()
    elif fault == "names":
        world.ca.faults.wrong_names(("app.example.org",))
    else:
        world.ca.faults.long_chain(100)
    assert isinstance(error_of(world), IssuanceRejected)
    assert world.machine.active(target) is None
    assert world.of().issued() is None
    assert not world.of().has_attempt()


def test_chain_to_another_root_is_refused_and_not_ordered_again(
    world: DirectWorld, tmp_path: Path
) -> None:
    world.want()
    stranger = tmp_path / "stranger.pem"
    stranger.write_bytes(Authority.make().root_pem)
    target = world.target(roots=stranger)
    for _ in range(2):
        [outcome] = world.machine.pull().outcomes
        assert isinstance(outcome.error, UntrustedChain)
        assert outcome.word == "refused"
    assert len(world.ca.orders) == 1
    assert world.machine.active(target) is None


def test_target_that_wants_more_names(world: DirectWorld) -> None:
    world.want()
    world.target(names=(NAME, "app.example.org"))
    [outcome] = world.machine.pull().outcomes
    assert isinstance(outcome.error, NameMismatch)
    assert isinstance(outcome.error, BundleError)


def test_wrong_clock_orders_nothing(world: DirectWorld) -> None:
    world.want()
    world.target()
    world.ca.faults.date_skew(-3600, times=None)
    [outcome] = world.machine.pull().outcomes
    assert isinstance(outcome.error, ClockWrong)
    assert world.ca.orders == []
    assert world.machine.pull().exit_code == 7


def test_clock_a_year_ahead_makes_no_storm(world: DirectWorld, tmp_path: Path) -> None:
    world.want()
    world.target()
    world.machine.pull()
    generation = world.progress().generation
    real = world.machine.clock
    world.machine.clock = lambda: real() + 365 * DAY
    assert world.machine.pull().exit_code in (7, 13)
    world.machine.clock = real
    assert world.machine.pull().exit_code == 0
    assert len(world.ca.orders) == 1
    assert world.progress().generation == generation


def test_ca_gone_and_life_getting_short(world: DirectWorld, clock: Clock) -> None:
    world.want()
    target = world.target()
    world.machine.pull()
    generation = world.machine.active(target)
    world.ca.faults.refuse("newOrder", 503, times=None)
    clock.ahead = world.progress().not_after - time.time() - 10 * DAY
    report = world.machine.pull()
    assert report.exit_code == EXIT_EXPIRING
    assert "the last order failed" in report.warnings[0]
    assert world.machine.active(target) == generation


def test_progress_lost_is_rebuilt_without_an_order(world: DirectWorld) -> None:
    world.want()
    world.target()
    world.machine.pull()
    before = world.progress()
    (world.of().path / "progress.json").write_text("{}")
    assert world.machine.pull().exit_code == 0
    after = world.progress()
    assert (after.generation, after.due_at) == (before.generation, before.due_at)
    assert len(world.ca.orders) == 1


def test_account_lost_at_the_ca(world: DirectWorld, clock: Clock) -> None:
    world.want()
    world.target()
    world.machine.pull()
    world.files.save_account_url(world.ca.directory_url, f"{world.ca.directory_url}/acct/99")
    world.change(renew="a test")
    assert isinstance(error_of(world), IssuanceRejected)
    clock.ahead += 400
    assert world.machine.pull().exit_code == 0


def test_without_a_target_nothing_is_ordered(world: DirectWorld) -> None:
    world.want()
    report = world.machine.pull()
    assert report.exit_code == 0
    assert "no target" in report.warnings[0]
    assert world.ca.orders == []


def test_without_the_extra_it_is_said(world: DirectWorld) -> None:
    world.want()
    world.target()
    program = (
        "import sys; sys.modules['josepy'] = None; from internal_puller.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "pull"],
        env=clean_environment(**world.machine.environment),
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == ConfigurationError.exit_code
    assert "needs the Python package josepy" in done.stderr
    assert "[puller,direct]" in done.stderr


@pytest.mark.parametrize(("tls", "opens"), [(False, False), (False, True)])
def test_through_a_connect_proxy(
    world: DirectWorld, tmp_path: Path, tls: bool, opens: bool
) -> None:
    world.want()
    world.target()
    with ConnectProxy(tmp_path, tls=tls, opens=opens) as proxy:
        roots = tmp_path / "proxy-root.pem"
        roots.write_bytes(proxy.root_pem)
        world.machine.change(proxy=proxy.url, roots_file=roots)
        assert world.machine.pull().exit_code == 0
        assert proxy.connected
        assert len(world.ca.issued) == 1
        assert (b"/dir" in proxy.seen) is opens
    assert require_direct(world.machine.settings.direct_file).proxy is None


def test_with_an_agent_its_operator_sees_everything(world: DirectWorld, tmp_path: Path) -> None:
    (tmp_path / "agent").mkdir()
    with FakeAgent(tmp_path / "agent") as agent:
        world.machine.enrol(agent, "app.example.org")
        world.want()
        world.target()
        agent.issue("app.example.org")
        roots = tmp_path / "agent-root.pem"
        roots.write_bytes(agent.ca.root_pem)
        world.target("app.example.org", roots=roots)
        assert world.machine.pull().exit_code == 0
        [report] = agent.direct_reports
        [receipt] = agent.receipts
        known = world.progress()
        assert receipt.certificate == "app.example.org"
        assert (report.certificate, report.outcome, report.error) == (NAME, "installed", "none")
        assert (report.generation, report.leaf_sha256) == (known.generation, known.leaf_sha256)
        assert (report.names, report.next_renewal) == ((NAME,), known.due_at)
        world.ca.faults.refuse("newOrder", 403, times=2)  # with `replaces` and without
        world.change(renew="a test")
        assert world.machine.pull().exit_code == 6
        failed = agent.direct_reports[-1]
        assert (failed.outcome, failed.error) == ("failed", "issuance/rejected")
        assert failed.generation == known.generation


@pytest.fixture
def both(world: DirectWorld, tmp_path: Path) -> Iterator[FakeAgent]:
    """One certificate from an agent and one from the CA, both new."""
    (tmp_path / "agent").mkdir()
    with FakeAgent(tmp_path / "agent") as agent:
        world.machine.enrol(agent, "app.example.org")
        world.want()
        world.target()
        agent.issue("app.example.org")
        roots = tmp_path / "agent-root.pem"
        roots.write_bytes(agent.ca.root_pem)
        world.target("app.example.org", roots=roots)
        yield agent


def test_what_comes_from_both_is_installed_by_one_call(
    world: DirectWorld, both: FakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine, calls = Engine.install, list[list[str]]()

    def install(self: Engine, jobs: Sequence[Job]) -> list[Outcome]:
        calls.append(sorted(one.material.certificate for one in jobs))
        return genuine(self, jobs)

    monkeypatch.setattr(Engine, "install", install)
    assert world.machine.pull().exit_code == 0
    assert calls == [["app.example.org", NAME]]


def test_a_bug_in_asking_a_ca_stops_nothing_of_the_agents(
    world: DirectWorld, both: FakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: DirectIssuing, wanted: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(DirectIssuing, "settle", broken)
    report = world.machine.pull()
    assert report.exit_code == 1
    assert "unexpected ZeroDivisionError" in report.errors[0].what
    assert [one.certificate for one in both.receipts] == ["app.example.org"]


def test_a_fault_here_and_a_target_that_is_removed_reach_the_agent(
    world: DirectWorld, tmp_path: Path
) -> None:
    (tmp_path / "agent").mkdir()
    with FakeAgent(tmp_path / "agent") as agent:
        world.machine.enrol(agent, "app.example.org")
        world.want()
        world.target()
        assert world.machine.pull().exit_code == 0
        floors = world.machine.state.path / "floors.json"
        kept = floors.read_bytes()
        floors.write_bytes(b"{}")
        for _ in range(2):
            with pytest.raises(ConfigurationError, match=r"floors\.json"):
                world.machine.pull()
        floors.write_bytes(kept)
        assert world.machine.pull().exit_code == 0
        told = [(one.outcome, one.error) for one in agent.direct_reports]
        well = ("installed", "none")
        assert told == [well, ("failed", "configuration"), well]
        save_targets(world.machine.settings.targets_file, [])
        for _ in range(2):
            assert world.machine.pull().exit_code == 0
        assert [one.outcome for one in agent.direct_reports][len(told) :] == ["removed"]
        assert agent.receipts == []


def test_agent_away_keeps_the_report(world: DirectWorld, tmp_path: Path) -> None:
    (tmp_path / "agent").mkdir()
    with FakeAgent(tmp_path / "agent") as agent:
        world.machine.enrol(agent)
        agent.stop()
        world.tables = []
        world.want("app.example.org")
        target = world.target("app.example.org")
        report = world.machine.pull()
        assert report.exit_code == 7
        assert world.machine.active(target) is not None
        agent.start_again()
        assert world.machine.pull().exit_code == 0
        assert [one.certificate for one in agent.direct_reports] == ["app.example.org"]


# --- the account ----------------------------------------------------------------------------------


def _puller(world: DirectWorld, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**clean_environment(), **world.machine.environment}
    return subprocess.run(
        [sys.executable, "-m", "internal_puller", *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_account_gets_another_key(world: DirectWorld) -> None:
    world.want()
    world.target()
    assert world.machine.pull().exit_code == 0
    (before,) = [one.thumbprint for one in world.ca.accounts]
    world.ca.faults.lose_answer("keyChange", times=1)  # as if killed after the CA took it
    assert _puller(world, "direct", "account", "roll-over").returncode == 6
    assert _puller(world, "direct", "renew", NAME).returncode == 0
    assert world.machine.pull().exit_code == 0
    done = _puller(world, "direct", "account", "roll-over")
    assert done.returncode == 0, done.stderr
    (after,) = [one.thumbprint for one in world.ca.accounts]
    assert after != before
    assert not (world.machine.settings.state_directory / "direct" / "account.key.next").exists()
    _puller(world, "direct", "renew", NAME)
    assert world.machine.pull().exit_code == 0
    assert (len(world.ca.issued), len(world.ca.accounts)) == (3, 1)


def test_revoked_by_the_key_after_the_account_was_closed(world: DirectWorld) -> None:
    world.want()
    world.target()
    assert world.machine.pull().exit_code == 0
    assert _puller(world, "direct", "account", "deactivate").returncode == 3
    assert _puller(world, "direct", "account", "deactivate", "--yes").returncode == 0
    assert [one.status for one in world.ca.accounts] == ["deactivated"]
    assert _puller(world, "direct", "revoke", NAME, "--reason", "nonsense").returncode == 3
    done = _puller(world, "direct", "revoke", NAME, "--reason", "keyCompromise", "--by-key")
    assert done.returncode == 0, done.stderr
    assert list(world.ca.revoked.values()) == [1]


@pytest.mark.parametrize("how", ["renew", "revoke"])
def test_a_pause_that_the_ca_asked_for_outlives_what_an_operator_wants(
    world: DirectWorld, how: str
) -> None:
    world.want()
    world.target()
    assert world.machine.pull().exit_code == 0
    until = int(time.time()) + DAY
    limited = LastError(IssuanceRateLimited.type, "Later.", until - DAY)
    world.change(error=limited, paused_at=until - DAY, paused_until=until)
    done = _puller(world, "direct", how, NAME)
    assert done.returncode == 0, done.stderr
    assert "The CA asked to wait until" in done.stdout
    assert (bool(world.progress().renew), world.progress().paused_until) == (True, until)
    world.change(error=replace(limited, type=IssuanceUnavailable.type))
    assert _puller(world, "direct", how, NAME).returncode == 0
    assert world.progress().paused_until == 0


# --- several CAs ------------------------------------------------------------------------------


@pytest.fixture
def two(world: DirectWorld, clock: Clock, tmp_path: Path) -> Iterator[LabCa]:
    """One more CA, with a profile and a chain of its own, second in the certificate's list."""
    with LabCa(
        resolver=world.dns.resolver, clock=clock, retry_after=None, eab={"kid-1": b"k" * 32}
    ) as second:
        root, key = tmp_path / "second.pem", tmp_path / "second-eab.key"
        root.write_text(second.tls_root_pem)
        key.write_text(base64.urlsafe_b64encode(b"k" * 32).decode().rstrip("="))
        key.chmod(0o600)
        world.settings |= {
            "ca.second.directory": second.directory_url,
            "ca.second.terms_agreed": True,
            "ca.second.ca_root": str(root),
            "ca.second.eab_key_id": "kid-1",
            "ca.second.eab_hmac_key_file": str(key),
            "ca.second.profile": "shortlived",
            "ca.second.preferred_chain": "Lab Root X2",
        }
        world.want(ca=[world.ca.directory_url, "second"])
        roots = tmp_path / "both.pem"
        roots.write_text(world.ca.root_pem + second.alternate_root_pem)
        world.target(roots=roots)
        yield second


def issued_by(world: DirectWorld) -> str:
    return world.progress().issued_by


def test_the_next_ca_is_asked_in_the_same_pull(world: DirectWorld, two: LabCa) -> None:
    world.ca.faults.refuse("newOrder", 403, kind="rejectedIdentifier", times=None)
    report = world.machine.pull()
    assert report.exit_code == 0, report.members()
    assert issued_by(world) == two.directory_url
    assert [order.profile for order in two.orders] == ["shortlived"]
    assert world.machine.pull().exit_code == 0
    assert len(two.orders) == 1, "whichever CA issued it, it is what is wanted"
    world.ca.faults.clear()
    world.change(renew="a test")
    assert world.machine.pull().exit_code == 0
    assert issued_by(world) == world.ca.directory_url


def test_a_failed_validation_asks_no_other_ca(world: DirectWorld, two: LabCa) -> None:
    world.ca.faults.invalid_authorization("dns")
    assert error_of(world).type == "issuance/validation"
    assert (two.orders, world.of().has_attempt()) == ([], False)


def test_a_held_ca_holds_up_no_other_in_direct_mode(
    world: DirectWorld, two: LabCa, clock: Clock
) -> None:
    world.ca.faults.rate_limited(retry_after=DAY)
    two.faults.refuse("newOrder", 503)
    assert isinstance(error_of(world), IssuanceUnavailable)
    status = direct_status(
        require_direct(world.machine.settings.direct_file), world.machine.settings
    )
    assert list(status[NAME].left_alone) == [world.ca.directory_url, two.directory_url]
    clock.ahead += 120
    assert world.machine.pull().exit_code == 0
    assert (issued_by(world), world.ca.orders) == (two.directory_url, [])


def test_a_ca_that_the_file_does_not_know(world: DirectWorld, two: LabCa) -> None:
    world.settings.pop("ca.second.directory")
    world.write()
    with pytest.raises(ConfigurationError, match=r"ca\.second"):
        require_direct(world.machine.settings.direct_file)
