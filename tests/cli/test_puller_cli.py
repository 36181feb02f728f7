"""What ``internal-puller`` says and exits with, for good input and for each kind of bad input."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import shlex
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from internal_puller.cli import main
from internal_puller.settings.probe_point import ProbePoint
from internal_puller.settings.targets import Target
from shared.host import kept_file
from tests.cli.conftest import Run
from tests.fake_agent import FakeAgent
from tests.machine import NAME, Machine
from tools.command_tree import programs


def files_under(path: Path) -> set[str]:
    return {str(one.relative_to(path)) for one in path.rglob("*")}


def test_the_whole_story(agent: FakeAgent, machine: Machine, run: Run) -> None:
    root = machine.base / "root.pem"
    root.write_bytes(agent.ca.root_pem)
    code, out, error = run("enroll", stdin=agent.token(NAME) + "\n")
    assert (code, error) == (0, "")
    assert f"{NAME}: {NAME}" in out
    assert f"internal-puller target add {NAME}" in out

    code, out, _ = run(
        "target", "add", NAME, "--root", str(root), "--reload-command", "/bin/echo 'two words'"
    )
    assert code == 0
    assert "fullchain.pem" in out
    [target] = machine.targets()
    assert target.reload_command == ("/bin/echo", "two words")
    assert target.directory == machine.base / "tls" / NAME

    assert run("pull") == (0, "", "")
    issued = agent.issue(NAME)
    code, out, error = run("pull")
    assert (code, error) == (0, "")
    assert out.startswith(f"{NAME}: generation {issued.generation} installed in {target.directory}")
    assert out.count("\n") == 1
    assert run("pull") == (0, "", "")

    code, out, _ = run("status")
    assert code == 0
    assert str(issued.generation) in out
    assert "pinned one" in out
    facts = json.loads(run("status", "--json")[1])
    [certificate] = facts["certificates"]
    assert certificate["offered"] == certificate["pulled"] == issued.generation
    assert certificate["targets"][0]["installed"] == issued.generation
    assert certificate["targets"][0]["served_matches"] is None
    assert facts["tls_check"] == "pin"

    assert run("verify")[0] == 0
    newer = agent.issue(NAME)
    report = json.loads(run("pull", "--json")[1])
    assert report["certificates"][0]["generation"] == newer.generation
    code, out, _ = run("rollback", NAME)
    assert code == 0
    assert str(issued.generation) in out
    assert run("target", "list")[1].count("\n") == 2
    assert run("target", "remove", NAME)[0] == 0
    assert machine.targets() == ()
    assert (target.directory / "current" / "privkey.pem").is_file()


def test_state_is_private_from_birth(agent: FakeAgent, machine: Machine, run: Run) -> None:
    before = os.umask(0)
    try:
        run("enroll", stdin=agent.token(NAME))
    finally:
        os.umask(before)
    state = machine.settings.state_directory
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    modes = {one.name: stat.S_IMODE(one.stat().st_mode) for one in state.iterdir()}
    assert set(modes.values()) == {0o600}
    assert {"signing.key", "sealing.key", "enrolment.json"} <= set(modes)


def test_lost_answer_can_be_asked_again(agent: FakeAgent, machine: Machine, run: Run) -> None:
    token = agent.token(NAME)
    agent.lose_answers = 1
    code, _, error = run("enroll", stdin=token)
    assert code == 7
    assert "cannot be reached" in error
    assert len(agent.pullers) == 1
    assert run("enroll", stdin=token)[0] == 0
    assert len(agent.pullers) == 1


def test_second_token_adds_its_grants(agent: FakeAgent, machine: Machine, run: Run) -> None:
    run("enroll", stdin=agent.token(NAME))
    run("enroll", stdin=agent.token("app.example.org"))
    granted = machine.state.require_enrolment().granted
    assert [one.certificate for one in granted] == ["app.example.org", NAME]


def test_what_was_granted_since_gets_a_target(agent: FakeAgent, machine: Machine, run: Run) -> None:
    run("enroll", stdin=agent.token(NAME))
    refused = run("target", "add", "app.example.org")
    assert refused[0] == 4
    assert "external-agent puller grant" in refused[2]
    (puller,) = agent.pullers.values()
    agent.certificates["app.example.org"] = ("app.example.org",)
    puller.granted.add("app.example.org")
    assert run("target", "add", "app.example.org")[0] == 0
    assert [one.certificate for one in machine.targets()] == ["app.example.org"]
    agent.stop()
    code, _, error = run("target", "add", "wiki.example.org")
    assert code == 4
    assert "granted: www.intra.example.com. Whether there is more is not known" in error


OTHER = "app.example.org"


def contents(path: Path) -> dict[str, bytes]:
    return {str(one): one.read_bytes() for one in path.rglob("*") if one.is_file()}


def test_second_token_makes_targets_for_its_new_grants_only(
    agent: FakeAgent, machine: Machine, run: Run
) -> None:
    assert run("enroll", "--preset", "none", stdin=agent.token(NAME))[0] == 0
    run("target", "change", NAME, "--reload-command", "/bin/true", "--keep", "7", "--mode", "0600")
    [mine] = machine.targets()
    file = machine.settings.targets_file
    file.write_text(file.read_text().replace("keep = 7", "keep = 7  # room for a week"))
    before = file.read_bytes()
    code, out, _ = run("enroll", "--preset", "none", stdin=agent.token(NAME, OTHER))
    assert code == 0
    assert f"{NAME}: left as it is, with its target in {mine.directory}.\n" in out
    assert f"{OTHER} will be installed in" in out
    assert machine.targets()[0] == mine
    assert [one.certificate for one in machine.targets()] == [NAME, OTHER]
    assert file.read_bytes().startswith(before)


def test_what_was_granted_before_gets_no_target_by_another_token(
    agent: FakeAgent, machine: Machine, run: Run
) -> None:
    """It may have been taken away on purpose."""
    run("enroll", stdin=agent.token(NAME))
    code, out, _ = run("enroll", "--preset", "none", stdin=agent.token(NAME))
    assert code == 0
    assert f"{NAME}: no target was made, for it was granted before." in out
    assert f"internal-puller target add {NAME} --preset none\n" in out
    assert machine.targets() == ()


def test_a_place_that_is_taken_is_left_to_the_one_that_has_it(
    agent: FakeAgent, machine: Machine, run: Run
) -> None:
    run("enroll", stdin=agent.token(NAME))
    place = machine.base / "tls" / OTHER
    run("target", "add", NAME, "--directory", str(place))
    before = machine.settings.targets_file.read_bytes()
    code, out, _ = run("enroll", "--preset", "none", stdin=agent.token(OTHER))
    assert code == 0
    assert f"{OTHER}: no target was made, for {place} is the target of {NAME}." in out
    assert machine.settings.targets_file.read_bytes() == before


def test_enroll_advises_a_target_only_where_there_is_none(
    agent: FakeAgent, machine: Machine, run: Run
) -> None:
    run("enroll", "--preset", "none", stdin=agent.token(NAME))
    out = run("enroll", stdin=agent.token(NAME, OTHER))[1]
    assert f"Next: internal-puller target add {OTHER} --preset nginx\n" in out
    assert "target add" not in run("enroll", stdin=agent.token(NAME))[1]


def test_a_target_that_is_there_is_not_replaced(
    agent: FakeAgent, machine: Machine, run: Run
) -> None:
    run("enroll", stdin=agent.token(NAME, OTHER))
    assert run("target", "add", NAME, "--keep", "5")[0] == 0
    place = machine.base / "tls" / NAME
    before = contents(machine.base)
    for arguments in (
        (NAME, "--preset", "none"),
        (NAME, "--directory", f"{place}/"),
        (OTHER, "--directory", str(place)),
    ):
        code, out, error = run("target", "add", *arguments)
        assert (code, out) == (3, "")
        assert f"There is a target for {NAME} in {place} already." in error
        assert f"internal-puller target change {NAME} with" in error
        assert f"internal-puller target remove {NAME}." in error
    assert contents(machine.base) == before
    assert run("target", "add", NAME, "--directory", str(machine.base / "more"))[0] == 0
    code, _, error = run("target", "add", NAME)
    assert f"internal-puller target change {place} with" in error


def test_change_takes_what_add_takes() -> None:
    """A new option of one of the two cannot be forgotten at the other."""
    commands = {one.path: one for one in programs()["internal-puller"].walk()}
    add, change = (
        {flag: one for one in commands["target", verb].options for flag in one.flags}
        for verb in ("add", "change")
    )
    only_here = {"--add-name", "--remove-name", "--unset"}
    alike = {flag: one for flag, one in change.items() if flag not in only_here}
    assert alike == {flag: dataclasses.replace(one, default="") for flag, one in add.items()}
    flags = {flag.removeprefix("--") for flag in add if flag != "--help"}
    assert set(change["--unset"].choices) == flags - {"name", "directory"}
    # every member of a target is one of theirs, but what only its file has
    other = {"name": "names", "format": "formats", "root": "roots"}
    members = {other.get(flag, flag.replace("-", "_")) for flag in flags}
    assert members == {one.name for one in dataclasses.fields(Target)} - {
        "certificate",
        "command_timeout",
        "catalogue",
    }


CHANGES: dict[str, tuple[tuple[str, ...], str, object]] = {
    "name": (("--name", OTHER), "names", (OTHER,)),
    "preset": (
        ("--preset", "systemd", "--unit", "x.service", "--reload-command", "/bin/true"),
        "preset",
        "systemd",
    ),
    "server": (("--server", "web", "--reload-command", "/bin/true"), "server", "web"),
    "directory": (("--directory", "{base}/new"), "directory", "{base}/new"),
    "format": (("--format", "combined"), "formats", ("combined",)),
    "layout": (("--layout", "copy"), "layout", "copy"),
    "combined-order": (("--combined-order", "key-first"), "combined_order", "key-first"),
    "owner": (("--owner", "root"), "owner", "root"),
    "group": (("--group", "root"), "group", "root"),
    "mode": (("--mode", "0640"), "mode", 0o640),
    "key-mode": (("--key-mode", "0400"), "key_mode", 0o400),
    "test-command": (("--test-command", "/bin/true x"), "test_command", ("/bin/true", "x")),
    "no test": (("--test-command", ""), "test_command", ()),
    "reload-command": (("--reload-command", "/bin/true"), "reload_command", ("/bin/true",)),
    "probe": (
        ("--probe", "127.0.0.1:8443"),
        "probe",
        (ProbePoint("127.0.0.1", 8443, NAME),),
    ),
    "probe-timeout": (("--probe-timeout", "3"), "probe_timeout", 3.0),
    "root": (("--root", "{base}/root.pem"), "roots", "{base}/root.pem"),
    "keep": (("--keep", "9"), "keep", 9),
    "pkcs12-password-file": (
        ("--pkcs12-password-file", "{base}/password"),
        "pkcs12_password_file",
        "{base}/password",
    ),
    "pkcs12-algorithms": (
        ("--pkcs12-password-file", "{base}/password", "--pkcs12-algorithms", "legacy"),
        "pkcs12_algorithms",
        "legacy",
    ),
    "key-origin": (("--key-origin", "puller"), "key_origin", "puller"),
    "key-algorithm": (("--key-algorithm", "rsa-3072"), "key_algorithm", "rsa-3072"),
    "remote-directory": (
        ("--ssh", "root@[::1]:22", "--remote-directory", "/srv/x"),
        "remote_directory",
        "/srv/x",
    ),
    "ssh-key": (
        ("--ssh", "root@[::1]:22", "--ssh-key", "/k", "--ssh-known-hosts", "/h"),
        "ssh_key",
        "/k",
    ),
    "ssh-config": (("--ssh", "root@[::1]:22", "--ssh-config", "/c"), "ssh_config", "/c"),
}


def test_a_target_of_one_file_names_that_file(agent: FakeAgent, machine: Machine, run: Run) -> None:
    machine.enrol(agent)
    _, out, _ = run("target", "add", NAME, "--layout", "copy")
    [target] = machine.targets()
    assert f"{target.directory}/combined.pem holds the certificate and its key" in out
    assert "current" not in out
    code, _, error = run("target", "change", NAME, "--preset", "nginx", "--test-command", "")
    assert code == 3
    assert "the preset nginx opens certificate and key one after the other" in error
    assert machine.targets() == (target,)


@pytest.mark.parametrize("case", CHANGES)
def test_one_thing_is_changed_and_set_back(
    agent: FakeAgent, machine: Machine, run: Run, case: str
) -> None:
    machine.enrol(agent)
    (machine.base / "root.pem").write_bytes(agent.ca.root_pem)
    (machine.base / "password").write_text("secret\n")
    (machine.base / "password").chmod(0o600)
    run("target", "add", NAME)
    [before] = machine.targets()
    file = machine.settings.targets_file
    written = file.read_bytes()

    def there(text: str) -> str:
        return text.format(base=machine.base)

    arguments, member, value = CHANGES[case]
    code, out, error = run("target", "change", NAME, *map(there, arguments))
    assert (code, error) == (0, "")
    assert f"{member} " in out
    [after] = machine.targets()
    expected = Path(there(value)) if isinstance(value, str) and "/" in value else value
    assert getattr(after, member) == expected
    others = {"certificate", "names", "directory", "keep", "roots", "mode"} - {member}
    assert all(getattr(after, one) == getattr(before, one) for one in others)
    if case in ("name", "directory"):
        return
    options = [one.removeprefix("--") for one in arguments if one.startswith("--")]
    back = [word for option in options for word in ("--unset", option)]
    assert run("target", "change", NAME, *back)[0] == 0
    assert machine.targets() == (before,)
    assert file.read_bytes() == written, "not a blank line more"


def test_from_staging_to_production_as_the_readme_says(
    agent: FakeAgent, machine: Machine, run: Run
) -> None:
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text()
    section = readme.partition("### From staging to production")[2].partition("```")[2]
    [line] = [one for one in section.splitlines() if one.startswith("internal-puller target ")]
    root = machine.base / "root.pem"
    root.write_bytes(agent.ca.root_pem)
    assert NAME in line
    run("enroll", "--preset", "none", "--root", str(root), stdin=agent.token(NAME))
    run("target", "change", NAME, "--keep", "5")
    [staging] = machine.targets()
    assert staging.roots == root
    assert run(*shlex.split(line)[1:])[0] == 0
    assert machine.targets() == (dataclasses.replace(staging, roots=None),)


def test_a_change_that_changes_nothing_writes_nothing(
    agent: FakeAgent, machine: Machine, run: Run
) -> None:
    machine.enrol(agent)
    run("target", "add", NAME, "--keep", "5")
    before = machine.settings.targets_file.stat()
    code, out, _ = run("target", "change", NAME, "--keep", "5")
    assert (code, out) == (0, f"{NAME} in {machine.base / 'tls' / NAME}: no change\n")
    assert machine.settings.targets_file.stat().st_ino == before.st_ino


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--unset", "colour"), "none of preset, format, layout"),
        (("--unset", "name"), "none of preset, format, layout"),
        (("--unset", "keep", "--keep", "4"), "--keep and --unset keep exclude each other"),
        (("--name", OTHER, "--add-name", NAME), "--name gives all names"),
        (("--root", "/nonexistent.pem"), "/nonexistent.pem"),
        (("--reload-command", "/nonexistent/x"), "/nonexistent/x"),
        (("--directory", "{base}/other"), "Two targets have the directory"),
        (("--unset", "owner", "--preset", "systemd"), "the preset systemd needs unit"),
        (("--server", "web"), "server goes with test_command and reload_command"),
        (("--preset", "nginxx"), "There is no preset 'nginxx'; the nearest is 'nginx'."),
    ],
)
def test_a_change_that_is_refused_writes_nothing(
    agent: FakeAgent, machine: Machine, run: Run, options: tuple[str, ...], says: str
) -> None:
    machine.enrol(agent, NAME, OTHER)
    run("target", "add", NAME)
    run("target", "add", OTHER, "--directory", str(machine.base / "other"))
    before, names = contents(machine.base), files_under(machine.base)
    words = (one.format(base=machine.base) for one in options)
    code, _, error = run("target", "change", NAME, *words)
    assert code == 3
    assert says in error
    assert (contents(machine.base), files_under(machine.base)) == (before, names)


def test_a_target_moves_to_another_directory(agent: FakeAgent, machine: Machine, run: Run) -> None:
    machine.enrol(agent, NAME)
    root = machine.base / "root.pem"
    root.write_bytes(agent.ca.root_pem)
    run("target", "add", NAME, "--root", str(root))
    issued = agent.issue(NAME)
    run("pull")
    old, new = machine.base / "tls" / NAME, machine.base / "new"
    file = machine.settings.targets_file
    file.write_text(f"# ours\n{file.read_text()}# more\n")
    code, out, _ = run("target", "change", str(old), "--directory", str(new))
    assert code == 0
    assert f"The files in {old} stay.\n" in out
    assert f"{new}/current/fullchain.pem" in out
    assert file.read_text().count("[[target]]") == 1
    assert file.read_text().startswith("# ours\n") and "# more\n" in file.read_text()
    assert run("pull")[0] == 0
    assert machine.active() == issued.generation
    assert (old / "current" / "privkey.pem").is_file()


def test_a_copy_of_a_root_is_not_overwritten_by_another_targets(
    agent: FakeAgent, machine: Machine, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root installs the service, which sees no home directory: roots named there are copied."""
    monkeypatch.setattr(kept_file.os, "geteuid", lambda: 0)
    home = machine.base / "home"
    monkeypatch.setattr(kept_file, "is_unseen", lambda path: path.is_relative_to(home))
    home.mkdir()
    one, two = home / "one.pem", home / "two.pem"
    one.write_bytes(agent.ca.root_pem)
    two.write_bytes(agent.ca.root_pem + agent.ca.root_pem)
    machine.enrol(agent, NAME)
    more = str(machine.base / "more")
    assert run("target", "add", NAME, "--root", str(one))[0] == 0
    assert run("target", "add", NAME, "--directory", more, "--root", str(two))[0] == 0
    [first, second] = machine.targets()
    assert first.roots is not None and second.roots is not None
    assert first.roots.read_bytes() == one.read_bytes()
    assert second.roots.read_bytes() == two.read_bytes()
    assert run("target", "change", more, "--root", str(one))[0] == 0
    assert machine.targets()[1].roots == second.roots
    assert second.roots.read_bytes() == one.read_bytes()


def test_an_init_of_direct_mode_that_is_refused_writes_nothing(
    machine: Machine, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor the copies of the files that it names: those of the first init are in use."""
    monkeypatch.setattr(kept_file.os, "geteuid", lambda: 0)
    home = machine.base / "home"
    monkeypatch.setattr(kept_file, "is_unseen", lambda path: path.is_relative_to(home))
    home.mkdir()
    root = home / "root.pem"
    init = ("direct", "init", "--ca-root", str(root), "--agree-terms")
    root.write_text("first")
    assert run(*init)[0] == 0
    root.write_text("second")
    before = contents(machine.base)
    assert before[str(machine.base / "direct-ca-root.pem")] == b"first"
    code, _, error = run(*init)
    assert (code, "exists already" in error) == (3, True)
    assert contents(machine.base) == before


def test_token_from_a_file(agent: FakeAgent, machine: Machine, run: Run) -> None:
    path = machine.base / "token"
    path.write_text(agent.token(NAME) + "\n")
    assert run("enroll", "--token-file", str(path))[0] == 0


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (lambda token: "", 5, "not an enrolment token"),
        (lambda token: token[:-4], 5, "cut or mistyped"),
        (lambda token: token[:-3], 5, "enrolment token"),
        (lambda token: token.replace("shr1_", "shr2_"), 5, "does not begin with"),
        (lambda token: token[:20] + "A" + token[21:], 5, "cut or mistyped"),
    ],
)
def test_bad_token(
    agent: FakeAgent,
    machine: Machine,
    run: Run,
    change: Callable[[str], str],
    code: int,
    words: str,
) -> None:
    found, _, error = run("enroll", stdin=change(agent.token(NAME)))
    assert found == code
    assert words in error
    assert files_under(machine.base) == set()
    assert agent.requests == []


def test_expired_token(agent: FakeAgent, machine: Machine, run: Run) -> None:
    code, _, error = run("enroll", stdin=agent.token(NAME, lifetime=-10))
    assert (code, "expired" in error) == (5, True)
    assert files_under(machine.base) == set()


def test_used_token(agent: FakeAgent, machine: Machine, run: Run, tmp_path: Path) -> None:
    token = agent.token(NAME)
    first = Machine(tmp_path / "first")
    first.base.mkdir()
    from internal_puller.sources.agent.enrolment import enrol

    enrol(token, first.settings)
    code, _, error = run("enroll", stdin=token)
    assert code == 5
    assert "another one did" in error
    assert machine.state.enrolment() is None


def test_wrong_clock(agent: FakeAgent, machine: Machine, run: Run) -> None:
    token = agent.token(NAME)
    agent.clock = lambda: time.time() + 1000
    code, _, error = run("enroll", stdin=token)
    assert code == 7
    assert "chrony" in error


@pytest.mark.parametrize("off", [-31_536_000, -400, 400, 31_536_000])
def test_an_agent_whose_clock_differs(
    agent: FakeAgent, machine: Machine, run: Run, off: int
) -> None:
    """Said with the size of the difference; nothing is installed, and the floor stays."""
    run("enroll", stdin=agent.token(NAME))
    machine.target(agent)
    first = agent.issue(NAME)
    assert run("pull")[0] == 0
    floors = (machine.settings.state_directory / "floors.json").read_bytes()
    agent.issue(NAME)
    agent.clock = lambda: time.time() + off
    code, _, error = run("pull")
    assert (code, "chrony" in error) == (7, True)
    assert any(f"{off + late:+d} s" in error for late in (-1, 0, 1)), error
    assert machine.active() == first.generation
    assert (machine.settings.state_directory / "floors.json").read_bytes() == floors
    agent.clock = time.time
    assert run("pull")[0] == 0
    assert machine.active() != first.generation


def test_unknown_setting_names_the_nearest(
    machine: Machine, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = machine.base / "puller.toml"
    file.write_text("time_out = 3\n")
    code, _, error = run("--config", str(file), "pull")
    assert code == 3
    assert "'time_out'" in error
    assert "'timeout'" in error
    code, _, error = run("--config", str(file), "status")
    assert code == 3
    monkeypatch.setenv("RELAY_PULLER_PROXI", "none")
    code, _, error = run("pull")
    assert code == 3
    assert "'proxy'" in error


@pytest.mark.parametrize(
    "text",
    [
        "timeout = 'x'",
        "timeout = 0",
        "proxy = 'socks5://x'",
        "proxy = 'http://u:hunter2@'",
        "state_directory = 'relative'",
        "report_addresses = 1",
        "warn_below = 2",
        "= 1",
    ],
)
def test_wrong_settings(machine: Machine, run: Run, text: str) -> None:
    file = machine.base / "puller.toml"
    file.write_text(text)
    code, _, error = run("--config", str(file), "pull")
    assert code == 3
    assert "hunter2" not in error
    assert files_under(machine.base) == {"puller.toml"}


def test_missing_settings_file(machine: Machine, run: Run) -> None:
    assert run("--config", str(machine.base / "none.toml"), "pull")[0] == 3


def test_not_enrolled(machine: Machine, run: Run) -> None:
    for command in (("pull",), ("status",), ("rollback", NAME), ("target", "add", NAME)):
        code, _, error = run(*command)
        assert code == 3
        assert "internal-puller enroll" in error
    assert files_under(machine.base) == set()


@pytest.mark.parametrize("name", [".", "signing.key", "sealing.key", "floors.json"])
def test_loose_modes_are_refused(agent: FakeAgent, machine: Machine, run: Run, name: str) -> None:
    run("enroll", stdin=agent.token(NAME))
    machine.target(agent)
    agent.issue(NAME)
    run("pull")
    agent.issue(NAME)
    path = machine.settings.state_directory / name
    path.chmod(0o755 if name == "." else 0o644)
    before = machine.active()
    code, _, error = run("pull")
    assert code == 3
    assert "0600" in error
    assert machine.active() == before


def test_disk_full(
    agent: FakeAgent, machine: Machine, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("enroll", stdin=agent.token(NAME))
    machine.target(agent)
    issued = agent.issue(NAME)
    run("pull")
    agent.issue(NAME)

    def full(descriptor: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    code, _, error = run("pull")
    assert code == 3
    assert "No space left" in error
    monkeypatch.undo()
    assert machine.active() == issued.generation
    assert machine.pull().exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("app.example.org",), 4, "granted: www.intra.example.com"),
        (("not a name",), 4, "not granted"),
        ((NAME, "--preset", "nginxx"), 3, "There is no preset 'nginxx'; the nearest is 'nginx'."),
        ((NAME, "--preset", "none", "--preset", "systemd"), 3, "the preset none does not go with"),
        ((NAME, "--directory", "/dev/null"), 3, "/dev/null"),
        ((NAME, "--reload-command", "/nonexistent/x y"), 3, "/nonexistent/x"),
        ((NAME, "--reload-command", "echo 'open"), 3, "quotation"),
        ((NAME, "--mode", "999"), 3, "999"),
        ((NAME, "--probe", "1.2.3.4:5:6"), 3, "1.2.3.4:5:6"),
        ((NAME, "--probe", "127.0.0.1:99999"), 3, "99999"),
        ((NAME, "--owner", "nobody-of-this-name"), 3, "nobody-of-this-name"),
        ((NAME, "--root", "/nonexistent.pem"), 3, "/nonexistent.pem"),
        ((NAME, "--keep", "0"), 3, "keep"),
        ((NAME, "--key-origin", "heaven"), 3, "heaven"),
        ((NAME, "--format", "pkcs12"), 3, "pkcs12"),
    ],
)
def test_bad_target(
    agent: FakeAgent,
    machine: Machine,
    run: Run,
    arguments: tuple[str, ...],
    code: int,
    words: str,
) -> None:
    run("enroll", stdin=agent.token(NAME))
    before = files_under(machine.base)
    found, _, error = run("target", "add", *arguments)
    assert found == code
    assert words in error
    assert files_under(machine.base) == before


def test_probes_and_names_of_a_wildcard(agent: FakeAgent, machine: Machine, run: Run) -> None:
    agent.certificates["_wildcard.intra.example.com"] = ("*.intra.example.com",)
    run("enroll", stdin=agent.token("_wildcard.intra.example.com"))
    add = ("target", "add", NAME, "--probe", "[::1]:8443", "--probe", "127.0.0.1/app.example.org")
    assert run(*add)[0] == 0
    [target] = machine.targets()
    assert (target.certificate, target.names) == ("_wildcard.intra.example.com", (NAME,))
    assert target.probe is not None
    assert [(one.address, one.port, one.sni) for one in target.probe] == [
        ("::1", 8443, NAME),
        ("127.0.0.1", 443, "app.example.org"),
    ]
    assert run("target", "change", target.certificate, "--probe", "none")[0] == 0
    assert [one.probe for one in machine.targets()] == [()]


def test_verify_finds_a_swapped_key(agent: FakeAgent, machine: Machine, run: Run) -> None:
    run("enroll", stdin=agent.token(NAME))
    target = machine.target(agent)
    assert run("verify")[0] == 9
    agent.issue(NAME)
    run("pull")
    assert run("verify")[0] == 0
    from tests.authority import common_authority, new_key, pem_pair

    key = target.directory / "current" / "privkey.pem"
    key.write_bytes(pem_pair((), new_key()))
    assert common_authority()
    assert run("verify")[0] == 9


def test_usage(machine: Machine, run: Run) -> None:
    assert run("pull", "--nonsense")[0] == 2
    assert run("enroll", "shr1_token-on-the-command-line")[0] == 2
    code, out, _ = run("--help")
    assert code == 0
    assert "Exit codes" in out


def test_a_key_of_ones_own_and_the_way_back(agent: FakeAgent, machine: Machine, run: Run) -> None:
    agent.own_keys.add(NAME)
    root = machine.base / "root.pem"
    root.write_bytes(agent.ca.root_pem)
    run("enroll", stdin=agent.token(NAME) + "\n")
    run("target", "add", NAME, "--root", str(root), "--key-algorithm", "ec-p384")
    left = f"{NAME}: a CSR for the next generation was left with the agent\n"
    assert run("pull") == (0, left, "")
    assert run("pull") == (0, "", "")
    assert "waits for the agent to get a certificate for the CSR" in run("status")[1]
    agent.issue(NAME)
    code, out, _ = run("pull")
    assert code == 0
    assert out.endswith(left)
    assert machine.state.own_keys() == {NAME}
    facts = json.loads(run("status", "--json")[1])["certificates"][0]
    assert (facts["key_origin"], facts["pending_keys"], facts["waits_for"]) == ("puller", 2, "")

    agent.own_keys.clear()
    issued = agent.issue(NAME)
    command = f"internal-puller target change {NAME} --key-origin any"
    code, _, error = run("pull")
    assert code == 8
    assert command in error
    assert f"waits for a command here: {command}" in run("status")[1]
    code, out, _ = run("target", "change", NAME, "--key-origin", "any")
    assert code == 0
    assert f"{NAME}: the agent's keys are taken again." in out
    assert machine.state.own_keys() == set()
    assert run("pull")[0] == 0
    assert machine.active() == issued.generation
    assert "waits for" not in run("status")[1]
    facts = json.loads(run("status", "--json")[1])["certificates"][0]
    assert (facts["key_origin"], facts["pending_keys"]) == ("agent", 0)


def test_commands_keep_what_was_learned(agent: FakeAgent, machine: Machine, run: Run) -> None:
    agent.own_keys.add(NAME)
    root = machine.base / "root.pem"
    root.write_bytes(agent.ca.root_pem)
    run("enroll", stdin=agent.token(NAME) + "\n")
    add = ("target", "add", NAME, "--root", str(root))
    assert "Only keys made on this machine" not in run(*add)[1]
    run("pull")
    issued = agent.issue(NAME)
    run("pull")
    agent.own_keys.clear()
    agent.issue(NAME)
    for commands in (
        [("target", "change", NAME, "--key-algorithm", "ec-p384")],
        [("target", "change", NAME, "--key-origin", "puller")],
        [("target", "remove", NAME), ("pull",), add],
    ):
        out = [run(*command)[1] for command in commands][-1]
        assert run("pull")[0] == 8, commands
    assert f"internal-puller target change {NAME} --key-origin any" in out
    assert machine.active() == issued.generation


def test_a_revoked_machine_enrols_again_and_keeps_what_it_learned(
    agent: FakeAgent, machine: Machine, run: Run
) -> None:
    """As the advice says, letter by letter."""
    agent.own_keys.add(NAME)
    run("enroll", stdin=agent.token(NAME) + "\n")
    machine.target(agent)
    run("pull")
    agent.issue(NAME)
    run("pull")
    (revoked,) = agent.pullers
    agent.revoke(revoked)
    code, _, error = run("pull")
    assert code == 7
    assert "remove signing.key, sealing.key and enrolment.json from its state" in error
    for name in ("signing.key", "sealing.key", "enrolment.json"):
        (machine.settings.state_directory / name).unlink()
    floors = machine.state.floors()
    assert run("enroll", stdin=agent.token(NAME) + "\n")[0] == 0
    assert (machine.state.floors(), machine.state.own_keys()) == (floors, {NAME})
    assert run("pull")[0] == 0
    agent.own_keys.clear()
    agent.issue(NAME)
    assert run("pull")[0] == 8


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((), "nothing to change"),
        (("--key-origin", "agent"), "none of any, puller"),
        (("--key-algorithm", "ed25519"), "none of ec-p256"),
    ],
)
def test_a_change_that_is_none(
    agent: FakeAgent, machine: Machine, run: Run, options: tuple[str, ...], says: str
) -> None:
    machine.enrol(agent)
    machine.target(agent)
    code, _, error = run("target", "change", NAME, *options)
    assert code == 3
    assert says in error
    code, _, error = run("target", "change", "app.example.org", "--key-origin", "any")
    assert code == 3
    assert "There is no target" in error


def test_names_of_a_target_are_changed(agent: FakeAgent, machine: Machine, run: Run) -> None:
    machine.enrol(agent)
    machine.target(agent)
    assert run("target", "change", NAME, "--add-name", "bücher.example.org")[0] == 0
    idn = "xn--bcher-kva.example.org"
    assert machine.targets()[0].names == (NAME, idn)
    code, out, _ = run(
        *("target", "change", NAME, "--remove-name", idn, "--add-name", "app.example.org")
    )
    assert code == 0
    assert f"names {NAME}, app.example.org" in out
    assert machine.targets()[0].names == (NAME, "app.example.org")
    code, _, error = run("target", "change", NAME, "--remove-name", idn)
    assert code == 3
    assert f"{idn} is no name of the target" in error
    remove = ("--remove-name", NAME, "--remove-name", "app.example.org")
    code, _, error = run("target", "change", NAME, *remove)
    assert (code, "names is empty" in error) == (3, True)


def test_points_that_look_for_a_name_go_with_it(
    agent: FakeAgent, machine: Machine, run: Run
) -> None:
    machine.enrol(agent)
    root = machine.base / "root.pem"
    root.write_bytes(agent.ca.root_pem)
    names = ("--name", NAME, "--name", "app.example.org")
    points = ("--probe", "127.0.0.1:443", "--probe", "127.0.0.1:444/app.example.org")
    run("target", "add", NAME, "--root", str(root), *names, *points)
    code, _, error = run("target", "change", NAME, "--remove-name", NAME)
    assert (code, error) == (0, "")
    [point] = machine.targets()[0].probe or ()
    assert point.sni == "app.example.org"
    change = ("--remove-name", "app.example.org", "--add-name", NAME)
    code, _, error = run("target", "change", NAME, *change)
    assert code == 3
    assert "Nothing would be probed any more" in error


def test_a_target_that_is_removed_takes_its_pending_keys_along(
    agent: FakeAgent, machine: Machine, run: Run
) -> None:
    agent.own_keys.add(NAME)
    machine.enrol(agent)
    machine.target(agent)
    machine.pull()
    directory = machine.settings.state_directory / "pending" / NAME
    assert len(list(directory.iterdir())) == 1
    assert run("target", "remove", NAME)[0] == 0
    assert not directory.exists()


def test_a_token_that_is_no_text(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["internal-puller", "enroll"])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"shr1_\xff\n"), "utf-8"))
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 5
    assert "no text" in capsys.readouterr().err


OWN_PRESET = """title = "Gitea"
programs = []
units = []
test = ["true", "test"]
reload = ["true", "reload"]
without_systemd = ["true", "reload"]
restarts = false
patience = 5
formats = ["fullchain", "privkey"]
combined = []
probe = []
reads_as = ""

[hints]
any = ["CERT_FILE = {current}/fullchain.pem"]
"""


def test_a_preset_of_ones_own(agent: FakeAgent, machine: Machine, run: Run) -> None:
    """From the file in presets.d to the installed certificate; what is wrong in it is said."""
    machine.enrol(agent)
    (machine.base / "root.pem").write_bytes(agent.ca.root_pem)
    own = machine.settings.targets_file.parent / "presets.d"
    own.mkdir()
    add = ("target", "add", NAME, "--root", str(machine.base / "root.pem"), "--preset")
    for number, text in enumerate((OWN_PRESET, OWN_PRESET.replace("programs", "progams"))):
        (own / f"mine-{number}.toml").write_text(text)
    code, _, error = run(*add, "mine-1")
    assert code == 3
    assert f"{own}/mine-1.toml: unknown key 'progams'; the nearest is 'programs'." in error
    assert not machine.targets()
    assert "use one of" in run(*add, "mine-3")[2].lower()
    code, out, error = run(*add, "mine-0")
    assert (code, error) == (0, "")
    current = machine.base / "tls" / NAME / "current"
    assert f"Let Gitea use:\n    CERT_FILE = {current}/fullchain.pem\n" in out
    issued = agent.issue(NAME)
    assert run("pull")[0] == 0
    assert machine.active() == issued.generation
    assert {path.name for path in current.iterdir()} >= {"fullchain.pem", "privkey.pem"}
    assert not (current / "chain.pem").exists()
    code, out, _ = run("target", "change", NAME, "--preset", "mine-0", "--preset", "systemd")
    assert code == 3
    (own / "mine-0.toml").write_text(OWN_PRESET.replace("patience = 5", ""))
    code, _, error = run("pull")
    assert code == 3
    assert "mine-0.toml: patience is missing." in error
