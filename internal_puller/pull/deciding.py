"""What one pull has to do, decided once, without the lock and without doing anything; lean."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from internal_puller.install.layout import active_generation, set_aside
from internal_puller.install.notes import has_note, read_all
from internal_puller.outbox.verdict import Verdict
from internal_puller.pull.pauses import NEXT_CSR, looked_at_now, waits_unseen
from internal_puller.pull.plan import InPlace, Plan, make_plan
from internal_puller.pull.remembered import follow, without_target
from internal_puller.pull.turn import Turn
from internal_puller.settings.targets import Target
from internal_puller.state.pending import PendingKeys, pending_certificates
from shared.contract.errors import ConfigurationError, RelayError
from shared.contract.wire import Listing, Offer, clamp_come_back


@dataclass(frozen=True, slots=True)
class Decision:
    """
    Attributes:
        csrs: certificates for whose next generation a CSR is to be left now.
        look: targets whose server is looked at again: the one in place was not seen served.
        untold: certificate and generation that failed here, of which no receipt was written: an
            earlier run was killed between going back and writing it.
        others: a receipt waits, or an order failed that the agent is told of.
    """

    plan: Plan
    csrs: tuple[Offer, ...]
    look: tuple[Target, ...]
    untold: frozenset[tuple[str, int]]
    others: bool

    @property
    def asks_for_something(self) -> bool:
        return bool(
            self.plan.asks_for_something or self.csrs or self.look or self.untold or self.others
        )


def decide(turn: Turn, *, heard: bool, retry: bool) -> Decision:
    """Note what the agent said, and say what is to be done.

    Args:
        heard: the agent answered in this pull.
        retry: try what failed again, and look at once at what was not seen to be served.

    Raises:
        ConfigurationError: what this machine knows is damaged.
    """
    listing = turn.agent.listing if turn.agent and heard else None
    if listing is not None:
        _note_contact(turn, listing)
    plan = _plan(turn, listing, retry=retry)
    now = turn.clock()
    return Decision(
        plan=plan,
        csrs=tuple(csrs_due(turn, listing.offers if listing else ())),
        look=looked_at_now(turn.progress, turn.targets, now, at_once=retry),
        untold=_untold(turn, plan),
        others=turn.agent is not None
        and (
            (heard and turn.progress.reports_due(now)) or bool(turn.direct and turn.direct.failed)
        ),
    )


def csrs_due(turn: Turn, offers: Sequence[Offer]) -> list[Offer]:
    """Return the certificates for whose next generation a CSR is to be left now.

    One is also left unasked when the key of what the agent has is here no more.
    """
    here = {target.certificate for target in turn.targets} - turn.own
    return [
        offer
        for offer in offers
        if offer.key_origin == "puller"
        and offer.certificate in here
        and not turn.pauses.is_deferred(offer.certificate, NEXT_CSR)
        and (offer.csr_wanted or PendingKeys(turn.state.path, offer.certificate).unused is None)
    ]


def _note_contact(turn: Turn, listing: Listing) -> None:
    assert turn.agent is not None
    now, progress, client = int(turn.clock()), turn.progress, turn.agent.client
    progress.version = listing.version
    progress.come_back_at = now + clamp_come_back(listing.come_back)
    progress.last_contact = now
    progress.clock_difference = client.clock_difference or 0
    progress.tls_check = client.tls_check
    progress.error = None
    here = {one.certificate for one in turn.targets} - turn.own
    follow(progress, listing.offers, here, turn.own, now=now)


def _plan(turn: Turn, listing: Listing | None, *, retry: bool) -> Plan:
    """Plan for all sources at once; without an answer of the agent, for the others."""
    own = turn.own
    offers = [one for one in (listing.offers if listing else ()) if one.certificate not in own]
    theirs = len(offers)
    if turn.direct is not None:
        offers += turn.direct.offers()
    targets = [one for one in turn.targets if listing is not None or one.certificate in own]
    places, unusable = _places(targets)
    turn.pauses.too_often.clear()
    plan = make_plan(
        offers,
        turn.state.floors(),
        places,
        unusable=unusable,
        reported=_reported(turn, offers),
        now=turn.clock(),
        retry=retry,
        deferred=partial(turn.pauses.waits, targets),
    )
    agents = {one.certificate for one in offers[:theirs]}  # only an agent can be behind
    behind = {name: floor for name, floor in plan.behind.items() if name in agents}
    return replace(plan, behind=behind)


def _reported(turn: Turn, offers: Sequence[Offer]) -> dict[str, int]:
    if turn.agent is None:
        return {one.certificate: one.generation for one in offers}  # nobody is told
    return {name: one.reported for name, one in turn.progress.certificates.items()}


def _untold(turn: Turn, plan: Plan) -> frozenset[tuple[str, int]]:
    if turn.agent is None:
        return frozenset()
    return frozenset(
        (certificate, generation)
        for certificate, generation, _ in plan.failed
        if not turn.progress.of(certificate).has_told_of(generation)
    )


def _places(
    targets: Sequence[Target],
) -> tuple[list[InPlace], list[tuple[Target, RelayError]]]:
    """One target that cannot be looked at must not keep the others from being served."""
    places: list[InPlace] = []
    unusable: list[tuple[Target, RelayError]] = []
    for target in targets:
        try:
            places.append(InPlace(target, active_generation(target), set_aside(target)))
        except ConfigurationError as error:
            unusable.append((target, error))
    return places, unusable


def is_left_behind(turn: Turn) -> bool:
    """Tell whether something is left here of a certificate that nothing has a target for."""
    here = {target.certificate for target in turn.targets}
    left = pending_certificates(turn.state.path) - here
    return bool(left or without_target(turn.progress, here))


def is_cut_off(turn: Turn, *, at_once: bool) -> bool:
    """Tell whether an earlier run ended before all was settled, and it is time to go on with it.

    Args:
        at_once: also with a way back of which no end was seen, whatever its pause is.
    """
    if not has_note(turn.state.path):
        return False
    try:
        found = read_all(turn.state.path)
    except ConfigurationError:  # said by whoever goes on with it
        return True
    now = turn.clock()
    return any(
        at_once
        or member.verdict is not Verdict.BACK_UNSEEN
        or not waits_unseen(turn.progress, where, now)
        for note in found
        for where, member in note.members.items()
    )


def reshaped(turn: Turn) -> list[Target]:
    """Return the targets whose files in place were written for other formats, owners or modes."""
    found = []
    for target in turn.targets:
        if turn.progress.shapes.get(str(target.directory)) == target.shape:
            continue
        with suppress(ConfigurationError):  # said elsewhere
            if active_generation(target) is not None:
                found.append(target)
    return found
