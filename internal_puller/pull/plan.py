"""What a list of certificates asks of this machine: decided from facts, without doing anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from internal_puller.install.layout import TRIED_AGAIN, SetAside
from internal_puller.outbox.outcome import Outcome
from internal_puller.outbox.verdict import BACK, ERRORS, Verdict
from internal_puller.settings.targets import Target
from internal_puller.sources.source import Work
from internal_puller.state.floor import Floor
from shared.contract.errors import InstallError, PolicyError, RelayError
from shared.contract.wire import Offer

AGAIN_AFTER = 86400
"""Seconds after which a generation that failed here is tried once more: whatever was wrong with the
server may have been mended, and the certificate in place does not live for ever."""


@dataclass(frozen=True, slots=True)
class InPlace:
    """One target as it stands.

    Attributes:
        active: the generation in place, if any.
        set_aside: generations that failed here or were rolled back, and why.
    """

    target: Target
    active: int | None
    set_aside: Mapping[int, SetAside]


@dataclass(frozen=True, slots=True)
class Plan:
    """
    Attributes:
        work: certificates to fetch and install.
        behind: certificate to our floor, where the agent has only older ones (it was restored
            from a backup); asking for something newer tells it so.
        failed: certificate, generation, and why the offered generation is set aside here.
        not_granted: certificates that have a target, but that the agent does not grant.
        unreported: targets with the offered generation in place, of which no receipt was written:
            an earlier run was killed between installing and writing it.
        unusable: targets that cannot even be looked at, and why.
    """

    work: tuple[Work, ...]
    behind: Mapping[str, int]
    failed: tuple[tuple[str, int, SetAside], ...]
    not_granted: tuple[str, ...]
    unreported: tuple[Target, ...]
    unusable: tuple[tuple[Target, RelayError], ...] = ()

    @property
    def asks_for_something(self) -> bool:
        return bool(self.work or self.behind or self.unreported or self.unusable)

    def obstacles(self) -> list[Outcome]:
        """Return what keeps something from being installed, and is not being worked on."""
        found = [
            Outcome(target.certificate, 0, None, reason, directory=str(target.directory))
            for target, reason in self.unusable
        ]
        found += [set_aside_outcome(*each) for each in self.failed]
        for certificate in self.not_granted:
            denied = PolicyError(
                f"{certificate}: there is a target for it, but the agent does not grant it "
                "(any more).",
                do="Grant it there, or remove it here: internal-puller target remove.",
            )
            found.append(Outcome(certificate, 0, None, denied))
        return found


def set_aside_outcome(certificate: str, generation: int, mark: SetAside) -> Outcome:
    """Return the outcome that a generation was set aside for in an earlier run."""
    kinds = {kind.type: verdict for verdict in BACK if (kind := ERRORS[verdict])}
    verdict = kinds.get(mark.error_type, Verdict.BACK_BY_LEAF)
    kind = ERRORS[verdict] or InstallError
    what = f"{certificate}: generation {generation} failed here: {mark.what}"
    return Outcome(certificate, generation, verdict, kind(what, do=TRIED_AGAIN))


def make_plan(
    offers: Iterable[Offer],
    floors: Mapping[str, Floor],
    places: Iterable[InPlace],
    *,
    unusable: Sequence[tuple[Target, RelayError]] = (),
    reported: Mapping[str, int],
    now: float,
    retry: bool = False,
    deferred: Callable[[str, int], bool] = lambda certificate, generation: False,
) -> Plan:
    """
    Args:
        unusable: targets that cannot be looked at; they are passed on.
        reported: certificate to the generation of its last receipt.
        now: unix seconds.
        retry: try generations again that failed here before, also less than a day ago.
        deferred: tells whether a generation failed a moment ago and is to wait.
    """
    by_certificate: dict[str, list[InPlace]] = {}
    for place in places:
        by_certificate.setdefault(place.target.certificate, []).append(place)
    work: list[Work] = []
    behind: dict[str, int] = {}
    failed: list[tuple[str, int, SetAside]] = []
    unreported: list[Target] = []
    for offer in offers:
        here = by_certificate.pop(offer.certificate, None)
        floor = floors.get(offer.certificate)
        if here is None:
            continue
        if floor is not None and offer.generation < floor.generation:
            behind[offer.certificate] = floor.generation
        elif offer.generation:
            reason = _failed_here(here, offer.generation)
            todo = [place for place in here if _wants(place, offer.generation, now, retry=retry)]
            if todo and not deferred(offer.certificate, offer.generation):
                work.append(_work(offer, floor, todo))
            elif reason is not None:
                failed.append((offer.certificate, offer.generation, reason))
            elif (
                not todo
                and reported.get(offer.certificate) != offer.generation
                and all(target.certificate != offer.certificate for target, _ in unusable)
            ):
                unreported += [one.target for one in here if one.active == offer.generation]
    return Plan(
        work=tuple(work),
        behind=behind,
        failed=tuple(failed),
        not_granted=tuple(sorted(by_certificate)),
        unreported=tuple(unreported),
        unusable=tuple(unusable),
    )


def _failed_here(places: list[InPlace], generation: int) -> SetAside | None:
    """What an operator took back is no failure."""
    found = (place.set_aside.get(generation) for place in places)
    return next((one for one in found if one and not _by_operator(one)), None)


def _wants(place: InPlace, generation: int, now: float, *, retry: bool) -> bool:
    if place.active == generation:
        return False
    mark = place.set_aside.get(generation)
    if mark is None or retry or mark.alone:
        return True
    return not _by_operator(mark) and not 0 <= now - mark.at < AGAIN_AFTER


def _by_operator(mark: SetAside) -> bool:
    return mark.error_type.startswith("operator/")


def _work(offer: Offer, floor: Floor | None, todo: list[InPlace]) -> Work:
    """A generation accepted before and not in place is fetched again, so ask just below it."""
    seen = floor.generation if floor else 0
    after = min(seen, offer.generation - 1)
    targets = tuple(place.target for place in todo)
    again = any(offer.generation in place.set_aside for place in todo)
    return Work(offer.certificate, offer.generation, after, targets, again)
