"""Accepts what direct mode got by the same rules as what an agent hands out."""

from __future__ import annotations

from internal_puller import trust
from internal_puller.sources.direct.record import Issued
from internal_puller.state.floor import Floor
from shared.contract.bundle import Manifest
from shared.contract.key_policy import load_pem_key
from shared.contract.wire import NO_DIGEST
from shared.contract.x509 import load_chain, spki_sha256


def accept_own(
    issued: Issued, wanted: trust.Wanted, floor: Floor | None, now: float
) -> trust.Accepted:
    """Make every check of a bundle but those of who sent it.

    Args:
        now: unix seconds.

    Raises:
        BundleError: the check that failed.
    """
    leaf = load_chain(issued.chain)[0]
    manifest = Manifest(
        agent=NO_DIGEST,
        recipient=NO_DIGEST,
        certificate=wanted.certificate,
        names=issued.names,
        generation=issued.generation,
        issued_at=issued.issued_at,
        not_after=int(leaf.not_valid_after_utc.timestamp()),
        key_origin="puller",
        spki_sha256=spki_sha256(leaf),
        chain=issued.chain,
        sealed_key=None,
    )
    key = load_pem_key(issued.key)
    return trust.accept_own(manifest, key, wanted=wanted, floor=floor, now=now)
