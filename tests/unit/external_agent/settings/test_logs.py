"""No secret stands in a log, at any level, by whichever way it came there."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric import ec

from external_agent.settings import logs
from shared.acme.keys import generate_account_key
from shared.contract.enrolment_token import EnrolmentToken
from shared.contract.sealing import Identity
from shared.contract.signing import SigningKey

KEY = SigningKey(b"\x07" * 32)
TOKEN = EnrolmentToken("https://relay.example.com", KEY.public, b"\x08" * 32, None, 2_000_000_000)
PEM = generate_account_key().decode()


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    out = io.StringIO()
    logs.configure("debug", "json", out)
    yield out
    structlog.reset_defaults()
    root.handlers[:] = before
    root.setLevel(level)


SECRETS = {
    "signing key": KEY,
    "identity": Identity(b"\x09" * 32),
    "token": TOKEN,
    "token text": f"here: {TOKEN.encode()} it is",
    "private key": ec.generate_private_key(ec.SECP256R1()),
    "octets": KEY.seed(),
    "bytearray": bytearray(KEY.seed()),
    "pem": f"key:\n{PEM}",
    "cut pem": PEM[:120],
    "nested": {"a": [{"b": (KEY.seed(), PEM, TOKEN.encode())}]},
}


def traces(way: str) -> list[str]:
    found = [KEY.seed().hex(), TOKEN.encode()[5:40], TOKEN.seed.hex()]
    found += PEM.splitlines()[1:-1]
    if way != "library":  # it formats octets before we see them: they have no shape to know them by
        found += [repr(KEY.seed()), repr(bytearray(KEY.seed()))[:60]]
    return found + [json.dumps(one)[1:-1] for one in found]  # as it stands in a line of JSON


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("way", ["member", "message", "library", "exception"])
def test_secrets_are_redacted(stream: io.StringIO, name: str, way: str) -> None:
    value = SECRETS[name]
    log = structlog.get_logger("test")
    if way == "member":
        log.debug("event", value=value, other=[value])
    elif way == "message" and isinstance(value, str):
        log.debug(value)
    elif way == "library":
        logging.getLogger("library").debug("value %s", value, extra={"value": value})
    elif isinstance(value, str):
        try:
            raise ValueError(value)
        except ValueError:
            log.exception("failed")
    text = stream.getvalue()
    for trace in traces(way):
        assert trace not in text


def test_a_line_is_one_line_of_json(stream: io.StringIO) -> None:
    structlog.get_logger("test").warning("a\nb", host="x\r\ny\x1b[31m", number=1, none=None)
    (line,) = stream.getvalue().splitlines()
    found = json.loads(line)
    assert (found["event"], found["number"], found["none"]) == ("a\nb", 1, None)
    assert "\x1b" not in found["host"]
    assert found["level"] == "warning"


def test_on_a_console_no_text_begins_a_line_of_its_own() -> None:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    out = io.StringIO()
    try:
        logs.configure("info", "console", out)
        structlog.get_logger("test").warning(
            "a\nforged", host="x\r\ny\x1b[31m\u202e", name=["l\nm"]
        )
        try:
            raise ValueError("b\x1b[2J")
        except ValueError:
            structlog.get_logger("test").exception("failed")
    finally:
        structlog.reset_defaults()
        root.handlers[:] = before
        root.setLevel(level)
    first, second, *traceback = out.getvalue().splitlines()
    assert "forged" in first and "y?[31m?" in first
    assert "failed" in second
    assert "Traceback" in traceback[0]
    assert all(line.isprintable() for line in (first, second, *traceback))


def test_the_level_can_be_changed_while_running(stream: io.StringIO) -> None:
    logs.set_level("warning")
    structlog.get_logger("test").info("quiet")
    assert stream.getvalue() == ""
    logs.set_level("debug")
    structlog.get_logger("test").debug("loud")
    logging.getLogger("urllib3").debug("every byte")
    assert "loud" in stream.getvalue()
    assert "every byte" not in stream.getvalue()


def test_deep_and_odd_things_do_not_break_the_log(stream: io.StringIO) -> None:
    deep: list[object] = []
    for _ in range(50):
        deep = [deep]
    structlog.get_logger("test").info("odd", deep=deep, kind=object, number=float("inf"))
    assert "odd" in stream.getvalue()
