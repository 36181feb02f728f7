"""The call that finds out why something does not work."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi import Request as HttpRequest
from starlette.responses import Response

from external_agent.doctor.halves import heard
from external_agent.operator import examples
from external_agent.operator.answers import answer
from external_agent.operator.calls import Calls
from external_agent.operator.found import certificate_row
from external_agent.operator.model_diagnosis import Diagnosis, Examination
from external_agent.operator.services import Services
from shared.contract.diagnosis import Finding, compare, is_healthy
from shared.contract.errors import ConfigurationError
from shared.host.diagnosis_text import summary


def diagnosis_calls(app: FastAPI, services: Services) -> None:
    """Add the call."""
    calls = Calls(app, "diagnosis")

    @calls.act(
        "POST",
        "/doctor",
        model=Diagnosis,
        example=examples.DIAGNOSIS,
        body=True,
        refusals=("not-found", "conflict"),
    )
    async def examine(request: HttpRequest, wanted: Examination) -> Response:
        """Look at the DNS, the CA, this machine, and what pullers said; changes nothing.

        It may take half a minute.
        """
        for one in wanted.certificates:
            await certificate_row(services, one)
        if services.examine is None:
            raise ConfigurationError("This agent has no doctor.")
        ours = await services.examine(wanted.certificates)
        names = {one.name for one in ours.names}
        spoken_of = services.store.names_spoken_of
        theirs = await services.run(heard, services.halves, names, spoken_of)
        found = [(half, one) for half in theirs for one in compare(ours, half)]
        rows = [
            *(_view("both", half.host, one) for half, one in found),
            *(_view("agent", ours.host, one) for one in ours.findings),
            *(_view("puller", half.host, one) for half in theirs for one in half.findings),
        ]
        every = [
            *(one for _, one in found),
            *ours.findings,
            *(one for half in theirs for one in half.findings),
        ]
        return answer(
            request,
            {
                "at": ours.at,
                "healthy": is_healthy(every),
                "summary": summary(every),
                "findings": rows,
            },
        )


def _view(side: str, host: str, one: Finding) -> dict[str, object]:
    return {"side": side, "host": host, **one.members()}
