"""Leaves the CSR for the next generation: a fresh key, durable here before anything is sent.

The caller holds the installation lock. The quiet path of ``pull`` never comes here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from cryptography.hazmat.primitives.serialization import Encoding

from internal_puller.outbox.outcome import Outcome
from internal_puller.pull.deciding import csrs_due
from internal_puller.pull.pauses import NEXT_CSR
from internal_puller.pull.turn import Turn
from internal_puller.settings.targets import Target
from internal_puller.sources.agent.client import RelayClient
from internal_puller.sources.agent.contact import lost_contact
from internal_puller.state.pending import Entry, PendingKey, PendingKeys
from shared.contract.errors import ConfigurationError, RelayError, RequestRefused
from shared.contract.identifiers import parse_names
from shared.contract.key_policy import KeyAlgorithm, generate_key, key_to_der
from shared.contract.wire import Offer
from shared.contract.x509 import make_csr, spki_sha256

_REFUSED = "csr-refused"


def algorithm_for(certificate: str, targets: Sequence[Target], default: str) -> KeyAlgorithm:
    """Return the kind of key that the targets of a certificate want.

    Raises:
        ConfigurationError: two of them want different ones.
    """
    here = (one.key_algorithm for one in targets if one.certificate == certificate)
    wanted = sorted({one for one in here if one is not None})
    if len(wanted) > 1:
        raise ConfigurationError(
            f"The targets of {certificate} want different keys: {' and '.join(wanted)}.",
            do="They share one certificate and so one key: internal-puller target change.",
        )
    return KeyAlgorithm(wanted[0] if wanted else default)


def leave_next_csr(
    client: RelayClient,
    pending: PendingKeys,
    offer: Offer,
    algorithm: KeyAlgorithm,
    *,
    say: Callable[[str], None] = lambda text: None,
) -> None:
    """Leave a CSR with the agent, for exactly the granted names.

    A key whose CSR may not have reached the agent is offered again; one that the agent says was
    used is not, and a fresh one takes its place at once.

    Raises:
        NameRefused, PolicyError: the granted names are none.
        ConfigurationError: the key cannot be kept; nothing was sent.
        RequestRefused: the agent does not take a fresh one either.
        TransportError, ClockWrong: not reached; the same is offered again the next time.
    """
    say(f"{offer.certificate}: leaving a CSR for the next generation")
    if _offer_again(client, pending, offer, algorithm):
        return
    entry, fresh = _make(pending, offer, algorithm)
    try:
        client.leave_csr(offer.certificate, fresh.csr)
    except RequestRefused as error:
        if error.problem_type == _REFUSED:
            pending.drop(entry)
        raise


def leave_csrs(turn: Turn, due: Sequence[Offer], worked_on: Collection[str]) -> None:
    """Leave a CSR for each certificate that is due.

    Args:
        due: those that were due before anything was installed.
        worked_on: certificates that were: what was installed a moment ago has used its key, and the
            next one's is left at once.
    """
    agent = turn.agent
    if agent is None or turn.report.contact is not None:
        return
    used = [one for one in agent.offers() if one.certificate in worked_on]
    offers = {one.certificate: one for one in (*due, *csrs_due(turn, used))}
    if not offers:
        return
    for offer in offers.values():
        try:
            algorithm = algorithm_for(offer.certificate, turn.targets, turn.settings.key_algorithm)
            pending = PendingKeys(turn.state.path, offer.certificate)
            leave_next_csr(agent.client, pending, offer, algorithm, say=turn.say)
        except RelayError as error:
            if lost_contact(error):
                turn.note_no_contact(error)
                break
            _not_left(turn, offer, error)
        else:
            _left(turn, offer)
    turn.save()


def _not_left(turn: Turn, offer: Offer, error: RelayError) -> None:
    mine = turn.progress.of(offer.certificate)
    mine.csr_error = error.what
    turn.pauses.defer(offer.certificate, NEXT_CSR)
    if not isinstance(error, RequestRefused):
        reported = mine.reported  # what is in place is none the worse for it
        turn.outbox.keep_fault(offer.certificate, mine.offered, error)
        mine.reported = reported
    turn.report.outcomes.append(Outcome(offer.certificate, 0, None, error))


def _left(turn: Turn, offer: Offer) -> None:
    mine = turn.progress.of(offer.certificate)
    if mine.csr_error:
        mine.error, mine.fault, mine.reported = None, "", 0
    mine.csr_error, mine.csr_wanted = "", False
    turn.pauses.over(offer.certificate, NEXT_CSR)
    turn.report.csrs_left.append(offer.certificate)


def _offer_again(
    client: RelayClient, pending: PendingKeys, offer: Offer, algorithm: KeyAlgorithm
) -> bool:
    """Offer the CSR of the newest key that no certificate came for; tell whether it is taken."""
    entry = pending.unused
    waiting = None if entry is None else pending.read(entry)
    if waiting is None or (waiting.names, waiting.algorithm) != (offer.names, str(algorithm)):
        return False
    try:
        client.leave_csr(offer.certificate, waiting.csr)
    except RequestRefused as error:
        if error.problem_type != _REFUSED:
            raise
        return False
    return True


def _make(pending: PendingKeys, offer: Offer, algorithm: KeyAlgorithm) -> tuple[Entry, PendingKey]:
    names = parse_names(offer.names)
    key = generate_key(algorithm)
    csr = make_csr(key, names).public_bytes(Encoding.DER)
    fresh = PendingKey(key_to_der(key), csr, tuple(offer.names), str(algorithm))
    return pending.add(spki_sha256(key), fresh), fresh
