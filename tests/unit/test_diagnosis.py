"""What doctors find: how it travels, what both halves together mean, and single checks."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from external_agent.doctor.authority import (
    caa_findings,
    record_to_set,
)
from external_agent.doctor.examination import examine
from external_agent.doctor.halves import MOST, Halves, heard
from external_agent.doctor.machine import database_findings, listener_findings
from external_agent.doctor.public_dns import (
    Answers,
    address_findings,
    visit_by_http,
)
from external_agent.doctor.turns import AT_ONCE, Turns
from internal_puller.doctor import internal_dns
from internal_puller.doctor import machine as machine_module
from internal_puller.doctor.doctor import Diagnosis, diagnose, places_of
from internal_puller.doctor.internal_dns import name_findings
from internal_puller.settings.targets import Target
from internal_puller.state.progress import LastError
from shared.contract.diagnosis import (
    MAX_HALF,
    Finding,
    Half,
    NameSeen,
    Verdict,
    compare,
    is_healthy,
    ordered,
)
from shared.contract.errors import ConfigurationError, MalformedMessage, RequestRefused
from shared.contract.http_signatures import MAX_BODY
from shared.host.diagnosis_text import show_diagnosis, summary
from tests.direct_world import direct_world
from tests.fake_agent import FakeAgent
from tests.machine import NAME, Machine

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=200)
FINDINGS = st.builds(
    Finding, st.sampled_from(["dns", "clock"]), st.sampled_from(Verdict), TEXT, TEXT, TEXT
)
SEEN = st.builds(
    NameSeen,
    st.just("www.example.com"),
    st.tuples(st.sampled_from(["192.0.2.1", "2001:db8::1"])),
    st.booleans(),
)
HALVES = st.builds(
    Half,
    st.sampled_from(["agent", "puller"]),
    st.just("host"),
    st.integers(0, 2**50),
    st.lists(FINDINGS, max_size=8).map(tuple),
    st.lists(SEEN, max_size=3).map(tuple),
)


@given(HALVES)
def test_a_half_arrives_as_it_left(half: Half) -> None:
    assert Half.decode(half.encode(), half.side) == half


@given(HALVES)
def test_the_half_of_the_other_side_is_refused(half: Half) -> None:
    with pytest.raises(MalformedMessage):
        Half.decode(half.encode(), "agent" if half.side == "puller" else "puller")


@given(st.binary(max_size=400))
def test_nonsense_is_refused(octets: bytes) -> None:
    with pytest.raises(MalformedMessage):
        Half.decode(octets, "puller")


def test_what_is_too_much_is_left_out_or_refused() -> None:
    wordy = [Finding("x", Verdict.OK, "s" * 2000, "w" * 2000, "d" * 2000) for _ in range(500)]
    bad = Finding("bad", Verdict.PROBLEM, "it", "broken", "mend it")
    half = Half("puller", "h", 1, (*wordy, bad))
    assert len(half.encode()) <= MAX_BODY
    assert Half.decode(half.encode(), "puller").findings == (bad,)
    with pytest.raises(MalformedMessage):
        Half.decode(b" " * (MAX_HALF + 1), "agent")


VM, SERVER, OTHER = ("203.0.113.10",), ("10.0.0.4",), ("10.0.0.9",)


@pytest.mark.parametrize(
    ("outside", "inside", "verdict", "words"),
    [
        ((VM, True), (SERVER, True), Verdict.OK, "inside it is 10.0.0.4"),
        ((VM, True), (VM, False), Verdict.PROBLEM, "same answer inside as outside"),
        ((SERVER, False), (SERVER, True), Verdict.PROBLEM, "same answer outside as inside"),
        ((VM, True), (OTHER, False), None, ""),
        (((), False), (SERVER, True), None, ""),
        ((VM, True), ((), False), None, ""),
        ((VM, True), (VM, True), Verdict.OK, ""),
    ],
)
def test_both_halves_together(
    outside: tuple[tuple[str, ...], bool],
    inside: tuple[tuple[str, ...], bool],
    verdict: Verdict | None,
    words: str,
) -> None:
    agent = Half("agent", "vm", 1, names=(NameSeen(NAME, *outside),))
    puller = Half("puller", "web1", 1, names=(NameSeen(NAME, *inside),))
    found = compare(agent, puller)
    assert [one.verdict for one in found] == ([] if verdict is None else [verdict])
    assert all(words in one.what for one in found)
    assert compare(None, puller) == compare(agent, None) == ()


def test_the_worst_is_said_first_and_what_is_unknown_is_no_pass(
    capsys: pytest.CaptureFixture[str],
) -> None:
    fine = Finding("a", Verdict.OK, "s", "fine")
    odd = Finding("b", Verdict.UNKNOWN, "s", "not seen\x1b[2J")
    bad = Finding("c", Verdict.PROBLEM, "s", "broken", "mend it")
    assert [one.check for one in ordered([fine, odd, bad])] == ["c", "b", "a"]
    assert is_healthy([fine]) and not is_healthy([fine, odd])
    assert summary([fine, odd, bad]) == "broken (1 more below)"
    show_diagnosis([("here", [fine, odd, bad])], everything=False)
    said = capsys.readouterr().out
    assert said.startswith("broken") and "→ mend it" in said and "fine" not in said
    assert "\x1b" not in said and "not seen?[2J" in said


def test_a_check_that_fails_or_hangs_says_so() -> None:
    never = threading.Event()

    def refused() -> list[Finding]:
        raise ConfigurationError("No such thing.", do="Make one.")

    def hangs() -> list[Finding]:
        never.wait(5)
        return []

    def broken() -> list[Finding]:
        raise ZeroDivisionError("oops")

    good = Finding("good", Verdict.OK, "s", "fine")
    found = examine(
        [
            ("refused", "r", refused),
            ("hangs", "h", hangs),
            ("broken", "b", broken),
            ("good", "g", lambda: [good]),
        ],
        seconds=0.5,
    )
    left = [one for one in threading.enumerate() if one.name.startswith("doctor")]
    assert left and all(one.daemon for one in left), "the process could not end"
    never.set()
    assert [one.verdict for one in found] == [Verdict.UNKNOWN] * 3 + [Verdict.OK]
    assert found[0].what == "No such thing." and found[0].do == "Make one."
    assert "did not end within" in found[1].what and "ZeroDivisionError" in found[2].what


def test_a_puller_is_refused_while_there_is_an_examination_and_an_operator_waits() -> None:
    go_on, made = threading.Event(), list[Sequence[str]]()

    def examine(certificates: Sequence[str]) -> Half:
        made.append(certificates)
        go_on.wait(10)
        return Half("agent", "vm", len(made))

    async def play() -> None:
        turns = Turns(examine, lambda: 60.0)
        first = asyncio.create_task(turns.of_puller("one", ["a"]))
        await asyncio.sleep(0)
        second = asyncio.create_task(turns.of_operator(["b"]))
        await asyncio.sleep(0)
        with pytest.raises(RequestRefused) as refused:
            await turns.of_puller("other", ["c"])
        assert refused.value.problem_type == "examination-under-way"
        go_on.set()
        assert ((await first).at, (await second).at) == (1, 2)
        assert (await turns.of_puller("other", ["c"])).at == 3

    asyncio.run(play())
    assert made == [["a"], ["b"], ["c"]]


def test_a_puller_has_one_examination_a_minute_and_a_few_in_advance() -> None:
    now = 1000.0

    async def play() -> None:
        nonlocal now
        turns = Turns(lambda certificates: Half("agent", "vm", 1), lambda: 60.0, lambda: now)
        for _ in range(AT_ONCE):
            await turns.of_puller("one", ["a"])
        with pytest.raises(RequestRefused) as refused:
            await turns.of_puller("one", ["a"])
        assert refused.value.problem_type == "too-many-examinations"
        assert refused.value.retry_after == 60
        await turns.of_puller("other", ["a"])
        now += 60
        await turns.of_puller("one", ["a"])
        with pytest.raises(RequestRefused):
            await turns.of_puller("one", ["a"])

    asyncio.run(play())


def test_halves_are_bounded_and_found_by_name() -> None:
    halves = Halves()
    for number in range(MOST + 5):
        seen = (NameSeen(f"{number}.example.com", (), False),)
        halves.keep(str(number), Half("puller", "h", number, names=seen))
    names = {f"{number}.example.com" for number in range(MOST + 5)}
    assert heard(halves, {"0.example.com"}, lambda puller: names) == []
    assert [one.at for one in heard(halves, {"9.example.com"}, lambda puller: names)] == [9]


def test_a_puller_is_heard_of_what_it_may_speak_of_now() -> None:
    halves = Halves()
    seen = (NameSeen("a.example.com", (), False), NameSeen("b.example.com", (), False))
    halves.keep("one", Half("puller", "h", 1, names=seen))
    (both,) = heard(halves, {"a.example.com"}, lambda puller: {"a.example.com", "b.example.com"})
    assert both.names == seen
    (one,) = heard(halves, {"a.example.com"}, lambda puller: {"a.example.com"})
    assert one.names == seen[:1]
    assert heard(halves, {"a.example.com"}, lambda puller: {"b.example.com"}) == []
    assert heard(halves, {"a.example.com"}, lambda puller: ()) == []


# --- the agent's side ------------------------------------------------------------------------


def test_name_servers_that_differ_or_fail() -> None:
    one, other = frozenset(["192.0.2.1"]), frozenset(["192.0.2.2"])
    differ = list(address_findings(NAME, [Answers("a", one), Answers("b", other)], []))
    assert [one.verdict for one in differ] == [Verdict.WARNING] and "do not agree" in differ[0].what
    fails = list(address_findings(NAME, [Answers("a", one), Answers("b", error="REFUSED")], []))
    assert [one.verdict for one in fails] == [Verdict.WARNING] and "REFUSED" in fails[0].what
    silent = list(address_findings(NAME, [Answers("a", error="no answer")], []))
    assert [one.verdict for one in silent] == [Verdict.UNKNOWN]


class Zone:
    """CAA records by owner."""

    def __init__(self, **records: str) -> None:
        self._records = records

    def records(self, name: str, kind: str) -> tuple[object, ...]:
        texts = self._records.get(name.replace(".", "_"), "")
        rows = dns.rrset.from_text(name, 1, "IN", kind, *texts.split("|")) if texts else ()
        return tuple(rows)


ACCOUNT = "https://ca.example/acct/1"


@pytest.mark.parametrize(
    ("records", "name", "verdict", "words"),
    [
        ({}, NAME, Verdict.NOTE, "No CAA record"),
        ({"example_com": '0 issue "ca.example"'}, NAME, Verdict.OK, "lets ca.example issue"),
        ({"example_com": '0 issue ";"'}, NAME, Verdict.PROBLEM, "forbids"),
        ({"example_com": '0 issue "ca.example"|0 issuewild ";"'}, f"*.{NAME}", Verdict.PROBLEM, ""),
        (
            {"example_com": f'0 issue "ca.example; accounturi={ACCOUNT}"'},
            *(NAME, Verdict.OK, "lets ca.example"),
        ),
        (
            {"example_com": '0 issue "ca.example; accounturi=https://ca.example/acct/2"'},
            *(NAME, Verdict.PROBLEM, "ours is"),
        ),
        (
            {"example_com": '0 issue "ca.example; validationmethods=dns-01,tls-alpn-01"'},
            *(NAME, Verdict.PROBLEM, "uses http-01"),
        ),
        (
            {
                "example_com": '0 issue "ca.example; validationmethods=dns-01"|'
                '0 issue "ca.example; validationmethods=http-01"'
            },
            *(NAME, Verdict.OK, ""),
        ),
    ],
)
def test_caa(records: dict[str, str], name: str, verdict: Verdict, words: str) -> None:
    (found,) = caa_findings(
        Zone(**records),  # type: ignore[arg-type]
        name,
        ("ca.example",),
        account_url=ACCOUNT,
        challenge="http-01",
    )
    assert found.verdict is verdict and words in found.what
    assert verdict is Verdict.OK or "CAA 0 issue" in found.do


def test_a_ca_that_does_not_tell_its_name_leaves_caa_unknown() -> None:
    (found,) = caa_findings(Zone(), NAME, (), account_url=None, challenge="http-01")  # type: ignore[arg-type]
    assert found.verdict is Verdict.UNKNOWN


def test_the_record_to_set() -> None:
    assert record_to_set(f"*.{NAME}", "ca.example", ACCOUNT, "dns-01") == (
        f'{NAME}. CAA 0 issuewild "ca.example; accounturi={ACCOUNT}; validationmethods=dns-01"'
    )


def test_a_listener_that_takes_no_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    (found,) = listener_findings([address], "challenge", running=True)
    assert found.verdict is Verdict.PROBLEM and "takes no connection" in found.what
    assert list(listener_findings([address], "challenge", running=False)) == []


def test_the_fault_of_an_old_sqlite_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    def verdicts(engine: str, version: tuple[int, int, int]) -> list[Verdict]:
        monkeypatch.setattr(sqlite3, "sqlite_version_info", version)
        return [one.verdict for one in database_findings(engine)]

    assert verdicts("SQLite at relay.db", (3, 40, 1)) == [Verdict.OK, Verdict.NOTE]
    assert verdicts("SQLite at relay.db", (3, 51, 3)) == [Verdict.OK]
    assert verdicts("PostgreSQL 16", (3, 40, 1)) == [Verdict.OK]


@pytest.mark.parametrize(
    "octets", [b"", b"HTTP/1.1\r\n\r\n", b"\xff" * 9000, b"HTTP/1.0 200 OK\r\nServer: x"]
)
def test_whatever_answers_on_port_80_is_read_with_care(octets: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(octets)

        thread = threading.Thread(target=answer)
        thread.start()
        with contextlib.suppress(OSError):
            status, body, _ = visit_by_http(NAME, "127.0.0.1", server.getsockname()[1], "x" * 22)
            assert status in (0, 200) and len(body) <= 9000
        thread.join()


def test_whoever_answers_an_octet_at_a_time_has_no_more_time() -> None:
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def dribble() -> None:
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                for _ in range(30):
                    connection.send(b"H")
                    if over.wait(0.05):
                        break

        thread = threading.Thread(target=dribble)
        thread.start()
        try:
            with pytest.raises(TimeoutError):
                visit_by_http(NAME, "127.0.0.1", server.getsockname()[1], "x" * 22, seconds=0.2)
        finally:
            over.set()
            thread.join()


# --- the puller's side -----------------------------------------------------------------------


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[FakeAgent]:
    with FakeAgent(tmp_path) as agent:
        yield agent


@pytest.fixture
def machine(tmp_path: Path, agent: FakeAgent) -> Machine:
    machine = Machine(tmp_path / "machine")
    machine.base.mkdir()
    machine.enrol(agent)
    machine.target(agent)
    return machine


def of(found: Diagnosis, check: str) -> list[Finding]:
    return [one for one in found.puller.findings if one.check == check]


def test_an_agent_of_an_older_release_has_no_half(agent: FakeAgent, machine: Machine) -> None:
    found = diagnose(machine.settings)
    (half,) = of(found, "agent-half")
    assert half.verdict is Verdict.UNKNOWN and found.agent is None


def test_a_revoked_machine(agent: FakeAgent, machine: Machine) -> None:
    enrolment = machine.state.require_enrolment()
    agent.revoke(enrolment.puller)
    found = [one for one in of(diagnose(machine.settings), "enrolment") if not one.verdict.is_good]
    assert [one.verdict for one in found] == [Verdict.PROBLEM]
    assert "Enrol anew" in found[0].do


def test_no_target_and_no_state(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "bare")
    machine.base.mkdir()
    found = diagnose(machine.settings)
    assert of(found, "state")[0].verdict is Verdict.PROBLEM
    assert of(found, "target")[0].verdict is Verdict.WARNING


def test_a_damaged_enrolment_is_no_pass_and_the_targets_are_looked_at(machine: Machine) -> None:
    file = machine.settings.state_directory / "enrolment.json"
    for spoil in (lambda: file.write_bytes(b"x"), lambda: file.chmod(0o644)):
        spoil()
        found = diagnose(machine.settings)
        (state,) = of(found, "state")
        assert state.verdict is Verdict.PROBLEM and "enrolment.json" in state.what and state.do
        assert of(found, "target") and not of(found, "enrolment")


def test_a_proxy_that_is_none_is_named(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "ftp://proxy.example.com")
    monkeypatch.delenv("NO_PROXY", raising=False)
    machine.change(proxy="")
    found = diagnose(machine.settings)
    (relay,) = of(found, "relay")
    assert relay.verdict is Verdict.PROBLEM and "HTTPS_PROXY" in relay.what and relay.do
    assert of(found, "target") and of(found, "enrolment")[0].verdict is Verdict.OK


def test_one_target_that_cannot_be_looked_at_does_not_end_the_diagnosis(
    agent: FakeAgent, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent.issue(NAME)
    assert machine.pull().exit_code == 0
    machine.target(agent, directory=machine.base / "second")
    mark = machine.targets()[0].directory / "set-aside.json"
    mark.write_text("{nonsense")
    found = of(diagnose(machine.settings), "target")
    assert [one.verdict for one in found] == [Verdict.PROBLEM, Verdict.OK]
    assert str(mark) in found[0].what and found[0].do
    mark.unlink()

    def broken(state: Path, target: Target) -> str | None:
        raise PermissionError(13, "Permission denied", str(target.directory))

    monkeypatch.setattr(machine_module, "tell_unended", broken)
    found = [
        one for one in diagnose(machine.settings).puller.findings if "could not be" in one.what
    ]
    assert [one.verdict for one in found] == [Verdict.UNKNOWN] * 2
    assert "Permission denied" in found[0].what


def test_a_machine_in_direct_mode_alone(tmp_path: Path) -> None:
    with direct_world(tmp_path) as world:
        world.want()
        world.target()
        settings = world.machine.settings

        def verdicts() -> dict[str, Verdict]:
            return {one.check: one.verdict for one in diagnose(settings).puller.findings}

        well = verdicts()
        assert {well[check] for check in ("state", "ca-directory", "dns-01")} == {Verdict.OK}
        assert {well[check] for check in ("enrolment", "ca-account", "direct")} == {Verdict.NOTE}
        assert world.machine.pull().exit_code == 0
        pulled = verdicts()
        assert (pulled["ca-account"], pulled["direct"]) == (Verdict.OK, Verdict.OK)
        world.change(error=LastError("issuance/rejected", "CAA forbids it.", 1))
        assert verdicts()["direct"] is Verdict.WARNING
        world.ca.faults.cut("directory", times=None)
        assert verdicts()["ca-directory"] is Verdict.PROBLEM
        world.ca.faults.clear()
        world.settings["directory"] = "ftp://nowhere"
        world.write()
        assert verdicts()["direct"] is Verdict.PROBLEM


def test_a_name_belongs_where_its_target_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a target by SSH that is the other machine, and not this one."""
    book = {"app.example.com": ("10.0.0.7",), "web.example.com": ("127.0.0.1",)}
    book |= {"both.example.com": ("10.0.0.7", "127.0.0.1"), "10.0.0.7": ("10.0.0.7",)}
    monkeypatch.setattr(internal_dns, "addresses_of", lambda name: book.get(name, ()))

    def verdict(name: str, *ssh: str | None) -> tuple[Verdict, bool]:
        targets = [Target(NAME, (name,), Path(f"/tls/{one}"), ssh=one) for one in ssh]
        seen, found = name_findings(name, places_of(name, targets))
        assert isinstance(seen, NameSeen) and isinstance(found, Finding)
        return found.verdict, seen.here

    there = "relay@10.0.0.7:2222"
    assert verdict("app.example.com", there) == (Verdict.OK, True)
    assert verdict("app.example.com", None) == (Verdict.WARNING, False)
    assert verdict("web.example.com", there) == (Verdict.WARNING, False)
    assert verdict("web.example.com", None) == (Verdict.OK, True)
    assert verdict("both.example.com", None, there) == (Verdict.OK, True)
    assert verdict("both.example.com", None) == (Verdict.NOTE, True)
