"""The file ``direct.toml`` as ``direct init`` writes it, and as ``direct add`` changes it."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from internal_puller.settings.toml_file import read_toml, replace_toml
from internal_puller.settings.toml_tables import Entry, rewritten
from internal_puller.sources.direct.settings import DirectCertificate, DirectSettings
from shared.contract.errors import ConfigurationError


def render(direct: DirectSettings) -> str:
    """Return the text of a new file, with everything that could stand there as comments."""
    return f"""\
# Direct mode of the internal puller: this machine asks the CA itself, outward only.
# Certificates are added by: internal-puller direct add NAME --challenge dns-01

# The CA's ACME directory.
directory = {_value(direct.directory)}
# You agreed to the CA's terms of service when this file was made.
terms_agreed = {_value(direct.terms_agreed)}
contact = {_value(list(direct.contact))}
# PEM file with the root of the CA's own HTTPS certificate, for a private CA.
{_optional("ca_root", direct.ca_root, "/etc/ssl/private-ca-root.pem")}
# The way out to the CA, where it is not that of puller.toml; "none" connects directly.
{_optional("proxy", direct.proxy, "http://proxy.example.com:3128")}
# External account binding, when the CA asks for it (ZeroSSL, Google and most paid CAs).
{_optional("eab_key_id", direct.eab_key_id, "kid")}
{_optional("eab_hmac_key_file", direct.eab_hmac_key_file, "/etc/split-horizon-relay/eab.key")}
# For certificates that name none.
{_optional("profile", direct.profile, "tlsserver")}
{_optional("preferred_chain", direct.preferred_chain, "ISRG Root X1")}

# Further CAs, for `internal-puller direct add NAME --ca letsencrypt --ca zerossl`. The directory of
# a known CA need not be given; contact and proxy are those above where they are not given.
# [ca.zerossl]
# terms_agreed = true
# eab_key_id = "kid"
# eab_hmac_key_file = "/etc/split-horizon-relay/zerossl-eab.key"

# dns-01: how TXT records are written. Keep one of the sections below.
# [dns01]
# Public resolvers, which find the zone and its servers as the CA sees them; [] asks those
# of this machine.
# resolvers = ["1.1.1.1", "8.8.8.8", "9.9.9.9"]
#
# [dns01.rfc2136]
# server = "192.0.2.53"
# key_file = "/etc/split-horizon-relay/tsig.key"
#
# [dns01.hook]
# command = ["/usr/local/sbin/set-txt"]
"""


def add_certificate(path: Path, wanted: DirectCertificate) -> None:
    """Write a certificate into the file; one with the same id is changed, all else stays.

    Raises:
        ConfigurationError: the file is missing or cannot be written.
    """
    text, tables = _read(path)
    members = _members(wanted)
    entries = [
        Entry({**dict.fromkeys(table), **members} if _is(table, wanted.certificate) else {}, at)
        for at, table in enumerate(tables)
    ]
    if not any(entry.changes for entry in entries):
        entries.append(Entry(members))
    replace_toml(path, rewritten(text, "certificate", entries))


def remove_certificate(path: Path, certificate: str) -> None:
    """Take a certificate out of the file. Raises ``ConfigurationError``."""
    text, tables = _read(path)
    stay = [Entry({}, at) for at, table in enumerate(tables) if not _is(table, certificate)]
    replace_toml(path, rewritten(text, "certificate", stay))


def _read(path: Path) -> tuple[str, list[dict[str, Any]]]:
    text = read_toml(path) or ""
    try:
        return text, tomllib.loads(text).get("certificate", [])
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path} is no TOML: {error}.") from error


def _is(table: dict[str, Any], certificate: str) -> bool:
    if "certificate" in table:
        return str(table["certificate"]) == certificate
    from internal_puller.sources.direct.settings import certificate_from

    found = certificate_from([str(one) for one in table["names"]], str(table["challenge"]))
    return found.certificate == certificate


def _members(wanted: DirectCertificate) -> dict[str, object]:
    """Only what differs from the defaults, so that the file stays short."""
    members: dict[str, object] = {
        "certificate": wanted.certificate,
        "names": list(wanted.names),
        "challenge": wanted.challenge,
    }
    if wanted.key_algorithm != DirectCertificate.key_algorithm:
        members["key_algorithm"] = wanted.key_algorithm
    for key in ("profile", "preferred_chain"):
        if getattr(wanted, key) is not None:
            members[key] = getattr(wanted, key)
    if wanted.ca:
        members["ca"] = list(wanted.ca)
    return members


def _value(value: object) -> str:
    return json.dumps(str(value) if isinstance(value, Path) else value, ensure_ascii=False)


def _optional(name: str, value: object, example: str) -> str:
    return f"# {name} = {_value(example)}" if value is None else f"{name} = {_value(value)}"
