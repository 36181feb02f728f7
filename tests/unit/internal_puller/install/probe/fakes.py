"""TLS servers of a few lines, and pairs of certificate and key that are none."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from internal_puller.settings.probe_point import ProbePoint

NAME = "www.intra.example.com"
KINDS = {"ecdsa": trustme.KeyType.ECDSA, "rsa": trustme.KeyType.RSA}


@dataclass(frozen=True)
class Pair:
    """PEM files, and the leaf's DER."""

    chain: Path
    key: Path
    leaf: bytes


def sha256(one: Pair) -> str:
    return hashlib.sha256(one.leaf).hexdigest()


@cache
def authority() -> trustme.CA:
    return trustme.CA()


@cache
def issued(kind: str, number: int) -> trustme.LeafCert:
    del number
    return authority().issue_cert(NAME, key_type=KINDS[kind])


def pair(base: Path, kind: str = "ecdsa", number: int = 1) -> Pair:
    """Return a certificate and its key, and always the same."""
    leaf = issued(kind, number)
    return _written(base, f"{kind}-{number}", leaf, leaf.private_key_pem.bytes())


def mixed_pair(base: Path, kind: str = "ecdsa") -> Pair:
    """Return a certificate and a key that only says that it is the certificate's.

    OpenSSL compares the public half that a key file holds, and works with the private one.
    """
    ours, theirs = (issued(kind, number) for number in (1, 2))
    key = mixed_key(*(one.private_key_pem.bytes() for one in (ours, theirs)))
    return _written(base, f"mixed-{kind}", ours, key)


def mixed_key(public: bytes, private: bytes) -> bytes:
    """Return a key with the public half of one key and the private half of another, all PEM."""
    keys = [load_pem_private_key(pem, None) for pem in (public, private)]
    der = keys[1].private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    halves = [_public_half(key) for key in keys]
    body = base64.encodebytes(der.replace(halves[1], halves[0]))
    return b"-----BEGIN PRIVATE KEY-----\n" + body + b"-----END PRIVATE KEY-----\n"


def _public_half(key: PrivateKeyTypes) -> bytes:
    if isinstance(key, rsa.RSAPrivateKey):
        return key.public_key().public_numbers().n.to_bytes(key.key_size // 8)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def _written(base: Path, name: str, leaf: trustme.LeafCert, key: bytes) -> Pair:
    chain, key_file = base / f"{name}.pem", base / f"{name}.key"
    chain.write_bytes(b"".join(one.bytes() for one in leaf.cert_chain_pems))
    key_file.write_bytes(key)
    key_file.chmod(0o600)
    der = ssl.PEM_cert_to_DER_cert(leaf.cert_chain_pems[0].bytes().decode())
    return Pair(chain, key_file, der)


def context(*pairs: Pair) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for one in pairs:
        made.load_cert_chain(one.chain, one.key)
    return made


Serve = Callable[[socket.socket], None]


def tls(made: ssl.SSLContext) -> Serve:
    """Shake hands as well as the context can, and close when the client does."""

    def serve(connection: socket.socket) -> None:
        with made.wrap_socket(connection, server_side=True) as server:
            server.recv(1)

    return serve


def without_renegotiation_info(flight: bytes) -> bytes:
    """Take the extension of RFC 5746 out of a ServerHello of TLS 1.2."""
    extension = b"\xff\x01\0\x01\0"
    assert flight[5] == 2 and flight.count(extension) == 1
    extensions = 5 + 4 + 2 + 32 + 1 + flight[5 + 4 + 2 + 32] + 3
    shorter = bytearray(flight)
    for at, octets in ((3, 2), (6, 3), (extensions, 2)):
        length = int.from_bytes(shorter[at : at + octets]) - len(extension)
        shorter[at : at + octets] = length.to_bytes(octets)
    return bytes(shorter).replace(extension, b"")


def records(
    made: ssl.SSLContext,
    count: int,
    then: Serve = lambda connection: None,
    change: Callable[[bytes], bytes] = bytes,
) -> Serve:
    """Answer a ClientHello with the first records of a server's flight only."""

    def serve(connection: socket.socket) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        server = made.wrap_bio(incoming, outgoing, server_side=True)
        incoming.write(connection.recv(65536))
        with contextlib.suppress(ssl.SSLWantReadError):
            server.do_handshake()
        flight, end = change(outgoing.read()), 0
        for _ in range(count):
            end += 5 + int.from_bytes(flight[end + 3 : end + 5])
        connection.sendall(flight[:end])
        then(connection)

    return serve


def silent(connection: socket.socket) -> None:
    """Say nothing until the client goes."""
    with contextlib.suppress(OSError):
        while connection.recv(4096):
            pass


@contextlib.contextmanager
def server(serve: Serve, address: str = "127.0.0.1", port: int = 0) -> Iterator[ProbePoint]:
    """Serve every connection by ``serve``, one after the other."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, port), family=family) as listener:

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection, contextlib.suppress(OSError):
                    connection.settimeout(10)
                    serve(connection)

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield ProbePoint(address, listener.getsockname()[1], NAME)
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
