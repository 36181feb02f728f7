"""Who is told what, once, and when it is over."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from external_agent.facts.issues import Concern, Kind, Severity
from external_agent.present.alerts.message import MOST, Message, of_concerns, of_test
from external_agent.present.alerts.receivers import Receiver, read_receivers
from external_agent.present.alerts.sending import Sent, send
from external_agent.present.alerts.settings import Manner
from external_agent.present.alerts.watch import FIRST_PAUSE, AlertWatch
from external_agent.store.interface import Store
from shared.contract.errors import ConfigurationError, LooseFileMode
from tests.lab.webhook import Webhook

NAME = "www.intra.example.com"
OPS, CHAT = Receiver("ops", "json://one.example.com"), Receiver("chat", "json://two.example.com")


def concern(
    severity: Severity = Severity.WARNING, name: str = NAME, kind: Kind = Kind.PULLER_SILENT
) -> Concern:
    facts = {"host": "web1", "at": 1_800_000_000}
    return Concern(kind, severity, name, 1_800_000_000, "web1", facts)


@dataclass
class World:
    """The watch, with a clock and a way out that we hold."""

    store: Store
    now: int = 1_800_000_000
    so: list[Concern] = field(default_factory=list)
    manner: Manner = field(default_factory=lambda: Manner((OPS,), patience=600))
    unreachable: set[str] = field(default_factory=set)
    sent: list[tuple[str, Message]] = field(default_factory=list)
    seen: list[tuple[str, bool]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.watch = self.started()

    def started(self) -> AlertWatch:
        return AlertWatch(
            self.store,
            lambda: self.so,
            lambda: self.manner,
            clock=lambda: self.now,
            send=self._send,
            observe=lambda *one: self.seen.append(one),
        )

    def _send(self, receiver: Receiver, message: Message) -> Sent:
        if receiver.name in self.unreachable:
            return Sent("the server did not take the message")
        self.sent.append((receiver.name, message))
        return Sent()

    def after(self, seconds: int) -> list[tuple[str, str]]:
        """Let time pass, look, and return who was sent what tone."""
        self.now += seconds
        self.sent.clear()
        self.watch.look()
        return [(name, message.tone) for name, message in self.sent]


@pytest.fixture
def world(store: Store) -> World:
    return World(store)


def test_a_warning_that_lasts_is_told_once_and_called_over_once(world: World) -> None:
    world.so = [concern()]
    assert world.after(0) == []
    assert world.after(599) == []
    assert world.after(1) == [("ops", "warning")]
    assert world.after(0) == world.after(86400) == []
    world.so = []
    assert world.after(10) == world.after(599) == []
    assert world.after(1) == [("ops", "success")]
    (_, message) = world.sent[0]
    assert "Over:" in message.title and NAME in message.title and "web1 was heard" in message.title
    assert world.after(600) == world.after(86400) == []


def test_what_is_over_before_it_lasted_was_never_told(world: World) -> None:
    world.so = [concern()]
    assert world.after(300) == []
    world.so = []
    assert world.after(1000) == []
    world.so = [concern()]
    assert world.after(10) == [], "its time begins anew"


def test_what_comes_back_in_between_was_never_over(world: World) -> None:
    world.so = [concern()]
    world.after(0), world.after(600)
    for _ in range(5):
        world.so = []
        assert world.after(300) == []
        world.so = [concern()]
        assert world.after(300) == []


def test_the_critical_is_told_at_once_and_so_is_what_becomes_critical(world: World) -> None:
    world.so = [concern(Severity.CRITICAL, kind=Kind.PULLER_SUSPENDED)]
    assert world.after(0) == [("ops", "failure")]
    world.so = [concern(name="b.example.com")]
    assert world.after(0) == [] and world.after(600) == [("ops", "warning"), ("ops", "success")]
    world.so = [concern(Severity.CRITICAL, name="b.example.com")]
    assert world.after(0) == [("ops", "failure")]
    world.so = [concern(name="b.example.com")]
    assert world.after(3600) == [], "less bad is no news"


def test_what_is_on_its_way_is_told_to_nobody(world: World) -> None:
    world.so = [concern(Severity.INFO)]
    assert world.after(0) == world.after(86400) == []
    world.manner = Manner((OPS,), least=Severity.CRITICAL)
    world.so = [concern()]
    assert world.after(0) == world.after(86400) == []


def test_with_less_to_tell_nothing_is_called_over_that_is_not(world: World) -> None:
    world.so = [concern()]
    world.after(0), world.after(600)
    world.manner = Manner((OPS,), least=Severity.CRITICAL)
    assert world.after(86400) == []


def test_a_restart_repeats_nothing(world: World) -> None:
    world.so = [concern(Severity.CRITICAL)]
    assert world.after(0) == [("ops", "failure")]
    world.watch = world.started()
    assert world.after(0) == world.after(86400) == []
    world.so = []
    world.watch = world.started()
    assert world.after(0) == []
    world.watch = world.started()
    assert world.after(600) == [("ops", "success")]


def test_one_that_is_away_is_told_later_and_the_others_once(world: World) -> None:
    world.manner, world.unreachable = Manner((OPS, CHAT)), {"ops"}
    world.so = [concern(Severity.CRITICAL)]
    assert world.after(0) == [("chat", "failure")]
    (row,) = [one for one in world.store.alert_receivers() if one.name == "ops"]
    assert (row.failures, row.problem) == (1, "the server did not take the message")
    assert world.after(FIRST_PAUSE - 1) == []
    assert [one for one in world.seen if one[0] == "ops"] == [("ops", False)], "left alone"
    world.after(1)
    assert world.store.alert_receivers()[1].failures == 2
    world.unreachable.clear()
    assert world.after(2 * FIRST_PAUSE - 1) == []
    assert world.after(1) == [("ops", "failure")]
    row = world.store.alert_receivers()[1]
    assert (row.failures, row.problem) == (0, "")


def test_what_was_over_before_one_could_be_told_is_not_told(world: World) -> None:
    world.unreachable, world.so = {"ops"}, [concern(Severity.CRITICAL)]
    world.after(0)
    world.so = []
    world.unreachable.clear()
    assert world.after(600) == world.after(86400) == []


def test_a_new_receiver_is_told_what_is_so_and_one_taken_away_is_forgotten(world: World) -> None:
    world.so = [concern(Severity.CRITICAL)]
    world.after(0)
    world.manner = Manner((OPS, CHAT))
    assert world.after(10) == [("chat", "failure")]
    world.manner = Manner((CHAT,))
    world.after(10)
    assert [one.name for one in world.store.alert_receivers()] == ["chat"]
    assert world.store.told_alerts("ops") == []


def test_a_thousand_at_once_are_one_message(world: World) -> None:
    world.so = [concern(Severity.CRITICAL, f"{one:04}.example.com") for one in range(1000)]
    assert world.after(0) == [("ops", "failure")]
    (_, message) = world.sent[0]
    assert "1000 things need attention" in message.title
    assert len(message.body.splitlines()) == 2 * MOST + 1 and "980 more" in message.body
    world.so = []
    world.after(0)
    assert world.after(600) == [("ops", "success")]


def test_a_clock_that_is_set_back_keeps_nobody_from_being_told(world: World) -> None:
    world.unreachable, world.so = {"ops"}, [concern(Severity.CRITICAL)]
    world.after(0)
    world.unreachable.clear()
    assert world.after(-10 * 86400) == [("ops", "failure")]
    world.so = []
    world.after(0)
    assert world.after(-86400) == []
    assert world.after(600) == [("ops", "success")]


def test_in_japanese() -> None:
    one = of_concerns([concern()], "ja")
    assert "最後の連絡" in one.title and "対応:" in one.body
    assert "件" in of_concerns([concern(), concern(name="b.example.com")], "ja").title


def test_a_title_is_one_line_of_bounded_length() -> None:
    error = "no\nway\r\n" * 200
    bad = Concern(Kind.FAILING, Severity.WARNING, NAME, 0, facts={"error": error, "count": 9})
    title = of_concerns([bad], "en").title
    assert "\n" not in title and "\r" not in title and len(title) < 200


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("ops json://x", "line 1"),
        ("# fine\n\nOPS=json://x", "line 3"),
        ("ops=secret", "line 1"),
        ("ops=json://x\nops=json://y", "line 2"),
        ("ops=json://with space", "line 1"),
    ],
)
def test_a_line_that_is_no_receiver_is_named_and_not_shown(
    tmp_path: Path, text: str, named: str
) -> None:
    file = tmp_path / "receivers"
    file.write_text(text)
    file.chmod(0o600)
    with pytest.raises(ConfigurationError) as refused:
        read_receivers(file)
    assert named in refused.value.what and "secret" not in refused.value.explain()


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "receivers"
    file.write_text("ops=mailtos://user:password@mail.example.com\n")
    file.chmod(0o604)
    with pytest.raises(LooseFileMode):
        read_receivers(file)
    file.chmod(0o600)
    (one,) = read_receivers(file)
    assert one.url.startswith("mailtos://") and "password" not in repr(one)


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with Webhook() as server:
        yield server


@pytest.mark.lab
def test_apprise_brings_it_to_a_webhook(webhook: Webhook) -> None:
    sent = send(Receiver("ops", webhook.apprise_url), of_concerns([concern()], "ja"))
    assert sent.problem == "", sent.details
    (body,) = webhook.bodies
    told = json.loads(body)
    assert told["type"] == "warning" and "最後の連絡" in told["message"]
    assert told["title"].startswith("[split-horizon-relay] " + NAME)


@pytest.mark.lab
def test_what_apprise_cannot_do_is_said(webhook: Webhook) -> None:
    message = of_test("en")
    assert "does not know" in send(Receiver("ops", "gibberish://host"), message).problem
    webhook.status = 500
    assert "did not take" in send(Receiver("ops", webhook.apprise_url), message).problem
    webhook.silent = True
    ended = send(Receiver("ops", webhook.apprise_url), message, seconds=1.5)
    assert "no end within" in ended.problem
