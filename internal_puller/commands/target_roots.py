"""The root of a CA of one's own, copied to where the service can read it."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path

from internal_puller.settings.config import Settings
from internal_puller.settings.targets import Target
from shared.host.kept_file import is_copied, keep
from shared.host.terminal import emit


def with_kept_root(settings: Settings, new: Target, others: Sequence[Target]) -> Target:
    """Return it with its root where the service finds it; copies for others are left alone."""
    if new.roots is None:
        return new
    check_root(settings, new)
    kept = keep(new.roots, _copy_of_root(settings, new, others), say=emit)
    return dataclasses.replace(new, roots=kept)


def _copy_of_root(settings: Settings, new: Target, others: Sequence[Target] = ()) -> Path:
    """Return where a copy goes: those of other targets are left alone."""
    copies = settings.targets_file.parent / "roots"
    taken = {one.roots for one in others}
    numbered = (f"{new.certificate}-{number}.pem" for number in itertools.count(2))
    names = itertools.chain((f"{new.certificate}.pem",), numbered)
    return next(copies / name for name in names if copies / name not in taken)


def check_root(settings: Settings, new: Target) -> None:
    """Refuse roots that cannot be used; of a file that is copied now, only what is in it counts."""
    if new.roots is not None:
        from internal_puller.install.roots import roots_in

        copied = is_copied(new.roots, _copy_of_root(settings, new))
        roots_in(new.roots, trusted=not copied)
