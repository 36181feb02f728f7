"""Receipts: what the agent is told about what was installed and what is really served."""

from __future__ import annotations

from collections.abc import Sequence

from internal_puller.outbox.look import Look
from internal_puller.outbox.outcome import Outcome
from shared.contract import wire


def seen(served: Sequence[Look]) -> dict[str, str]:
    """Return what was seen served, by where; for telling later whether it changed."""
    return {f"{one.address} {one.port} {one.sni}": one.leaf_sha256 or one.answer for one in served}


def make_receipt(outcome: Outcome, *, report_addresses: bool, now: int) -> str:
    """Return an encoded receipt. Addresses of the intranet go out only if the operator says so."""
    receipt = wire.Receipt(
        certificate=outcome.certificate,
        generation=outcome.generation,
        digest=outcome.digest or wire.NO_DIGEST,
        outcome=outcome.word,
        error=wire.receipt_error(outcome.error),
        served=served_entries(outcome.looks, report_addresses=report_addresses),
        at=now,
    )
    return receipt.encode().decode()


def removed_receipt(certificate: str, generation: int, *, now: int) -> str:
    """Return what the agent is told when the last target of a certificate is gone."""
    receipt = wire.Receipt(
        certificate, generation, wire.NO_DIGEST, "removed", error="none", served=(), at=now
    )
    return receipt.encode().decode()


def served_entries(served: Sequence[Look], *, report_addresses: bool) -> tuple[wire.Served, ...]:
    """Return what was seen served as the agent is told it."""
    entries = dict.fromkeys(
        wire.Served(
            one.leaf_sha256,
            max(0, one.not_after or 0),
            f"{one.address}:{one.port}" if report_addresses else None,
        )
        for one in served
        if one.leaf_sha256
    )
    return tuple(entries)[:16]
