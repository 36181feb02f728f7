"""Transcripts of ``external-agent``: what a person types, reads, and gets as exit code."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from external_agent.cli import main
from external_agent.store.open import open_store
from shared.contract.enrolment_token import EnrolmentToken
from shared.contract.errors import StoreUnavailable
from shared.contract.sealing import Identity
from shared.contract.signing import SigningKey

pytestmark = pytest.mark.lab

NAME = "www.intra.example.com"


@dataclass
class Said:
    """One finished command."""

    code: int
    out: str
    err: str


class Terminal:
    """Types commands; nothing outside its directory is touched."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.directory = directory
        self.config = directory / "agent.toml"
        self.state = directory / "state"
        self._capsys = capsys

    def __call__(self, *arguments: str) -> Said:
        self._capsys.readouterr()
        try:
            main(["--config", str(self.config), *arguments])
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        captured = self._capsys.readouterr()
        return Said(code, captured.out, captured.err)

    def init(self, *more: str, agree: bool = True) -> Said:
        return self(
            "init",
            *("--contact", "mailto:ops@example.com"),
            *("--relay-url", "https://relay.example.com:8443"),
            *("--state-directory", str(self.state)),
            *(("--agree-terms",) if agree else ()),
            *more,
        )

    def files(self) -> list[str]:
        return sorted(str(p.relative_to(self.directory)) for p in self.directory.rglob("*"))


@pytest.fixture
def fresh(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(tmp_path, capsys)


@pytest.fixture(scope="session")
def initialised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An agent that ``init`` has just made, for tests of the other commands."""
    directory = tmp_path_factory.mktemp("initialised")
    options = ("--contact", "mailto:ops@example.com", "--agree-terms")
    places = ("--state-directory", str(directory / "state"))
    url = ("--relay-url", "https://relay.example.com:8443")
    with pytest.raises(SystemExit) as ended:
        main(["--config", str(directory / "agent.toml"), "init", *options, *places, *url])
    assert ended.value.code == 0
    return directory


@pytest.fixture
def agent(fresh: Terminal, initialised: Path) -> Terminal:
    shutil.copytree(initialised, fresh.directory, dirs_exist_ok=True)
    text = fresh.config.read_text()
    fresh.config.write_text(text.replace(str(initialised), str(fresh.directory)))
    return fresh


def enrol(agent: Terminal, token: str, host: str = "web1") -> str:
    decoded = EnrolmentToken.decode(token, now=time.time())
    signing, sealing = SigningKey.generate(), Identity.generate()
    store = open_store(f"sqlite:///{agent.state / 'relay.db'}")
    try:
        now = int(time.time())
        store.redeem_token(
            decoded.key.id,
            signing_key=signing.public.public,
            sealing_key=sealing.recipient.public,
            host=host,
            nonce=os.urandom(11).hex(),
            now=now,
        )
    finally:
        store.close()
    return signing.id


# --- init ------------------------------------------------------------------------------------


def test_init_makes_a_working_agent(fresh: Terminal) -> None:
    said = fresh.init()
    assert (said.code, said.out) == (0, "")
    assert "external-agent add www.intra.example.com" in said.err
    assert fresh.files() == [
        "agent.toml",
        "state",
        "state/account.key",
        "state/agent-signing.key",
        "state/relay-tls.key",
        "state/relay-tls.pem",
        "state/relay.db",
    ]
    for path in fresh.directory.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
    assert fresh.config.read_text().count("#") > 15
    assert fresh("status").code == 0


@pytest.mark.parametrize(
    ("ca", "url"),
    [
        ("letsencrypt", "https://acme-v02.api.letsencrypt.org/directory"),
        ("letsencrypt-staging", "https://acme-staging-v02.api.letsencrypt.org/directory"),
        ("https://ca.example.com/dir", "https://ca.example.com/dir"),
    ],
)
def test_init_knows_the_ca(fresh: Terminal, ca: str, url: str) -> None:
    assert fresh.init("--ca", ca).code == 0
    assert f'directory = "{url}"' in fresh.config.read_text()


def test_init_wants_the_terms_agreed_to(fresh: Terminal) -> None:
    said = fresh.init(agree=False)
    assert said.code == 3
    assert "terms of service" in said.err
    assert "--agree-terms" in said.err
    assert fresh.files() == []


@pytest.mark.parametrize(("typed", "code"), [("y", 0), ("", 3)])
def test_init_asks_a_person_for_the_terms(tmp_path: Path, typed: str, code: int) -> None:
    config, state = tmp_path / "agent.toml", tmp_path / "state"
    person, terminal = pty.openpty()
    command = [sys.executable, "-m", "external_agent", "--config", str(config), "init"]
    command += ["--relay-url", "https://relay.example.com:8443", "--state-directory", str(state)]
    with subprocess.Popen(
        command,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        cwd=Path(__file__).resolve().parents[2],
    ) as process:
        os.close(terminal)
        said = b""
        while b"[y/N]" not in said:
            said += os.read(person, 1000)
        os.write(person, typed.encode() + b"\n")
        with contextlib.suppress(OSError):  # EIO: the other end is closed
            while piece := os.read(person, 1000):
                said += piece
        assert process.wait(60) == code
    os.close(person)
    assert b"Do you agree to the terms of service of the CA at https://acme-v02." in said
    assert b"Traceback" not in said
    assert (config.exists(), state.exists()) == (code == 0, code == 0)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--contact", "ops@example.com"), "mailto:ops@example.com"),
        (("--contact", "mailto:ops@example.com\r\nX: y"), "is not a contact"),
        (("--relay-url", "http://relay.example.com"), "is not an https origin"),
        (("--relay-url", "https://relay.example.com/path"), "leave out path"),
        (("--ca", "letsencypt"), "Known ones: letsencrypt"),
        (("--ca", "http://ca.example.com/"), "neither a known CA nor an https URL"),
        (("--ca-root", "/nowhere/root.pem"), "There is no file"),
        (("--challenge-listen", "port 80"), "is not an address to listen on"),
        (("--relay-listen", "[::]"), "is not an address to listen on"),
        (("--operator-listen", "0.0.0.0:8080"), "not a loopback address"),
        (("--eab-key-id", "kid"), "go together"),
    ],
)
def test_init_refuses_bad_input_and_writes_nothing(
    fresh: Terminal, more: tuple[str, str], words: str
) -> None:
    said = fresh.init(*more)
    assert said.code == 3, said.err
    assert words in said.err
    assert "Traceback" not in said.err
    assert fresh.files() == []


def test_init_never_replaces_an_agent(agent: Terminal) -> None:
    before = {p: p.read_bytes() for p in agent.directory.rglob("*") if p.is_file()}
    said = agent.init()
    assert (said.code, "exists already" in said.err) == (3, True)
    agent.config.rename(agent.directory / "other.toml")
    said = agent.init()
    assert (said.code, "holds the keys of an agent already" in said.err) == (3, True)
    (agent.directory / "other.toml").rename(agent.config)
    assert {p: p.read_bytes() for p in agent.directory.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("step", ["settings.keys.generate_account_key", "store.open.open_store"])
def test_an_init_that_fails_leaves_nothing_in_the_way(
    fresh: Terminal, monkeypatch: pytest.MonkeyPatch, there: bool, step: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise StoreUnavailable("The disk is full.")

    if there:
        fresh.state.mkdir(mode=0o700)
        (fresh.state / "notes").write_text("an operator's own")
    before = fresh.files()
    with monkeypatch.context() as patch:
        patch.setattr(f"external_agent.{step}", fail)
        assert fresh.init().code == 11
    assert fresh.files() == before
    assert fresh.init().code == 0


def test_an_init_that_was_killed_says_what_to_remove(fresh: Terminal) -> None:
    assert fresh.init().code == 0
    fresh.config.unlink()
    said = fresh.init()
    assert said.code == 3
    words = said.err.replace("\n", " ")
    keys = [fresh.state / name for name in ("agent-signing.key", "relay-tls.pem")]
    assert all(str(path) in words for path in keys), said.err
    for path in fresh.state.glob("*.*"):
        if path.suffix in (".key", ".pem"):
            path.unlink()
    assert fresh.init().code == 0


def test_init_refuses_a_state_directory_that_others_can_enter(fresh: Terminal) -> None:
    fresh.state.mkdir(mode=0o755)
    said = fresh.init()
    assert said.code == 3
    assert "mode 0755" in said.err
    assert fresh.files() == ["state"]


# --- settings --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "unknown", "nearest"),
    [
        ('state_dirctory = "/x"', "state_dirctory", "state_directory"),
        ("[chalenge]\nlisten = []", "chalenge", "challenge.listen"),
        ("[acme.profiles]", "acme.profiles", "acme.profile"),
    ],
)
def test_an_unknown_setting_names_the_nearest(
    agent: Terminal, line: str, unknown: str, nearest: str
) -> None:
    text = agent.config.read_text()
    if line.startswith("state"):
        agent.config.write_text(f"{line}\n{text}")
    else:
        agent.config.write_text(f"{text}\n{line}\n")
    said = agent("status")
    assert said.code == 3
    assert f"Unknown setting '{unknown}'" in said.err
    assert f"'{nearest}'" in said.err


def test_the_environment_wins_and_its_unknown_names_are_errors(
    agent: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RELAY_AGENT_LOG__LEVEL", "loud")
    said = agent("status")
    assert said.code == 3
    assert "'log.level'" in said.err
    monkeypatch.setenv("RELAY_AGENT_LOG__LEVEL", "debug")
    assert agent("status").code == 0
    monkeypatch.setenv("RELAY_AGENT_LOG__LEVLE", "debug")
    said = agent("status")
    assert said.code == 3
    assert "'log.level'" in said.err


@pytest.mark.parametrize("text", ["= 3", "\xff", "[relay]\nurl = 1"])
def test_settings_that_do_not_parse(agent: Terminal, text: str) -> None:
    agent.config.write_text(text, encoding="latin-1")
    said = agent("status")
    assert said.code == 3
    assert str(agent.config) in said.err
    assert "Traceback" not in said.err


def test_without_settings_init_is_named(fresh: Terminal) -> None:
    said = fresh("status")
    assert said.code == 3
    assert "external-agent init" in said.err


@pytest.mark.parametrize("loose", ["state", "state/agent-signing.key", "state/account.key"])
def test_loose_modes_are_refused(agent: Terminal, loose: str) -> None:
    path = agent.directory / loose
    path.chmod(0o755 if path.is_dir() else 0o644)
    said = agent("add", NAME)
    assert said.code == 3
    assert "so others can reach it" in said.err
    assert "0600" in said.err
    path.chmod(0o700 if path.is_dir() else 0o600)
    assert "No certificate" in agent("status").out


# --- add, token, renew, remove ---------------------------------------------------------------


def test_add_prints_a_token_and_the_next_line_to_type(agent: Terminal) -> None:
    said = agent("add", NAME)
    assert said.code == 0
    assert said.out.count("\n") == 1  # the token only, so that it can be piped
    token = EnrolmentToken.decode(said.out, now=time.time())
    assert token.relay_url == "https://relay.example.com:8443"
    assert "internal-puller enroll" in said.err
    assert said.out.strip() not in said.err


def test_the_note_on_ct_logs_comes_once_before_the_first_order(agent: Terminal) -> None:
    note = "the name will show in public CT logs; a wildcard by a DNS challenge hides the host"
    assert note in agent("add", NAME).err
    assert note not in agent("add", "app.example.org").err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("server.local",), 4, "which no public CA may sign"),
        (("intranet",), 4, "has no domain"),
        (("192.0.2.1",), 4, "is an IP address"),
        (("../etc/passwd",), 4, "is not a DNS name"),
        (("www.example.com\r\nX: y",), 4, "is not a DNS name"),
        (("*.intra.example.com",), 4, "cannot be validated by http-01"),
        ((NAME, "--id", "../x"), 4, "is not a certificate id"),
        ((NAME, "--key-algorithm", "rsa-1024"), 3, "is no key algorithm: use one of"),
        ((NAME, "--key-origin", "nobody"), 3, "is no key origin: use one of"),
        ((NAME, "--challenge", "tls-alpn-01"), 4, "is no challenge type"),
        ((NAME, "--challenge", "dns-01"), 3, "no way to write DNS records"),
        ((NAME, "--lifetime", "2d"), 3, "write 90s, 30m or 1h"),
        ((NAME, "--lifetime", "25h"), 3, "lives 60 s to 24 h"),
    ],
)
def test_add_refuses_bad_input_and_writes_nothing(
    agent: Terminal, arguments: tuple[str, ...], code: int, words: str
) -> None:
    said = agent("add", *arguments)
    assert (said.code, said.out) == (code, "")
    assert words in said.err
    assert "Traceback" not in said.err
    assert "No certificate" in agent("status").out


def test_add_twice_is_refused(agent: Terminal) -> None:
    assert agent("add", NAME).code == 0
    said = agent("add", NAME)
    assert (said.code, said.out) == (4, "")


def test_a_wildcard_has_an_id_that_fits_in_a_path(
    agent: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RELAY_AGENT_DNS01__HOOK__COMMAND", '["/bin/true"]')
    assert agent("add", "*.intra.example.com", "--challenge", "dns-01").code == 0
    assert "_wildcard.intra.example.com" in agent("status").out
    assert agent("token", "*.intra.example.com").code == 0


def test_dns_01_without_a_way_to_write_records_is_refused_at_once(agent: Terminal) -> None:
    said = agent("add", NAME, "--challenge", "dns-01")
    assert (said.code, said.out) == (3, "")
    assert "no way to write DNS records is configured" in said.err
    assert "[dns01.rfc2136]" in said.err
    assert "No certificate" in agent("status").out


def test_dns_01_with_a_key_that_others_may_read_is_refused_at_once(agent: Terminal) -> None:
    key = agent.directory / "tsig.key"
    key.write_text('key "relay" { algorithm hmac-sha256; secret "c2VjcmV0IHNlY3JldCBzZWNyZXQ="; };')
    key.chmod(0o644)
    with agent.config.open("a") as file:
        file.write(f'[dns01.rfc2136]\nserver = "192.0.2.53"\nkey_file = "{key}"\n')
    said = agent("add", "*.intra.example.com", "--challenge", "dns-01")
    assert (said.code, said.out) == (3, "")
    assert "has mode 0644, so others can reach it" in said.err
    key.chmod(0o600)
    assert agent("add", "*.intra.example.com", "--challenge", "dns-01").code == 0


def test_a_wildcard_with_http_01_is_told_which_challenges_can(agent: Terminal) -> None:
    assert "--challenge dns-01 or dns-persist-01" in agent("add", "*.intra.example.com").err


def test_token_gives_another_one(agent: Terminal) -> None:
    first = agent("add", NAME).out
    said = agent("token", NAME, "--lifetime", "30m")
    assert said.code == 0
    assert said.out.startswith("shr1_")
    assert said.out != first
    assert "30 min" in said.err


@pytest.mark.parametrize("command", ["token", "renew", "remove", "status"])
def test_an_unknown_certificate_is_named(agent: Terminal, command: str) -> None:
    agent("add", NAME)
    said = agent(command, "app.example.org")
    assert (said.code, said.out) == (4, "")
    assert f"Known ones: {NAME}" in said.err


def test_renew_wants_a_new_generation(agent: Terminal) -> None:
    agent("add", NAME)
    assert agent("renew", NAME).code == 0
    view = json.loads(agent("status", "--json").out)
    assert view["certificates"][0]["next_renewal"]["why"] == "an operator asked for it"


def test_remove_takes_it_away(agent: Terminal) -> None:
    agent("add", NAME)
    assert agent("remove", NAME).code == 0
    assert "No certificate" in agent("status").out


# --- status, puller, events ------------------------------------------------------------------


def test_status_tells_the_facts_apart(agent: Terminal) -> None:
    token = agent("add", NAME).out
    before = agent("status").out
    assert before.startswith(f"{NAME}: wanted\n")
    assert "nothing yet" in before
    assert "none is enrolled" in before
    enrol(agent, token)
    after = agent("status", NAME).out
    for words in ("issued", "pulled", "installed", "served", "next renewal", "last error", "web1"):
        assert words in after
    (one,) = json.loads(agent("status", "--json").out)["certificates"]
    (puller,) = one["pullers"]
    assert puller["pulled"]["generation"] == puller["installed"]["generation"] == 0
    assert puller["served"]["matches"] is None


def test_pullers_are_listed_revoked_and_confirmed(agent: Terminal) -> None:
    token = agent("add", NAME).out
    puller = enrol(agent, token, host="web1")
    with pytest.raises(Exception, match="used"):
        enrol(agent, token, host="thief")
    assert "suspended" in agent("puller", "list").out
    assert agent("puller", "confirm", puller[:8]).code == 0
    (row,) = json.loads(agent("puller", "list", "--json").out)
    assert (row["id"], row["status"], row["certificates"]) == (puller, "active", [NAME])
    assert agent("puller", "revoke", "web1").code == 0
    assert "revoked" in agent("puller", "list").out
    assert agent("puller", "confirm", "web1").code == 4


def test_a_host_name_cannot_steer_the_terminal(agent: Terminal) -> None:
    enrol(agent, agent("add", NAME).out, host="\x1b[2J\x9b\nevil\tcolumn\u202e")
    for command in (("puller", "list"), ("puller", "list", "--json"), ("status",), ("events",)):
        out = agent(*command).out
        assert "evil" in out
        for character in "\x1b\x9b\u202e":
            assert character not in out, command


@pytest.mark.parametrize("command", ["revoke", "confirm"])
def test_an_unknown_puller_is_named(agent: Terminal, command: str) -> None:
    said = agent("puller", command, "nobody")
    assert (said.code, said.out) == (4, "")
    assert "external-agent puller list" in said.err


def test_events_tell_what_happened(agent: Terminal) -> None:
    token = agent("add", NAME).out
    enrol(agent, token)
    said = agent("events", "verify")
    assert said.code == 0
    assert "The audit trail is whole." in said.err
    end = said.out.strip()
    assert re.fullmatch(r"[0-9]+:[0-9a-f]{64}", end)
    said = agent("events")
    for kind in ("certificate-added", "token-created", "puller-enrolled"):
        assert kind in said.out
    rows = json.loads(agent("events", "--json", "--limit", "1").out)
    assert [row["kind"] for row in rows] == [rows[0]["kind"]]
    assert token.strip() not in said.out


def test_a_changed_trail_is_noticed(agent: Terminal) -> None:
    import sqlite3

    agent("add", NAME)
    with sqlite3.connect(agent.state / "relay.db") as database:
        database.execute("UPDATE events SET actor = 'nobody' WHERE seq = 1")
    database.close()
    said = agent("events", "verify")
    assert (said.code, said.out) == (11, "")
    assert "entry 1" in said.err


def test_an_end_noted_down_shows_a_chain_written_anew(agent: Terminal) -> None:
    agent("add", NAME)
    end = agent("events", "verify").out.strip()
    agent("add", "other.example.com")
    assert agent("events", "verify", "--known", end).code == 0
    number, _, _ = end.partition(":")
    said = agent("events", "verify", "--known", f"{number}:{'0' * 64}")
    assert (said.code, "known one" in said.err) == (11, True)
    assert agent("events", "verify", "--known", "nonsense").code == 3


def test_an_export_can_be_checked_elsewhere(agent: Terminal, tmp_path: Path) -> None:
    agent("add", NAME)
    agent("add", "other.example.com")
    end = agent("events", "verify").out
    file = tmp_path / "trail.jsonl"
    file.write_text(agent("events", "export").out)
    assert agent("events", "verify", "--file", str(file)).out == end
    file.write_text(agent("events", "export", "--after", "1").out)
    assert agent("events", "verify", "--file", str(file), "--known", end.strip()).code == 0
    file.write_text(file.read_text().replace('"user ', '"not ', 1))
    said = agent("events", "verify", "--file", str(file))
    assert (said.code, "entry 2" in said.err) == (11, True)
    for nonsense in ("", "[]\n", "{}\n", "no json\n", "[1,2]\n"):
        file.write_text(nonsense)
        assert agent("events", "verify", "--file", str(file)).code == 3


@pytest.mark.parametrize("arguments", [(), ("--help",), ("puller",), ("unknown",), ("add",)])
def test_usage_errors_are_2_and_help_is_0(fresh: Terminal, arguments: tuple[str, ...]) -> None:
    assert fresh(*arguments).code == (0 if "--help" in arguments else 2)


# --- serve -----------------------------------------------------------------------------------


def serving(agent: Terminal) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "external_agent", "--config", str(agent.config), "serve"],
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
    )


def lines_until(process: subprocess.Popen[str], words: str) -> list[str]:
    assert process.stderr is not None
    found = []
    for line in process.stderr:
        found.append(line)
        if words in line:
            return found
    raise AssertionError("".join(found))


@pytest.fixture
def local(fresh: Terminal) -> Callable[[int], Terminal]:
    def make(port: int) -> Terminal:
        said = fresh.init(
            *("--challenge-listen", f"127.0.0.1:{port}"),
            *("--relay-listen", "127.0.0.1:0"),
            *("--operator-listen", "127.0.0.1:0"),
            *("--ca", "https://localhost:1/directory"),
        )
        assert said.code == 0, said.err
        return fresh

    return make


def test_serve_listens_reloads_and_stops(local: Callable[[int], Terminal]) -> None:
    agent = local(0)
    with serving(agent) as process:
        try:
            (line,) = [one for one in lines_until(process, '"listening"') if '"listening"' in one]
            assert json.loads(line)["challenge"][0].startswith("127.0.0.1:")
            text = agent.config.read_text()
            agent.config.write_text(text.replace('# level = "info"', 'level = "debug"'))
            process.send_signal(signal.SIGHUP)
            lines_until(process, "settings reloaded")
            agent.config.write_text("nonsense")
            process.send_signal(signal.SIGHUP)
            lines_until(process, "settings were not reloaded")
            process.send_signal(signal.SIGTERM)
            lines_until(process, '"stopped"')
            assert process.wait(30) == 0
        finally:
            process.kill()


def test_serve_names_a_port_in_use(local: Callable[[int], Terminal]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        agent = local(port)
        before = agent.files()
        with serving(agent) as process:
            _, err = process.communicate(timeout=60)
    assert process.returncode == 3
    assert f"The challenge listener cannot bind 127.0.0.1:{port}: Address already in use." in err
    assert "Traceback" not in err
    assert agent.files() == before


def test_serve_takes_its_socket_from_systemd(local: Callable[[int], Terminal]) -> None:
    agent = local(1)  # would not be bound without a privilege, and never by this test
    with socket.create_server(("127.0.0.1", 0)) as passed:
        port = passed.getsockname()[1]
        script = (
            f"import os; os.dup2({passed.fileno()}, 3);"
            "os.environ['LISTEN_PID'] = str(os.getpid());"
            "from external_agent.cli import main;"
            f"main(['--config', {str(agent.config)!r}, 'serve'])"
        )
        with subprocess.Popen(
            [sys.executable, "-c", script],
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=(passed.fileno(),),
            env={**os.environ, "LISTEN_FDS": "1", "LISTEN_FDNAMES": "challenge"},
            cwd=Path(__file__).resolve().parents[2],
        ) as process:
            try:
                (line,) = [x for x in lines_until(process, '"listening"') if '"listening"' in x]
                assert json.loads(line)["challenge"] == [f"127.0.0.1:{port}"]
                with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
                    client.sendall(b"GET / HTTP/1.1\r\n\r\n")
                    assert client.recv(100).startswith(b"HTTP/1.1 404")
            finally:
                process.terminate()
                process.wait(30)


def test_who_makes_the_key_is_changed(agent: Terminal) -> None:
    agent("add", NAME)
    said = agent("change", NAME, "--key-origin", "puller")
    assert said.code == 0
    assert "leaves a CSR" in said.err
    status = agent("status").out
    assert "key made by the puller, http-01" in status
    assert "next CSR      not here yet" in status
    said = agent("change", NAME, "--key-origin", "agent")
    assert f"internal-puller target change {NAME} --key-origin any" in said.err
    for arguments, says in (
        (("change", NAME), "nothing to change"),
        (("change", NAME, "--key-origin", "me"), "me"),
        (("change", "app.example.org", "--key-origin", "puller"), "There is no certificate"),
    ):
        said = agent(*arguments)
        assert said.code in (2, 3, 4)
        assert says in said.err
    kinds = [event["kind"] for event in json.loads(agent("events", "--json").out)]
    assert kinds.count("certificate-changed") == 2


TOO_LONG = "/" + "a" * 300
NO_TEXT = "\udcff"


@pytest.mark.parametrize(
    "options",
    [("--ca", "https://[bad"), ("--ca-root", TOO_LONG), ("--state-directory", TOO_LONG)],
    ids=lambda options: options[0],
)
def test_what_can_be_no_path_or_address_is_said_without_a_traceback(
    fresh: Terminal, options: tuple[str, ...]
) -> None:
    said = fresh.init(*options)
    assert said.code == 3
    assert fresh.files() == []


def test_a_settings_file_whose_name_is_too_long(fresh: Terminal) -> None:
    fresh.config = fresh.directory / TOO_LONG[1:]
    assert fresh.init().code == 3


@pytest.mark.parametrize(
    "variables",
    [
        {"RELAY_AGENT_ACME__CONTACT": "mailto:ops@example.com"},
        {"RELAY_AGENT_RELAY": "x"},
        {"RELAY_AGENT_RELAY": "x", "RELAY_AGENT_RELAY__URL": "https://relay.example.com"},
    ],
    ids="+".join,
)
def test_what_is_wrong_in_the_environment_is_said_without_a_traceback(
    fresh: Terminal, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fresh.init().code == 0
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    said = fresh("status")
    assert said.code == 3
    assert "environment" in said.err or "relay" in said.err


def test_a_profile_that_is_no_text(fresh: Terminal) -> None:
    assert fresh.init().code == 0
    assert fresh("add", "www.intra.example.com", "--profile", NO_TEXT).code == 3
