"""An intranet machine in a directory: settings, state and targets of one puller."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from internal_puller.install.layout import active_generation
from internal_puller.outbox.report import PullReport
from internal_puller.pull.puller import Puller
from internal_puller.settings.config import Settings
from internal_puller.settings.targets import Target, load_targets, save_targets
from internal_puller.sources.agent.enrolment import enrol
from internal_puller.sources.agent.this_machine import this_machine
from internal_puller.state.progress import Progress
from internal_puller.state.state import StateDirectory
from shared.contract import wire
from tests.fake_agent import FakeAgent

NAME = "www.intra.example.com"
REFUSES = ("/bin/sh", "-c", '! [ -e "$RELAY_DIRECTORY" ]')
"""A test that does without a certificate, and with one fails."""


class Machine:
    """
    Args:
        base: a directory of its own.
        clock: unix seconds, as this machine has them.
        identify: which machine it says it is.
        settings: what differs from the defaults.
    """

    def __init__(
        self,
        base: Path,
        *,
        clock: Callable[[], float] = time.time,
        identify: Callable[[], wire.Machine | None] = this_machine,
        **settings: Any,
    ) -> None:
        self.base = base
        self.clock = clock
        self.identify = identify
        self.settings = Settings(
            state_directory=base / "state",
            targets_file=base / "targets.toml",
            direct_file=base / "direct.toml",
            lock_file=base / "lock",
            **{"proxy": "none", "timeout": 10.0} | settings,
        )

    def change(self, **settings: Any) -> None:
        self.settings = dataclasses.replace(self.settings, **settings)

    @property
    def environment(self) -> dict[str, str]:
        """The same settings for a command."""
        return {
            "RELAY_PULLER_STATE_DIRECTORY": str(self.settings.state_directory),
            "RELAY_PULLER_TARGETS_FILE": str(self.settings.targets_file),
            "RELAY_PULLER_DIRECT_FILE": str(self.settings.direct_file),
            "RELAY_PULLER_LOCK_FILE": str(self.settings.lock_file),
            "RELAY_PULLER_PROXY": self.settings.proxy,
            "RELAY_PULLER_TIMEOUT": str(self.settings.timeout),
        }

    def enrol(self, agent: FakeAgent, *certificates: str, change_agent: bool = False) -> None:
        line = agent.token(*(certificates or (NAME,)))
        enrol(line, self.settings, clock=self.clock, change_agent=change_agent)

    def target(self, agent: FakeAgent, certificate: str = NAME, **members: Any) -> Target:
        """Add a target that trusts the agent's CA and reloads nothing."""
        roots = self.base / "root.pem"
        roots.write_bytes(agent.ca.root_pem)
        names = members.pop("names", (certificate,))
        directory = members.pop("directory", self.base / "tls" / certificate)
        target = Target(certificate, names, directory, **{"roots": roots} | members)
        save_targets(self.settings.targets_file, [*self.targets(), target])
        return target

    def targets(self) -> tuple[Target, ...]:
        return load_targets(self.settings.targets_file)

    def puller(self) -> Puller:
        return Puller(self.settings, clock=self.clock, identify=self.identify)

    def pull(self, *, retry: bool = False, wait: int = 0) -> PullReport:
        """One pull by a new process, as it were."""
        puller = self.puller()
        try:
            return puller.pull(retry=retry, wait=wait)
        finally:
            puller.close()

    def active(self, target: Target | None = None) -> int | None:
        return active_generation(target or self.targets()[0])

    @property
    def state(self) -> StateDirectory:
        return StateDirectory(self.settings.state_directory)

    @property
    def progress(self) -> Progress:
        return self.state.progress()
