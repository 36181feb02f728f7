"""Who may do what over the operator API, and what an access token looks like."""

from __future__ import annotations

import base64
import hashlib
from enum import StrEnum

from shared.contract.errors import ConfigurationError

PREFIX = "shra_"
SECRET_BYTES = 32
MIN_LIFETIME = 60
MAX_LIFETIME = 366 * 86400
MAX_NAME = 64


class Role(StrEnum):
    """Each may do what those before it may."""

    READ = "read"
    """See everything; change nothing."""
    OPERATE = "operate"
    """Certificates, enrolment tokens, pullers."""
    ADMIN = "admin"
    """Access tokens, and orders for everything at once."""

    def allows(self, wanted: Role) -> bool:
        order = tuple(Role)
        return order.index(self) >= order.index(wanted)


def token_text(secret: bytes) -> str:
    """Return what is handed out, once, for a secret of :data:`SECRET_BYTES` random bytes.

    The prefix lets scanners of repositories and logs know such a token.
    """
    return PREFIX + base64.urlsafe_b64encode(secret).rstrip(b"=").decode("ascii")


def digest_of(token: str) -> str:
    """Return the hex SHA-256 of a token's text, which is what the store keeps.

    A slow hash with a salt (bcrypt and its kind) protects what people choose, because it can be
    guessed. Nobody guesses 256 random bits, however quick the hash; and the store can look one up
    by it.
    """
    return hashlib.sha256(token.encode("utf-8")).hexdigest()


def check_name(name: str) -> str:
    """
    Raises:
        ConfigurationError: not 1 to 64 printable ASCII characters, or space at an end.
    """
    readable = name.isascii() and name.isprintable() and name == name.strip()
    if readable and 0 < len(name) <= MAX_NAME:
        return name
    raise ConfigurationError(
        f"{name!r:.80} is no name of an access token.",
        do=f"Give 1 to {MAX_NAME} printable ASCII characters, such as: prometheus.",
    )


def check_lifetime(seconds: int) -> int:
    """
    Raises:
        ConfigurationError: under a minute or over a year.
    """
    if MIN_LIFETIME <= seconds <= MAX_LIFETIME:
        return seconds
    raise ConfigurationError(
        f"An access token lives {MIN_LIFETIME} s to {MAX_LIFETIME // 86400} days, not {seconds} s."
    )
