"""Tells of what on this machine ends every pull; the quiet path never comes here."""

from __future__ import annotations

from contextlib import suppress

from internal_puller.outbox.delivery import deliver
from internal_puller.pull.turn import Turn
from internal_puller.sources.agent.contact import NO_CONTACT
from shared.contract.errors import ConfigurationError, InstallBusy, RelayError
from shared.contract.wire import Offer


def tell_of_fault(turn: Turn, fault: ConfigurationError) -> None:
    """Write and send receipts of all that is not in place.

    Where the targets cannot be read, those of the last pull count.
    """
    try:
        with turn.lock():
            _tell(turn, fault)
    except InstallBusy:
        return  # another pull is at work, and tells
    except RelayError:  # not even the lock can be had, or more is wrong than that
        with suppress(RelayError):
            _tell(turn, fault)


def _tell(turn: Turn, fault: ConfigurationError) -> None:
    turn.read()
    progress = turn.progress
    here = {target.certificate for target in turn.targets} or {
        name for name, one in progress.certificates.items() if one.target == "here"
    }
    offered = _offered_now(turn)
    for certificate in sorted(here):
        mine = progress.of(certificate)
        newest = offered.get(certificate, mine.reported)
        if certificate in turn.own or newest != mine.reported:
            turn.outbox.keep_fault(certificate, newest, fault)
    if turn.agent is not None and progress.reports_due(turn.clock()):
        try:
            deliver(turn.agent.client, progress, turn.clock())
        except NO_CONTACT as error:
            turn.note_no_contact(error)
    with suppress(ConfigurationError):
        turn.save()


def _offered_now(turn: Turn) -> dict[str, int]:
    """Return the newest generations, as far as the agent says and our own are known."""
    offers: list[Offer] = []
    with suppress(*NO_CONTACT, ConfigurationError):
        if turn.direct is not None:
            offers += turn.direct.offers()
        if turn.agent is not None:
            offers += turn.agent.ask().offers
    return {one.certificate: one.generation for one in offers}
