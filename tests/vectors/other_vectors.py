"""Enrolment tokens and signed requests, good and hostile."""

from __future__ import annotations

import hashlib
from base64 import b64encode, urlsafe_b64encode
from typing import Any

from shared.contract import strict_json
from shared.contract.enrolment_token import PREFIX, EnrolmentToken
from shared.contract.http_signatures import SignedTarget, sign_request
from tests.vectors.vector import Vector
from tests.vectors.world import AGENT, NOW, PULLER, TOKEN_KEY

NONCE = "bm9uY2Ugb2YgMTYgb2N0ZQ"
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


def tokens() -> list[Vector]:
    good = _TOKEN.encode().encode()
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
            "expired",
            {"expect": "enrolment/token-expired", "comment": "a second too late", **head},
            _line(_body(expires=NOW - 1)),
        ),
        *[
            Vector(name, {"expect": "enrolment/token-malformed", "comment": comment, **head}, body)
            for name, (comment, body) in malformed.items()
        ],
    ]


def _request(name: str, expect: str, comment: str, label: str = "shr", **changes: str) -> Vector:
    body = b'{"certificate":"www.intra.example.com"}'
    target = SignedTarget("POST", "relay.example.com:8443", "/v1/receipts", "")
    signed = sign_request(target, body, {"shr": PULLER}, created=NOW, nonce=NONCE)
    head = {
        "expect": expect,
        "comment": comment,
        "key": PULLER.public.public.hex(),
        "label": label,
        "method": target.method,
        "authority": target.authority,
        "path": target.path,
        "query": target.query,
        "content-digest": signed["Content-Digest"],
        "signature-input": signed["Signature-Input"],
        "signature": signed["Signature"],
    }
    text = changes.pop("body", None)
    for key, value in changes.items():
        name_of = key.replace("_", "-")
        old, arrow, new = value.partition(" => ")
        if arrow and old not in head[name_of]:
            raise ValueError(f"{name}: {old} is not in {name_of}")
        head[name_of] = head[name_of].replace(old, new) if arrow else value
    return Vector(name, head, body if text is None else text.encode())


def requests() -> list[Vector]:
    shape, bad = "transport/signature-malformed", "bundle/bad-signature"
    digest_only = '("@method" "@authority" "@path" "@query" "content-digest")'
    return [
        _request("good", "success", "as a puller sends it"),
        _request("method", bad, "another method with the same components", method="PUT"),
        _request("authority", bad, "another origin", authority="other.example.com"),
        _request("path", bad, "another path", path="/v1/certificates"),
        _request("path-encoded", bad, "a path that means the same", path="/v1/%72eceipts"),
        _request("query", bad, "a query was added", query="wait=50"),
        _request("body", bad, "another body", body="{}"),
        _request(
            "body-and-digest",
            bad,
            "another body with its own digest",
            body="{}",
            content_digest="sha-256=:RBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o=:",
        ),
        _request("created", bad, "another time", signature_input=f"{NOW} => {NOW + 1}"),
        _request("nonce", bad, "another nonce", signature_input=f"{NONCE} => {NONCE[:-1]}A"),
        _request(
            "fewer-components",
            shape,
            "the body is not covered",
            signature_input=f'{digest_only} => ("@method" "@authority" "@path" "@query")',
        ),
        _request(
            "other-order",
            shape,
            "components in another order",
            signature_input='"@method" "@authority" => "@authority" "@method"',
        ),
        _request(
            "algorithm",
            shape,
            "another algorithm",
            signature_input='"ed25519" => "hmac-sha256"',
        ),
        _request("tag", shape, "another tag", signature_input="shr1-request => shr1-token"),
        _request("label", shape, "another label", signature_input="shr= => sig1="),
        _request("parameter", shape, "one more", signature_input=";tag => ;expires=1;tag"),
        _request("no-nonce", shape, "no nonce", signature_input=f';nonce="{NONCE}" => '),
        _request("no-signature", shape, "no signature", signature="", signature_input=""),
        _request("short-signature", shape, "cut short", signature="==: => :"),
    ]
