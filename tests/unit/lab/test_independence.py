"""The lab judges the product, so it shares nothing with it."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.lab

LAB = Path(__file__).parents[2] / "lab"
ALLOWED = {"cryptography", "josepy", "dns", "pytest"}


@pytest.mark.parametrize("path", sorted(LAB.glob("*.py")), ids=lambda path: path.name)
def test_the_lab_imports_nothing_of_what_it_judges(path: Path) -> None:
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            imported.add(str(node.module).split(".")[0])
    assert imported <= ALLOWED | sys.stdlib_module_names
