"""The command that a boot runs before the servers: whom it calls, what it says, how it ends."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner, Result

from internal_puller.commands import recovering
from internal_puller.commands.app import app
from internal_puller.install.lock import installation_lock
from internal_puller.outbox.outcome import Outcome
from internal_puller.settings.targets import Target, save_targets
from shared.contract.errors import InstallBusy, StageFailed

NAME = "www.intra.example.com"


@dataclass
class Boot:
    """A state directory, and an engine that finds these outcomes."""

    state: Path
    outcomes: list[Outcome] = field(default_factory=list)
    engines: list[tuple[list[Target], Path]] = field(default_factory=list)

    def run(self) -> Result:
        return CliRunner().invoke(app, ["recover"])


@pytest.fixture
def boot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Boot:
    made = Boot(tmp_path / "state")
    made.state.mkdir(mode=0o700)

    class Engine:
        def __init__(
            self, targets: Sequence[Target], state: Path, *, say: Callable[[str], None]
        ) -> None:
            made.engines.append((list(targets), state))

        def recover(self) -> list[Outcome]:
            with (
                pytest.raises(InstallBusy),  # it works under the lock
                installation_lock(made.state / "install.lock"),
            ):
                pass
            return made.outcomes

    module = ModuleType("internal_puller.install.engine")
    module.Engine = Engine  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setenv("RELAY_PULLER_STATE_DIRECTORY", str(made.state))
    monkeypatch.setenv("RELAY_PULLER_TARGETS_FILE", str(tmp_path / "targets.toml"))
    return made


def test_the_engine_recovers_all_targets(boot: Boot, tmp_path: Path) -> None:
    target = Target(NAME, (NAME,), tmp_path / "live")
    save_targets(tmp_path / "targets.toml", [target])
    boot.outcomes = [Outcome(NAME, 7, None, active=7, directory="/srv/tls")]
    done = boot.run()
    assert boot.engines == [([target], boot.state)]
    assert (done.exit_code, done.stderr) == (0, f"{NAME}: generation 7 is in /srv/tls\n")


def test_what_could_not_be_recovered_is_said(boot: Boot) -> None:
    error = StageFailed("The generation 7 cannot be read.")
    good = Outcome(NAME, 7, None, active=7, directory="/srv/tls")
    boot.outcomes = [good, Outcome(NAME, 7, None, error=error)]
    done = boot.run()
    assert done.exit_code == StageFailed.exit_code
    assert "The generation 7 cannot be read." in done.stderr


def test_another_installation_is_not_disturbed(boot: Boot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovering, "BUSY_SECONDS", 0.0)
    with installation_lock(boot.state / "install.lock"):
        assert isinstance(boot.run().exception, InstallBusy)
    assert boot.engines == []
