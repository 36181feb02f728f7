"""The certificate with one kind of key, of a listener that has an RSA one and an ECDSA one.

Up to TLS 1.2 the suites say the kind. With TLS 1.3 the signature algorithms do, and those Python
takes from nobody but OpenSSL's configuration: a process of its own is given one.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from internal_puller.install.probe import handshake
from internal_puller.install.probe.handshake import OF_KIND, Seen, shake
from internal_puller.install.probe.leaf import key_kind
from shared.host.commands import environment

_ALGORITHMS: Final = {  # RFC 8446 section 4.2.3
    "rsa": "rsa_pss_rsae_sha256:rsa_pss_rsae_sha384:rsa_pss_rsae_sha512:"
    "rsa_pss_pss_sha256:rsa_pss_pss_sha384:rsa_pss_pss_sha512:"
    # Not for TLS 1.3, but HAProxy knows a client that takes RSA by these only.
    "rsa_pkcs1_sha256:rsa_pkcs1_sha384:rsa_pkcs1_sha512",
    "ecdsa": "ecdsa_secp256r1_sha256:ecdsa_secp384r1_sha384:ecdsa_secp521r1_sha512",
}
_CONFIGURATION: Final = """openssl_conf = all
[all]
ssl_conf = ssl
[ssl]
system_default = probe
[probe]
SignatureAlgorithms = {}
"""
_NAMES: Final = {"rsa": "an RSA", "ecdsa": "an ECDSA", None: "another kind of"}

_START_SECONDS: Final = 5.0

Shake = Callable[[socket.socket, str, float], Seen]
"""A handshake on a connection, for a name, until a deadline."""


def see(attempt: Callable[[Shake], Seen], kind: str | None) -> Seen:
    """Return what is seen of the certificate with the wanted kind of key, if there is one.

    A listener without one shows what it shows anybody.

    Args:
        attempt: connects once, and gives the connection to the handshake.
        kind: ``"rsa"`` or ``"ecdsa"``; ``None`` wants any.
    """
    first = attempt(shake)
    if kind is None or first.leaf is None or key_kind(first.leaf) == kind:
        return first
    handshakes: list[Shake] = [partial(shake, suites=OF_KIND[kind])]
    if first.newest:
        handshakes.append(partial(_in_a_child, kind=kind))
    unclear = ""
    for one in handshakes:
        seen = attempt(one)
        if seen.leaf is not None and key_kind(seen.leaf) == kind:
            return seen
        if seen.leaf is not None:
            unclear = "it was shown the same again"
        elif not seen.known:
            unclear = seen.why
    if not unclear:
        return first
    return Seen(
        known=False,
        why=f"it shows a certificate with {_NAMES[key_kind(first.leaf)]} key; whether it has one "
        f"with {_NAMES[kind]} key, too, could not be found out: {unclear}",
    )


def _in_a_child(connection: socket.socket, sni: str, deadline: float, kind: str) -> Seen:
    """Shake hands in a process whose OpenSSL offers the signatures of one kind of key only."""
    left = max(deadline - time.monotonic(), 0.0)
    settings = os.memfd_create("openssl.cnf")
    try:
        os.write(settings, _CONFIGURATION.format(_ALGORITHMS[kind]).encode())
        done = subprocess.run(
            [
                *(sys.executable, "-I", "-S", handshake.__file__),
                *(str(connection.fileno()), sni, str(left)),
            ],
            env=environment({"OPENSSL_CONF": f"/proc/self/fd/{settings}"}),
            pass_fds=(connection.fileno(), settings),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=left + _START_SECONDS,
            check=True,
        )
        found = json.loads(done.stdout)
        leaf = found.pop("leaf")
        return Seen(leaf=None if leaf is None else bytes.fromhex(leaf), **found)
    except (OSError, subprocess.SubprocessError, ValueError, TypeError) as error:
        return Seen(known=False, why=f"no process of its own could look ({type(error).__name__})")
    finally:
        os.close(settings)
