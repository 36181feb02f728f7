"""The operator socket: root and the service's user, nobody else; the command line behind it."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import stat
import urllib.request
from pathlib import Path

import pytest

from external_agent.commands import client
from external_agent.facts.access import Role
from external_agent.operator import local_socket
from external_agent.operator.callers import user_name
from external_agent.operator.local_socket import listen, state_of, take_away
from external_agent.settings.config import Settings, settings_from
from shared.contract.errors import (
    ConfigurationError,
    PolicyError,
    PortUnavailable,
    StoreUnavailable,
    TransportError,
)
from tests.unit.external_agent.harness import CERTIFICATE, RunningAgent, running_agent, settings_in


def test_root_needs_no_token_and_is_named_in_the_trail(running: RunningAgent) -> None:
    path = running.settings.operator_socket
    found = path.stat()
    assert (stat.S_ISSOCK(found.st_mode), stat.S_IMODE(found.st_mode)) == (True, 0o600)
    with client.running_agent(path) as api:
        assert api is not None
        me = api.get("me")
        who = f"socket user {user_name(os.geteuid())}"
        assert (me["actor"], me["role"]) == (who, "admin")
        api.post("certificates", CERTIFICATE, "renew")
        assert running.store.latest_events(1)[0].actor == who
        with pytest.raises(PolicyError, match="There is no certificate 'nothing' here") as caught:
            api.get("certificates", "nothing")
        assert "external-agent status" in caught.value.explain()


def test_without_an_agent_the_same_api_is_asked_in_this_process(tmp_path: Path) -> None:
    with running_agent(tmp_path, CERTIFICATE) as running:
        store, settings = running.store, running.settings
        assert local_socket.answers(settings.operator_socket)
        api = client.own_api(settings, store, lambda: int(running.clock()))
        made = api.post("access-tokens", body={"name": "ci", "role": "operate"})
        assert made["role"] == Role.OPERATE
        assert store.latest_events(1)[0].actor == f"user {user_name(os.geteuid())}"
        token = api.post("enrolment-tokens", body={"certificates": [CERTIFICATE]})["token"]
        assert token.startswith("shr1_")
        assert [one["certificate"] for one in api.pages("certificates", limit=1)] == [CERTIFICATE]
    assert not settings.operator_socket.exists()  # it goes with its agent
    with client.running_agent(settings.operator_socket) as running_api:
        assert running_api is None


def test_a_stranger_is_refused(running: RunningAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_socket.os, "geteuid", lambda: 4242)
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        state = state_of(ours.fileno())
    if os.getuid() == 0:
        assert state == {"local_user": "root", "through_socket": True}
    else:
        assert state == {"stranger": True}
    monkeypatch.setattr(local_socket.struct, "Struct", None)
    monkeypatch.setattr(local_socket, "_CREDENTIALS", _Foreign())
    with client.running_agent(running.settings.operator_socket) as api:
        assert api is not None
        with pytest.raises(PolicyError, match="does not permit"):
            api.get("me")


class _Foreign:
    size = 12

    @staticmethod
    def unpack(raw: bytes) -> tuple[int, int, int]:
        return 1, 31337, 31337


def test_a_socket_left_behind_is_replaced_and_nothing_else_is(tmp_path: Path) -> None:
    path = tmp_path / ("d" * 150) / "operator.sock"  # longer than the kernel takes
    path.parent.mkdir()
    listen(path).close()  # as after a kill
    assert not local_socket.answers(path)
    with listen(path):
        assert local_socket.answers(path)
    take_away(path)
    assert not path.exists()
    path.write_text("somebody's notes")
    with pytest.raises(PortUnavailable, match=r"cannot be made: File exists"):
        listen(path)
    take_away(path)
    assert path.read_text() == "somebody's notes"
    shutil.rmtree(path.parent)
    with pytest.raises(PortUnavailable, match=r"No such file"):
        listen(path)
    assert not local_socket.answers(path)


def test_what_a_command_makes_of_an_answer() -> None:
    def kind(status: int, body: bytes) -> tuple[type, int]:
        error = client.error_of(status, body)
        return type(error), error.exit_code

    assert kind(502, b"<html>") == (TransportError, 7)
    assert kind(500, b'{"detail": 1}') != (TransportError, 0)
    assert kind(503, b'{"detail": "Locked.", "error": "store/unavailable"}') == (
        StoreUnavailable,
        11,
    )
    assert kind(404, b'{"detail": "Nothing."}') == (PolicyError, 4)
    said = client.error_of(
        422, b'{"detail": "x", "faults": [{"member": "until", "what": "too large"}]}'
    )
    assert said.explain() == "until: too large.\nNothing was changed."


def test_tls_is_needed_on_other_addresses_than_loopback(tmp_path: Path) -> None:
    state = tmp_path / "state"
    files = {
        "certificate_file": str(state / "relay-tls.pem"),
        "key_file": str(state / "relay-tls.key"),
    }

    def settings(**operator: object) -> Settings:
        return settings_from(
            {
                "state_directory": str(state),
                "acme": {"directory": "https://ca.example.com/directory"},
                "challenge": {"listen": ["127.0.0.1:0"]},
                "relay": {"url": "https://relay.example.com", "listen": ["127.0.0.1:0"]},
                "operator": operator,
            },
            source="the test",
        )

    with pytest.raises(ConfigurationError, match="not a loopback address"):
        settings(listen=["0.0.0.0:0"])
    with pytest.raises(ConfigurationError, match="go together"):
        settings(key_file=files["key_file"])
    with pytest.raises(ConfigurationError, match="is not a host name"):
        settings(allowed_hosts=["https://relay.example.com"])
    own = settings(listen=["0.0.0.0:0"], **files)
    with running_agent(tmp_path, CERTIFICATE, settings=own) as running:
        context = ssl.create_default_context(cafile=files["certificate_file"])
        context.check_hostname = False
        url = f"https://127.0.0.1:{running.port('operator')}/healthz"
        for _ in range(2):
            with urllib.request.urlopen(url, context=context, timeout=10) as answer:
                assert answer.read() == b"ok\n"
            running.agent.reload(own)


def test_who_listens_where(tmp_path: Path) -> None:
    assert settings_in(tmp_path).operator_socket == tmp_path / "operator.sock"
