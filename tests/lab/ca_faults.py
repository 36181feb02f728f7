"""Faults on demand: what a CA can do wrong, each one counted or chosen by a predicate."""

from __future__ import annotations

from typing import Any

from .faults import Fault, FaultBox

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


class Faults(FaultBox):
    """The faults of a CA."""

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
        subproblems: dict[str, tuple[str, str]] | None = None,
        times: int | None = 1,
        **more: Any,
    ) -> Fault:
        """Answer with a problem.

        `retry_after` is seconds or an HTTP date; `subproblems` are type and detail by name.
        """
        kinds = {429: "rateLimited", 503: "serverInternal", 500: "serverInternal"}
        return self.add(
            "refuse",
            resource=resource,
            times=times,
            status=status,
            retry_after=retry_after,
            problem=kind or kinds.get(status, "malformed"),
            detail=detail,
            subproblems=subproblems or {},
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

    def stay_ready(self, polls: int | None = None, **more: Any) -> Fault:
        """Take the CSR, but show the order as `ready` for so many polls of it; None: for ever."""
        return self.add("stay_ready", polls=polls, **more)

    def fail_issuance(
        self,
        kind: str = "serverInternal",
        detail: str = "the lab was told not to issue",
        **more: Any,
    ) -> Fault:
        """Let an order become invalid after it was finalized."""
        return self.add("fail_issuance", problem=kind, detail=detail, **more)

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
