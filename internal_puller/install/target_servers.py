"""Which servers read a target's files, and by which commands they are told, on its machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from internal_puller.install.server import Argv, Server
from internal_puller.settings.presets.preset import UNIT
from shared.contract.errors import ConfigurationError
from shared.host import systemctl

if TYPE_CHECKING:
    from internal_puller.settings.presets.preset import Preset
    from internal_puller.settings.targets import Target

_RESTARTING: Final = ("restart", "try-restart", "reload-or-restart", "try-reload-or-restart")


def servers_of(target: Target) -> tuple[Server, ...]:
    """Return the servers of a target, in the order of its presets; none where nothing is run.

    Targets whose servers are equal are installed together: those of one preset, and those that say
    the same ``server``. One with commands of its own and without that is alone.

    Raises:
        ConfigurationError: systemd does not run here, and how the server is reloaded without it
            is not known.
    """
    own = target.has_own_commands
    found = [_own(target)] if own else [_of_preset(one, target) for one in target.presets]
    return tuple(server for server in found if server.test or server.reload)


def for_words(target: Target) -> Server:
    """Return the server that a sentence names; one without commands where nothing is run."""
    return next(iter(servers_of(target)), Server("the server", machine_of(target), (), ()))


def machine_of(target: Target) -> str:
    """Return ``USER@HOST:PORT`` of the machine where a target is installed; empty for this one."""
    if target.ssh is None:
        return ""
    user, host, port = target.ssh_parts
    return f"{user}@[{host}]:{port}" if ":" in host else f"{user}@{host}:{port}"


def unit_of(preset: Preset, target: Target) -> str | None:
    """Return the unit of a preset's server: as the target says, or the one that is here."""
    if target.unit is not None or not preset.units:
        return target.unit
    if target.ssh is not None:
        return preset.units[0]
    installed = (unit for unit in preset.units if systemctl.is_installed(unit))
    return next(installed, preset.units[0])


def _of_preset(preset: Preset, target: Target) -> Server:
    unit = unit_of(preset, target)
    return Server(
        name=target.unit or preset.name,
        machine=machine_of(target),
        test=preset.test,
        reload=_reload(preset, target, unit),
        unit=_whole(unit) if _has_systemd(target) else None,
        restarts=preset.restarts,
        patience=preset.patience,
    )


def _reload(preset: Preset, target: Target, unit: str | None) -> Argv:
    argv = _usual_reload(preset, target, unit)
    if preset.reload and not argv:
        raise ConfigurationError(
            f"Target {target.certificate}: systemd does not run here, and how {preset.title} is "
            "reloaded without it is not known.",
            do="Say how, and leave it stopped if it is: --reload-command.",
        )
    return argv


def _usual_reload(preset: Preset, target: Target, unit: str | None) -> Argv:
    argv = preset.reload if _has_systemd(target) else preset.without_systemd
    return tuple(part.replace(UNIT, unit or "") for part in argv)


def _own(target: Target) -> Server:
    (preset,) = target.presets
    usual = unit_of(preset, target)
    test = preset.test if target.test_command is None else target.test_command
    reload = target.reload_command
    if reload is None:
        reload = _reload(preset, target, usual)
    is_usual = (test, reload) == (preset.test, _usual_reload(preset, target, usual))
    if reload and is_usual and target.server is None:  # said in full, it is the same server
        return _of_preset(preset, target)
    verb, unit = _systemctl(reload)
    return Server(
        name=target.server or str(target.directory),
        machine=machine_of(target),
        test=test,
        reload=reload,
        unit=_whole(unit or (usual if _has_systemd(target) else None)),
        restarts=verb in _RESTARTING or (preset.restarts and target.reload_command is None),
        patience=preset.patience,
    )


def _systemctl(argv: Argv) -> tuple[str, str | None]:
    """Return verb and unit of a command that is systemctl's, also by sudo."""
    words = [word for word in argv if word != "sudo" and not word.startswith("-")]
    if len(words) == 3 and Path(words[0]).name == "systemctl":
        return words[1], words[2]
    return "", None


def _whole(unit: str | None) -> str | None:
    """Return a unit's name with its kind, which systemd lets one leave out of a service's."""
    return unit if unit is None or "." in unit else f"{unit}.service"


def _has_systemd(target: Target) -> bool:
    """Of another machine it is taken for granted: its commands can be given."""
    return target.ssh is not None or systemctl.is_there()
