"""Which of the known servers are on this machine, and who reads their configuration."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from internal_puller.discovery import apache, haproxy, nginx
from internal_puller.discovery.site import Site
from internal_puller.settings.presets.catalogue import NAMES, known
from internal_puller.settings.presets.preset import Preset
from shared.host import systemctl
from shared.host.commands import SEARCH_PATH


def _nginx(config: Path | None) -> list[Site]:
    return nginx.sites(("nginx", "-T", *(("-c", str(config)) if config else ())))


def _apache(config: Path | None) -> list[Site]:
    if config is None:
        return apache.sites()
    program = "apache2" if shutil.which("apache2", path=SEARCH_PATH) else "httpd"
    return apache.sites((program, "-f", str(config), "-t", "-D", "DUMP_VHOSTS"))


def _haproxy(config: Path | None) -> list[Site]:
    return haproxy.sites(config or haproxy.CONFIGURATION)


READERS: Final[dict[str, Callable[[Path | None], list[Site]]]] = {
    "nginx": _nginx,
    "apache": _apache,
    "haproxy": _haproxy,
}
"""By preset; each takes the main configuration file, or None, and raises ConfigurationError."""


def here() -> Iterator[Preset]:
    """Yield the presets whose servers are installed on this machine."""
    return (preset for preset in map(known, NAMES) if is_here(preset))


def is_here(preset: Preset) -> bool:
    """Tell whether one of its programs or units is installed."""
    programs = (shutil.which(one, path=SEARCH_PATH) for one in preset.programs)
    return any(programs) or any(map(systemctl.is_installed, preset.units))
