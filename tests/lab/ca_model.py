"""What the CA remembers: accounts, orders, authorizations, challenges, certificates."""

from __future__ import annotations

import datetime as dt
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from .ca_faults import Faults
from .ca_jws import encode
from .ca_pki import Hierarchy
from .problems import Problem


@dataclass
class Account:
    """An ACME account (RFC 8555 section 7.1.2)."""

    url: str
    jwk: dict[str, Any]
    thumbprint: str
    contact: list[str]
    status: str = "valid"
    eab_kid: str | None = None
    orders: list[Order] = field(default_factory=list)


@dataclass
class Challenge:
    """One way to prove control (section 7.1.5)."""

    url: str
    kind: str
    token: str
    members: dict[str, Any] = field(default_factory=dict)
    status: str = "pending"
    error: Problem | None = None
    validated: float | None = None


@dataclass
class Authorization:
    """Control over one identifier (section 7.1.4). `name` is without the wildcard label."""

    url: str
    account: Account
    name: str
    wildcard: bool
    expires: float
    challenges: list[Challenge]
    stored_status: str = "pending"
    clock: Callable[[], float] = lambda: 0.0

    @property
    def status(self) -> str:
        """pending, valid, invalid, deactivated or expired."""
        if self.stored_status in ("pending", "valid") and self.clock() >= self.expires:
            return "expired" if self.stored_status == "valid" else "invalid"
        return self.stored_status

    @property
    def identifier(self) -> str:
        """The name as it was ordered."""
        return f"*.{self.name}" if self.wildcard else self.name


@dataclass
class Order:
    """An order (section 7.1.3) with everything a test may want to know about it."""

    url: str
    account: Account
    names: tuple[str, ...]
    profile: str | None
    replaces: str | None
    created: float
    expires: float
    authorizations: list[Authorization]
    clock: Callable[[], float]
    processing: bool = False
    polls_left: int | None = 0
    stays_ready: bool = False
    error: Problem | None = None
    csr: x509.CertificateSigningRequest | None = None
    certificate: Issued | None = None

    @property
    def status(self) -> str:
        """pending, ready, processing, valid or invalid (section 7.1.6)."""
        if self.certificate is not None:
            return "valid"
        if self.error is not None:
            return "invalid"
        if self.processing:
            return "ready" if self.stays_ready else "processing"
        states = {authorization.status for authorization in self.authorizations}
        if states - {"pending", "valid"} or self.clock() >= self.expires:
            return "invalid"
        return "pending" if "pending" in states else "ready"


@dataclass(frozen=True)
class Issued:
    """A certificate that the CA made."""

    at: float
    leaf: x509.Certificate
    names: tuple[str, ...]
    order: Order
    url: str
    chains: tuple[tuple[x509.Certificate, ...], ...]

    @property
    def der(self) -> bytes:
        """The leaf's DER octets."""
        return self.leaf.public_bytes(serialization.Encoding.DER)

    @property
    def certid(self) -> str:
        """The certificate's name in ARI (RFC 9773 section 4.1)."""
        return certid(self.leaf)


@dataclass(frozen=True)
class LogEntry:
    """One request and what came of it; `outcome` is "ok" or an ACME error type."""

    at: float
    method: str
    path: str
    resource: str
    status: int
    outcome: str
    account: str | None
    user_agent: str
    seconds: float
    payload: bytes


def certid(leaf: x509.Certificate) -> str:
    """Return base64url(AKI) "." base64url(serial) (RFC 9773 section 4.1)."""
    aki = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    serial = leaf.serial_number
    octets = serial.to_bytes(serial.bit_length() // 8 + 1)
    return f"{encode(aki.key_identifier or b'')}.{encode(octets)}"


def rfc3339(now: float) -> str:
    """Return unix seconds as RFC 3339 text in UTC."""
    text = dt.datetime.fromtimestamp(int(now), dt.UTC).isoformat()
    return text.replace("+00:00", "Z")


Window = tuple[float, float]


@dataclass
class Options:
    """How this CA behaves; the fields are explained at `LabCa`."""

    profiles: dict[str, float]
    default_profile: str
    validity: float | None
    backdate: float
    challenges: tuple[str, ...]
    eab: dict[str, bytes] | None
    order_reuse: bool
    authorization_reuse: bool
    asynchronous: bool
    settle: float
    retry_after: int | None
    persist_draft: int
    issuer_domains: tuple[str, ...]
    terms_of_service: str | None
    caa: bool
    ari: bool
    orders_page: int
    refused_names: Callable[[str], bool]
    with_profiles: bool = True


class State:
    """Everything the endpoints share; change it only while holding `changed`."""

    def __init__(
        self, base: str, options: Options, clock: Callable[[], float], pki: Hierarchy
    ) -> None:
        self.base = base
        self.options = options
        self.clock = clock
        self.pki = pki
        self.faults = Faults()
        self.changed = threading.Condition(threading.RLock())
        self.stopping = threading.Event()
        self.nonces: set[str] = set()
        self.accounts: dict[str, Account] = {}
        self.authorizations: dict[str, Authorization] = {}
        self.orders: list[Order] = []
        self.order_by_url: dict[str, Order] = {}
        self.replacements: dict[str, list[Order]] = {}
        self.issued: list[Issued] = []
        self.issued_by_url: dict[str, Issued] = {}
        self.issued_by_certid: dict[str, Issued] = {}
        self.revoked: dict[int, int] = {}
        self.log: list[LogEntry] = []
        self.renewal_windows: dict[str, Window] = {}
        self.renewal_window: Window | Callable[[Issued], Window] | None = None
        self.renewal_retry_after: int | None = 21600
        self.explanation_url: str | None = None
        self._run = secrets.token_hex(3)  # URLs of an earlier run must mean nothing to this one
        self._count = 0

    def new_url(self, *parts: str) -> str:
        """Return a URL nobody had before, below `parts`."""
        self._count += 1
        return "/".join((self.base, *parts, f"{self._run}{self._count}"))

    def link(self, member: str, url: str) -> str:
        """Return `url` as this CA writes it into `member`, which a fault may change."""
        fault = self.faults.take("url", member)
        return str(fault["change"](url)) if fault else url

    def new_nonce(self) -> str:
        """Return a nonce that is good once."""
        nonce = secrets.token_urlsafe(16)
        with self.changed:
            self.nonces.add(nonce)
        return nonce

    def order(self, url: str) -> Order | None:
        """Return the order with this URL."""
        return self.order_by_url.get(url)

    def find_issued(self, identifier: str) -> Issued | None:
        """Return the certificate with this ARI name."""
        return self.issued_by_certid.get(identifier)

    def account_by_key(self, thumbprint: str) -> Account | None:
        """Return the account that has this key."""
        return next((one for one in self.accounts.values() if one.thumbprint == thumbprint), None)

    def remember_order(self, order: Order) -> None:
        """Keep a new order."""
        self.orders.append(order)
        self.order_by_url[order.url] = order
        order.account.orders.append(order)
        if order.replaces is not None:
            self.replacements.setdefault(order.replaces, []).append(order)

    def remember_issued(self, issued: Issued) -> None:
        """Keep a new certificate."""
        self.issued.append(issued)
        self.issued_by_url[issued.url] = issued
        self.issued_by_certid[issued.certid] = issued


def seconds(value: float | dt.timedelta) -> float:
    """Return a length of time in seconds."""
    return value.total_seconds() if isinstance(value, dt.timedelta) else float(value)


def frozen_profiles(profiles: Mapping[str, float | dt.timedelta]) -> dict[str, float]:
    """Return the profiles with their validity in seconds."""
    return {name: seconds(value) for name, value in profiles.items()}
