"""Answers about certificates: wanted, issued, pulled, installed, served as separate facts."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from external_agent.operator.model import Answer, ErrorNote, Moment

State = Literal[
    "removed", "expired", "revoked", "issuing", "failing", "wanted", "served", "not served",
    "installed", "issued",
]  # fmt: skip


class Ca(Answer):
    directory: str
    next: bool = Field(description="It is asked next.")
    failures: int
    left_alone_until: int | None
    problem: str | None


class Issued(Answer):
    generation: int
    leaf_sha256: str | None
    serial: str | None
    not_before: int | None
    not_after: int | None
    issued_at: int | None
    key_origin: str
    directory: str
    revoked_at: int | None
    revoked_reason: str | None


class Attempt(Answer):
    generation: int
    state: str
    since: int


class WaitingCsr(Answer):
    waits: bool
    received_at: int | None
    awaited_since: int | None
    refused_at: int | None
    refused_why: str | None


class PersistRecord(Answer):
    name: str
    verdict: str
    what: str
    until: int | None
    looked_at: int


class Window(Answer):
    """What the CA suggests (RFC 9773)."""

    start: int | None
    end: int | None
    chosen: int | None
    explanation_url: str | None
    looked_at: int | None
    next_look: int
    failures: int
    problem: str


class NextRenewal(Answer):
    at: int = Field(description="Unix seconds; 0 for as soon as it can be.")
    why: str
    window: Window | None


class Leaf(Answer):
    leaf_sha256: str
    not_after: int
    address: str | None


class Stage(Answer):
    generation: int = Field(description="0 for none.")
    at: int | None


class Served(Answer):
    matches: bool | None = Field(
        description="Whether the newest one is served everywhere; null: not known."
    )
    at: int | None
    leaves: list[Leaf]


class LastReceipt(Answer):
    generation: int
    outcome: str
    error: str
    at: int
    received_at: int


class Delivery(Answer):
    puller: str
    host: str
    status: str
    last_seen_at: int | None
    offered: int
    pulled: Stage
    installed: Stage
    served: Served
    last_receipt: LastReceipt | None


class Difference(Answer):
    """One fact that is behind the one before it."""

    behind: Literal["issued", "pulled", "installed", "served"]
    of: Literal["wanted", "issued", "pulled"]
    puller: str | None = Field(description="Whose; null for the agent's own part.")
    since: int | None = Field(description="Unix seconds; null where it was not recorded.")
    age: int | None = Field(description="Seconds.")


class Concern(Answer):
    """What needs an operator, or is on its way."""

    kind: str = Field(description="Stable: expiring, served-differs, puller-silent …")
    severity: Literal["ok", "info", "warning", "critical"]
    about: str | None = Field(description="The puller or the name that is meant.")
    since: int | None
    what: str
    do: str


class Pause(Answer):
    """An operator's pause."""

    at: int
    until: int | None = Field(description="Null: until it is resumed.")
    reason: str


class Certificate(Answer):
    certificate: str
    names: list[str]
    key_origin: Literal["agent", "puller"]
    key_algorithm: str
    challenge: str
    directory: str
    cas: list[Ca]
    profile: str | None
    state: State
    paused: Pause | None
    issued: Issued | None
    attempt: Attempt | None
    waits_for: str
    csr: WaitingCsr | None
    persist_records: list[PersistRecord]
    next_renewal: NextRenewal
    failures: int
    last_error: ErrorNote | None
    pullers: list[Delivery]
    differences: list[Difference]
    concerns: list[Concern]


class CertificatePage(Answer):
    now: Moment
    items: list[Certificate]
    next: str | None = Field(description="Give it as `after` for the next page; null: no more.")


class DirectServed(Answer):
    matches: bool | None = Field(description="As of a certificate of the agent's.")
    leaves: list[Leaf]


class Direct(Answer):
    """A certificate that a puller gets by itself."""

    certificate: str
    origin: Literal["direct"]
    names: list[str]
    puller: str
    host: str
    puller_status: str
    state: str
    generation: int
    not_after: int
    leaf_sha256: str | None
    next_renewal: int
    outcome: str
    error: str
    served: DirectServed
    at: int
    received_at: int
    concerns: list[Concern]


class Directs(Answer):
    items: list[Direct]


class Status(Answer):
    """Everything at once, as `external-agent status --json` prints it."""

    now: Moment
    certificates: list[Certificate]
    relay: Certificate | None
    direct: list[Direct]
