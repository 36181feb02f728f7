"""A switch is killed at each call, and any of what was not synced is lost: never half a layout."""

from __future__ import annotations

import dataclasses
import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from internal_puller.install import durable
from internal_puller.install.formats import FILE_NAMES
from internal_puller.install.generations import Generations
from internal_puller.install.layout import OURS_ALONE
from internal_puller.install.presets import resolve
from internal_puller.settings.targets import Target
from tests.unit.internal_puller.install.helpers import NAME
from tests.unit.internal_puller.install.killing import Killed, KillingOs, Lost
from tests.unit.internal_puller.install.layouts import (
    NOTHING,
    fixed_names,
    links,
    place,
    rendered,
    staging_of,
)

OLD = Target(NAME, (NAME,), Path("/nonexistent"), formats=("fullchain", "privkey"))
RENEWALS = {
    "renewal": (OLD, OLD),
    "other formats": (OLD, dataclasses.replace(OLD, formats=("combined", "privkey"))),
    "renewal of the one file": (
        dataclasses.replace(OLD, formats=(), layout="copy"),
        dataclasses.replace(OLD, formats=(), layout="copy"),
    ),
    "to the one file": (OLD, dataclasses.replace(OLD, formats=(), layout="copy")),
    "from the one file": (dataclasses.replace(OLD, formats=(), layout="copy"), OLD),
    "first": (None, OLD),
    "first of the one file": (None, dataclasses.replace(OLD, formats=(), layout="copy")),
}


def switch(target: Target) -> None:
    plan = resolve(target)
    with Generations(target) as generations:
        name = generations.stage(2, rendered(target, 2), plan.accounts, plan.password)
        generations.activate(name)
        generations.prune(1, mounted=lambda: NOTHING)


def subsets(lost: list[Lost]) -> Iterator[tuple[Lost, ...]]:
    for count in range(len(lost) + 1):
        yield from itertools.combinations(lost, count)


def check_whole(target: Target, old: Target | None) -> None:
    """What is current is one whole generation, and each of its files is at its fixed name."""
    contents = {
        1: None if old is None else {n: f.content for n, f in rendered(old, 1).items()},
        2: {n: f.content for n, f in rendered(target, 2).items()},
    }
    current = target.directory / "current"
    if not current.is_symlink():
        assert old is None
        return
    generation = int(current.readlink().name)
    found = {path.name: path.read_bytes() for path in current.iterdir()}
    assert found == contents[generation]
    written_for = old if generation == 1 else target
    assert written_for is not None
    for name in set(found) - OURS_ALONE:
        at_its_name = (target.directory / name).read_bytes()
        if target.layout == "copy" or written_for.layout == "copy":
            # the one file comes first: it is whole, of the one or of the other
            assert at_its_name in [of[name] for of in contents.values() if of and name in of]
        else:
            assert at_its_name == found[name]
    for name in FILE_NAMES.values():  # what is there besides leads nowhere, or is whole
        if (target.directory / name).exists():
            whole = [of.get(name) for of in contents.values() if of]
            assert (target.directory / name).read_bytes() in whole


@pytest.mark.parametrize("case", RENEWALS)
def test_killed_at_each_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    before, after = (
        None if one is None else dataclasses.replace(one, directory=tmp_path / "work/live")
        for one in RENEWALS[case]
    )
    assert after is not None
    template, work = tmp_path / "template", tmp_path / "work"
    work.mkdir()
    if before is not None:
        place(before, 1)
    work.rename(template)
    for last in itertools.count():
        shutil.copytree(template, work, symlinks=True)
        killing = KillingOs(last)
        monkeypatch.setattr(durable, "os", killing)
        try:
            switch(after)
        except Killed:
            done = False
        else:
            done = True
        monkeypatch.setattr(durable, "os", os)
        work.rename(tmp_path / "killed")
        for lost in subsets(killing.unsynced):
            shutil.copytree(tmp_path / "killed", work, symlinks=True)
            for one in reversed(lost):
                one.undo()
            check_whole(after, before)
            switch(after)
            expected = {"combined.pem": "file"}
            if after.layout == "link":
                expected = links(*(FILE_NAMES[one] for one in after.formats))
            assert fixed_names(after) == expected
            check_whole(after, before)
            assert list(staging_of(after).iterdir()) == []
            shutil.rmtree(work)
        shutil.rmtree(tmp_path / "killed")
        if done:
            assert last > 20, "it was killed at each call"
            return
