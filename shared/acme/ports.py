"""What the ACME client and its owner say to each other: records and small protocols."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

Failpoint = Callable[[str], None]
"""Called with a name before and after every ACME call; a test ends the process there."""

Clock = Callable[[], float]
"""Unix seconds."""

Sleep = Callable[[float], None]


def no_failpoint(name: str) -> None:
    """Do nothing at `name`: the failpoint of every production run."""


@dataclass(frozen=True)
class ExternalAccountBinding:
    """What a CA hands out to tie an ACME account to a customer (RFC 8555 section 7.3.4).

    `hmac_key` is base64url as the CA gives it; `algorithm` HS256, HS384 or HS512.
    """

    kid: str
    hmac_key: str = field(repr=False)
    algorithm: str = "HS256"


@dataclass(frozen=True)
class DirectoryInfo:
    """The CA's directory (RFC 8555 section 7.1.1); only URLs that passed the origin check."""

    url: str
    new_nonce: str
    new_account: str
    new_order: str
    revoke_cert: str | None
    key_change: str | None
    renewal_info: str | None
    terms_of_service: str | None
    external_account_required: bool
    profiles: Mapping[str, str]
    caa_identities: tuple[str, ...]
    meta: Mapping[str, object]


@dataclass(frozen=True)
class OrderState:
    """An order as the CA last showed it (RFC 8555 section 7.1.3).

    `expires` is unix seconds; `retry_after` the seconds the CA asked to wait with this answer.
    """

    url: str
    status: str
    names: frozenset[str]
    authorizations: tuple[str, ...]
    finalize: str
    certificate: str | None = None
    expires: float | None = None
    problem: dict[str, object] | None = None
    retry_after: float | None = None


@dataclass(frozen=True)
class ChallengeState:
    """A challenge inside an authorization (RFC 8555 section 8); its token is not checked yet."""

    type: str
    url: str
    status: str
    token: str = ""
    problem: dict[str, object] | None = None
    raw: Mapping[str, object] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True)
class AuthorizationState:
    """An authorization (RFC 8555 section 7.1.4). `identifier` never has the `*.`."""

    url: str
    identifier: str
    wildcard: bool
    status: str
    challenges: tuple[ChallengeState, ...] = ()
    retry_after: float | None = None

    @property
    def name(self) -> str:
        """The name as it was ordered, with `*.` when this covers a wildcard."""
        return f"*.{self.identifier}" if self.wildcard else self.identifier


@dataclass(frozen=True)
class PendingChallenge:
    """One challenge to be solved; `token` passed the grammar of RFC 8555 section 8.3.

    `token` and `key_authorization` are empty for challenges without a token (dns-persist-01);
    `raw` holds the CA's own members of the challenge object, unchecked.
    """

    identifier: str
    wildcard: bool
    type: str
    url: str
    token: str
    key_authorization: str
    raw: Mapping[str, object] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True)
class IssuedChain:
    """A certificate that passed every check: PEM, leaf first, and where it came from."""

    chain_pem: bytes
    order_url: str
    certificate_url: str


@dataclass(frozen=True)
class RenewalWindow:
    """The CA's suggestion (RFC 9773): unix seconds; `retry_after` already clamped."""

    start: float
    end: float
    retry_after: float
    explanation_url: str | None = None


class ChallengeSolver(Protocol):
    """Makes one type of challenge succeed. Both calls may come twice for one challenge."""

    challenge_type: str

    def present(self, challenge: PendingChallenge) -> None:
        """Put the answer where the CA looks; return when it can be seen there."""

    def clean_up(self, challenge: PendingChallenge) -> None:
        """Take that one answer away again."""


@runtime_checkable
class WaitingSolver(ChallengeSolver, Protocol):
    """A solver whose answers take time to be seen: many are presented, then waited for once."""

    def wait_until_visible(self) -> None:
        """Return when all that was presented can be seen where the CA looks."""


class OrderJournal(Protocol):
    """What the owner commits while an order is driven; each call returns when it is durable.

    `finalizing` and `certificate_url` come again when a step is repeated.
    """

    def order_created(self, order_url: str, expires: float | None) -> None:
        """The CA has this order (new, or adopted after a crash): resume it, never replace it."""

    def finalizing(self) -> None:
        """Every authorization is valid; the CSR is sent next."""

    def certificate_url(self, url: str) -> None:
        """The CA has issued; the chain is downloaded next."""


class OrderClient(Protocol):
    """The calls `drive_order` makes; `AcmeClient` is one."""

    def check_clock(self) -> None: ...

    def find_unfinished_order(self, names: Sequence[str]) -> OrderState | None: ...

    def new_order(
        self, names: Sequence[str], *, profile: str | None = None, replaces: str | None = None
    ) -> OrderState: ...

    def fetch_order(self, url: str) -> OrderState: ...

    def fetch_authorization(self, url: str) -> AuthorizationState: ...

    def key_authorization(self, token: str) -> str: ...

    def answer_challenge(self, challenge: PendingChallenge) -> ChallengeState: ...

    def finalize(self, order: OrderState, csr_pem: bytes) -> OrderState: ...

    def download_chain(self, url: str, preferred_chain: str | None = None) -> bytes: ...
