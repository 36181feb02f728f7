"""How what is in place is served now, judged without having changed anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from internal_puller.install.active import read_active
from internal_puller.install.judge import Case, Leaf, Reload, Test, judge
from internal_puller.install.layout import GENERATIONS, RECORD, read_json
from internal_puller.install.probe import probe_target
from internal_puller.install.server import Running
from internal_puller.install.target_servers import for_words
from internal_puller.install.words import About, error_of
from internal_puller.outbox.outcome import Outcome
from shared.contract.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from internal_puller.install.active import Active
    from internal_puller.outbox.look import Look
    from internal_puller.settings.targets import Target


def look_at(target: Target, clock: Callable[[], float]) -> Outcome | None:
    """Look at what a target serves; ``None`` if nothing is in place there.

    Args:
        clock: unix seconds.

    Raises:
        ConfigurationError: the target cannot be looked at.
    """
    active = read_active(target)
    if active is None:
        return None
    looks = probe_target(target)
    verdict = judge(
        Case(
            new=Leaf(active.leaf_sha256, 0, active.not_after),
            old=_shown_of_ours(target, active, looks),
            test=Test.PASSES,
            ran=Running.NOT_KNOWN,
            reload=Reload.NONE,
            runs=Running.NOT_KNOWN,
            before=(),
            after=looks,
            now=clock(),
        )
    )
    about = About(
        target.certificate,
        active.generation,
        active.leaf_sha256,
        for_words(target),
        previous=None,
        looks=looks,
    )
    return Outcome(
        target.certificate,
        active.generation,
        verdict,
        error_of(verdict, about),
        directory=str(target.directory),
        active=active.generation,
        digest=active.digest,
        not_after=active.not_after,
        looks=looks,
    )


def _shown_of_ours(target: Target, active: Active, looks: tuple[Look, ...]) -> Leaf | None:
    """Return an earlier generation that is still served."""
    shown = {look.leaf_sha256 for look in looks} - {None, active.leaf_sha256}
    for path in (target.directory / GENERATIONS).glob(f"*/{RECORD}") if shown else ():
        try:
            record = read_json(path) or {}
            if record["leaf_sha256"] in shown:
                return Leaf(str(record["leaf_sha256"]), 0, int(record["not_after"]))
        except (ConfigurationError, KeyError, TypeError, ValueError):
            continue
    return None
