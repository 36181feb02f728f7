"""Commands that are clients of the operator API: the same words with an agent and without."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from external_agent.operator.callers import user_name
from tests.cli.test_external_agent import (
    NAME,
    Terminal,
    agent,
    enrol,
    fresh,
    initialised,
)
from tests.unit.external_agent.harness import CERTIFICATE, RunningAgent, running_agent, settings_in

__all__ = ["agent", "fresh", "initialised"]
pytestmark = pytest.mark.lab
ME = user_name(os.geteuid())
OTHER = "other.example.com"
API_PAGE = Path(__file__).parents[2] / "docs" / "api.md"


def events(terminal: Terminal) -> list[tuple[str, str]]:
    return [(one["kind"], one["actor"]) for one in json.loads(terminal("events", "--json").out)]


def test_access_tokens(agent: Terminal) -> None:
    said = agent("access", "create", "prometheus")
    assert (said.code, said.out[:5]) == (0, "shra_")
    assert "role read, until" in said.err
    assert agent("access", "create", "ci", "--role", "operate", "--lifetime", "30d").code == 0
    again = agent("access", "create", "ci")
    assert (again.code, "named 'ci' already" in again.err) == (4, True)
    listed = json.loads(agent("access", "list", "--json").out)
    rows = sorted(listed, key=lambda one: one["role"], reverse=True)
    assert [(one["name"], one["role"]) for one in rows] == [
        ("prometheus", "read"),
        ("ci", "operate"),
    ]
    assert said.out.strip() not in agent("access", "list").out
    assert agent("access", "void", "ci").err == f"ci ({rows[1]['token_id']}) is void.\n"
    assert "voided" in agent("access", "list").out
    assert agent("access", "void", "ci").code == 4
    assert events(agent) == [
        ("access-created", f"user {ME}"),
        ("access-created", f"user {ME}"),
        ("access-voided", f"user {ME}"),
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("ci", "--role", "owner"), 3, "use one of read, operate, admin"),
        (("ci", "--lifetime", "400d"), 3, "lives 60 s to 366 days"),
        (("ci", "--lifetime", "soon"), 3, "write 90s, 30m, 1h or 7d"),
        (("",), 3, "no name of an access token"),
    ],
)
def test_access_tokens_that_are_refused(
    agent: Terminal, arguments: tuple[str, ...], code: int, words: str
) -> None:
    said = agent("access", "create", *arguments)
    assert (said.code, said.out) == (code, "")
    assert words in said.err
    assert events(agent) == []


def test_pausing(agent: Terminal) -> None:
    agent("add", NAME)
    assert "until it is resumed" in agent("pause", NAME).err
    said = agent("pause", NAME, "--for", "2d", "--reason", "the name moves")
    assert said.err.startswith(f"{NAME} is paused until 2")
    said = agent("renew", NAME)
    assert (said.code, "the name moves" in said.err) == (4, True)
    assert agent("resume", NAME).err == f"{NAME} is not paused.\n"
    assert agent("renew", NAME).code == 0
    assert agent("pause", "nothing").code == 4
    kinds = [kind for kind, _ in events(agent)]
    assert kinds[-4:] == [
        *("certificate-paused", "certificate-paused"),
        *("certificate-resumed", "renewal-requested"),
    ]


def test_grants(agent: Terminal) -> None:
    puller = enrol(agent, agent("add", NAME).out.strip())
    agent("add", OTHER)
    assert agent("puller", "grant", "web1", OTHER).code == 0
    (row,) = json.loads(agent("puller", "list", "--json").out)
    assert (row["id"], row["certificates"]) == (puller, [OTHER, NAME])
    assert agent("puller", "withdraw", puller[:8], OTHER).code == 0
    assert agent("puller", "suspend", "web1", "--reason", "its disk was stolen").code == 0
    (row,) = json.loads(agent("puller", "list", "--json").out)
    assert (row["status"], row["certificates"]) == ("suspended", [NAME])
    assert "active again" in agent("puller", "confirm", "web1").err


def test_saying_the_same_twice_changes_nothing(agent: Terminal) -> None:
    agent("add", NAME)
    assert "changed; a new" in agent("change", NAME, "--key-origin", "puller").err
    assert agent("change", NAME, "--key-origin", "puller").err == f"{NAME}: it is so already.\n"
    assert [kind for kind, _ in events(agent)].count("certificate-changed") == 1


@pytest.fixture
def served(fresh: Terminal) -> Iterator[RunningAgent]:
    """An agent that runs, and a settings file that leads to it."""
    with running_agent(fresh.directory, CERTIFICATE) as running:
        fresh.config.write_text(
            f'state_directory = "{running.settings.state_directory}"\n'
            '[acme]\ndirectory = "https://ca.example.com/directory"\nterms_agreed = true\n'
            f'[relay]\nurl = "{running.settings.relay.url}"\n'
        )
        yield running


def test_a_running_agent_is_asked(fresh: Terminal, served: RunningAgent) -> None:
    added = fresh("add", OTHER)
    assert (added.code, added.out[:5]) == (0, "shr1_")
    assert fresh("renew", CERTIFICATE).err == f"{CERTIFICATE}: a new generation is wanted.\n"
    assert {actor for _, actor in events(fresh)} == {"operator", f"socket user {ME}"}
    said = fresh("add", OTHER)
    assert (said.code, "already" in said.err) == (4, True)
    said = fresh("add", "printer.local")
    assert (said.code, "no public CA may sign" in said.err) == (4, True)
    said = fresh("remove", "nothing")
    assert said.code == 4
    assert f"Known ones: {OTHER}, {CERTIFICATE}" in said.err
    shown = json.loads(fresh("status", OTHER, "--json").out)
    assert [one["certificate"] for one in shown["certificates"]] == [OTHER]


def test_settings_that_the_agent_has_not_read_yet(fresh: Terminal, served: RunningAgent) -> None:
    text = fresh.config.read_text()
    fresh.config.write_text(text.replace("https://ca.", "https://new-ca."))
    said = fresh("add", OTHER)
    assert (said.code, "new-ca.example.com" in said.err) == (3, True)
    assert "reads its settings again on SIGHUP" in said.err


def test_the_curl_lines_of_the_page_work(served: RunningAgent, tmp_path: Path) -> None:
    served.enrolled(CERTIFICATE)
    page = API_PAGE.read_text().split("## Asking", 1)[1]
    block = re.search(r"```\n(.*?)```", page, re.DOTALL)
    assert block is not None
    script = re.sub(r"^TOKEN=.*$", "", block[1], flags=re.MULTILINE)
    script = script.replace("127.0.0.1:8080", f"127.0.0.1:{served.port('operator')}")
    script = script.replace("curl -s", "curl -s --fail-with-body").replace(
        "\napi -", "\necho; api -"
    )
    from external_agent.commands.client import running_agent as asked

    with asked(served.settings.operator_socket) as api:
        assert api is not None
        token = api.post("access-tokens", body={"name": "me", "role": "operate"})["token"]
    done = subprocess.run(
        ["bash", "-e", "-c", script],
        env={**os.environ, "TOKEN": token, "no_proxy": "*"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "shr1_" in done.stdout
    assert '"reason": "the name moves"' in done.stdout


def test_where_the_socket_is(tmp_path: Path) -> None:
    assert settings_in(tmp_path).operator_socket.name == "operator.sock"
