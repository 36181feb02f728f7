"""A web server that answers http-01, well or badly: the other end for tests of a CA or a client."""

from __future__ import annotations

from typing import Self

from .http_server import Answer, HttpServer, Request

PREFIX = "/.well-known/acme-challenge/"


class ChallengeSite:
    """Serves what it is told on an ephemeral port; everything else is 404.

    Attributes:
        answers: by path, a body or a whole `Answer`.
        requests: every request, oldest first.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.answers: dict[str, bytes | Answer] = {}
        self.requests: list[Request] = []
        self._server = HttpServer(self._answer, host, port, None)
        self.port = self._server.port

    def present(self, token: str, key_authorization: str) -> None:
        """Serve a key authorization."""
        self.answers[PREFIX + token] = key_authorization.encode()

    def _answer(self, request: Request) -> Answer:
        self.requests.append(request)
        found = self.answers.get(request.path, Answer(404))
        if isinstance(found, bytes):
            return Answer(200, found)
        return Answer(found.status, found.body, list(found.headers), found.cut, found.lost)

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.close()
