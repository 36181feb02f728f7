"""A server on this machine: how it stands, and that only what a reload of ours ended is started."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from internal_puller.install import as_root, reload_note
from internal_puller.install.control import control_of
from internal_puller.install.perform import Answer, Step, perform
from internal_puller.install.presets import resolve
from internal_puller.install.reload_note import ReloadNote, why_not_start
from internal_puller.install.server import Control, Running, Server
from internal_puller.install.unit_state import UnitState, state_of
from internal_puller.settings.targets import Target
from shared.contract.errors import ConfigurationError, StageFailed
from shared.host import commands
from shared.host.boot import BOOT_ID, boot_id
from shared.host.commands import CommandResult

NAME = "www.intra.example.com"
BOOT, NEXT_BOOT = "a" * 32, "b" * 32
ACTIVE = {"ActiveState": "active", "ExecMainStartTimestampMonotonic": "10"}
# In the order in which systemd notes them.
STOPPED = {
    "ActiveState": "inactive",
    "ExecMainStartTimestampMonotonic": "10",
    "ActiveExitTimestampMonotonic": "20",
    "ExecMainExitTimestampMonotonic": "21",
    "InactiveEnterTimestampMonotonic": "22",
}
DIED = STOPPED | {"ActiveState": "failed", "ExecMainExitTimestampMonotonic": "19"}
ENDED = DIED | {"ActiveState": "inactive"}
AGAIN_IN_VAIN = STOPPED | {"ActiveState": "failed", "ExecMainStartTimestampMonotonic": "25"}
NOT_STARTED = STOPPED | {"ActiveState": "failed"}
"""By ExecStartPre= of a restart, or a server whose stop counts as a failure."""


@dataclass
class Systemd:
    """``systemctl`` as a script: what it shows stands in a file, what it was told in another."""

    base: Path

    def shows(self, **properties: str) -> None:
        """What it shows from now on."""
        self._write("shown", properties)

    def after(self, verb: str, **properties: str) -> None:
        """What it shows once it was told this."""
        self._write(f"after-{verb}", properties)

    def _write(self, file: str, properties: dict[str, str]) -> None:
        text = "".join(f"{name}={value}\n" for name, value in properties.items())
        (self.base / file).write_text(text)

    @property
    def told(self) -> list[str]:
        return (self.base / "told").read_text().splitlines()


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Systemd:
    base = tmp_path / "systemd"
    base.mkdir()
    (base / "told").touch()
    script = base / "systemctl"
    script.write_text(
        f"""#!/bin/sh
        if [ "$1" = show ]; then cat {base}/shown; exit; fi
        echo "$*" >>{base}/told
        if [ -e {base}/after-$1 ]; then cp {base}/after-$1 {base}/shown; fi
        """
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(base), prepend=":")
    monkeypatch.setattr(commands, "SEARCH_PATH", f"{base}:{commands.SEARCH_PATH}")
    monkeypatch.setattr(reload_note, "PLACE", tmp_path / "commands")
    (tmp_path / "commands").mkdir(mode=0o700)
    monkeypatch.setenv(BOOT_ID, BOOT)
    made = Systemd(base)
    made.shows(**ACTIVE)
    return made


@pytest.fixture
def server() -> Server:
    return Server("web", "", ("true",), ("systemctl", "reload", "web"), unit="web.service")


@pytest.fixture
def control(server: Server, tmp_path: Path) -> Control:
    plan = resolve(Target(NAME, (NAME,), tmp_path / "live"))
    return control_of(server, [(plan, 7)])


def note() -> ReloadNote | None:
    return reload_note.read("web.service")


# --- how it stands ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shown", "running"),
    [
        ({"ActiveState": "active"}, Running.YES),
        ({"ActiveState": "active", "Job": "712"}, Running.CHANGING),
        ({"ActiveState": "reloading"}, Running.CHANGING),
        ({"ActiveState": "activating", "SubState": "auto-restart"}, Running.CHANGING),
        ({"ActiveState": "deactivating"}, Running.CHANGING),
        ({"ActiveState": "inactive"}, Running.NO),
        ({"ActiveState": "inactive", "Job": "713"}, Running.CHANGING),
        ({"ActiveState": "failed"}, Running.FAILED),
        ({"ActiveState": "inactive", "LoadState": "not-found"}, Running.NOT_KNOWN),
        ({"ActiveState": "maintenance"}, Running.NOT_KNOWN),
        ({}, Running.NOT_KNOWN),
    ],
)
def test_how_it_stands(
    systemd: Systemd, control: Control, shown: dict[str, str], running: Running
) -> None:
    systemd.shows(**shown)
    assert control.running() is running


@pytest.mark.parametrize("script", ["exit 1", "exit 0", "echo ActiveState=active; exit 1"])
def test_a_systemctl_that_says_nothing(systemd: Systemd, control: Control, script: str) -> None:
    (systemd.base / "systemctl").write_text(f"#!/bin/sh\n{script}\n")
    assert control.running() is Running.NOT_KNOWN


def test_without_systemctl(control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert control.running() is Running.NOT_KNOWN


def test_without_a_unit(systemd: Systemd, server: Server, tmp_path: Path) -> None:
    plan = resolve(Target(NAME, (NAME,), tmp_path / "live"))
    control = control_of(replace(server, unit=None), [(plan, 7)])
    assert control.running() is Running.NOT_KNOWN
    assert not (done := control.start()).ok
    assert "The unit of the server web is not known" in done.how
    assert (result := control.reload()) is not None and result.ok
    assert systemd.told == ["reload web"]


def test_the_boot(control: Control, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BOOT_ID, BOOT)
    assert control.boot_id() == BOOT
    monkeypatch.delenv(BOOT_ID)
    place = tmp_path / "proc/sys/kernel/random"
    place.mkdir(parents=True)
    (place / "boot_id").write_text("01234567-89ab-cdef-0123-456789abcdef\n")
    assert boot_id(tmp_path) == "0123456789abcdef0123456789abcdef"
    (place / "boot_id").write_text("no such\n")
    assert boot_id(tmp_path) == ""


# --- it is told -------------------------------------------------------------------------------


def test_test_and_reload(systemd: Systemd, control: Control) -> None:
    assert control.test() == CommandResult(True, "ended with exit code 0", "")
    assert control.reload() == CommandResult(True, "ended with exit code 0", "")
    assert systemd.told == ["reload web"]
    assert note() == ReloadNote(BOOT, None)


def test_a_server_without_commands(systemd: Systemd, server: Server, tmp_path: Path) -> None:
    plan = resolve(Target(NAME, (NAME,), tmp_path / "live"))
    control = control_of(replace(server, test=(), reload=()), [(plan, 7)])
    assert control.test() is control.reload() is None


def test_a_command_that_is_gone(systemd: Systemd, server: Server, tmp_path: Path) -> None:
    plan = resolve(Target(NAME, (NAME,), tmp_path / "live"))
    control = control_of(replace(server, reload=("no-such-program",)), [(plan, 7)])
    done = control.reload()
    assert done is not None and not done.ok and "does not exist" in done.how


@pytest.mark.parametrize(
    ("test", "why"),
    [
        (("no-such-program",), "does not exist"),
        (("sh", "-c", "no-such-program"), "ended with exit code 127"),
        (("sleep", "60"), "did not end within 0.2 s"),
        (("sh", "-c", "kill -KILL $$"), "was ended by signal KILL"),
        (("sh", "-c", "kill -TERM $$"), "was ended by signal TERM"),
    ],
)
def test_a_test_that_does_not_come_to_its_end_says_nothing(
    systemd: Systemd, server: Server, tmp_path: Path, test: tuple[str, ...], why: str
) -> None:
    plan = resolve(Target(NAME, (NAME,), tmp_path / "live", command_timeout=0.2))
    with pytest.raises(StageFailed, match="It is not known what the test of web says") as raised:
        control_of(replace(server, test=test), [(plan, 7)]).test()
    assert why in raised.value.what


@pytest.mark.parametrize("test", [("false",), ("sh", "-c", "kill -SEGV $$")])
def test_a_test_that_fails_by_itself_refuses(
    systemd: Systemd, server: Server, tmp_path: Path, test: tuple[str, ...]
) -> None:
    """One that a certificate makes crash, too."""
    plan = resolve(Target(NAME, (NAME,), tmp_path / "live"))
    done = control_of(replace(server, test=test), [(plan, 7)]).test()
    assert done is not None and not done.ok


@pytest.mark.parametrize(
    ("shown", "running"), [(STOPPED, Running.NO), (ENDED, Running.NO), (DIED, Running.FAILED)]
)
def test_what_is_stopped_is_not_told(
    systemd: Systemd, server: Server, control: Control, shown: dict[str, str], running: Running
) -> None:
    systemd.shows(**shown)
    assert control.reload() is None
    plan = resolve(Target(NAME, (NAME,), Path("/srv/tls")))
    answer = perform(Step.RELOAD, server, [(plan, 7)])
    assert answer.running is running and answer.result.ok
    assert "is left alone" in answer.result.how
    assert (systemd.told, note()) == ([], None)


@pytest.mark.parametrize("shown", [{"ActiveState": "deactivating"}, ACTIVE | {"Job": "7"}])
def test_what_is_changing_is_not_told_now(
    systemd: Systemd, control: Control, shown: dict[str, str]
) -> None:
    """An administrator's stop may be under way, and a reload would cancel it."""
    systemd.shows(**shown)
    assert (result := control.reload()) is not None and not result.ok
    assert "web.service is starting, reloading or stopping" in result.how
    assert (systemd.told, note()) == ([], None)


def test_what_is_not_known_to_run_is_told_and_not_noted(systemd: Systemd, control: Control) -> None:
    systemd.shows()
    assert (result := control.reload()) is not None and result.ok
    assert (systemd.told, note()) == (["reload web"], None)


def test_a_note_that_cannot_be_written_keeps_no_reload(
    systemd: Systemd, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reload_note, "PLACE", systemd.base / "nowhere")
    assert (result := control.reload()) is not None and result.ok


# --- it is started ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shown", "seen", "boot", "refused"),
    [
        (DIED, None, BOOT, ""),
        (ENDED, None, BOOT, ""),
        (AGAIN_IN_VAIN, None, BOOT, ""),
        (NOT_STARTED, 22, BOOT, ""),
        (STOPPED, 22, BOOT, ""),
        (STOPPED, None, BOOT, "was stopped after the reload"),
        (STOPPED, 12, BOOT, "was stopped after the reload"),
        (NOT_STARTED, None, BOOT, "was stopped after the reload"),
        (AGAIN_IN_VAIN | {"ActiveState": "inactive"}, None, BOOT, "was stopped after the reload"),
        ({"ActiveState": "inactive"}, None, BOOT, "was stopped after the reload"),
        (DIED, None, NEXT_BOOT, ""),
        (NOT_STARTED, 22, NEXT_BOOT, ""),
        (ENDED, None, NEXT_BOOT, "has not failed since the machine was booted"),
        (STOPPED, 22, NEXT_BOOT, "has not failed since the machine was booted"),
        (DIED, None, "", "was not seen to run"),
        (ACTIVE, None, BOOT, "not known to be stopped"),
        ({"ActiveState": "deactivating"}, None, BOOT, "not known to be stopped"),
        ({}, None, BOOT, "not known to be stopped"),
    ],
)
def test_who_may_be_started(
    systemd: Systemd, shown: dict[str, str], seen: int | None, boot: str, refused: str
) -> None:
    systemd.shows(**shown)
    why = why_not_start(ReloadNote(BOOT, seen), state_of("web.service"), boot)
    assert (refused in why) if refused else why == ""


@pytest.mark.parametrize("state", [Running.NO, Running.FAILED])
def test_what_no_reload_of_ours_has_met_is_not_started(state: Running) -> None:
    dead = UnitState(state, started=10, ended=19, left=20, stopped=22)
    assert "not seen to run before a reload" in why_not_start(None, dead, BOOT)


def test_a_server_that_a_reload_ended_is_started(systemd: Systemd, control: Control) -> None:
    systemd.after("reload", **DIED)
    systemd.after("reset-failed", **ENDED)
    systemd.after("start", **ACTIVE)
    control.reload()
    assert control.running() is Running.FAILED
    assert control.start().ok
    assert systemd.told == ["reload web", "reset-failed web.service", "start web.service"]
    assert control.running() is Running.YES
    assert note() is None, "what ends it now was no reload of ours"


def test_what_an_administrator_stopped_after_the_reload(systemd: Systemd, control: Control) -> None:
    control.reload()
    systemd.shows(**STOPPED)
    done = control.start()
    assert not done.ok
    assert "web.service is left as it is" in done.how and "systemctl start web.service" in done.how
    assert systemd.told == ["reload web"]


AMIDST = NOT_STARTED | {"Result": "signal"}
"""systemd ends a reload or a start that is under way by a signal, and counts that as a failure."""


def test_a_stop_amidst_the_reload_counts_as_a_failure_and_is_none(
    systemd: Systemd, control: Control
) -> None:
    systemd.after("reload", **AMIDST)
    control.reload()
    assert note() == ReloadNote(BOOT, None)
    assert not control.start().ok
    assert systemd.told == ["reload web"]


def restarting(server: Server, tmp_path: Path) -> Control:
    plan = resolve(Target(NAME, (NAME,), tmp_path / "live"))
    own = replace(server, reload=("systemctl", "restart", "web"), restarts=True)
    return control_of(own, [(plan, 7)])


@pytest.mark.parametrize("shown", [AMIDST, AGAIN_IN_VAIN | {"Result": "signal"}])
def test_a_stop_amidst_a_restart(
    systemd: Systemd, server: Server, tmp_path: Path, shown: dict[str, str]
) -> None:
    control = restarting(server, tmp_path)
    systemd.after("restart", **shown)
    control.reload()
    assert not control.start().ok
    assert systemd.told == ["restart web"]


def test_a_restart_whose_start_fails_before_its_process(
    systemd: Systemd, server: Server, tmp_path: Path
) -> None:
    """Its times are those of a stop; that it has failed is seen right after the command."""
    control = restarting(server, tmp_path)
    systemd.after("restart", **NOT_STARTED, Result="exit-code")
    control.reload()
    assert note() == ReloadNote(BOOT, 22)
    assert control.start().ok
    assert systemd.told[1:] == ["reset-failed web.service", "start web.service"]


def test_a_stop_in_the_midst_of_the_reload_is_no_death(systemd: Systemd, control: Control) -> None:
    systemd.after("reload", **STOPPED)
    control.reload()
    assert note() == ReloadNote(BOOT, None)
    assert not control.start().ok


def test_what_runs_is_not_started_again(systemd: Systemd, control: Control) -> None:
    assert control.start().ok
    assert systemd.told == []


def test_a_start_may_fail_and_be_tried_again(systemd: Systemd, control: Control) -> None:
    """A unit that is no longer failed does not say how it ended: that is in the note."""
    script = systemd.base / "systemctl"
    whole = script.read_text()
    script.write_text(whole.replace("echo", '[ "$1" != start ] || exit 1; echo', 1))
    systemd.after("reset-failed", **AGAIN_IN_VAIN | {"ActiveState": "inactive"})
    control.reload()
    systemd.shows(**AGAIN_IN_VAIN)
    assert not control.start().ok
    assert control.running() is Running.NO
    script.write_text(whole)
    assert control.start().ok
    assert systemd.told[-1] == "start web.service"


@pytest.mark.parametrize("text", ["", "nonsense", "[]", '{"boot_id": 7}', "{}"])
def test_a_note_that_is_none(systemd: Systemd, control: Control, text: str) -> None:
    (reload_note.PLACE / "web.service.json").write_text(text)
    systemd.shows(**DIED)
    assert not control.start().ok


def test_the_note_is_roots(systemd: Systemd, control: Control) -> None:
    """Who may write a directory of the service's account does not write what root believes."""
    file = reload_note.PLACE / "web.service.json"
    file.write_text(json.dumps({"boot_id": BOOT, "stopped": None}))
    systemd.shows(**DIED)
    if os.geteuid() == 0:
        os.chown(file, 65534, 65534)
        assert not control.start().ok
        os.chown(file, 0, 0)
    assert control.start().ok


@pytest.mark.parametrize("unit", ["../web", "a b", "--help/"])
def test_a_unit_whose_name_is_none(systemd: Systemd, server: Server, unit: str) -> None:
    plan = resolve(Target(NAME, (NAME,), Path("/srv/tls")))
    members = [(plan, 7)]
    named = replace(server, unit=unit)
    assert perform(Step.IS_ACTIVE, named, members).running is Running.NOT_KNOWN
    with pytest.raises(ConfigurationError, match="is not known"):
        perform(Step.START, named, members)


# --- as the service ---------------------------------------------------------------------------


@dataclass
class Asked:
    """What stands in for the socket: it keeps what was asked, and answers."""

    requests: list[as_root.Request]
    answer: Answer

    def __call__(self, request: as_root.Request, seconds: float) -> Answer:
        assert seconds == 30.0
        self.requests.append(request)
        return self.answer


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    made = Asked([], Answer(CommandResult(True, "ended with exit code 0", "")))
    monkeypatch.setattr(as_root, "is_asked", lambda: True)
    monkeypatch.setattr(as_root, "ask", made)
    return made


def test_the_service_asks_for_each_step(asked: Asked, control: Control, tmp_path: Path) -> None:
    there = ((tmp_path / "live", 7),)
    assert control.test() == control.reload() == control.start() == asked.answer.result
    asked.answer = replace(asked.answer, running=Running.CHANGING)
    assert control.running() is Running.CHANGING
    assert asked.requests == [
        as_root.Request("web", step, there)
        for step in (Step.TEST, Step.RELOAD, Step.START, Step.IS_ACTIVE)
    ]


@pytest.mark.parametrize("running", [Running.NO, Running.FAILED])
def test_a_reload_that_was_left_is_no_failure(
    asked: Asked, control: Control, running: Running
) -> None:
    asked.answer = replace(asked.answer, running=running)
    assert control.reload() is None


def test_a_unit_that_does_not_answer_knows_nothing(asked: Asked, control: Control) -> None:
    asked.answer = Answer(commands.not_ended("could not be asked for"))
    assert control.running() is Running.NOT_KNOWN
    with pytest.raises(StageFailed, match="true could not be asked for"):
        control.test()
    result = control.reload()
    assert result is not None and not result.ok
