"""What goes in place of what at one target, for each thing that can be asked of the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from internal_puller.install import layout
from internal_puller.install.formats import render
from internal_puller.install.layout import generation_of
from internal_puller.install.member import Member
from internal_puller.install.verify import check_files, rebuild
from internal_puller.outbox.outcome import Outcome
from internal_puller.outbox.verdict import ERRORS, Verdict
from shared.contract.errors import ConfigurationError, InstallError, RelayError, StageFailed

if TYPE_CHECKING:
    from internal_puller.install.generations import Generations
    from internal_puller.install.layout import SetAside
    from internal_puller.install.material import Material
    from internal_puller.install.notes import Noted
    from internal_puller.install.presets import Plan
    from internal_puller.settings.targets import Target

_VERDICTS: Final = {kind.type: verdict for verdict, kind in ERRORS.items() if kind is not None}


def staged(
    plan: Plan, generations: Generations, material: Material, *, force: bool
) -> Member | Outcome:
    """Write a generation beside what is in place, here and where the server is.

    Returns:
        An outcome, with nothing written, for one that failed here before and is not forced.

    Raises:
        StageFailed: it could not be written.
        KeyMismatch: key and leaf are no pair.
    """
    material.check_pair()
    marks = generations.set_aside()
    mark, active = marks.get(material.generation), generations.active()
    if mark is not None and not mark.alone and not force:
        return _remembered(plan.target, material.generation, mark)
    name = _written(plan, generations, material)
    above = generation_of(active) if active else -1
    member = Member(
        plan,
        generations,
        name,
        active,
        plan.servers,
        alone=any(one.alone and number > above for number, one in marks.items()),
        is_there=name == active,
    )
    member.upload(name)
    return member


def _written(plan: Plan, generations: Generations, material: Material) -> str:
    files = render(material, plan.rendering)
    return generations.stage(material.generation, files, plan.accounts, plan.password)


def reshaped(plan: Plan, generations: Generations) -> Member | Outcome:
    """Write the generation in place anew, as the target wants its files now.

    Raises:
        ConfigurationError: the files there do not hold chain and key; nothing was written.
    """
    target, active = plan.target, generations.active()
    if active is None:
        return nothing_of(target)
    material = rebuild(generations.read(active), plan)
    if material is None:
        raise ConfigurationError(
            f"{target.certificate}: the files in {target.directory} do not hold chain and key, "
            "so they cannot be written in other formats.",
            do="The next generation comes in the formats wanted now.",
        )
    name = _written(plan, generations, material)
    if name == active:
        return nothing_of(target)
    member = Member(plan, generations, name, active, plan.servers)
    member.upload(name)
    return member


def chosen(
    plan: Plan, generations: Generations, to: int | None, meant: str | None
) -> Member | Outcome:
    """Choose the generation that an operator goes back to.

    Args:
        to: its number; ``None`` is ``meant``, else the newest older than the active one that did
            not fail.

    Raises:
        ConfigurationError: there is none on disk, or it is damaged.
    """
    name = meant or _earlier(plan.target, generations, to)
    problems = check_files(generations.read(name), plan).problems
    if problems:
        raise ConfigurationError(
            f"{plan.target.certificate}, generation {name}: {problems[0]}.",
            do="Choose another generation: internal-puller rollback --to N.",
        )
    return Member(plan, generations, name, generations.active(), plan.servers)


def _earlier(target: Target, generations: Generations, to: int | None) -> str:
    name = older(generations) if to is None else generations.find(to)
    if name is None:
        wanted = "older generation" if to is None else f"generation {to}"
        raise ConfigurationError(
            f"{target.certificate}: there is no {wanted} in {target.directory}.",
            do=f"On disk are: {', '.join(map(str, generations.names())) or 'none'}.",
        )
    return name


def older(generations: Generations) -> str | None:
    """Return the newest generation older than the active one that did not fail here."""
    failed, active = generations.set_aside(), generations.active()
    before = generation_of(active) if active else 0
    found = [
        name
        for name in generations.names()
        if generation_of(name) < before and generation_of(name) not in failed
    ]
    return found[-1] if found else None


def kept(plan: Plan, generations: Generations, stood: Verdict | None) -> Member | Outcome:
    """Take what is in place and was not seen to be served; it may still go back."""
    active = generations.active()
    if active is None:
        return nothing_of(plan.target)
    return Member(
        plan, generations, active, active, plan.servers, is_there=True, kept=True, stood=stood
    )


def begun(plan: Plan, generations: Generations, noted: Noted) -> Member | None:
    """Take what an earlier run noted; ``None`` if its files are gone."""
    if noted.to not in generations.names():
        return None
    return Member(plan, generations, noted.to, noted.previous, plan.servers, verdict=noted.verdict)


# --- outcomes without an installation ---------------------------------------------------------


def lost(target: Target, noted: Noted) -> Outcome:
    """Say that a generation is gone which an installation was about that did not end."""
    generation = generation_of(noted.to)
    what = (
        f"{target.certificate}: generation {generation}, of which an installation did not end, is "
        f"gone from {target.directory}."
    )
    return fault_of(target, StageFailed(what, do="The next pull installs it anew."), generation)


def nothing_of(target: Target) -> Outcome:
    """Say that nothing was to be done."""
    active = layout.active_generation(target)
    return Outcome(
        target.certificate, active or 0, None, directory=str(target.directory), active=active
    )


def fault_of(target: Target, fault: RelayError, generation: int = 0) -> Outcome:
    """Say why a target could not be worked on; what is in place there is as it was."""
    try:
        active = layout.active_generation(target)
    except ConfigurationError:
        active = None
    return Outcome(
        target.certificate,
        generation,
        None,
        fault,
        directory=str(target.directory),
        active=active,
    )


def _remembered(target: Target, generation: int, mark: SetAside) -> Outcome:
    """Say what a generation was set aside for."""
    verdict = _VERDICTS.get(mark.error_type)
    kind = ERRORS[verdict] if verdict else None
    error = (kind or InstallError)(mark.what, do=layout.TRIED_AGAIN)
    return Outcome(
        target.certificate,
        generation,
        verdict,
        error,
        directory=str(target.directory),
        active=layout.active_generation(target),
    )


def put_off(member: Member) -> Outcome:
    """Say why one that is to be tried alone was not tried: another one killed the server."""
    marks = member.generations.set_aside()
    newest = max((number for number, one in marks.items() if one.alone), default=0)
    if newest:
        return _remembered(member.plan.target, member.generation, marks[newest])
    return nothing_of(member.plan.target)
