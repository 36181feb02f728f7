"""The trust anchors that a bundle's chain must end in: the system's and certifi's, or a file."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from pathlib import Path

import certifi
from cryptography import x509

from internal_puller.settings.targets import Target
from shared.contract.errors import ConfigurationError
from shared.contract.x509 import load_roots

Roots = tuple[x509.Certificate, ...]


def anchors_of(targets: Iterable[Target]) -> tuple[Roots, ...]:
    """Return one set of roots for each target that differs.

    Raises:
        ConfigurationError: a target's file cannot be read or holds no certificate.
    """
    return tuple(
        public_roots() if path is None else roots_in(path)
        for path in dict.fromkeys(target.roots for target in targets)
    )


def public_roots() -> Roots:
    """Return the system's roots and certifi's, each once."""
    found: dict[bytes, x509.Certificate] = {}
    system = ssl.get_default_verify_paths().cafile
    for name in filter(None, (system, certifi.where())):
        if Path(name).is_file():
            for root in load_roots(Path(name).read_bytes()):
                found.setdefault(root.tbs_certificate_bytes, root)
    return tuple(found.values())


def roots_in(path: Path) -> Roots:
    """Return the roots of a PEM file. Raises ``ConfigurationError``: none can be read."""
    try:
        roots = tuple(load_roots(path.read_bytes()))
    except OSError as error:
        raise ConfigurationError(
            f"The roots in {path} cannot be read: {error.strerror}."
        ) from error
    if not roots:
        raise ConfigurationError(f"{path} holds no root certificate in PEM.")
    return roots
