"""schemathesis over the OpenAPI document: whatever it thinks of, the API answers as it says.

Every phase (examples, boundaries, random requests, calls in a row) with every check.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from schemathesis.engine import events, from_schema

from external_agent.facts.access import Role
from tests.unit.external_agent.harness import CERTIFICATE
from tests.unit.external_agent.operator.test_roles import CALLS
from tests.unit.external_agent.operator.world import World

pytestmark = pytest.mark.lab
EXAMPLES = 15
CHECKS = {
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "positive_data_acceptance",
    "negative_data_rejection",
    "use_after_free",
    "ensure_resource_availability",
    "missing_required_header",
    "ignored_auth",
    "unsupported_method",
    "allow_header_conformance",
}


def schema_of(world: World) -> Any:
    """The API as one administrator sees it, under the name that schemathesis gives it."""
    token = world.token(Role.ADMIN, "schemathesis", 366 * 86400)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        world.clock.now += 7  # so that its wrong tokens are forgiven, and answered by 401
        await world.gate(scope, receive, send)

    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    schema.config.update(headers={"Authorization": f"Bearer {token}"})
    schema.config.generation.update(
        max_examples=EXAMPLES, deterministic=True, database="none", no_shrink=True
    )
    checks = schema.config.checks
    # 422 also for what has the right shape: a name that no public CA signs.
    checks.positive_data_acceptance.expected_statuses = ["2xx", "401", "403", "404", "409", "422"]
    # 421 for a Host that is none of ours.
    checks.negative_data_rejection.expected_statuses = [
        *("400", "401", "403", "404", "405", "409", "413", "415", "421", "422"),
    ]
    return schema


def test_the_api_answers_as_its_document_says(tmp_path: Path) -> None:
    world = World(tmp_path, allowed_hosts=("testserver",))
    world.enrol(CERTIFICATE)
    world.agent.publish(CERTIFICATE)
    ran: Counter[str] = Counter()
    faults: list[str] = []
    for event in from_schema(schema_of(world)).execute():
        if isinstance(event, events.NonFatalError | events.FatalError):
            faults.append(str(vars(event)))
        if isinstance(event, events.ScenarioFinished):
            ran[event.phase.value] += 1
            for check in (one for some in event.recorder.checks.values() for one in some):
                ran[check.name] += 1
                if check.failure_info is not None:
                    failure = check.failure_info
                    faults.append(f"{event.label}: {failure.failure}\n{failure.code_sample}")
    world.store.close()
    assert faults == []
    assert set(ran) >= CHECKS
    phases = ("examples", "coverage", "fuzzing")
    assert all(ran[phase] == len(CALLS) for phase in phases), ran
    assert ran["stateful"] > 0
