"""acme2certifier as a CA, for one test: dns-persist-01 of draft -01, ARI, profiles, EAB.

It asks DNS servers at port 53 and fetches http-01 from port 80, so both stand on loopback
addresses of their own (`tests.own_address`), which takes root.
"""

from __future__ import annotations

import configparser
import json
import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Self

import pytest
import trustme

from tests.lab.ports import free_port
from tests.pebble import Program
from tools import environment

SERVER = Path(__file__).with_name("acme2certifier_server.py")
ISSUER = "acme2certifier.example.net"


@cache
def python() -> Path:
    """Return the Python of its environment, made at the first call; skip where it cannot be."""
    try:
        return environment.ensure(environment.ACME2CERTIFIER)
    except environment.EnvironmentFailed as failure:
        reason = f"acme2certifier could not be installed: {str(failure)[-300:]}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)


class Acme2Certifier:
    """The released acme2certifier with its openssl handler and a CA of its own.

    Args:
        dns: address of the DNS server that it asks, at port 53.
        issuers: its names in CAA and dns-persist-01 records.
        persist: offer dns-persist-01.
        persist_wildcard: let such records cover wildcards.
        challenges: of RFC 8555, those that are offered.
        profiles: name to description (a URL, as it shows them).
        eab_keys: key identifier to base64url HMAC key; account binding is wanted if given.
        renewal_force: move every suggested window of ARI a year back.
        validity_days: of what it issues.

    Attributes:
        directory_url: `https://localhost:PORT/directory`.
        roots: PEM file with the root of its HTTPS server, for `trusted_roots`.
        issuing_root: PEM of the root of what it issues.
    """

    def __init__(
        self,
        *,
        dns: str,
        issuers: Sequence[str] = (ISSUER,),
        persist: bool = True,
        persist_wildcard: bool = True,
        challenges: Sequence[str] = ("http-01", "dns-01"),
        profiles: Mapping[str, str] | None = None,
        eab_keys: Mapping[str, str] | None = None,
        renewal_force: bool = False,
        validity_days: int = 90,
    ) -> None:
        self._program = Program("acme2certifier")
        self._port = free_port()
        self.directory_url = f"https://localhost:{self._port}/directory"
        self.roots = self._directory / "roots.pem"
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.roots))
        (self._directory / "issued").mkdir()
        issuing = trustme.CA()
        self.issuing_root = issuing.cert_pem.bytes()
        self._write_keys(authority, issuing)
        self._sections: dict[str, dict[str, object]] = {
            "DEFAULT": {"debug": False, "dns_server_list": json.dumps([dns])},
            "Directory": {"caaidentities": json.dumps(list(issuers)), "supress_version": True},
            "DBhandler": {"dbfile": self._directory / "acme.db"},
            "CAhandler": {
                "handler_module": "acme2certifier.cahandlers.openssl_ca_handler",
                "issuing_ca_key": self._directory / "issuing.key",
                "issuing_ca_cert": self._directory / "issuing.pem",
                "ca_cert_chain_list": "[]",
                "issuing_ca_crl": self._directory / "crl.pem",
                "cert_save_path": self._directory / "issued",
                "cert_validity_days": validity_days,
            },
            "Challenge": {
                "dns_persist_01_support": persist,
                "dns_persist_allow_policy_wildcard": persist_wildcard,
                "http_01_support": "http-01" in challenges,
                "dns_01_support": "dns-01" in challenges,
                "tls_alpn_01_support": "tls-alpn-01" in challenges,
            },
            "Order": {"profiles": json.dumps(dict(profiles))} if profiles else {},
            "Renewalinfo": {"renewal_force": renewal_force},
        }
        if eab_keys:
            keys = self._directory / "eab.json"
            keys.write_text(json.dumps(dict(eab_keys)))
            self._sections["EABhandler"] = {
                "eab_handler_module": "acme2certifier.eabhandlers.json_handler",
                "key_file": keys,
            }

    @property
    def _directory(self) -> Path:
        return self._program.directory

    def __enter__(self) -> Self:
        config = configparser.ConfigParser(interpolation=None)
        for name, settings in self._sections.items():
            config[name] = {key: str(value) for key, value in settings.items()}
        path = self._directory / "acme_srv.cfg"
        with path.open("w") as file:
            config.write(file)
        argv = [str(python()), "-P", str(SERVER), str(self._port)]
        argv += [str(self._directory / "server.pem"), str(self._directory / "server.key")]
        self._program.start(argv, [self._port], {"ACME_SRV_CONFIGFILE": str(path)})
        return self

    def __exit__(self, *_: object) -> None:
        self._program.stop()

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return self._program.log.read_text()

    def _write_keys(self, authority: trustme.CA, issuing: trustme.CA) -> None:
        server = authority.issue_cert("localhost", "127.0.0.1")
        for blob in server.cert_chain_pems:
            blob.write_to_path(str(self._directory / "server.pem"), append=True)
        server.private_key_pem.write_to_path(str(self._directory / "server.key"))
        issuing.cert_pem.write_to_path(str(self._directory / "issuing.pem"))
        issuing.private_key_pem.write_to_path(str(self._directory / "issuing.key"))
