"""Where dns-01 looks and what must stand there (RFC 8555 section 8.4); nothing but computing."""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from dataclasses import dataclass

LABEL = "_acme-challenge"


@dataclass(frozen=True)
class TxtRecord:
    """One value that has to stand beside whatever else stands there.

    Attributes:
        domain: the identifier that is validated, without ``*.``.
        owner: where the record stands: ``_acme-challenge.<domain>``, or where its CNAMEs lead.
        zone: the public zone that holds ``owner``.
        value: 43 characters of base64url.
    """

    domain: str
    owner: str
    zone: str
    value: str


def challenge_name(identifier: str) -> str:
    """Return the name the CA looks at; a wildcard's is that of the name it stands under."""
    return f"{LABEL}.{identifier.removeprefix('*.')}"


def dns01_value(key_authorization: str) -> str:
    """Return base64url of the SHA-256 of a key authorization, without padding."""
    digest = hashlib.sha256(key_authorization.encode("ascii")).digest()
    return urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")
