"""Faults on demand: what a CA can do wrong, each one counted or chosen by a predicate."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Predicate = Callable[[Any], bool]

HOSTILE_TOKENS = (
    "../../x",
    "../../../../etc/cron.d/x",
    "; rm -rf x",
    "$(touch x)",
    "a/b",
    "a\r\nX-Injected: 1",
    "a\x00b",
    "",
    ".",
    "A" * 100_000,
)


@dataclass
class Fault:
    """One thing that is to go wrong.

    Attributes:
        kind: what goes wrong.
        resource: the ACME resource it happens to; None means any.
        times: how often it still happens; None means always.
        share: the chance that it happens when it could, 0 to 1.
        when: further condition on the exchange.
        fired: how often it has happened.
    """

    kind: str
    resource: str | None = None
    times: int | None = 1
    share: float = 1.0
    when: Predicate | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    fired: int = 0

    def __getitem__(self, name: str) -> Any:
        return self.parameters[name]


class Faults:
    """The faults that wait to happen. Safe to change from any thread at any time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._random = random.Random(8555)

    def add(
        self,
        kind: str,
        *,
        resource: str | None = None,
        times: int | None = 1,
        share: float = 1.0,
        when: Predicate | None = None,
        **parameters: Any,
    ) -> Fault:
        """Let `kind` happen; see `Fault` for the arguments."""
        fault = Fault(kind, resource, times, share, when, parameters)
        with self._lock:
            self._faults.append(fault)
        return fault

    def take(self, kind: str, resource: str | None = None, exchange: Any = None) -> Fault | None:
        """Return the fault that happens now, counted, or None."""
        with self._lock:
            for fault in self._faults:
                if fault.kind != kind or fault.times == 0:
                    continue
                if fault.resource not in (None, resource):
                    continue
                if fault.share < 1 and self._random.random() >= fault.share:
                    continue
                if fault.when is not None and not fault.when(exchange):
                    continue
                fault.fired += 1
                if fault.times is not None:
                    fault.times -= 1
                return fault
        return None

    def remove(self, fault: Fault) -> None:
        """Let `fault` happen no more."""
        with self._lock:
            self._faults = [other for other in self._faults if other is not fault]

    def clear(self) -> None:
        """Let nothing go wrong any more."""
        with self._lock:
            self._faults.clear()

    # --- answers that go wrong, whatever they say ---

    def bad_nonce(self, times: int | None = 1, share: float = 1.0, **more: Any) -> Fault:
        """Refuse good nonces; for a share of all requests give ``times=None, share=0.05``."""
        return self.add("bad_nonce", times=times, share=share, **more)

    def refuse(
        self,
        resource: str | None,
        status: int = 503,
        *,
        retry_after: int | str | None = None,
        kind: str | None = None,
        detail: str = "the lab was told to refuse this",
        times: int | None = 1,
        **more: Any,
    ) -> Fault:
        """Answer with a problem; `retry_after` is seconds or an HTTP date."""
        kinds = {429: "rateLimited", 503: "serverInternal", 500: "serverInternal"}
        return self.add(
            "refuse",
            resource=resource,
            times=times,
            status=status,
            retry_after=retry_after,
            problem=kind or kinds.get(status, "malformed"),
            detail=detail,
            **more,
        )

    def rate_limited(
        self, resource: str = "newOrder", *, retry_after: int | str = 60, **more: Any
    ) -> Fault:
        """Answer 429 rateLimited."""
        return self.refuse(resource, 429, retry_after=retry_after, **more)

    def slow(self, resource: str | None, seconds: float, **more: Any) -> Fault:
        """Answer `seconds` later."""
        return self.add("slow", resource=resource, seconds=seconds, **more)

    def cut(self, resource: str | None, **more: Any) -> Fault:
        """Do what was asked, then close the connection in the middle of the answer's body."""
        return self.add("cut", resource=resource, **more)

    def lose_answer(self, resource: str | None, **more: Any) -> Fault:
        """Do what was asked, then close the connection without a byte of answer."""
        return self.add("lose_answer", resource=resource, **more)

    def nonsense(self, resource: str | None, body: bytes = b'{"status": [', **more: Any) -> Fault:
        """Do what was asked, then answer with `body` in place of the right one."""
        return self.add("nonsense", resource=resource, body=body, **more)

    def date_skew(self, seconds: float, times: int | None = None, **more: Any) -> Fault:
        """Send a Date that is `seconds` off."""
        return self.add("date_skew", times=times, seconds=seconds, **more)

    # --- a CA that misbehaves ---

    def hostile_token(self, token: str = HOSTILE_TOKENS[0], **more: Any) -> Fault:
        """Put `token` into the challenges of the next authorization."""
        return self.add("hostile_token", token=token, **more)

    def invalid_authorization(
        self,
        kind: str = "unauthorized",
        detail: str = "the lab was told to fail this authorization",
        **more: Any,
    ) -> Fault:
        """Let a validation fail with the given problem."""
        return self.add("invalid_authorization", problem=kind, detail=detail, **more)

    def stay_processing(self, polls: int | None = None, **more: Any) -> Fault:
        """Let an order stay `processing` for so many polls of it; None means for ever."""
        return self.add("stay_processing", polls=polls, **more)

    def wrong_key(self, **more: Any) -> Fault:
        """Issue the certificate for a key that nobody asked for."""
        return self.add("wrong_key", **more)

    def wrong_names(self, names: tuple[str, ...], **more: Any) -> Fault:
        """Issue the certificate for other names."""
        return self.add("wrong_names", names=names, **more)

    def long_chain(self, certificates: int = 100, times: int | None = None, **more: Any) -> Fault:
        """Send a chain of so many certificates."""
        return self.add("long_chain", times=times, certificates=certificates, **more)

    def insecure_url(
        self, member: str = "finalize", times: int | None = None, **more: Any
    ) -> Fault:
        """Write http for https in a member of an object, such as `finalize` of an order."""
        return self.add(
            "url", resource=member, times=times, change=lambda url: "http" + url[5:], **more
        )

    def foreign_url(
        self,
        member: str = "finalize",
        origin: str = "https://ca.example.net",
        times: int | None = None,
        **more: Any,
    ) -> Fault:
        """Write another origin into a member of an object."""
        return self.add(
            "url",
            resource=member,
            times=times,
            change=lambda url: origin + "/" + url.split("/", 3)[3],
            **more,
        )

    def url(self, member: str, url: str, times: int | None = None) -> Fault:
        """Write `url` into a member of an object."""
        return self.add("url", resource=member, times=times, change=lambda _: url)
