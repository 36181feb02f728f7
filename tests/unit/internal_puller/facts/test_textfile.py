"""What a puller writes for node-exporter, and that it never stands in the way of a pull."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from internal_puller.facts.textfile import write_metrics
from internal_puller.outbox.report import PullReport
from internal_puller.settings.config import load_settings
from internal_puller.state.progress import Progress
from shared.contract.errors import ConfigurationError
from tests.fake_agent import FakeAgent
from tests.machine import NAME, Machine


def values(file: Path) -> dict[str, float]:
    lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def test_a_pull_writes_how_things_stand(agent: FakeAgent, machine: Machine, tmp_path: Path) -> None:
    target = machine.target(agent)
    file = tmp_path / "collector" / "relay.prom"
    file.parent.mkdir()
    machine.settings = replace(machine.settings, metrics_file=file)
    machine.pull()
    labels = f'{{certificate="{NAME}",directory="{target.directory}"}}'
    assert values(file)[f"relay_puller_certificate_generation{labels}"] == 0
    issued = agent.issue(NAME)
    previous = os.umask(0o077)
    try:
        machine.pull()
    finally:
        os.umask(previous)
    found = values(file)
    assert found["relay_puller_exit_code"] == 0
    assert found[f"relay_puller_certificate_generation{labels}"] == issued.generation
    assert found[f"relay_puller_certificate_not_after_timestamp_seconds{labels}"] > 0
    assert found[f"relay_puller_certificate_failing{labels}"] == 0
    assert file.stat().st_mode & 0o777 == 0o644
    assert list(file.parent.iterdir()) == [file]


def test_no_room_for_numbers_is_a_warning(agent: FakeAgent, machine: Machine) -> None:
    machine.target(agent)
    agent.issue(NAME)
    nowhere = Path("/nonexistent/relay.prom")
    machine.settings = replace(machine.settings, metrics_file=nowhere)
    report = machine.pull()
    assert [one.word for one in report.outcomes] == ["installed"]
    (warning,) = report.warnings
    assert f"metrics_file {nowhere} cannot be written" in warning


def test_labels_are_escaped(agent: FakeAgent, machine: Machine, tmp_path: Path) -> None:
    target = replace(machine.target(agent), directory=tmp_path / 'a"b\\c')
    write_metrics(tmp_path / "x.prom", [target], Progress(), PullReport(), 1.0)
    assert 'directory="' + str(tmp_path) + '/a\\"b\\\\c"' in (tmp_path / "x.prom").read_text()


def test_a_file_that_no_collector_reads_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"does not end in \.prom"):
        load_settings(environment={"RELAY_PULLER_METRICS_FILE": "/tmp/relay.txt", "HOME": "/"})
