"""The pages ask the operator API like everybody else, in the same process, through its gate."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Message, Scope


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer; ``document`` is the JSON in it, a problem document (RFC 9457) for a refusal."""

    status: int
    document: Any

    @property
    def good(self) -> bool:
        return self.status < 400

    @property
    def what(self) -> str:
        """What a refusal says."""
        said = self.document if isinstance(self.document, dict) else {}
        return str(said.get("detail") or said.get("title") or self.status)

    @property
    def to_do(self) -> str:
        said = self.document if isinstance(self.document, dict) else {}
        return str(said.get("do") or "")

    @property
    def faults(self) -> dict[str, str]:
        """What is wrong with each member of a form."""
        said = self.document if isinstance(self.document, dict) else {}
        return {
            str(one["member"]).partition(".")[0]: str(one["what"]) for one in said.get("faults", [])
        }


class Api:
    """Calls the app for one visitor.

    Args:
        app: the API behind its gate.
        scope: of the visitor's request: its peer, its host, its local user.
        authorization: of the visitor's session; empty for none.
    """

    def __init__(self, app: ASGIApp, scope: Scope, authorization: str) -> None:
        self._app, self._scope, self._authorization = app, scope, authorization

    async def get(self, path: str, query: str = "") -> Reply:
        return await self._call("GET", path, query, None)

    async def send(self, method: str, path: str, body: object | None = None) -> Reply:
        return await self._call(method, path, "", body)

    async def _call(self, method: str, path: str, query: str, body: object | None) -> Reply:
        content = b"" if body is None else json.dumps(body).encode()
        headers = [
            (name, value) for name, value in self._scope["headers"] if name in (b"host", b"via")
        ]
        headers += [
            (name, value)
            for name, value in self._scope["headers"]
            if name.startswith((b"x-forwarded", b"forwarded"))
        ]
        if self._authorization:
            headers.append((b"authorization", self._authorization.encode("latin-1")))
        if body is not None:
            headers.append((b"content-type", b"application/json"))
        headers.append((b"content-length", str(len(content)).encode()))
        scope = {
            **self._scope,
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": headers,
            "state": dict(self._scope.get("state") or {}),
        }
        answer = _Answer(content)
        await self._app(scope, answer.receive, answer.send)
        return answer.reply()


class _Answer:
    """The two ends of one exchange."""

    def __init__(self, content: bytes) -> None:
        self._content, self._body, self._status = content, bytearray(), 500

    async def receive(self) -> Message:
        content, self._content = self._content, b""
        return {"type": "http.request", "body": content, "more_body": False}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
        else:
            self._body += message.get("body", b"")

    def reply(self) -> Reply:
        return Reply(self._status, json.loads(self._body) if self._body else None)
