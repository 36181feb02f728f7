"""The pages and their forms; every fact and every change goes through the operator API."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from external_agent.facts.access import PREFIX
from external_agent.facts.issues import Severity
from external_agent.facts.overview import Line, Overview
from external_agent.operator.services import Run
from external_agent.present.dashboard.sessions import COOKIE, Sessions
from external_agent.present.dashboard.visit import Visit, to, visit_of
from external_agent.present.dashboard.words import WORDS
from shared.acme.revocation import REASONS
from shared.contract.errors import StoreError

PAGE = 50
_STATIC = Path(__file__).parent / "static"
_TYPES = {"style.css": "text/css", "refresh.js": "text/javascript"}
Page = Callable[[Visit], Awaitable[Response]]
_CERTIFICATE_ACTIONS: dict[str, tuple[str, str, object]] = {
    "renew": ("POST", "renew", None),
    "pause": ("PUT", "pause", {}),
    "resume": ("DELETE", "pause", None),
    "revoke": ("POST", "revoke", None),
    "token": ("POST", "", None),
}
_PULLER_ACTIONS: dict[str, object] = {"confirm": None, "suspend": {}, "revoke": None}


class Dashboard:
    """
    Args:
        api: the operator API behind its gate.
        overview: of all certificates.
        run: calls a function that may block.
        clock: unix seconds.
        secure: the pages are reached over TLS.
    """

    def __init__(
        self,
        api: ASGIApp,
        overview: Overview,
        run: Run,
        clock: Callable[[], float],
        *,
        secure: bool,
        sessions: Sessions | None = None,
    ) -> None:
        self._api, self._overview, self._run, self._clock = api, overview, run, clock
        self._secure = secure
        self._sessions = sessions or Sessions()

    def asgi(self) -> Starlette:
        """Return the app, to be put behind ``external_agent.present.dashboard.front.Front``."""
        pages = (
            ("/", self._first, "GET"),
            ("/certificates/{certificate}", self._certificate, "GET"),
            ("/certificates/{certificate}/{action}", self._act_on_certificate, "POST"),
            ("/direct/{puller}/{certificate}", self._direct, "GET"),
            ("/agent", self._agent, "GET"),
            ("/pullers", self._pullers, "GET"),
            ("/pullers/{puller}", self._puller, "GET"),
            ("/pullers/{puller}/{action}", self._act_on_puller, "POST"),
            ("/add", self._add_form, "GET"),
            ("/add", self._add, "POST"),
        )
        routes = [Route(path, self._known(page), methods=[how]) for path, page, how in pages]
        routes += [
            Route("/sign-in", self._sign_in_form, methods=["GET"]),
            Route("/sign-in", self._sign_in, methods=["POST"]),
            Route("/sign-out", self._sign_out, methods=["POST"]),
            Route("/static/{name}", self._static, methods=["GET"]),
            Route("/{path:path}", self._known(self._nothing), methods=["GET", "POST"]),
        ]
        return Starlette(routes=routes)

    def _known(self, page: Page) -> Callable[[Request], Awaitable[Response]]:
        """Show a page to those whom the API knows; lead everybody else to the sign-in."""

        async def shown(request: Request) -> Response:
            visit = await self._visit(request)
            if visit.me is None:
                return to("/sign-in")
            try:
                return await page(visit)
            except StoreError:
                return visit.message("critical", WORDS[visit.language]["not_available"], 503)

        return shown

    async def _visit(self, request: Request) -> Visit:
        return await visit_of(request, self._api, self._sessions, self._clock)

    # --- looking -----------------------------------------------------------------------------

    async def _first(self, visit: Visit) -> Response:
        query = visit.request.query_params
        text, only_trouble = query.get("q", "")[:253], query.get("show") == "trouble"
        begin = _number(query.get("from", "0"))
        snapshot = await self._run(self._overview.snapshot)
        least = Severity.WARNING if only_trouble else Severity.OK
        found = snapshot.find(text=text, least=least)
        more = {"q": text, "show": query.get("show", ""), "from": str(begin + PAGE)}
        counts = snapshot.counts
        return visit.page(
            "first.html",
            refresh=True,
            snapshot=snapshot,
            lines=found[begin : begin + PAGE],
            following=urlencode(more) if len(found) > begin + PAGE else "",
            text=text,
            only_trouble=only_trouble,
            critical=counts.get(Severity.CRITICAL, 0),
            trouble=counts.get(Severity.WARNING, 0) + counts.get(Severity.CRITICAL, 0),
            coming=counts.get(Severity.INFO, 0),
            unseen=sum(line.served is not True for line in snapshot.lines),
        )

    async def _certificate(self, visit: Visit, refusal: object = None) -> Response:
        identifier = visit.request.path_params["certificate"]
        one = await visit.api.get(f"/v1/certificates/{identifier}")
        if not one.good:
            return visit.refused(one)
        generations = await visit.api.get(f"/v1/certificates/{identifier}/generations", "limit=20")
        orders = await visit.api.get(f"/v1/certificates/{identifier}/orders", "limit=5")
        receipts, events = await self._records(visit, f"certificate={identifier}")
        return visit.page(
            "certificate.html",
            refresh=True,
            refusal=refusal,
            one=one.document,
            line=await self._line(identifier),
            generations=generations.document["items"],
            orders=orders.document["items"],
            receipts=receipts,
            events=events,
            reasons=tuple(REASONS),
        )

    async def _line(self, certificate: str, puller: str = "") -> Line | None:
        """Return the line of the agent's own certificate, or of one that this puller gets."""
        snapshot = await self._run(self._overview.snapshot)
        lines = (
            one
            for one in snapshot.lines
            if one.certificate == certificate
            and one.direct == bool(puller)
            and (not puller or puller in one.pullers)
        )
        return next(lines, None)

    async def _direct(self, visit: Visit) -> Response:
        puller, certificate = (visit.request.path_params[one] for one in ("puller", "certificate"))
        reply = await visit.api.get("/v1/direct-certificates")
        if not reply.good:
            return visit.refused(reply)
        for one in reply.document["items"]:
            if (one["puller"], one["certificate"]) == (puller, certificate):
                line = await self._line(certificate, puller)
                return visit.page("direct.html", refresh=True, one=one, line=line)
        return await self._nothing(visit)

    async def _agent(self, visit: Visit) -> Response:
        found = {}
        for name in ("authorities", "accounts", "alerts"):
            reply = await visit.api.get(f"/v1/{name}")
            if not reply.good:
                return visit.refused(reply)
            found[name] = reply.document["items"]
        return visit.page(
            "agent.html",
            refresh=True,
            authorities=found["authorities"],
            accounts=found["accounts"],
            receivers=found["alerts"],
        )

    async def _records(self, visit: Visit, about: str) -> tuple[list[Any], list[Any]]:
        receipts = await visit.api.get("/v1/receipts", f"{about}&limit=20")
        events = await visit.api.get("/v1/events", f"{about}&limit=30")
        return receipts.document["items"], events.document["items"]

    async def _pullers(self, visit: Visit) -> Response:
        after = visit.request.query_params.get("after", "")
        reply = await visit.api.get("/v1/pullers", urlencode({"limit": PAGE, "after": after}))
        if not reply.good:
            return visit.refused(reply)
        found = reply.document
        return visit.page(
            "pullers.html", refresh=True, pullers=found["items"], following=found["next"]
        )

    async def _puller(self, visit: Visit, refusal: object = None) -> Response:
        identifier = visit.request.path_params["puller"]
        one = await visit.api.get(f"/v1/pullers/{identifier}")
        if not one.good:
            return visit.refused(one)
        receipts, events = await self._records(visit, f"puller={identifier}")
        snapshot = await self._run(self._overview.snapshot)
        host = one.document["host"]
        concerns = [
            concern
            for line in snapshot.find(puller=identifier)
            for concern in line.concerns
            if concern.about == host
        ]
        return visit.page(
            "puller.html",
            refresh=True,
            refusal=refusal,
            one=one.document,
            concerns=concerns,
            receipts=receipts,
            events=events,
        )

    async def _nothing(self, visit: Visit) -> Response:
        return visit.message("info", WORDS[visit.language]["not_found"], 404)

    # --- changing ----------------------------------------------------------------------------

    async def _act_on_certificate(self, visit: Visit) -> Response:
        identifier, action = (visit.request.path_params[one] for one in ("certificate", "action"))
        if action not in _CERTIFICATE_ACTIONS:
            return await self._nothing(visit)
        form = await visit.request.form()
        if not visit.form_is_ours(form):
            return visit.message("critical", WORDS[visit.language]["form_old"], 403)
        if action == "token":
            return await self._token(visit, identifier, new=False)
        method, path, body = _CERTIFICATE_ACTIONS[action]
        if action == "revoke":
            if form.get("sure") != "yes":
                return to(f"/certificates/{identifier}")
            generation = _number(str(form.get("generation", "")), digits=16)
            body = {"reason": str(form.get("reason", "")), "generation": generation}
        reply = await visit.api.send(method, f"/v1/certificates/{identifier}/{path}", body)
        if reply.good:
            return to(f"/certificates/{identifier}")
        return await self._certificate(visit, refusal=reply)

    async def _act_on_puller(self, visit: Visit) -> Response:
        identifier, action = (visit.request.path_params[one] for one in ("puller", "action"))
        if action not in _PULLER_ACTIONS:
            return await self._nothing(visit)
        if not visit.form_is_ours(await visit.request.form()):
            return visit.message("critical", WORDS[visit.language]["form_old"], 403)
        body = _PULLER_ACTIONS[action]
        reply = await visit.api.send("POST", f"/v1/pullers/{identifier}/{action}", body)
        if reply.good:
            return to(f"/pullers/{identifier}")
        return await self._puller(visit, refusal=reply)

    async def _add_form(self, visit: Visit) -> Response:
        typed = {"names": "", "challenge": "http-01", "key_origin": "agent"}
        if visit.session is None:
            return to("/sign-in")
        return visit.page("add.html", typed=typed, faults={})

    async def _add(self, visit: Visit) -> Response:
        form = await visit.request.form()
        if not visit.form_is_ours(form):
            return visit.message("critical", WORDS[visit.language]["form_old"], 403)
        typed = {one: str(form.get(one, "")) for one in ("names", "challenge", "key_origin")}
        names = typed["names"].split()
        wanted = {**typed, "names": names}
        reply = await visit.api.send("POST", "/v1/certificates", wanted)
        if reply.good:
            return await self._token(visit, reply.document["certificate"], new=True)
        return visit.page(
            "add.html", status=reply.status, refusal=reply, typed=typed, faults=reply.faults
        )

    async def _token(self, visit: Visit, certificate: str, *, new: bool) -> Response:
        grant = {"certificates": [certificate]}
        reply = await visit.api.send("POST", "/v1/enrolment-tokens", grant)
        if not reply.good:
            return visit.refused(reply)
        token = reply.document["token"]
        return visit.page("added.html", certificate=certificate, token=token, new=new)

    # --- signing in and out ------------------------------------------------------------------

    async def _sign_in_form(self, request: Request) -> Response:
        return (await self._visit(request)).page("sign_in.html")

    async def _sign_in(self, request: Request) -> Response:
        token = str((await request.form()).get("token", "")).strip()[:200]
        visit = await self._visit(request)
        words = WORDS[visit.language]
        if not token.startswith(PREFIX) or not token.isascii():
            return visit.page("sign_in.html", status=403, refusal=words["wrong_token"])
        authorization = f"Bearer {token}"
        me = await type(visit.api)(self._api, request.scope, authorization).get("/v1/me")
        if not me.good:
            wrong = words["wrong_token"] if me.status == 401 else me.what
            return visit.page("sign_in.html", status=me.status, refusal=wrong)
        ends = me.document.get("expires_at")
        identifier = self._sessions.begin(authorization, now=visit.now, token_ends=ends)
        response = to("/")
        response.set_cookie(
            COOKIE, identifier, httponly=True, samesite="strict", secure=self._secure, path="/"
        )
        return response

    async def _sign_out(self, request: Request) -> Response:
        visit = await self._visit(request)
        if visit.session is not None and visit.form_is_ours(await request.form()):
            self._sessions.end(request.cookies.get(COOKIE, ""))
        response = to("/sign-in")
        response.delete_cookie(COOKIE, path="/")
        return response

    async def _static(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in _TYPES:
            return Response(status_code=404)
        return FileResponse(_STATIC / name, media_type=_TYPES[name])


def _number(text: str, *, digits: int = 7) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= digits else 0
