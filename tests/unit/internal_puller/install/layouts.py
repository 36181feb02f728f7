"""Generations put in place without any server, as the tests of layouts need them."""

from __future__ import annotations

from pathlib import Path

from internal_puller.install.formats import FileContent, render
from internal_puller.install.generations import Generations
from internal_puller.install.mounts import Mounted
from internal_puller.install.presets import resolve
from internal_puller.settings.targets import Target
from tests.unit.internal_puller.install.helpers import material

NOTHING = Mounted(frozenset(), complete=True)


def rendered(target: Target, generation: int) -> dict[str, FileContent]:
    return render(material(generation), resolve(target).rendering)


def place(target: Target, generation: int, keep: int = 9) -> str:
    """Stage a generation, make it the current one, and prune."""
    plan = resolve(target)
    with Generations(target) as generations:
        files = rendered(target, generation)
        name = generations.stage(generation, files, plan.accounts, plan.password)
        generations.activate(name)
        generations.prune(keep, mounted=lambda: NOTHING)
    return name


def fixed_names(target: Target) -> dict[str, str]:
    """Return what stands beside ``current``: where a link leads, or that it is a file."""
    return {
        path.name: str(path.readlink()) if path.is_symlink() else "file"
        for path in target.directory.iterdir()
        if path.name not in ("current", "generations")
    }


def links(*names: str) -> dict[str, str]:
    return {name: f"current/{name}" for name in names}


def staging_of(target: Target) -> Path:
    return target.directory.parent / f".{target.directory.name}.staging"
