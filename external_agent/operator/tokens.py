"""Calls about secrets that are shown once: enrolment tokens, and access tokens of this API."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi import Request as HttpRequest
from starlette.responses import Response

from external_agent.facts.access import (
    SECRET_BYTES,
    Role,
    check_lifetime,
    check_name,
    digest_of,
    token_text,
)
from external_agent.operator import examples
from external_agent.operator.answers import answer, secret
from external_agent.operator.calls import Calls, TokenInPath, caller_of
from external_agent.operator.found import certificate_row
from external_agent.operator.model_action import (
    Access,
    AccessTokens,
    Enrolment,
    Enrolments,
    MadeAccess,
    MadeEnrolment,
    Me,
    NewAccess,
    NewEnrolment,
)
from external_agent.operator.problems import Refused
from external_agent.operator.services import Services
from external_agent.records.rows import AccessRow, TokenRow
from shared.contract.errors import PolicyError

Json = dict[str, Any]


def enrolment_calls(app: FastAPI, services: Services) -> None:
    """Add the calls about enrolment tokens."""
    calls, store = Calls(app, "enrolment"), services.store

    @calls.read("/enrolment-tokens", Enrolments, examples.ENROLMENTS)
    async def list_enrolment_tokens(request: HttpRequest) -> Response:
        """Enrolment tokens that were made, without their secrets."""
        rows = await services.run(store.tokens)
        return answer(request, {"items": [enrolment_view(row) for row in rows]})

    @calls.act(
        "POST",
        "/enrolment-tokens",
        status=201,
        model=MadeEnrolment,
        example=examples.MADE_ENROLMENT,
        body=True,
    )
    async def create_enrolment_token(request: HttpRequest, wanted: NewEnrolment) -> Response:
        """Make a one-time token: with it one machine becomes a puller of these certificates."""
        for certificate in wanted.certificates:
            await certificate_row(services, certificate)
        maker = await services.run(services.token_maker)
        made = await services.run(
            maker.make,
            store,
            wanted.certificates,
            now=services.now,
            lifetime=wanted.lifetime,
            actor=caller_of(request).actor,
        )
        row = await services.run(store.token, made.key.id)
        document = {**enrolment_view(row), "token": made.encode()}
        return secret(document, f"/v1/enrolment-tokens/{row.id}")

    @calls.act(
        "DELETE",
        "/enrolment-tokens/{token_id}",
        model=Enrolment,
        example=examples.ENROLMENT,
        refusals=("not-found",),
    )
    async def void_enrolment_token(request: HttpRequest, token_id: TokenInPath) -> Response:
        """Let nobody enrol with it any more; who did stays enrolled."""
        actor = caller_of(request).actor
        await services.run(store.void_token, token_id, now=services.now, actor=actor)
        return answer(request, enrolment_view(await services.run(store.token, token_id)))


def access_calls(app: FastAPI, services: Services) -> None:
    """Add the calls about access tokens."""
    calls, store = Calls(app, "access"), services.store

    @calls.read("/me", Me, examples.ME)
    async def get_me(request: HttpRequest) -> Response:
        """Who asks, and what they may."""
        caller = caller_of(request)
        return answer(
            request,
            {"actor": caller.actor, "role": str(caller.role), "expires_at": caller.expires_at},
        )

    @calls.act(
        "GET",
        "/access-tokens",
        role=Role.ADMIN,
        model=AccessTokens,
        example=examples.ACCESS_TOKENS,
        refusals=(),
    )
    async def list_access_tokens(request: HttpRequest) -> Response:
        """Access tokens that were made, without their secrets."""
        rows = await services.run(store.access_tokens)
        return answer(request, {"items": [access_view(row) for row in rows]})

    @calls.act(
        "POST",
        "/access-tokens",
        role=Role.ADMIN,
        status=201,
        model=MadeAccess,
        example=examples.MADE_ACCESS,
        body=True,
        refusals=("conflict",),
    )
    async def create_access_token(request: HttpRequest, wanted: NewAccess) -> Response:
        """Make an access token for this API."""
        token = token_text(services.random(SECRET_BYTES))
        row = await services.run(
            store.create_access,
            check_name(wanted.name),
            Role(wanted.role),
            digest_of(token),
            now=services.now,
            expires_at=services.now + check_lifetime(wanted.lifetime),
            actor=caller_of(request).actor,
        )
        return secret({**access_view(row), "token": token}, f"/v1/access-tokens/{row.id}")

    @calls.act(
        "DELETE",
        "/access-tokens/{token_id}",
        role=Role.ADMIN,
        model=Access,
        example=examples.ACCESS,
        refusals=("not-found",),
    )
    async def void_access_token(request: HttpRequest, token_id: TokenInPath) -> Response:
        """Let nobody in with it any more."""
        actor = caller_of(request).actor
        try:
            row = await services.run(store.void_access, token_id, now=services.now, actor=actor)
        except PolicyError as error:
            raise Refused("not-found", error) from error
        return answer(request, access_view(row))


def enrolment_view(row: TokenRow) -> Json:
    """Return an enrolment token as JSON members, without its secret, which is not here."""
    return {
        "token_id": row.id,
        "certificates": list(row.certificates),
        "created_at": row.created_at,
        "expires_at": row.expires_at,
        "redeemed_at": row.redeemed_at,
        "redeemed_by": row.redeemed_by,
        "voided_at": row.voided_at,
    }


def access_view(row: AccessRow) -> Json:
    """Return an access token as JSON members; its digest stays here."""
    return {
        "token_id": row.id,
        "name": row.name,
        "role": str(row.role),
        "created_at": row.created_at,
        "expires_at": row.expires_at,
        "voided_at": row.voided_at,
        "used_at": row.used_at,
    }
