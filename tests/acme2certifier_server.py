"""acme2certifier's WSGI application over HTTPS; run by its own environment's Python.

python acme2certifier_server.py PORT CERTIFICATE KEY
"""

from __future__ import annotations

import ssl
import sys
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from acme2certifier.share.acme2certifier_wsgi import application


class Server(ThreadingMixIn, WSGIServer):
    """One thread for each connection, for requests come while a challenge is validated."""

    daemon_threads = True
    request_queue_size = 64


class Handler(WSGIRequestHandler):
    """Says that the request came by TLS, for the links in the answers follow that."""

    def setup(self) -> None:
        self.request.do_handshake()
        super().setup()

    def get_environ(self) -> dict[str, object]:
        return {**super().get_environ(), "HTTPS": "on"}

    def address_string(self) -> str:
        return str(self.client_address[0])


def main() -> None:
    port, certificate, key = sys.argv[1:]
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    server = make_server(
        "127.0.0.1", int(port), application, server_class=Server, handler_class=Handler
    )
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    server.serve_forever()


if __name__ == "__main__":
    main()
