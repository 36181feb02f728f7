"""schemathesis over the OpenAPI document: whatever it thinks of, the API answers as it says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode

from external_agent.domain.access import Role
from tests.unit.agent_web.conftest import Snapshot
from tests.unit.agent_web.harness import CERTIFICATE, START
from tests.unit.operator.test_roles import CALLS
from tests.unit.operator.world import World

pytestmark = pytest.mark.lab
EXAMPLES = 25


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """An agent with something to find, known by the name that schemathesis calls it."""
    world = World(tmp_path_factory.mktemp("schema"), allowed_hosts=("testserver",))
    world.enrol(CERTIFICATE)
    world.agent.publish(CERTIFICATE)
    yield world
    world.store.close()


@pytest.fixture(scope="module")
def snapshot(world: World) -> Snapshot:
    return Snapshot(world.store)


@pytest.fixture(scope="module")
def api_schema(world: World) -> object:
    schema = schemathesis.openapi.from_asgi("/openapi.json", world.gate)
    schema.config.checks.positive_data_acceptance.expected_statuses = [
        *("2xx", "401", "403", "404", "409"),
        "422",  # a name that no public CA signs; its shape is checked below
    ]
    schema.config.checks.negative_data_rejection.expected_statuses = [
        *("400", "401", "403", "404", "405", "409", "413", "415", "422", "421"),
    ]
    return schema


@pytest.mark.parametrize("mode", GenerationMode)
@pytest.mark.parametrize(("method", "path"), [(method, path) for method, path, _ in CALLS])
def test_the_api_answers_as_its_document_says(
    api_schema: Any, world: World, snapshot: Snapshot, method: str, path: str, mode: GenerationMode
) -> None:
    snapshot.restore()
    world.clock.now = START
    headers = {"Authorization": f"Bearer {world.tokens[Role.ADMIN]}"}

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=api_schema[path][method].as_strategy(generation_mode=mode))
    def every(case: schemathesis.Case) -> None:
        world.clock.now += 20  # wrong tokens of the case before are forgiven
        said = case.call_and_validate(headers=headers)
        assert said.status_code < 500

    every()


def test_what_one_call_makes_the_next_can_use(
    api_schema: Any, world: World, snapshot: Snapshot
) -> None:
    """Calls in a row, as the document links them: what was removed is gone, what was made is there."""
    snapshot.restore()
    world.clock.now = START
    token = world.tokens[Role.ADMIN]

    class Sequences(api_schema.as_state_machine()):  # type: ignore[misc]
        def get_call_kwargs(self, case: schemathesis.Case) -> dict[str, Any]:
            return {"headers": {"Authorization": f"Bearer {token}"}}

        def before_call(self, case: schemathesis.Case) -> None:
            world.clock.now += 20

    Sequences.run(
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=6,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
    )
