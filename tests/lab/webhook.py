"""A webhook: keeps what is posted to it, refuses, or answers nothing."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self


class Webhook:
    """
    Attributes:
        bodies: what was posted, in order, accepted or not.
        status: of the answers.
        silent: answers nothing until the end.
    """

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.status, self.silent = 200, False
        self._end = threading.Event()
        here = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                here.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                if here.silent:
                    here._end.wait(60)
                self.send_response(here.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def apprise_url(self) -> str:
        return f"json://127.0.0.1:{self._server.server_address[1]}/hook"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
