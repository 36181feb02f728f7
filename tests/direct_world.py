"""An intranet machine in direct mode, with a CA that truly checks and its DNS."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from internal_puller.settings.targets import Target, save_targets
from internal_puller.sources.direct.record import CertificateFiles, DirectFiles, DirectProgress
from internal_puller.state.state import StateDirectory
from shared.acme.keys import generate_account_key
from tests.lab import LabCa, SplitDns
from tests.machine import NAME, Machine

Toml = dict[str, Any]


@dataclass
class DirectWorld:
    """One machine, one CA, one DNS.

    Attributes:
        tables: what stands as ``[[certificate]]`` in direct.toml.
        settings: what stands above them.
    """

    base: Path
    ca: LabCa
    dns: SplitDns
    machine: Machine
    settings: Toml = field(default_factory=dict)
    tables: list[Toml] = field(default_factory=list)

    @property
    def files(self) -> DirectFiles:
        return DirectFiles(self.machine.settings.state_directory)

    def of(self, certificate: str = NAME) -> CertificateFiles:
        return self.files.of(certificate)

    def progress(self, certificate: str = NAME) -> DirectProgress:
        found = self.of(certificate).progress()
        assert found is not None
        return found

    def change(self, certificate: str = NAME, **members: Any) -> None:
        """Change what is kept of a certificate, as if time had gone by."""
        found = self.progress(certificate)
        for name, value in members.items():
            setattr(found, name, value)
        self.of(certificate).save_progress(found)

    def want(self, *names: str, challenge: str = "dns-01", **members: Any) -> None:
        self.tables.append({"names": list(names or (NAME,)), "challenge": challenge, **members})
        self.write()

    def write(self) -> None:
        path = self.machine.settings.direct_file
        text = "".join(f"{key} = {_toml(value)}\n" for key, value in self.settings.items())
        for table in self.tables:
            text += "[[certificate]]\n"
            text += "".join(f"{key} = {_toml(value)}\n" for key, value in table.items())
        path.write_text(text)
        path.chmod(0o600)

    def target(self, certificate: str = NAME, **members: Any) -> Target:
        """Have it installed where nothing is reloaded, trusted by the CA's root."""
        roots = self.base / "root.pem"
        roots.write_text(self.ca.root_pem)
        names = members.pop("names", (certificate.replace("_wildcard", "*"),))
        directory = members.pop("directory", self.machine.base / "tls" / certificate)
        target = Target(certificate, names, directory, **{"roots": roots} | members)
        save_targets(self.machine.settings.targets_file, [*self.machine.targets(), target])
        return target

    def persist_record(self, name: str = NAME, *, until: int | None = None) -> None:
        """Set the record of draft -01 for the machine's account."""
        account = self.files.account_url(self.ca.directory_url)
        text = f"lab-ca.example; accounturi={account}"
        text += f"; persistUntil={until}" if until else ""
        self.dns.set_text("outside", f"_validation-persist.{name}", text)


@contextmanager
def direct_world(
    base: Path, *, clock: Callable[[], float] | None = None, **ca: Any
) -> Iterator[DirectWorld]:
    """Put it together; ``[dns01]`` writes by DNS UPDATE with TSIG."""
    more = {} if clock is None else {"clock": clock}
    with (
        SplitDns("example.com", "example.org") as dns,
        LabCa(resolver=dns.resolver, **{"retry_after": None} | more | ca) as authority,
    ):
        machine = Machine(base / "machine", **more)
        machine.base.mkdir()
        StateDirectory.create(machine.settings.state_directory)
        files = DirectFiles(machine.settings.state_directory)
        files.create()
        files.save_account_key(generate_account_key())
        key = dns.add_key("puller", types=["TXT"])
        (base / "tsig.key").write_text(
            f'key "puller" {{ algorithm hmac-sha256; '
            f'secret "{base64.b64encode(key.secret).decode()}"; }};\n'
        )
        (base / "tsig.key").chmod(0o600)
        (base / "ca-tls.pem").write_text(authority.tls_root_pem)
        world = DirectWorld(base, authority, dns, machine)
        server = dns_server(dns)
        world.settings = {
            "directory": authority.directory_url,
            "terms_agreed": True,
            "contact": ["mailto:ops@example.com"],
            "ca_root": str(base / "ca-tls.pem"),
            "dns01.resolvers": [server],
            "dns01.name_servers": [server],
            "dns01.rfc2136.server": server,
            "dns01.rfc2136.key_file": str(base / "tsig.key"),
        }
        world.write()
        yield world


def dns_server(dns: SplitDns) -> str:
    """Return the outside view's address as settings take it."""
    host, port = dns.outside_address[:2]
    return f"{host}:{port}"


def _toml(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
