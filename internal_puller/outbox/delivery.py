"""Sends what is to be reported: many in one call, and a refusal delays reports and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from internal_puller.state.progress import LONGEST_PAUSE, CertificateProgress, Progress
from shared.contract.batches import BatchAnswer, batches, encode_batch
from shared.contract.errors import RequestRefused

SHORTEST_PAUSE = 60.0


class Agent(Protocol):
    """Who is told."""

    def send_receipts(self, batch: bytes) -> BatchAnswer: ...

    def send_direct(self, batch: bytes) -> BatchAnswer: ...


def deliver(agent: Agent, progress: Progress, now: float) -> list[str]:
    """Send what waits, unless the agent asked us to wait; drop what it refuses for good.

    Args:
        progress: what was taken, and the pause, is noted in it; the caller makes it durable.
        now: unix seconds.

    Returns:
        What an operator should know, in words.

    Raises:
        TransportError, ClockWrong: the agent was not reached; the rest waits.
    """
    if not progress.reports_due(now):
        return []
    warnings: list[str] = []
    pauses: list[float] = []
    for send, name, direct in (
        (agent.send_receipts, "receipts", False),
        (agent.send_direct, "reports", True),
    ):
        waiting = {
            certificate: one
            for certificate, one in progress.certificates.items()
            if one.receipt is not None and one.direct == direct
        }
        try:
            warnings += _send(send, name, waiting)
        except RequestRefused as error:
            pause = min(max(error.retry_after or 0.0, SHORTEST_PAUSE), LONGEST_PAUSE)
            pauses.append(pause)
            warnings.append(
                f"{name}: the agent takes no more {name} now; again in {pause:.0f} s. {error.what}"
            )
    progress.reports_paused_until = int(now + max(pauses)) if pauses else 0
    return warnings


def _send(
    send: Callable[[bytes], BatchAnswer], name: str, waiting: dict[str, CertificateProgress]
) -> list[str]:
    warnings = []
    encoded = [one.receipt or "" for one in waiting.values()]
    certificates = list(waiting)
    for part in batches(encoded):
        answer = send(encode_batch(name, encoded[part]))
        sent = certificates[part]
        for certificate in sent:
            waiting[certificate].receipt = None
        warnings += [
            f"{sent[one.index]}: the receipt was not taken: {one.detail}"
            for one in answer.refused
            if one.index < len(sent)
        ]
    return warnings
