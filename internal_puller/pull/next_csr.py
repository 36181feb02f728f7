"""Leaves the CSR for the next generation: a fresh key, durable here before anything is sent.

The caller holds the installation lock. The quiet path of ``pull`` never comes here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cryptography.hazmat.primitives.serialization import Encoding

from internal_puller.settings.targets import Target
from internal_puller.sources.agent.client import RelayClient
from internal_puller.state.pending import Entry, PendingKey, PendingKeys
from shared.contract.errors import ConfigurationError, RequestRefused
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
