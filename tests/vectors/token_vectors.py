"""Enrolment tokens, good and hostile."""

from __future__ import annotations

import hashlib
from base64 import b64encode, urlsafe_b64encode
from typing import Any

from shared.contract import strict_json
from shared.contract.enrolment_token import PREFIX, EnrolmentToken
from tests.vectors.vector import Vector
from tests.vectors.world import AGENT, NOW, TOKEN_KEY

_TOKEN = EnrolmentToken(
    "https://relay.example.com:8443", AGENT.public, TOKEN_KEY.seed(), "ab" * 32, NOW + 3600
)


_PREFIX = PREFIX.encode()
_HOST = "https://relay.example.com"
_URL = f"{_HOST}:8443"


def _line(body: bytes, check: bytes | None = None, *, urlsafe: bool = True) -> bytes:
    tail = hashlib.sha256(body).digest()[:4] if check is None else check
    encode = urlsafe_b64encode if urlsafe else b64encode
    return _PREFIX + encode(body + tail).rstrip(b"=")


def _padded(line: bytes) -> bytes:
    return line + b"=" * (-(len(line) - len(_PREFIX)) % 4)


def _loose(line: bytes) -> bytes:
    """The next character: only its last bits differ, which a lax decoder drops."""
    if line[-1:] not in b"AEIMQUYcgkosw048":
        raise ValueError("this token has no bits to spare")
    return line[:-1] + bytes([line[-1] + 1])


def _body(without: str = "", **members: Any) -> bytes:
    values: dict[str, Any] = {
        "agent": strict_json.encode_base64(AGENT.public.public),
        "expires": NOW + 3600,
        "seed": strict_json.encode_base64(TOKEN_KEY.seed()),
        "tls": "ab" * 32,
        "url": "https://relay.example.com:8443",
    } | members
    values.pop(without, None)
    return strict_json.encode(values)


def printed() -> bytes:
    """The good token, as it is printed."""
    return _TOKEN.encode().encode()


def vectors() -> list[Vector]:
    good = printed()
    malformed: dict[str, tuple[str, bytes]] = {
        "cut": ("the last character is missing", good[:-1]),
        "mistyped": ("one character is another", good[:40] + b"A" + good[41:]),
        "prefix": ("another prefix", b"shr2_" + good[5:]),
        "empty": ("nothing", b""),
        "checksum": ("a checksum of something else", _line(_body(), b"\0\0\0\0")),
        "plain-http": ("no TLS", _line(_body(url="http://relay.example.com"))),
        "with-path": ("a path behind the origin", _line(_body(url="https://relay.example.com/x"))),
        "with-user": ("a user name", _line(_body(url="https://a@relay.example.com"))),
        "file-url": ("a file", _line(_body(url="file:///etc/passwd"))),
        "port": ("a port that is none", _line(_body(url="https://relay.example.com:99999"))),
        "seed-short": (
            "31 octets of seed",
            _line(_body(seed=strict_json.encode_base64(b"x" * 31))),
        ),
        "address-open": ("a bracket that is never closed", _line(_body(url="https://[relay"))),
        "foreign-character": ("a character that base64url has not", good[:40] + b"!" + good[40:]),
        "foreign-characters": ("four of them, which some decoders pass over", good + b"!!!!"),
        "padding": ("padding at the end", _padded(good)),
        "loose-bits": ("bits in the last character that belong to no octet", _loose(good)),
        "base64": ("base64 instead of base64url", _line(_body(), urlsafe=False)),
        "newline-inside": ("a newline in the middle", good[:40] + b"\n" + good[40:]),
        "length": ("a number of characters that encodes nothing", _PREFIX + b"A" * 41),
        "slash": ("a slash behind the origin", _line(_body(url=f"{_URL}/"))),
        "newline-in-url": ("a newline behind the origin", _line(_body(url=f"{_URL}\n"))),
        "tab-in-url": ("a tab in the origin", _line(_body(url=_URL.replace("relay", "re\tlay")))),
        "space-in-url": ("a space before the origin", _line(_body(url=f" {_URL}"))),
        "capitals-in-url": ("an origin in capitals", _line(_body(url=_URL.upper()))),
        "default-port": ("a port that goes without saying", _line(_body(url=f"{_HOST}:443"))),
        "query": ("an empty query", _line(_body(url=f"{_URL}?"))),
        "fragment": ("an empty fragment", _line(_body(url=f"{_URL}#"))),
        "pin": ("a pin that is no digest", _line(_body(tls="abc"))),
        "unknown-member": ("a member that nobody asked for", _line(_body(proxy="x"))),
        "without-agent": ("no agent key", _line(_body("agent"))),
        "too-long": ("more than 2048 characters", _line(_body(url=f"https://{'a' * 1500}.com"))),
        "member-twice": ("a member that stands twice", _line(_body()[:-1] + b',"tls":null}')),
        "not-json": ("not JSON", _line(b"hello")),
    }
    head = {"now": str(NOW)}
    return [
        Vector("good", {"expect": "success", "comment": "as printed", **head}, good),
        Vector(
            "good-no-pin",
            {"expect": "success", "comment": "checked by chain and host name", **head},
            _line(_body(tls=None)),
        ),
        Vector(
            "good-last-second",
            {"expect": "success", "comment": "used in its last second", **head},
            _line(_body(expires=NOW)),
        ),
        Vector(
            "good-white-space",
            {"expect": "success", "comment": "pasted with white space around it", **head},
            b" \t" + good + b" \r\n",
        ),
        Vector(
            "good-loopback",
            {"expect": "success", "comment": "http, of a loopback address", **head},
            _line(_body(url="http://127.0.0.1:8443")),
        ),
        Vector(
            "good-default-port",
            {"expect": "success", "comment": "an origin on port 443, which is left out", **head},
            _line(_body(url=_HOST)),
        ),
        Vector(
            "expired",
            {"expect": "token-expired", "comment": "a second too late", **head},
            _line(_body(expires=NOW - 1)),
        ),
        *[
            Vector(name, {"expect": "token-malformed", "comment": comment, **head}, body)
            for name, (comment, body) in malformed.items()
        ],
    ]
