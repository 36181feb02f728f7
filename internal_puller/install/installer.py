"""One generation of one target: stage, activate, test, reload, probe; or back to the last one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from internal_puller.install import layout
from internal_puller.install.formats import render
from internal_puller.install.generations import Generations
from internal_puller.install.layout import generation_of
from internal_puller.install.presets import Plan, resolve
from internal_puller.install.probe import probe_target
from internal_puller.install.report import InstallReport
from internal_puller.install.switch import Switch
from internal_puller.install.trial import Trial
from internal_puller.install.verify import check_files, rebuild
from shared.contract.errors import (
    ConfigTestFailed,
    ConfigurationError,
    InstallError,
    ReloadFailed,
    ServedMismatch,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from internal_puller.install.layout import SetAside
    from internal_puller.install.material import Material
    from internal_puller.settings.targets import Target

__all__ = ["InstallReport", "install", "reshape", "resume", "roll_back"]


def install(
    material: Material,
    target: Target,
    *,
    now: int,
    force: bool = False,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> InstallReport:
    """Install a generation and see it served, or bring the previous one back.

    The caller holds ``installation_lock``. Failures of installing are in the report.

    Args:
        material: an accepted generation.
        target: where it goes.
        now: unix seconds, for the memory of failures.
        force: try again although the generation failed here before.
        clock, sleep: monotonic seconds.

    Raises:
        ConfigurationError: the target cannot be used; nothing was written.
        KeyMismatch: key and leaf are no pair; nothing was written.
    """
    plan = resolve(target)
    material.check_pair()
    try:
        with Generations(target) as generations:
            switch = Switch(generations, plan, Trial(plan, clock, sleep), now)
            failed = generations.set_aside().get(material.generation)
            if failed and not force:
                recover(switch)
                return switch.report_failure(material.generation, _remembered(failed), False)
            return _install(switch, material)
    except InstallError as error:
        return _not_begun(target, material.generation, error)


def _install(switch: Switch, material: Material) -> InstallReport:
    plan, generations = switch.plan, switch.generations
    files = render(material, plan.rendering)
    name = generations.stage(material.generation, files, plan.accounts, plan.password)
    switch.trial.upload(generations, name)
    unfinished = generations.unfinished()
    active = generations.active()
    if active == name and unfinished is None:
        return switch.confirm(name)
    return switch.to(name, unfinished.previous if unfinished else active)


def reshape(
    target: Target,
    *,
    now: int,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> InstallReport | None:
    """Write the generation in place anew, as the target wants its files now; None: there is none.

    A failure brings the former files back, and says nothing about the generation.

    Raises:
        ConfigurationError: the target cannot be used, or the files there do not hold chain and
            key; nothing was written.
    """
    plan = resolve(target)
    name = layout.active_name(target)
    if name is None:
        return None
    with Generations(target, read_only=True) as generations:
        material = rebuild(generations.read(name), plan)
    if material is None:
        raise ConfigurationError(
            f"{target.certificate}: the files in {target.directory} do not hold chain and key, "
            "so they cannot be written in other formats.",
            do="The next generation comes in the formats wanted now.",
        )
    report = install(material, target, now=now, force=True, clock=clock, sleep=sleep)
    if report.error is not None:
        with Generations(target) as generations:
            generations.clear(material.generation)
    return report


def resume(
    target: Target,
    *,
    now: int,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> InstallReport | None:
    """Bring an installation to its verdict that an earlier run did not finish; None: none.

    Raises:
        ConfigurationError: the target cannot be used.
    """
    if not layout.unfinished(target):
        return None
    plan = resolve(target)
    with Generations(target) as generations:
        return recover(Switch(generations, plan, Trial(plan, clock, sleep), now))


def recover(switch: Switch) -> InstallReport | None:
    """Finish what an earlier run began: forward, or back where it had failed already."""
    unfinished = switch.generations.unfinished()
    if unfinished is None:
        return None
    failed = switch.generations.set_aside().get(generation_of(unfinished.to))
    if failed:
        return switch.back(unfinished, _remembered(failed))
    return switch.to(unfinished.to, unfinished.previous)


def roll_back(
    target: Target,
    to: int | None = None,
    *,
    now: int,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> InstallReport:
    """Activate an earlier generation because an operator says so, and see it served.

    The generation that is left is set aside, so that the next pull does not bring it back.

    Args:
        target: where.
        to: the generation; None means the one that an installation which did not end had found
            in place, else the newest one older than the active one.
        now: unix seconds.
        clock, sleep: monotonic seconds.

    Raises:
        ConfigurationError: there is no such generation on disk, or it is damaged.
    """
    plan = resolve(target)
    try:
        with Generations(target) as generations:
            switch = Switch(generations, plan, Trial(plan, clock, sleep), now)
            active = generations.active()
            unfinished = generations.unfinished()
            if to is None and unfinished is not None and unfinished.previous is not None:
                name = unfinished.previous  # going back failed, or was not done: it is meant
            else:
                name = _earlier(generations, target, active, to)
            _check_on_disk(generations, plan, name)
            report = switch.to(name, unfinished.previous if unfinished else active)
            if report.error is None and active is not None and active != name:
                left = generation_of(active)
                generations.mark(left, _operator_left(left, now))
            return report
    except InstallError as error:
        return _not_begun(target, to or 0, error)


def _earlier(generations: Generations, target: Target, active: str | None, to: int | None) -> str:
    if to is not None:
        name = generations.find(to)
    else:
        failed = generations.set_aside()
        before = generation_of(active) if active else 0
        found = [
            name
            for name in generations.names()
            if generation_of(name) < before and generation_of(name) not in failed
        ]
        name = found[-1] if found else None
    if name is None:
        wanted = "older generation" if to is None else f"generation {to}"
        raise ConfigurationError(
            f"{target.certificate}: there is no {wanted} in {target.directory}.",
            do=f"On disk are: {', '.join(map(str, generations.names())) or 'none'}.",
        )
    return name


def _check_on_disk(generations: Generations, plan: Plan, name: str) -> None:
    problems = check_files(generations.read(name), plan).problems
    if problems:
        raise ConfigurationError(
            f"{plan.target.certificate}, generation {name}: {problems[0]}.",
            do="Choose another generation: internal-puller rollback --to N.",
        )


def _operator_left(generation: int, now: int) -> SetAside:
    return layout.SetAside(
        "operator/rolled-back", f"Generation {generation} was rolled back by an operator.", now
    )


def _remembered(failed: SetAside) -> InstallError:
    """Return the error that a generation was set aside for."""
    kinds: tuple[type[InstallError], ...] = (ConfigTestFailed, ReloadFailed, ServedMismatch)
    kind = next((kind for kind in kinds if kind.type == failed.error_type), InstallError)
    return kind(failed.what, do=layout.TRIED_AGAIN)


def _not_begun(target: Target, generation: int, error: InstallError) -> InstallReport:
    active = layout.active_generation(target)
    served = probe_target(target)
    return InstallReport(
        target.certificate, generation, "rolled_back", False, error, active, served, served
    )
