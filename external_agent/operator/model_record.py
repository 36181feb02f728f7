"""Answers about what was recorded: generations, orders, pullers, receipts, events, CAs."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from external_agent.operator.model import Answer, ErrorNote
from external_agent.operator.model_certificate import Leaf

Next = Field(description="Give it as `before` for the next page; null: no more.")
NextId = Field(description="Give it as `after` for the next page; null: no more.")


class Generation(Answer):
    """One issuance of a certificate, or an attempt at one."""

    certificate: str
    generation: int
    state: str
    names: list[str]
    key_origin: str
    directory: str
    profile: str | None
    recipients: list[str] = Field(description="Ids of the pullers that may open it.")
    prepared_at: int
    issued_at: int | None
    not_before: int | None
    not_after: int | None
    serial: str | None
    leaf_sha256: str | None
    spki_sha256: str
    chain: str | None = Field(description="PEM, leaf first.")
    why: str | None
    replaced_by: int | None
    revoked_at: int | None
    revoked_reason: str | None
    error: ErrorNote | None


class GenerationPage(Answer):
    items: list[Generation]
    next: int | None = Next


class Step(Answer):
    step: Literal["prepared", "ordered", "finalizing", "certified", "issued", "failed", "abandoned"]
    at: int | None = Field(description="Unix seconds; null where it was not recorded.")


class Authorization(Answer):
    """A name that the CA may look at now, over http-01."""

    name: str
    since: int
    asked: int = Field(description="How often the challenge was answered.")


class Order(Answer):
    """How far one order at a CA came."""

    certificate: str
    generation: int
    state: str
    directory: str
    account: str | None
    order: str | None = Field(description="URL at the CA (RFC 8555 section 7.1.3).")
    expires: int | None
    certificate_url: str | None
    replaces: str | None
    why: str | None
    steps: list[Step]
    authorizations: list[Authorization]
    error: ErrorNote | None


class OrderPage(Answer):
    items: list[Order]
    next: int | None = Next


class Puller(Answer):
    puller: str
    sealing_id: str
    host: str
    status: Literal["active", "suspended", "revoked"]
    enrolled_at: int
    last_seen_at: int | None
    enrolment_token: str
    certificates: list[str]


class PullerPage(Answer):
    items: list[Puller]
    next: str | None = NextId


class Receipt(Answer):
    number: int
    puller: str
    certificate: str
    generation: int
    outcome: str
    error: str
    served: list[Leaf]
    at: int
    received_at: int


class ReceiptPage(Answer):
    items: list[Receipt]
    next: int | None = Next


class Event(Answer):
    seq: int
    at: int
    kind: str
    actor: str
    certificate: str | None
    puller: str | None
    details: dict[str, Any]
    previous_hash: str
    hash: str


class EventPage(Answer):
    items: list[Event]
    next: int | None = Next


class Account(Answer):
    directory: str
    account: str
    contact: list[str]
    thumbprint: str | None
    status: str
    opened_at: int


class Accounts(Answer):
    items: list[Account]


class Authority(Answer):
    """How a CA does."""

    directory: str
    health: Literal["good", "failing", "untried"]
    certificates: int = Field(description="That ask it next.")
    failing: int
    issued_at: int | None = Field(description="Its last success.")
    last_error: ErrorNote | None


class ToldAlert(Answer):
    """Something that a receiver was told, and that was not called over since."""

    certificate: str
    severity: Literal["warning", "critical"]
    what: str
    told_at: int
    gone_at: int | None = Field(description="Since when it is not so any more.")


class AlertReceiver(Answer):
    """How the last messages to a receiver went. Its address is shown nowhere."""

    receiver: str
    last_success_at: int | None
    last_failure_at: int | None
    failures: int = Field(description="In a row.")
    problem: str = Field(description="Why the last one did not arrive; empty if it did.")
    told: list[ToldAlert]


class AlertReceivers(Answer):
    items: list[AlertReceiver]


class Authorities(Answer):
    items: list[Authority]
