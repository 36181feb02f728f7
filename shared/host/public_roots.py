"""The roots that count where nobody named any: this machine's own. Only the standard library."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

# Where OpenSSL was built to look comes first; the others are for a Python that brought its own.
_USUAL: Final = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Alpine, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",  # Red Hat and its kin
    "/etc/ssl/ca-bundle.pem",  # SUSE
)
_BEGIN: Final = b"-----BEGIN CERTIFICATE-----"


def public_roots_file() -> Path:
    """Return the PEM file of roots that count where no setting names others.

    It is the machine's own store, and nothing beside it: what its administrator took out of it
    must not count again because a package brought it along (docs/decisions/0024-trust-roots.md).
    Only where a machine has no store, or an empty one, certifi's roots stand in. The environment
    (``SSL_CERT_FILE`` and its kind) never decides.
    """
    for name in (ssl.get_default_verify_paths().openssl_cafile, *_USUAL):
        path = Path(name)
        try:
            if _BEGIN in path.read_bytes():
                return path
        except OSError:
            continue
    import certifi

    return Path(certifi.where())
