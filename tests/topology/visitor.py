"""Visits an HTTPS server by its name as a browser would, and prints what it met as JSON.

Run on a host of the topology: ``python visitor.py NAME PORT ROOT.PEM``.
"""

from __future__ import annotations

import hashlib
import json
import socket
import ssl
import sys


def visit(name: str, port: int, root: str) -> dict[str, str]:
    """Resolve by the host's own resolver, connect, verify chain and name, read an answer."""
    context = ssl.create_default_context(cafile=root)
    with (
        socket.create_connection((name, port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname=name) as tls,
    ):
        leaf = tls.getpeercert(binary_form=True)
        assert leaf is not None
        tls.sendall(f"GET / HTTP/1.0\r\nHost: {name}\r\n\r\n".encode())
        answer = b""
        while piece := tls.recv(4096):
            answer += piece
        return {
            "address": tls.getpeername()[0],
            "leaf_sha256": hashlib.sha256(leaf).hexdigest(),
            "answer": answer.split(b"\r\n\r\n", 1)[-1].decode(),
        }


if __name__ == "__main__":
    json.dump(visit(sys.argv[1], int(sys.argv[2]), sys.argv[3]), sys.stdout)
