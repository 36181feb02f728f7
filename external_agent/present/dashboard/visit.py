"""One visitor's request: their session, their language, what they may, and how pages are made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, cast

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp

from external_agent.facts.access import Role
from external_agent.present.dashboard.api import Api, Reply
from external_agent.present.dashboard.life import bar_of
from external_agent.present.dashboard.sessions import COOKIE, Session, Sessions, is_form_of
from external_agent.present.dashboard.words import WORDS, choose_language
from external_agent.present.wording import describe, moment

LANGUAGE_COOKIE = "lang"
_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Visit:
    """
    Attributes:
        me: what the API says of the visitor; ``None`` for somebody who has to sign in.
    """

    request: Request
    api: Api
    session: Session | None
    language: str
    me: dict[str, Any] | None
    now: int

    @property
    def may_operate(self) -> bool:
        return self.me is not None and Role(self.me["role"]).allows(Role.OPERATE)

    def page(self, template: str, *, status: int = 200, **values: object) -> Response:
        """Return a page in the visitor's language."""
        language = cast(Literal["en", "ja"], self.language)
        text = (
            _environment()
            .get_template(template)
            .render(
                **{
                    "refresh": False,
                    "refusal": None,
                    **values,
                },
                language=language,
                w=WORDS[language],
                me=self.me,
                may_operate=self.may_operate,
                form_token="" if self.session is None else self.session.form_token,
                moment=moment,
                describe=partial(describe, language=language),
                bar_of=partial(bar_of, now=self.now),
            )
        )
        response = HTMLResponse(text, status)
        if self.request.query_params.get("lang") == language:
            response.set_cookie(
                LANGUAGE_COOKIE, language, max_age=366 * 86400, httponly=True, samesite="lax"
            )
        return response

    def message(self, severity: str, message: str, status: int) -> Response:
        words = WORDS[self.language]
        heading = words["title"] if severity == "info" else words["error"]
        return self.page(
            "message.html", status=status, heading=heading, severity=severity, message=message
        )

    def refused(self, reply: Reply) -> Response:
        """Return the page for a refusal that leaves nothing else to show."""
        if reply.status == 404:
            return self.message("info", WORDS[self.language]["not_found"], 404)
        words = f"{reply.what} {reply.to_do}".strip()
        return self.message("critical", words, reply.status)

    def form_is_ours(self, form: Any) -> bool:
        given = form.get("form_token", "")
        return self.session is not None and is_form_of(self.session, str(given))


async def visit_of(
    request: Request, api: ASGIApp, sessions: Sessions, clock: Callable[[], float]
) -> Visit:
    """Find out who it is; the API has the last word on what they may."""
    now = int(clock())
    session = sessions.find(request.cookies.get(COOKIE, ""), now)
    asked = Api(api, request.scope, "" if session is None else session.authorization)
    me = await asked.get("/v1/me")
    language = choose_language(
        request.query_params.get("lang", ""),
        request.cookies.get(LANGUAGE_COOKIE, ""),
        request.headers.get("accept-language", ""),
    )
    return Visit(request, asked, session, language, me.document if me.good else None, now)


def to(path: str) -> Response:
    """Go on to another page with a GET."""
    return RedirectResponse(path, 303)


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
