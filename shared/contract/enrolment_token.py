"""The one-time enrolment token: one line that pins the agent and authorises one enrolment.

``shr1_`` + base64url without padding of (compact JSON ‖ first 4 octets of its SHA-256).
"""

from __future__ import annotations

import hashlib
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from shared.contract import strict_json
from shared.contract.errors import TokenExpired, TokenMalformed
from shared.contract.signing import SEED_SIZE, SigningKey, VerifyKey
from shared.contract.strict_json import Members

PREFIX = "shr1_"
MAX_LIFETIME = 24 * 3600
DEFAULT_LIFETIME = 3600
_MAX_TEXT = 2048
_BASE64URL = re.compile(r"[A-Za-z0-9_-]+")
_ORIGIN = re.compile(r"https?://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?/?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class EnrolmentToken:
    """
    Attributes:
        relay_url: origin of the relay API, ``https://host[:port]`` (``http`` on loopback only).
        agent: the agent's public key, to be pinned.
        seed: 32 secret octets of the token key; the agent keeps only the public half.
        tls_pin: hex SHA-256 of the relay certificate's SPKI, or ``None`` for an ordinary check.
        expires_at: unix seconds.
    """

    relay_url: str
    agent: VerifyKey
    seed: bytes = field(repr=False)
    tls_pin: str | None
    expires_at: int

    @property
    def key(self) -> SigningKey:
        return SigningKey(self.seed)

    def encode(self) -> str:
        """Return the line; whoever holds it can enrol once."""
        body = strict_json.encode(
            {
                "agent": strict_json.encode_base64(self.agent.public),
                "expires": self.expires_at,
                "seed": strict_json.encode_base64(self.seed),
                "tls": self.tls_pin,
                "url": self.relay_url,
            }
        )
        check = hashlib.sha256(body).digest()[:4]
        return PREFIX + _encode_base64url(body + check)

    @classmethod
    def decode(cls, line: str, *, now: float) -> EnrolmentToken:
        """
        Args:
            line: as pasted; white space around it does not matter.
            now: unix seconds.

        Raises:
            TokenMalformed: cut, mistyped or something else.
            TokenExpired: too old.
        """
        text = line.strip()
        if not text.startswith(PREFIX) or len(text) > _MAX_TEXT or not text.isascii():
            raise TokenMalformed(
                f"This is not an enrolment token: it does not begin with {PREFIX}."
            )
        raw = _base64url(text.removeprefix(PREFIX))
        body, check = raw[:-4], raw[-4:]
        if hashlib.sha256(body).digest()[:4] != check:
            raise TokenMalformed("The enrolment token is cut or mistyped: its checksum is wrong.")
        token = cls._read(body)
        if now > token.expires_at:
            raise TokenExpired("The enrolment token has expired.")
        return token

    @classmethod
    def _read(cls, body: bytes) -> EnrolmentToken:
        members = strict_json.decode_object(
            body, "The enrolment token", max_size=_MAX_TEXT, error=TokenMalformed
        )
        token = cls(
            relay_url=_canonical_url(members),
            agent=VerifyKey(members.octets("agent", length=32)),
            seed=members.octets("seed", length=SEED_SIZE),
            tls_pin=None if members.take_null("tls") else members.hex_digest("tls"),
            expires_at=members.integer("expires"),
        )
        members.nothing_left()
        return token


def _base64url(encoded: str) -> bytes:
    """Return the octets of their one encoding: no foreign character, padding or loose bits."""
    if not _BASE64URL.fullmatch(encoded) or len(encoded) % 4 == 1:
        raise TokenMalformed(
            "The enrolment token is cut or mistyped: it holds something else than base64url."
        )
    raw = urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
    if _encode_base64url(raw) != encoded:
        raise TokenMalformed(
            "The enrolment token is cut or mistyped: its last character has bits too many."
        )
    return raw


def _encode_base64url(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def _canonical_url(members: Members) -> str:
    url = members.text("url")
    if check_relay_url(url) != url:
        members.refuse("member 'url' is not an origin in its canonical form")
    return url


def check_relay_url(url: str) -> str:
    """Return ``url`` as an origin in its canonical form; a slash at its end is dropped.

    Raises:
        TokenMalformed: not ``https://host[:port]`` without a path.
    """
    # urlsplit drops newlines and tabs without a word (WHATWG URL); nothing is dropped here.
    if not _ORIGIN.fullmatch(url):
        raise TokenMalformed(
            f"{url!r:.120} is not an https origin: it is https://host or https://host:port; "
            "leave out path and user."
        )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise TokenMalformed(f"{url!r:.120} is not an https origin: {error}.") from error
    plain = parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost")
    if port == 0 or not (parts.scheme == "https" or plain):
        raise TokenMalformed(f"{url!r:.120} is not an https origin.")
    return f"{parts.scheme}://{authority(url)}"


def authority(url: str) -> str:
    """Return ``@authority`` of an origin: lower case, default port left out (RFC 9421 2.2.3)."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    host = f"[{host}]" if ":" in host else host
    default = 443 if parts.scheme == "https" else 80
    return host if parts.port in (None, default) else f"{host}:{parts.port}"
