"""The trust anchors that a bundle's chain must end in: this machine's own, or a file's."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from cryptography import x509

from internal_puller.settings.targets import Target
from shared.contract.errors import ConfigurationError
from shared.contract.x509 import load_roots
from shared.host.public_roots import public_roots_file
from shared.host.trusted_file import read_trusted

Roots = tuple[x509.Certificate, ...]


def anchors_of(targets: Iterable[Target]) -> tuple[Roots, ...]:
    """Return one set of roots for each target that differs.

    Raises:
        ConfigurationError: a target's file cannot be read or holds no certificate.
    """
    return tuple(
        roots_in(path or public_roots_file())
        for path in dict.fromkeys(target.roots for target in targets)
    )


def roots_in(path: Path, *, trusted: bool = True) -> Roots:
    """Return the roots of a PEM file.

    Args:
        trusted: it is read again at each pull, so that nobody else may change it.

    Raises:
        ConfigurationError: none can be read.
        LooseFileMode: another account could put its own there.
    """
    try:
        content = read_trusted(path, "file of roots") if trusted else path.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"The file of roots {path} cannot be read: {error.strerror}."
        ) from error
    roots = tuple(load_roots(content))
    if not roots:
        raise ConfigurationError(f"{path} holds no root certificate in PEM.")
    return roots
