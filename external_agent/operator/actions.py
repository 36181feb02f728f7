"""Calls that say when: renew now, renew everything, pause, resume; and revoke."""

from __future__ import annotations

import time

from fastapi import FastAPI
from fastapi import Request as HttpRequest
from starlette.responses import Response

from external_agent.facts.access import Role
from external_agent.operator import examples
from external_agent.operator.answers import answer
from external_agent.operator.calls import Calls, CertificateInPath, caller_of
from external_agent.operator.certificates import fault_of
from external_agent.operator.found import certificate_document, certificate_row
from external_agent.operator.model_action import (
    NewPause,
    RenewAll,
    Revocation,
    Revoked,
    Wanted,
)
from external_agent.operator.model_certificate import Certificate
from external_agent.operator.services import Services
from shared.contract.errors import ConfigurationError, PolicyError


def wish_calls(app: FastAPI, services: Services) -> None:
    """Add the calls."""
    calls, store = Calls(app, "certificates"), services.store

    @calls.act(
        "POST",
        "/certificates/{certificate}/renew",
        status=202,
        model=Certificate,
        example=examples.CERTIFICATE,
    )
    async def renew_certificate(request: HttpRequest, certificate: CertificateInPath) -> Response:
        """Want a new generation at once.

        A pause after errors ends, but for one that the CA asked for.
        """
        row = await certificate_row(services, certificate)
        if row.held is not None and row.held.holds(services.now):
            raise PolicyError(
                f"{certificate} is paused: {row.held.reason}.",
                do=f"First: external-agent resume {certificate}.",
            )
        await services.run(
            store.request_renewal,
            certificate,
            "an operator asked for it",
            now=services.now,
            actor=caller_of(request).actor,
        )
        return answer(request, await certificate_document(services, certificate), 202)

    @calls.act(
        "POST",
        "/renewals",
        role=Role.ADMIN,
        status=202,
        model=Wanted,
        example=examples.WANTED,
        body=True,
        refusals=(),
    )
    async def renew_everything(request: HttpRequest, wanted: RenewAll) -> Response:
        """Want new generations of all certificates at once: for a wave of revocations."""
        found = await services.run(
            store.request_renewal_of_all,
            "an operator asked for all at once",
            now=services.now,
            actor=caller_of(request).actor,
        )
        return answer(request, {"certificates": list(found)}, 202)

    @calls.act(
        "PUT",
        "/certificates/{certificate}/pause",
        model=Certificate,
        example=examples.PAUSED,
        body=True,
    )
    async def pause_certificate(
        request: HttpRequest, certificate: CertificateInPath, wanted: NewPause
    ) -> Response:
        """No attempt from now on, until it is resumed or a time has come.

        An attempt under way goes on to its end.
        """
        await certificate_row(services, certificate)
        if wanted.until is not None and wanted.until <= services.now:
            error = ConfigurationError(
                "The pause would be over already.", do="Give a moment that is to come, or none."
            )
            raise fault_of("until", error)
        await services.run(
            store.pause_certificate,
            certificate,
            until=wanted.until,
            reason=wanted.reason,
            now=services.now,
            actor=caller_of(request).actor,
        )
        return answer(request, await certificate_document(services, certificate))

    @calls.act(
        "DELETE",
        "/certificates/{certificate}/pause",
        model=Certificate,
        example=examples.CERTIFICATE,
    )
    async def resume_certificate(request: HttpRequest, certificate: CertificateInPath) -> Response:
        """End an operator's pause, if there is one."""
        await certificate_row(services, certificate)
        await services.run(
            store.resume_certificate,
            certificate,
            now=services.now,
            actor=caller_of(request).actor,
        )
        return answer(request, await certificate_document(services, certificate))

    @calls.act(
        "POST",
        "/certificates/{certificate}/revoke",
        model=Revoked,
        example=examples.REVOKED,
        body=True,
        refusals=("not-found", "conflict", "ca-refused"),
    )
    async def revoke_certificate(
        request: HttpRequest, certificate: CertificateInPath, wanted: Revocation
    ) -> Response:
        """Tell the CA that a generation is not to be trusted any more (RFC 8555 section 7.6).

        Unless nothing is missing afterwards, another one is ordered at once.
        """
        from external_agent.orders.revocation import revoke_generation  # they load a good deal
        from shared.acme.revocation import reason_code

        await certificate_row(services, certificate)
        done = await services.run(
            revoke_generation,
            store,
            services.authorities(),
            certificate,
            wanted.generation,
            reason_code(wanted.reason),
            sleep=time.sleep,
            now=services.now,
            actor=caller_of(request).actor,
        )
        return answer(
            request,
            {
                "certificate": certificate,
                "generation": done.generation,
                "before": done.before,
                "renewed": done.renewed,
            },
        )
