"""Tells a CA that a certificate is not to be trusted any more (RFC 8555 section 7.6)."""

from __future__ import annotations

from dataclasses import dataclass

from external_agent.orders.certificate_authority import Connector
from external_agent.records.model import AttemptState
from external_agent.records.rows import GenerationRow
from external_agent.store.interface import Store
from shared.acme.keys import AccountKey
from shared.acme.ports import Sleep
from shared.acme.revocation import NEEDS_NO_OTHER, reason_name
from shared.contract.errors import ConfigurationError, PolicyError
from shared.contract.x509 import leaf_sha256, read_certificates, spki_sha256


@dataclass(frozen=True, slots=True)
class Revoked:
    """
    Attributes:
        certificate, generation: "" and 0 for one that this agent did not issue.
        before: it was revoked already.
        renewed: a new generation is wanted because of it.
    """

    certificate: str
    generation: int
    before: bool
    renewed: bool


def revoke_generation(
    store: Store,
    authorities: Connector,
    certificate: str,
    generation: int | None,
    reason: int,
    *,
    sleep: Sleep,
    now: int,
    actor: str = "operator",
) -> Revoked:
    """Revoke one generation by the account that ordered it; ``None`` is the newest.

    Unless nothing is missing afterwards (superseded, cessationOfOperation), revoking the newest
    one starts another with a new key.

    Raises:
        PolicyError: it was not issued.
        IssuanceError, ConfigurationError: the CA refuses, or is not reached.
    """
    row = _issued(store, certificate, generation)
    assert row.chain is not None
    with authorities.connect(row.directory_url, sleep) as client:
        fresh = client.revoke(row.chain.encode("ascii"), reason)
    return _note(store, row, reason, fresh=fresh, now=now, actor=actor)


def revoke_file(
    store: Store,
    authorities: Connector,
    chain_pem: bytes,
    key: AccountKey | None,
    reason: int,
    *,
    directory_url: str | None,
    usual_ca: str,
    sleep: Sleep,
    now: int,
    actor: str = "operator",
) -> Revoked:
    """Revoke what a file holds, by its own key or by our account at that CA.

    A generation of this agent is noted and replaced as :func:`revoke_generation` does it.

    Args:
        directory_url: the CA to ask; ``None`` is the one that issued the generation, and
            ``usual_ca`` for any other certificate.

    Raises:
        ConfigurationError: no certificate in it, or the key is another's.
        IssuanceError: the CA refuses, or is not reached.
    """
    leaf = read_certificates(chain_pem.decode("ascii", "replace"))[0]
    if key is not None and key.public_key() != leaf.public_key():
        raise ConfigurationError(
            "The key is not the one of that certificate.",
            do="Give the key file that belongs to it, or leave --key out to ask by account.",
        )
    row = store.generation_of_leaf(leaf_sha256(leaf), spki_sha256=spki_sha256(leaf))
    url = directory_url or (usual_ca if row is None else row.directory_url)
    if key is not None:
        with authorities.visit(url, sleep) as client:
            fresh = client.revoke(chain_pem, reason, key=key)
    else:
        with authorities.connect(url, sleep) as client:
            fresh = client.revoke(chain_pem, reason)
    if row is not None:
        return _note(store, row, reason, fresh=fresh, now=now, actor=actor)
    store.append_event(
        "revoked",
        now=now,
        actor=actor,
        details={"leaf_sha256": leaf_sha256(leaf), "reason": reason_name(reason)},
    )
    return Revoked("", 0, before=not fresh, renewed=False)


def _note(
    store: Store, row: GenerationRow, reason: int, *, fresh: bool, now: int, actor: str
) -> Revoked:
    """Note a generation that the CA has revoked, and order another if need be, whoever asked."""
    name = reason_name(reason)
    newest = store.newest_issued(row.certificate)
    renew = (
        name not in NEEDS_NO_OTHER and newest is not None and newest.generation == row.generation
    )
    renewed = store.note_revoked(
        row.certificate, row.generation, name, renew=renew, now=now, actor=actor
    )
    return Revoked(row.certificate, row.generation, before=not fresh, renewed=renewed)


def _issued(store: Store, certificate: str, generation: int | None) -> GenerationRow:
    if generation is None:
        found = store.newest_issued(certificate)
    else:
        rows = store.generations(certificate, limit=10_000)
        found = next((row for row in rows if row.generation == generation), None)
    if found is None or found.state != AttemptState.ISSUED or found.chain is None:
        which = "No generation" if generation is None else f"Generation {generation}"
        raise PolicyError(
            f"{which} of {certificate} was issued, so there is nothing to revoke.",
            do="See external-agent status --json for what was.",
        )
    return found
