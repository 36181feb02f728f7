"""Makes a server take what is in place: test its configuration, reload it, see what it serves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from internal_puller.install import probe
from internal_puller.install.formats import is_secret
from shared.contract.errors import ConfigTestFailed, ReloadFailed, ServedMismatch

if TYPE_CHECKING:
    from collections.abc import Callable

    from internal_puller.install.generations import Generations
    from internal_puller.install.presets import Plan
    from internal_puller.outbox.look import Look


@dataclass(frozen=True)
class Trial:
    """The three steps for one target. ``clock`` in monotonic seconds."""

    plan: Plan
    clock: Callable[[], float]
    sleep: Callable[[float], None]

    def upload(self, generations: Generations, name: str) -> None:
        """Have a generation where the server is, before anything is switched.

        Raises ``StageFailed``: nothing was changed there.
        """
        if self.plan.remote is not None:
            from internal_puller.install.remote import RemoteFile

            accounts = self.plan.accounts
            files = {
                file: RemoteFile(
                    content,
                    (accounts.secret if is_secret(file) else accounts.public).mode,
                )
                for file, content in generations.read(name).items()
            }
            self.plan.remote.upload(name, files)

    def bring(self, generations: Generations, name: str | None) -> None:
        """Let ``current`` where the server is point to what it points to here.

        Raises ``StageFailed``.
        """
        if self.plan.remote is not None:
            if name is not None:
                self.upload(generations, name)
            self.plan.remote.activate(name, generations.names())

    def test(self, generation: int) -> None:
        """Raise ``ConfigTestFailed`` if the server refuses its configuration."""
        if not self.plan.test_command:
            return
        result = self.plan.run_step("test", generation)
        if not result.ok:
            raise ConfigTestFailed(
                f"{self._here(generation)}: {self.plan.test_command[0]} (test) {result.describe()}."
            )

    def reload(self, generation: int) -> None:
        """Raise ``ReloadFailed`` if the server cannot be told."""
        if not self.plan.reload_command:
            return
        result = self.plan.run_step("reload", generation)
        if not result.ok:
            raise ReloadFailed(
                f"{self._here(generation)}: {self.plan.reload_command[0]} (reload) "
                f"{result.describe()}."
            )

    def see(self, generation: int, leaf_sha256: str) -> tuple[Look, ...]:
        """Wait until the leaf is served everywhere. Raises ``ServedMismatch``."""
        served = probe.await_leaf(
            self.plan.probe,
            leaf_sha256,
            self.plan.target.probe_timeout,
            kind=probe.kind_in_place(self.plan.target),
            clock=self.clock,
            sleep=self.sleep,
        )
        others = [each.describe() for each in served if each.leaf_sha256 != leaf_sha256]
        if others:
            raise ServedMismatch(
                f"{self._here(generation)}: leaf {leaf_sha256[:16]} is not what is served; "
                f"{'; '.join(others)}."
            )
        return served

    def whole(self, generation: int, leaf_sha256: str) -> tuple[Look, ...]:
        """Test, reload and see. Raises the first failure."""
        self.test(generation)
        self.reload(generation)
        return self.see(generation, leaf_sha256)

    def look(self) -> tuple[Look, ...]:
        """Look once, without judging."""
        target = self.plan.target
        return probe.look_all(self.plan.probe, target.probe_timeout, probe.kind_in_place(target))

    def _here(self, generation: int) -> str:
        return f"{self.plan.target.certificate}, generation {generation}"
