"""A server on another machine: what its test says, and what it does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import pytest

from internal_puller.install.remote import Remote
from internal_puller.install.remote_control import RemoteControl
from internal_puller.install.server import Server
from shared.contract.errors import StageFailed
from shared.host.commands import CommandResult, ended_by, ended_with, not_ended

SERVER = Server("web", "root@web.example.com:22", ("web", "-t"), ())


@dataclass(frozen=True)
class Machine(Remote):
    """One where each command ends in the same way."""

    ends: CommandResult = field(default_factory=lambda: not_ended("was not run"))

    def run(
        self, argv: tuple[str, ...], timeout: float, variables: Mapping[str, str] | None = None
    ) -> CommandResult:
        return self.ends


def control(ends: CommandResult) -> RemoteControl:
    machine = Machine("root", "web.example.com", 22, PurePosixPath("/srv"), ends=ends)
    return RemoteControl(SERVER, machine, 5.0, {})


@pytest.mark.parametrize("ends", [ended_with(0, ""), ended_with(1, "no"), ended_by("SEGV", "")])
def test_what_a_test_says(ends: CommandResult) -> None:
    assert control(ends).test() == ends


@pytest.mark.parametrize(
    "ends", [ended_with(127, "web: not found"), ended_by("TERM", ""), not_ended("did not end")]
)
def test_a_test_that_does_not_come_to_its_end_says_nothing(ends: CommandResult) -> None:
    with pytest.raises(StageFailed, match=r"test of web on root@web\.example\.com:22 says") as at:
        control(ends).test()
    assert ends.how in at.value.what
