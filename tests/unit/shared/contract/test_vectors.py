"""Every vector file is met: success, or exactly the one error that its head names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.vectors import generate
from tests.vectors.checks import CHECKS, outcome
from tests.vectors.vector import HERE, read_all

BUNDLES = ("bundle", "rehearsal")


def _of(*kinds: str) -> dict[str, Any]:
    found = [(kind, vector) for kind in kinds for vector in read_all(kind)]
    return {"argvalues": found, "ids": [f"{kind}/{vector.name}" for kind, vector in found]}


@pytest.mark.parametrize(("kind", "vector"), **_of(*BUNDLES))
def test_bundle(kind: str, vector: Any) -> None:
    assert outcome(kind, vector) == vector.expect


@pytest.mark.parametrize(
    ("kind", "vector"), **_of(*(kind for kind in CHECKS if kind not in BUNDLES))
)
def test_message(kind: str, vector: Any) -> None:
    assert outcome(kind, vector) == vector.expect


def test_the_generator_writes_exactly_the_files_that_are_kept(tmp_path: Path) -> None:
    count = generate.write(tmp_path)
    written = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*/*")}
    kept = {
        path.relative_to(HERE): path.read_bytes()
        for kind in CHECKS
        for path in (HERE / kind).iterdir()
    }
    assert count >= 400
    assert written == kept


def test_every_folder_is_checked() -> None:
    folders = {path.name for path in HERE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == set(CHECKS)
    for kind in CHECKS:
        expected = {vector.expect == "success" for vector in read_all(kind)}
        assert expected == {True, False}, kind


def test_there_are_at_least_forty_hostile_bundles() -> None:
    hostile = [vector for vector in read_all("bundle") if vector.expect != "success"]
    assert len(hostile) >= 40
    assert len({vector.body for vector in hostile} | {b""}) >= 40
