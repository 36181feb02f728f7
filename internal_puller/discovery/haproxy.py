"""HAProxy: the ``bind … ssl crt …`` lines of its configuration file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cryptography import x509

from internal_puller.discovery.site import ANYWHERE, Setting, Site, read_text, split_port
from shared.contract.x509 import dns_names

CONFIGURATION = Path("/etc/haproxy/haproxy.cfg")


def sites(file: Path = CONFIGURATION) -> list[Site]:
    """Return the binds of HAProxy that do TLS; their names are those of the certificate there.

    Raises:
        ConfigurationError: the file cannot be read.
    """
    return list(_sites(file))


def _sites(file: Path) -> Iterator[Site]:
    base = Path("/")
    for number, line in enumerate(read_text(file).splitlines(), 1):
        words = line.split("#", 1)[0].split()
        if words[:1] == ["crt-base"] and len(words) == 2:
            base = Path(words[1])
        if words[:1] != ["bind"] or "ssl" not in words:
            continue
        listens = [found for one in words[1].split(",") if (found := split_port(one))]
        for position, word in enumerate(words[:-1]):
            if word != "crt":
                continue
            path = words[position + 1]
            setting = Setting(file, number, "crt", path)
            there = base / path  # an absolute one stays what it is
            notes = ("a directory: HAProxy reads every file in it",) if there.is_dir() else ()
            yield Site("haproxy", _names(there), setting, None, tuple(listens) or ANYWHERE, notes)


def _names(path: Path) -> tuple[str, ...]:
    try:
        leaf = x509.load_pem_x509_certificates(path.read_bytes())[0]
        return tuple(sorted(dns_names(leaf)))
    except (OSError, ValueError, IndexError, x509.ExtensionNotFound):
        return ()
