"""A way back whose end was not seen: each pull looks, and what is the same is told once."""

from __future__ import annotations

from pathlib import Path

from internal_puller.install import layout, notes
from internal_puller.install.notes import Note, Noted
from internal_puller.outbox.look import Answer, Look
from internal_puller.outbox.verdict import Verdict
from internal_puller.settings.probe_point import ProbePoint
from tests.fake_agent import FakeAgent
from tests.lab.ports import free_port
from tests.machine import NAME, Machine


def test_one_receipt_for_as_long_as_it_is_the_same(tmp_path: Path) -> None:
    port = free_port()
    with FakeAgent(tmp_path) as agent:
        base = tmp_path / "machine"
        base.mkdir()
        machine = Machine(base)
        machine.enrol(agent, NAME)
        target = machine.target(
            agent, probe=(ProbePoint("127.0.0.1", port, NAME),), probe_timeout=0.2
        )
        for _ in range(2):
            agent.issue(NAME)
            machine.pull()
        old, new = layout.generation_names(target)
        (target.directory / "current").unlink()
        (target.directory / "current").symlink_to(f"generations/{old}")
        shown = Look("127.0.0.1", port, NAME, Answer.PROVEN, "a" * 64)
        where = str(target.directory)
        noted = {where: Noted(NAME, new, old, Verdict.BACK_UNSEEN)}
        notes.write(
            machine.settings.state_directory, Note("0" * 32, "", noted, points={where: (shown,)})
        )
        machine.pull()
        told = len(agent.receipts)
        machine.pull()
        machine.pull()
        assert len(agent.receipts) == told
