"""Reads a TSIG key (RFC 8945) from the file that an operator was given."""

from __future__ import annotations

import base64
import binascii
import re

import dns.exception
import dns.name
import dns.tsig

from shared.acme.dns01.settings import TSIG_ALGORITHMS, Rfc2136Settings
from shared.contract.errors import ConfigurationError
from shared.host.trusted_file import SECRET, read_trusted

SHORTEST_SECRET = 16
# A comment begins after white space: a secret may hold two slashes.
_COMMENT = re.compile(r"/\*.*?\*/|(?:^|(?<=\s))(?://|#)[^\n]*", re.DOTALL | re.MULTILINE)
_KEY = re.compile(r'\bkey\s+"?([^\s"{;]+)"?\s*\{([^}]*)\}')
_ALGORITHM = re.compile(r'\balgorithm\s+"?([^\s";]+)"?\s*;', re.IGNORECASE)
_SECRET = re.compile(r'\bsecret\s+"?([A-Za-z0-9+/=]+)"?\s*;', re.IGNORECASE)
_WHAT = "TSIG key file"


def read_tsig_key(settings: Rfc2136Settings) -> dns.tsig.Key:
    """Return the key in BIND's form, or made of a bare base64 secret and the settings' name.

    Raises:
        ConfigurationError: no key in the file, another one than the settings name, a weak one.
        LooseFileMode: others may read it.
    """
    path = settings.key_file
    text = read_trusted(path, _WHAT, mask=SECRET).decode("ascii", errors="replace")
    bare = "".join(text.split())
    if re.fullmatch(r"[A-Za-z0-9+/]+={0,2}", bare):
        name, algorithm, secret = settings.key_name, settings.algorithm, bare
        if name is None:
            raise ConfigurationError(
                f"The {_WHAT} {path} holds a bare secret: dns01.rfc2136.key_name is needed too."
            )
    else:
        name, algorithm, secret = _in_bind_form(text, settings)
    return _key(settings, name, algorithm or TSIG_ALGORITHMS[0], secret)


def _in_bind_form(text: str, settings: Rfc2136Settings) -> tuple[str, str, str]:
    path = settings.key_file
    keys = {name.rstrip(".").lower(): body for name, body in _KEY.findall(_COMMENT.sub(" ", text))}
    wanted = (settings.key_name or "").rstrip(".").lower()
    if not wanted and len(keys) == 1:
        wanted = next(iter(keys))
    if wanted not in keys:
        raise ConfigurationError(
            f"The {_WHAT} {path} holds {_listed(keys)}"
            + (f", not {wanted!r:.80}." if wanted else "."),
            do='It looks like: key "NAME" { algorithm hmac-sha256; secret "BASE64"; }; '
            "with several keys in it, name one by dns01.rfc2136.key_name.",
        )
    algorithm, secret = _ALGORITHM.search(keys[wanted]), _SECRET.search(keys[wanted])
    if algorithm is None or secret is None:
        raise ConfigurationError(f"The key {wanted!r} in {path} lacks its algorithm or secret.")
    named = algorithm[1].rstrip(".").lower()
    if settings.algorithm not in (None, named):
        raise ConfigurationError(
            f"The key {wanted!r} in {path} is for {named:.40}, dns01.rfc2136.algorithm says "
            f"{settings.algorithm}."
        )
    return wanted, named, secret[1]


def _listed(keys: dict[str, str]) -> str:
    return f"the keys {', '.join(sorted(keys))}" if keys else "no TSIG key"


def _key(settings: Rfc2136Settings, name: str, algorithm: str, secret: str) -> dns.tsig.Key:
    path = settings.key_file
    if algorithm not in TSIG_ALGORITHMS:
        raise ConfigurationError(
            f"The key in {path} is for {algorithm:.40}, not one of {', '.join(TSIG_ALGORITHMS)}.",
            do="Make a new key: tsig-keygen -a hmac-sha256 NAME.",
        )
    try:
        octets = base64.b64decode(secret, validate=True)
        owner = dns.name.from_text(name)
    except (binascii.Error, dns.exception.DNSException) as error:
        raise ConfigurationError(f"The key in {path} is malformed.") from error
    if len(octets) < SHORTEST_SECRET:
        raise ConfigurationError(
            f"The secret in {path} has {8 * len(octets)} bits; {8 * SHORTEST_SECRET} are the least."
        )
    return dns.tsig.Key(owner, octets, algorithm + ".")
