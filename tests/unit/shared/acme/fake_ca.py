"""A CA in memory at the driver's seam: statuses move only as a test scripts them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import repeat

from shared.acme.ports import AuthorizationState, ChallengeState, OrderState, PendingChallenge
from shared.contract.errors import IssuanceError

ORDER = "https://ca.example.org/order/1"
TOKEN = "a" * 22
MOST_CALLS = 1000


def authorization(name: str, *types: str, token: str = TOKEN) -> AuthorizationState:
    """Return a pending authorization with these challenges, `http-01` unless told."""
    base = name.removeprefix("*.")
    url = f"https://ca.example.org/authz/{name}"
    return AuthorizationState(
        url=url,
        identifier=base,
        wildcard=name.startswith("*."),
        status="pending",
        challenges=tuple(
            ChallengeState(type=kind, url=f"{url}/{kind}", status="pending", token=token)
            for kind in types or ("http-01",)
        ),
    )


@dataclass
class FakeCa:
    """An `OrderClient`.

    `polls_to_validate` and `polls_to_issue` say how often "not yet" is the answer; `errors` are
    raised, one at a time, by the call they are named after; `calls` is everything that was asked,
    `MOST_CALLS` at most. `while_issuing` gives the statuses from finalize to the certificate.
    """

    names: Sequence[str]
    chain: bytes = b""
    polls_to_validate: int = 0
    polls_to_issue: int = 0
    retry_after: float | None = None
    errors: dict[str, list[IssuanceError]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    unfinished: bool = False
    while_issuing: Iterator[str] = field(default_factory=lambda: repeat("processing"))
    finalized: bool = False
    after_answer: Callable[[ChallengeState], ChallengeState] | None = None
    authorizations: dict[str, AuthorizationState] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.names:
            self.put(authorization(name))
        self.order = OrderState(
            url=ORDER,
            status="pending",
            names=frozenset(self.names),
            authorizations=tuple(self.authorizations),
            finalize=f"{ORDER}/finalize",
            retry_after=self.retry_after,
        )

    def put(self, state: AuthorizationState) -> None:
        self.authorizations[state.url] = state

    def _called(self, call: str) -> None:
        self.calls.append(call)
        assert len(self.calls) <= MOST_CALLS, f"asked without end: {self.calls[-6:]}"
        if waiting := self.errors.get(call):
            raise waiting.pop(0)

    def check_clock(self) -> None:
        self._called("check_clock")

    def find_unfinished_order(self, names: Sequence[str]) -> OrderState | None:
        self._called("find_unfinished_order")
        return self.order if self.unfinished else None

    def new_order(
        self, names: Sequence[str], *, profile: str | None = None, replaces: str | None = None
    ) -> OrderState:
        self._called("new_order" if replaces is None else "new_order replaces")
        return self.order

    def fetch_order(self, url: str) -> OrderState:
        self._called("fetch_order")
        if self.finalized and self.order.certificate is None:
            self.polls_to_issue -= 1
            if self.polls_to_issue < 0:
                self._set(status="valid", certificate="https://ca.example.org/cert/1")
            else:
                self._set(status=next(self.while_issuing))
            return self.order
        statuses = {one.status for one in self.authorizations.values()}
        if self.order.status == "pending" and statuses == {"valid"}:
            self._set(status="ready")
        return self.order

    def _set(self, **changes: object) -> None:
        self.order = replace(self.order, **changes)  # type: ignore[arg-type]

    def fetch_authorization(self, url: str) -> AuthorizationState:
        self._called("fetch_authorization")
        state = self.authorizations[url]
        if any(one.status == "processing" for one in state.challenges):
            self.polls_to_validate -= 1
            if self.polls_to_validate < 0:
                self.put(replace(state, status="valid"))
        return self.authorizations[url]

    def key_authorization(self, token: str) -> str:
        return f"{token}.thumbprint"

    def answer_challenge(self, challenge: PendingChallenge) -> ChallengeState:
        self._called("answer_challenge")
        state = next(
            one
            for one in self.authorizations.values()
            if any(its.url == challenge.url for its in one.challenges)
        )
        change = self.after_answer or (lambda its: replace(its, status="processing"))
        challenges = tuple(
            change(its) if its.url == challenge.url else its for its in state.challenges
        )
        self.put(replace(state, challenges=challenges))
        return next(its for its in challenges if its.url == challenge.url)

    def finalize(self, order: OrderState, csr_pem: bytes) -> OrderState:
        self._called("finalize")
        self.finalized = True
        self._set(status=next(self.while_issuing))
        return self.order

    def download_chain(self, url: str, preferred_chain: str | None = None) -> bytes:
        self._called("download_chain")
        return self.chain
