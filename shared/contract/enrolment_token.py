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

PREFIX = "shr1_"
MAX_LIFETIME = 24 * 3600
DEFAULT_LIFETIME = 3600
_MAX_TEXT = 2048
_BASE64URL = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


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
        return PREFIX + urlsafe_b64encode(body + check).rstrip(b"=").decode("ascii")

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
        encoded = text.removeprefix(PREFIX)
        try:
            raw = urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
        except ValueError as error:
            raise TokenMalformed("The enrolment token is not base64url.") from error
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
            relay_url=check_relay_url(members.text("url")),
            agent=VerifyKey(members.octets("agent", length=32)),
            seed=members.octets("seed", length=SEED_SIZE),
            tls_pin=None if members.take_null("tls") else members.hex_digest("tls"),
            expires_at=members.integer("expires"),
        )
        members.nothing_left()
        return token


def check_relay_url(url: str) -> str:
    """Return ``url`` as an origin in its canonical form.

    Raises:
        TokenMalformed: not ``https://host[:port]`` without a path.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise TokenMalformed(f"{url!r:.120} is not an https origin: {error}.") from error
    plain = parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost")
    if not parts.hostname or port == 0 or not (parts.scheme == "https" or plain):
        raise TokenMalformed(f"{url!r:.120} is not an https origin.")
    if parts.path.strip("/") or parts.query or parts.fragment or parts.username:
        raise TokenMalformed(f"{url!r:.120} is more than an origin: leave out path and user.")
    return f"{parts.scheme}://{authority(url)}"


def authority(url: str) -> str:
    """Return ``@authority`` of an origin: lower case, default port left out (RFC 9421 2.2.3)."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    host = f"[{host}]" if ":" in host else host
    default = 443 if parts.scheme == "https" else 80
    return host if parts.port in (None, default) else f"{host}:{parts.port}"
