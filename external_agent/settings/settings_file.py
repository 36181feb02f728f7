"""The settings file as ``init`` writes it: working, commented, complete."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel


def default_listen(section: type[BaseModel]) -> Sequence[str]:
    """Return the default addresses of a listener's section."""
    return tuple(section.model_fields["listen"].default)


@dataclass(frozen=True, slots=True)
class InitialSettings:
    """What ``init`` was told; everything else is the default, shown as a comment."""

    state_directory: Path
    relay_url: str
    contact: Sequence[str]
    directory: str
    terms_agreed: bool
    challenge_listen: Sequence[str]
    relay_listen: Sequence[str]
    operator_listen: Sequence[str]
    ca_root: Path | None = None
    eab_key_id: str | None = None
    eab_hmac_key_file: Path | None = None
    relay_tls: str = "self"


def _value(value: object) -> str:
    """Return a TOML value: strings, booleans and lists of strings are written as in JSON."""
    plain = [str(one) for one in value] if isinstance(value, (list, tuple)) else value
    return json.dumps(str(plain) if isinstance(plain, Path) else plain, ensure_ascii=False)


def _optional(name: str, value: object, example: str) -> str:
    return f"# {name} = {example}" if value is None else f"{name} = {_value(value)}"


def render(initial: InitialSettings) -> str:
    """Return the text of ``agent.toml``."""
    return f"""\
# Settings of the external agent. Read once at start; `external-agent serve` reads
# log.level, [acme] and [dns01] for new orders, and the relay's TLS files again on SIGHUP.
# Each may come from the environment too: RELAY_AGENT_LOG__LEVEL=debug

# Keys and the database live here (mode 0700).
state_directory = {_value(initial.state_directory)}
# database = "sqlite:////var/lib/split-horizon-relay/agent/relay.db"

[acme]
directory = {_value(initial.directory)}
# You agreed to the CA's terms of service when this file was made.
terms_agreed = {_value(initial.terms_agreed)}
contact = {_value(initial.contact)}
# PEM file with the root of the CA's own HTTPS certificate, for a private CA.
{_optional("ca_root", initial.ca_root, '"/etc/ssl/private-ca-root.pem"')}
# proxy = "http://proxy.example.com:3128"
# profile = "tlsserver"
# External account binding, when the CA asks for it (ZeroSSL, Google and most paid CAs).
{_optional("eab_key_id", initial.eab_key_id, '"kid"')}
{_optional("eab_hmac_key_file", initial.eab_hmac_key_file, '"/etc/split-horizon-relay/eab.key"')}

# Answers the CA's http-01 checks; must be reached on port 80 of every name from the Internet.
[challenge]
listen = {_value(initial.challenge_listen)}
# max_connections = 4096
# timeout = 10.0

# Writes TXT records for the challenge dns-01, in one of four ways. Files of secrets: mode 0600.
[dns01]
# Public resolvers, which find CNAMEs, zones and name servers; [] is this machine's own.
# resolvers = ["1.1.1.1", "8.8.8.8", "9.9.9.9"]
# The CA is told when every name server of the zone shows the record, or these do.
# wait = true
# wait_seconds = 120
# name_servers = ["192.0.2.53", "192.0.2.54:5353"]

# DNS UPDATE to the zone's primary; the key file is as tsig-keygen writes it.
# [dns01.rfc2136]
# server = "192.0.2.53:53"
# key_file = "/etc/split-horizon-relay/tsig.key"
# For a file with nothing but the secret in base64:
# key_name = "relay-agent"
# algorithm = "hmac-sha256"    # hmac-sha384, hmac-sha512
# zone = "example.com"         # where the one found by SOA is not it
# ttl = 60
# timeout = 10

# A command, run with ACTION (present, cleanup), DOMAIN, RECORD and VALUE in its environment.
# [dns01.hook]
# command = ["/usr/local/sbin/dns-record", "--quiet"]
# timeout = 60

# An acme-dns server; the accounts as its clients keep them, JSON of domain to account.
# [dns01.acme_dns]
# accounts_file = "/etc/split-horizon-relay/acme-dns.json"
# url = "https://auth.example.org"
# ca_root = "/etc/ssl/private-ca-root.pem"
# proxy = "http://proxy.example.com:3128"
# timeout = 30

# A provider of dns-lexicon (pip install 'split-horizon-relay[agent,lexicon]').
# [dns01.lexicon]
# provider = "PROVIDER"
# credentials_file = "/etc/split-horizon-relay/dns-provider.toml"   # auth_token = "…"
# ttl = 60

# Serves the pullers.
[relay]
url = {_value(initial.relay_url)}
listen = {_value(initial.relay_listen)}
# Further origins under which pullers reach this agent.
# other_urls = ["https://relay2.example.com"]
# "self": a certificate of its own, pinned by the enrolment token; "acme": a public one that the
# agent gets for the host of url, validated by challenge; "files": those named below;
# "none": a reverse proxy on loopback does TLS.
tls = {_value(initial.relay_tls)}
# challenge = "http-01"
# certificate_file = "/etc/ssl/certs/relay.pem"
# key_file = "/etc/ssl/private/relay.key"

# The API for the people who run this, with access tokens (external-agent access create), and its
# metrics. Addresses that are not loopback need the two files.
[operator]
listen = {_value(initial.operator_listen)}
# open_read = false    # reading without a token, from this machine
# allowed_hosts = ["relay.example.com"]
# certificate_file = "/etc/ssl/certs/operator.pem"
# key_file = "/etc/ssl/private/operator.key"

[issuing]
# workers = 4

[retention]
# days = 800          # of events, receipts and failed attempts; 0 keeps them for ever

[log]
# level = "info"      # debug, info, warning, error
# format = "auto"     # auto, json, console
"""
