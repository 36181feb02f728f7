"""The OpenAPI document: whole, with examples that are true, without a member for any key."""

from __future__ import annotations

import importlib
import json
import re
from typing import Any

import pytest
from pydantic import BaseModel

from external_agent.operator.model import MAX_NUMBER, Problem
from external_agent.operator.problems import TITLES, problem
from shared.contract.errors import PolicyError
from tests.unit.external_agent.operator.test_roles import CALLS, DOCUMENT

OPERATIONS = [(m, p, DOCUMENT["paths"][p][m.lower()]) for m, p, _ in CALLS]
MODELS: dict[str, type[BaseModel]] = {
    name: kind
    for part in ("certificate", "record", "action", "diagnosis")
    for name, kind in vars(importlib.import_module(f"external_agent.operator.model_{part}")).items()
    if isinstance(kind, type) and issubclass(kind, BaseModel)
}


@pytest.mark.parametrize(("method", "path", "call"), OPERATIONS)
def test_a_call_says_everything(method: str, path: str, call: dict[str, Any]) -> None:
    assert call["summary"]
    assert call["description"]
    assert call["security"] == [{"token": []}]
    said = call["responses"]
    assert {"401", "403", "421", "422", "429", "503"} <= set(said)
    assert ("304" in said) == (method == "GET")
    if "requestBody" in call:
        assert {"400", "413", "415"} <= set(said)
    if "{" in path:
        assert "404" in said
    for status, one in said.items():
        if status[0] in "45":
            content = one["content"]["application/problem+json"]
            for example in content["examples"].values():
                Problem.model_validate(example["value"])
                assert str(example["value"]["status"]) == status
        elif status not in ("204", "304"):
            content = one["content"]["application/json"]
            model = MODELS[content["schema"]["$ref"].rsplit("/", 1)[1]]
            model.model_validate(content["example"])


def test_no_member_of_any_answer_is_for_a_key() -> None:
    answers = {
        found.rsplit("/", 1)[1]
        for _, _, call in OPERATIONS
        for found in re.findall(r"#/components/schemas/\w+", json.dumps(call["responses"]))
    }
    names = {
        name for one in answers for name in DOCUMENT["components"]["schemas"][one]["properties"]
    }
    assert len(names) > 50
    allowed = {"key_origin", "key_algorithm"}
    assert (
        not {one for one in names if re.search(r"key|sealed$|seed|envelope|digest", one)} - allowed
    )


@pytest.mark.parametrize("slug", TITLES)
def test_every_problem_is_one(slug: str) -> None:
    said = problem(slug, PolicyError("No.", do="Do."))
    found = Problem.model_validate_json(bytes(said.body))
    assert found.status == said.status_code == TITLES[slug][0]
    assert found.exit_code == 4
    assert MAX_NUMBER == 9007199254740991
