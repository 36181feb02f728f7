"""Takes a certificate through the store to an issued generation, without any CA."""

from __future__ import annotations

from collections.abc import Sequence

from external_agent.records.rows import Claim, IssuedLeaf, PreparedBundle, PreparedKey
from external_agent.store.interface import Store
from shared.issuing.renewal import DAY


def claim(store: Store, certificate: str, *, now: int, owner: str = "worker") -> Claim:
    found = store.claim_due(owner, now=now, lease_seconds=60, limit=100)
    for one in found:
        if one.certificate != certificate:
            store.release(one)
    return next(one for one in found if one.certificate == certificate)


def prepare(store: Store, held: Claim, *, now: int, spki: str = "0" * 64) -> int:
    generation = store.choose_generation(held.certificate, now=now)
    row = store.certificate(held.certificate)
    assert row is not None
    sealed = {one.id: b"sealed" for one in store.recipients(held.certificate)}
    store.commit_prepared(
        held, generation, PreparedKey(b"csr", spki, sealed), now=now, wanted=row.wanted
    )
    return generation


def leaf(now: int, *, lifetime: int = 90 * DAY) -> IssuedLeaf:
    return IssuedLeaf("chain", f"{now:064x}", "1", now, now + lifetime, now)


def finish(
    store: Store,
    held: Claim,
    generation: int,
    *,
    now: int,
    pullers: Sequence[str] = (),
    certified: IssuedLeaf | None = None,
) -> None:
    order = f"https://ca.example.com/order/{held.certificate}/{generation}"
    store.commit_order(held, generation, order, now + 3600)
    store.commit_state(held, generation, None)
    store.commit_state(held, generation, order + "/certificate")
    bundles = [
        PreparedBundle(puller, f"{generation:064x}", b'{"for":"%s"}' % puller[:8].encode())
        for puller in pullers or store.sealed_keys(held.certificate, generation)
    ]
    found = certified or leaf(now)
    store.publish(held, generation, found, bundles, due_at=now + 60 * DAY, now=now)


def issue(store: Store, certificate: str, *, now: int) -> int:
    held = claim(store, certificate, now=now)
    generation = prepare(store, held, now=now)
    finish(store, held, generation, now=now)
    return generation
