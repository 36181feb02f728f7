"""The four answers, each of a server that gives it."""

from __future__ import annotations

import errno
import re
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from internal_puller.install.probe import (
    handshake,
    kind_in_place,
    kinds,
    look,
    look_all,
    looking,
    probe_target,
)
from internal_puller.outbox.look import Answer, Look, Trouble, matches, shows
from internal_puller.settings.probe_point import ProbePoint
from internal_puller.settings.targets import Target
from tests.unit.internal_puller.install.helpers import material, put
from tests.unit.internal_puller.install.probe.fakes import (
    NAME,
    Serve,
    context,
    mixed_pair,
    pair,
    records,
    server,
    sha256,
    silent,
    tls,
    without_renegotiation_info,
)

LIMIT = 20.0
ROOT = Path(__file__).parents[5]


def seen(serve: Serve, timeout: float = LIMIT, kind: str | None = None) -> Look:
    with server(serve) as point:
        (one,) = look(point, timeout, kind)
    return one


def until(version: ssl.TLSVersion, made: ssl.SSLContext) -> ssl.SSLContext:
    made.minimum_version = made.maximum_version = version
    return made


VERSIONS = pytest.mark.parametrize(
    "version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"]
)


# --- proven, shown -----------------------------------------------------------------------------


@VERSIONS
@pytest.mark.parametrize("kind", ["ecdsa", "rsa"])
def test_proven_is_a_leaf_and_its_key(tmp_path: Path, kind: str, version: ssl.TLSVersion) -> None:
    ours = pair(tmp_path, kind)
    one = seen(tls(until(version, context(ours))))
    assert (one.answer, one.leaf_sha256, one.why) == (Answer.PROVEN, sha256(ours), "")
    assert one.trouble is None and one.not_after is not None and one.not_after > time.time()


@VERSIONS
def test_client_certificate_is_not_asked_of_a_look(tmp_path: Path, version: ssl.TLSVersion) -> None:
    ours = pair(tmp_path)
    made = until(version, context(ours))
    made.verify_mode = ssl.CERT_REQUIRED
    one = seen(tls(made))
    assert (one.answer, one.leaf_sha256, one.trouble) == (Answer.PROVEN, sha256(ours), None)


def test_client_certificate_where_nothing_is_signed_before(tmp_path: Path) -> None:
    """With RSA key exchange only the end of the handshake proves the key."""
    ours = pair(tmp_path, "rsa")
    made = until(ssl.TLSVersion.TLSv1_2, context(ours))
    made.set_ciphers("kRSA")
    assert seen(tls(made)).answer is Answer.PROVEN
    made.verify_mode = ssl.CERT_REQUIRED
    one = seen(tls(made))
    assert (one.answer, one.leaf_sha256, one.trouble) == (Answer.SHOWN, sha256(ours), None)
    assert "client certificate" in one.why


@VERSIONS
@pytest.mark.parametrize("kind", ["ecdsa", "rsa"])
def test_mixed_pair_is_shown_and_told(tmp_path: Path, kind: str, version: ssl.TLSVersion) -> None:
    mixed = mixed_pair(tmp_path, kind)
    one = seen(tls(until(version, context(mixed))))
    assert (one.answer, one.leaf_sha256) == (Answer.SHOWN, sha256(mixed))
    assert one.trouble is Trouble.MIXED_PAIR and "does not have the key" in one.why


def test_mixed_pair_where_nothing_is_signed(tmp_path: Path) -> None:
    """The server cannot read what was encrypted to the key of the certificate."""
    mixed = mixed_pair(tmp_path, "rsa")
    made = until(ssl.TLSVersion.TLSv1_2, context(mixed))
    made.set_ciphers("kRSA")
    one = seen(tls(made))
    assert (one.answer, one.leaf_sha256) == (Answer.SHOWN, sha256(mixed))
    assert one.trouble is Trouble.MIXED_PAIR, one.why


def test_mixed_pair_is_told_where_a_client_certificate_is_demanded(tmp_path: Path) -> None:
    made = until(ssl.TLSVersion.TLSv1_2, context(mixed_pair(tmp_path)))
    made.verify_mode = ssl.CERT_REQUIRED
    one = seen(tls(made))
    assert (one.answer, one.trouble) == (Answer.SHOWN, Trouble.MIXED_PAIR)


def test_handshake_that_ends_after_certificate(tmp_path: Path) -> None:
    ours = pair(tmp_path)
    made = until(ssl.TLSVersion.TLSv1_2, context(ours))
    closed = seen(records(made, 2))
    assert (closed.answer, closed.leaf_sha256) == (Answer.SHOWN, sha256(ours))
    assert closed.trouble is Trouble.NO_HANDSHAKE
    late = seen(records(made, 2, silent), timeout=2.0)
    assert (late.answer, late.leaf_sha256, late.trouble) == (Answer.SHOWN, sha256(ours), None)
    assert "in time" in late.why


def test_server_without_secure_renegotiation(tmp_path: Path) -> None:
    """OpenSSL 3 takes the ServerHello of none, unless it is told to."""
    ours = pair(tmp_path)
    made = until(ssl.TLSVersion.TLSv1_2, context(ours))
    one = seen(records(made, 2, change=without_renegotiation_info))
    assert (one.answer, one.leaf_sha256) == (Answer.SHOWN, sha256(ours)), one.why


# --- none --------------------------------------------------------------------------------------


def test_no_suite_for_this_kind_of_key(tmp_path: Path) -> None:
    made = until(ssl.TLSVersion.TLSv1_2, context(pair(tmp_path)))
    made.set_ciphers("aRSA")
    one = seen(tls(made))
    assert (one.answer, one.trouble) == (Answer.NONE, Trouble.NO_HANDSHAKE)
    assert "shows no certificate" in one.why


def test_alert_that_is_about_the_name_is_no_illness(tmp_path: Path) -> None:
    made = context(pair(tmp_path))
    made.sni_callback = lambda *_: ssl.AlertDescription.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
    one = seen(tls(made))
    assert (one.answer, one.trouble) == (Answer.NONE, None)
    assert "unrecognized name" in one.why


def test_closed_port() -> None:
    (one,) = look(ProbePoint("127.0.0.1", 1, NAME), LIMIT)
    assert (one.leaf_sha256, one.answer, one.why) == (None, Answer.NONE, "connection refused")
    assert "refused" in one.describe()


@pytest.mark.parametrize(
    ("serve", "why"),
    [
        (lambda connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "speak TLS"),
        (lambda connection: connection.sendall(b"220 mail ESMTP\r\n"), "speak TLS"),
        (lambda connection: connection.recv(4096), "closed the connection"),
        (lambda connection: None, "closed the connection|reset"),
        (lambda connection: connection.sendall(b"\x15\x03\x03\0\x02\x02\x50"), "internal error"),
    ],
)
def test_machine_that_answers_and_shows_none(serve: Serve, why: str) -> None:
    one = seen(serve)
    assert (one.answer, one.leaf_sha256) == (Answer.NONE, None)
    assert re.search(why, one.why), one.why


def test_what_was_said_before_the_connection_broke_is_heard() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        connection, _ = listener.accept()
        connection.sendall(b"\x15\x03\x03\0\x02\x02\x28")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    with client:
        one = handshake.shake(client, NAME, time.monotonic() + LIMIT)
    assert (one.leaf, one.trouble) == (None, "no-handshake") and "handshake failure" in one.why


def test_done_and_no_leaf() -> None:
    made = context()
    made.set_ciphers("aNULL:@SECLEVEL=0")
    made.maximum_version = ssl.TLSVersion.TLSv1_2
    with server(tls(made)) as point, socket.create_connection((point.address, point.port)) as to:
        one = handshake.shake(to, NAME, time.monotonic() + LIMIT, "aNULL:@SECLEVEL=0")
    assert (one.leaf, one.known, one.proven) == (None, True, False)
    assert "without a certificate" in one.why


# --- not known ---------------------------------------------------------------------------------


def test_silence_takes_no_more_than_the_limit() -> None:
    begun = time.monotonic()
    one = seen(silent, timeout=0.3)
    assert (one.answer, one.why) == (Answer.NOT_KNOWN, "no answer in time")
    assert time.monotonic() - begun < 5


def test_no_way_there() -> None:
    (one,) = look(ProbePoint("255.255.255.255", 443, NAME), LIMIT)
    assert one.answer is Answer.NOT_KNOWN and one.why


def test_fault_here(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(socket, "create_connection", full)
    (one,) = look(ProbePoint("127.0.0.1", 443, NAME), LIMIT)
    assert (one.answer, one.why) == (Answer.NOT_KNOWN, "too many open files")


def test_name_that_does_not_resolve() -> None:
    (one,) = look(ProbePoint("no-such-host.invalid", 443, NAME), LIMIT)
    assert (one.answer, one.address) == (Answer.NOT_KNOWN, "no-such-host.invalid")
    assert "not resolved" in one.why


def test_resolver_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()

    def hang(name: str, *_: Any, flags: int, **__: Any) -> list[Any]:
        if not flags & socket.AI_NUMERICHOST:
            over.wait(60)
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    begun = time.monotonic()
    (one,) = look(ProbePoint("slow.example", 443, NAME), 0.4)
    over.set()
    assert (one.answer, one.address) == (Answer.NOT_KNOWN, "slow.example")
    assert "not resolved within" in one.why and time.monotonic() - begun < 5


def test_python_that_does_not_tell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What ends well is seen all the same; what ends otherwise is not taken for a no."""
    monkeypatch.setattr(handshake, "_reader", lambda tls: None)
    ours = pair(tmp_path)
    assert seen(tls(context(ours))).answer is Answer.PROVEN
    one = seen(records(until(ssl.TLSVersion.TLSv1_2, context(ours)), 2))
    assert (one.answer, one.leaf_sha256) == (Answer.NOT_KNOWN, None)
    assert "this Python" in one.why


# --- addresses, and several of everything ------------------------------------------------------


def two_addresses(monkeypatch: pytest.MonkeyPatch, *found: str) -> None:
    real = socket.getaddrinfo

    def answer(host: Any, *more: Any, **named: Any) -> Any:
        if host != "both.example":
            return real(host, *more, **named)
        if named["flags"] & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "no number")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, 0)) for one in (*found, *found)]

    monkeypatch.setattr(socket, "getaddrinfo", answer)


def test_every_address_of_a_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    two_addresses(monkeypatch, "127.0.0.1", "127.0.0.2", "127.0.0.3")
    old, new = pair(tmp_path, number=1), pair(tmp_path, number=2)
    with (
        server(tls(context(new)), "127.0.0.1") as point,
        server(tls(context(old)), "127.0.0.2", point.port),
    ):
        looks = look(replace(point, address="both.example"), LIMIT)
    assert [(one.address, one.leaf_sha256) for one in looks] == [
        ("127.0.0.1", sha256(new)),
        ("127.0.0.2", sha256(old)),
        ("127.0.0.3", None),
    ]
    assert matches(looks, sha256(new)) is False


def test_addresses_are_looked_at_at_the_same_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    two_addresses(monkeypatch, "127.0.0.1", "127.0.0.2", "127.0.0.3")
    ours, all_are_here = pair(tmp_path), threading.Barrier(3)

    def serve(connection: socket.socket) -> None:
        all_are_here.wait(10)
        tls(context(ours))(connection)

    with (
        server(serve, "127.0.0.1") as point,
        server(serve, "127.0.0.2", point.port),
        server(serve, "127.0.0.3", point.port),
    ):
        looks = look(replace(point, address="both.example"), LIMIT)
    assert shows(looks, sha256(ours)) and len(looks) == 3


def test_silent_address_costs_the_others_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each has its own limit."""
    two_addresses(monkeypatch, "127.0.0.2", "127.0.0.1")
    ours = pair(tmp_path)
    with (
        server(silent, "127.0.0.2") as point,
        server(tls(context(ours)), "127.0.0.1", point.port),
    ):
        looks = look(replace(point, address="both.example"), 2.0)
    assert [one.answer for one in looks] == [Answer.NOT_KNOWN, Answer.PROVEN]
    assert matches(looks, sha256(ours)) is None and not shows(looks, sha256(ours))


def test_points_keep_their_order(tmp_path: Path) -> None:
    ours = pair(tmp_path)
    closed = ProbePoint("127.0.0.1", 1, NAME)
    with server(tls(context(ours))) as point:
        looks = look_all((closed, point, closed, point), LIMIT)
    assert [one.answer for one in looks] == [Answer.NONE, Answer.PROVEN] * 2
    assert look_all((), LIMIT) == ()


def test_no_leaf_matches_where_nothing_is_looked_at() -> None:
    assert matches((), "aa") is None


# --- kinds of key ------------------------------------------------------------------------------


@VERSIONS
@pytest.mark.parametrize("kind", ["ecdsa", "rsa"])
def test_listener_with_two_kinds(tmp_path: Path, kind: str, version: ssl.TLSVersion) -> None:
    both = {one: pair(tmp_path, one) for one in ("ecdsa", "rsa")}
    one = seen(tls(until(version, context(*both.values()))), kind=kind)
    assert (one.answer, one.leaf_sha256) == (Answer.PROVEN, sha256(both[kind]))


@VERSIONS
@pytest.mark.parametrize(("kind", "has"), [("ecdsa", "rsa"), ("rsa", "ecdsa")])
def test_listener_with_the_other_kind_only(
    tmp_path: Path, kind: str, has: str, version: ssl.TLSVersion
) -> None:
    ours = pair(tmp_path, has)
    one = seen(tls(until(version, context(ours))), kind=kind)
    assert (one.answer, one.leaf_sha256, one.trouble) == (Answer.PROVEN, sha256(ours), None)


@pytest.mark.parametrize("executable", ["/nonexistent/python", "/bin/true", "/bin/false"])
def test_kind_that_cannot_be_found_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, executable: str
) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    both = context(pair(tmp_path, "ecdsa"), pair(tmp_path, "rsa"))
    one = seen(tls(until(ssl.TLSVersion.TLSv1_3, both)), kind="rsa")
    assert (one.answer, one.leaf_sha256) == (Answer.NOT_KNOWN, None)
    assert "an ECDSA key; whether it has one with an RSA key" in one.why


def test_child_whose_openssl_reads_no_configuration(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(kinds, "_CONFIGURATION", "")
    both = context(pair(tmp_path, "ecdsa"), pair(tmp_path, "rsa"))
    one = seen(tls(until(ssl.TLSVersion.TLSv1_3, both)), kind="rsa")
    assert one.answer is Answer.NOT_KNOWN and "the same again" in one.why


def test_target_is_looked_at_for_its_own_kind_and_as_long_as_it_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[tuple[Any, ...]] = []

    def note(*arguments: Any) -> tuple[Look, ...]:
        asked.append(arguments)
        return ()

    points = (ProbePoint("127.0.0.1", 1, NAME),)
    target = Target(NAME, (NAME,), tmp_path / "live", probe_timeout=7.5)
    looked = replace(target, probe=points)
    assert kind_in_place(looked) is None
    put(target, 1)
    assert material(1).key_kind == kind_in_place(looked) == "ecdsa"
    monkeypatch.setattr(looking, "look_all", note)
    probe_target(looked)
    (target.directory / "current/generation.json").write_text("{}")
    probe_target(looked)
    assert asked == [(points, 7.5, "ecdsa"), (points, 7.5, None)]


def test_only_the_standard_library() -> None:
    """So that the quiet path of ``pull`` may look, and in what runs by itself nothing of ours."""
    code = (
        "import sys; from internal_puller.install.probe import look\n"
        "names = {name.partition('.')[0] for name in sys.modules}\n"
        "print(sorted(names - set(sys.stdlib_module_names) - {'internal_puller', 'shared'}))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "['__main__']\n"
    alone = [sys.executable, "-I", "-S", handshake.__file__]
    done = subprocess.run([*alone, "x"], cwd="/", capture_output=True, text=True, check=False)
    assert "not enough values to unpack" in done.stderr
