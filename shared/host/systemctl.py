"""What systemd says of units, where it runs; whoever asks can be left without an answer."""

from __future__ import annotations

import subprocess
from pathlib import Path

RUNS = Path("/run/systemd/system")
SECONDS = 10.0
UNIT_DIRECTORIES = tuple(
    Path(place)
    for place in (
        "/etc/systemd/system",
        "/run/systemd/system",
        "/run/systemd/generator.late",  # of init scripts, as Debian's slapd has
        "/usr/local/lib/systemd/system",
        "/usr/lib/systemd/system",
        "/lib/systemd/system",
    )
)


def is_there() -> bool:
    """Tell whether systemd runs this machine."""
    return RUNS.is_dir()


def is_installed(unit: str) -> bool:
    """Tell whether this machine has a service, by its name without ``.service``."""
    return any((place / f"{unit}.service").exists() for place in UNIT_DIRECTORIES)


def ask(*arguments: str) -> subprocess.CompletedProcess[str] | None:
    """Return how ``systemctl`` ended; ``None`` if it is missing or does not answer in time."""
    try:
        return subprocess.run(
            ["systemctl", *arguments], capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None


def state_of(unit: str) -> str | None:
    """Return ``active``, or in one word what it is instead; ``None`` if that is not known."""
    done = ask("is-active", unit)
    if done is None:
        return None
    return "active" if done.returncode == 0 else done.stdout.strip() or "unknown"


def properties(unit: str, names: tuple[str, ...]) -> dict[str, str] | None:
    """Return properties of a unit, those that it has; ``None`` if that is not known."""
    done = ask(*show(unit, names))
    return None if done is None or done.returncode else read_properties(done.stdout)


def show(unit: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the arguments of ``systemctl`` that ask for properties."""
    return ("show", f"--property={','.join(names)}", "--", unit)


def read_properties(shown: str) -> dict[str, str]:
    """Return the properties that ``systemctl show`` wrote."""
    return dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
