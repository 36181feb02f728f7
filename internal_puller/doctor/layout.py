"""A target's directory as others see it: fixed names, generations, and what mounts hold of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from internal_puller.install.fixed import wrong_names
from internal_puller.install.layout import GENERATIONS, active_name, generation_names
from internal_puller.install.mounts import Mounted
from internal_puller.settings.targets import Target
from shared.contract.diagnosis import Finding, Verdict

SPARED = 2
"""What ``prune`` leaves besides the newest ``keep``: the current one, and the one before it."""


def layout_findings(
    target: Target, subject: str, mounted: Callable[[], Mounted]
) -> Iterator[Finding]:
    """Say what keeps a reader of the directory from the generation in place.

    Args:
        mounted: looks at the mount tables, once for all targets.
    """
    for what, do in wrong_names(target):
        yield Finding("layout", Verdict.WARNING, subject, what, do)
    names = generation_names(target)
    if target.ssh is not None or not names:
        return
    found = mounted()
    place = target.directory / GENERATIONS
    active = active_name(target)
    held = [name for name in names if place / name in found.paths]
    for name in held:
        yield _held(target, subject, name, is_active=name == active)
    if not found.complete:
        what = "Which generations a container has mounted could not be looked at, so none is "
        what += "removed that one might have."
        do = "As root: internal-puller doctor"
        yield Finding("mounts", Verdict.UNKNOWN, subject, what, do)
    yield from _too_many(target, subject, len(names), len(held))


def _held(target: Target, subject: str, name: str, *, is_active: bool) -> Finding:
    place = target.directory
    what = f"A container (or another mount) has {place / GENERATIONS / name} mounted, by current/ "
    what += "or by a file in it: "
    if is_active:
        what += "it will not see the next generation."
    else:
        what += "it goes on with that old certificate for ever, and that generation stays on disk."
    do = f"Mount the directory itself, and start the container anew: --volume {place}:{place}:ro"
    do += f"   (there it reads {place}/{_read_by(target)})"
    verdict = Verdict.WARNING if is_active else Verdict.PROBLEM
    return Finding("mounts", verdict, subject, what, do)


def _read_by(target: Target) -> str:
    return "combined.pem" if target.layout == "copy" else "fullchain.pem"


def _too_many(target: Target, subject: str, kept: int, held: int) -> Iterator[Finding]:
    if kept <= target.keep + SPARED + held:
        return
    what = f"{kept} generations are on disk, more than keep = {target.keep}, each with its key: "
    what += "what a container may have mounted is not removed while it cannot be looked at."
    do = "systemctl status internal-puller-mounts.socket"
    yield Finding("mounts", Verdict.WARNING, subject, what, do)
