"""The operator listener's front: calls of the API go to its gate, everything else to the pages.

The pages are for browsers, so the rules for browsers stand here: which host and origin a request
may carry, how large a form is, and what a page may load (Content Security Policy Level 3).
"""

from __future__ import annotations

from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from external_agent.operator.hosts import is_known_host, is_known_origin

MAX_FORM = 64 * 1024
_OF_THE_API = ("/v1/", "/healthz", "/readyz", "/metrics", "/openapi.json")
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # without a referrer a form would come from origin null
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}


class Front:
    """
    Args:
        api: the operator API behind its gate.
        pages: the dashboard.
        allowed_hosts: further names under which the listener is known.
    """

    def __init__(self, api: ASGIApp, pages: ASGIApp, allowed_hosts: Collection[str]) -> None:
        self._api, self._pages, self._allowed = api, pages, allowed_hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(_OF_THE_API):
            await self._api(scope, receive, send)
            return
        refusal = self._refusal(Headers(scope=scope))
        app = self._pages if refusal is None else refusal

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        await app(scope, receive, with_headers)

    def _refusal(self, headers: Headers) -> PlainTextResponse | None:
        host, origin = headers.get("host", ""), headers.get("origin")
        if not is_known_host(host, self._allowed):
            return PlainTextResponse(
                "This agent is not known by that host name; operator.allowed_hosts can add it.\n",
                421,
            )
        if origin is not None and not is_known_origin(origin, host, self._allowed):
            return PlainTextResponse("Pages of another origin may not call this.\n", 403)
        length = headers.get("content-length", "0")
        chunked = "transfer-encoding" in headers
        if chunked or not length.isdigit() or int(length) > MAX_FORM:
            return PlainTextResponse(f"A form has at most {MAX_FORM} octets.\n", 413)
        return None
