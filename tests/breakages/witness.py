"""A pytest plugin that writes down what became of each test: in which phase, and how."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.breakages.model import WRITTEN_TO


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" or report.outcome != "passed":
        with Path(os.environ[WRITTEN_TO]).open("a", encoding="utf-8") as file:
            file.write(f"{report.when} {report.outcome}\t{report.nodeid}\n")
