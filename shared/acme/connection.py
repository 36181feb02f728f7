"""One CA and one account key: the connection, the directory, and signed calls, each bounded."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from shared.acme.answers import read_directory
from shared.acme.jwk import thumbprint, to_jwk
from shared.acme.keys import AccountKey
from shared.acme.network import Answer, BoundedNetwork, Payload
from shared.acme.origin import Origin
from shared.acme.ports import Clock, DirectoryInfo, Failpoint, Sleep, no_failpoint
from shared.contract.errors import ClockWrong, RelayError

MAX_CLOCK_SKEW = 300.0
Observe = Callable[[str, str, float, RelayError | None], None]
"""Is told of each call: the CA's host, the call, its seconds, and the error that it ended with."""


def unobserved(_host: str, _call: str, _seconds: float, _error: RelayError | None) -> None:
    """Count nothing."""


class AcmeConnection:
    """One CA, one account key. Used by one thread at a time; many clients may share an account.

    Args:
        directory_url: https URL of the CA's directory.
        account_key: EC P-256, P-384 or RSA.
        trusted_roots: PEM file that the CA's HTTPS server must chain to; None for public roots.
        proxy: URL of an HTTP proxy; the environment is never asked.
        account_url: the account's URL, when it is known already.
        clock: unix seconds.
        timeout: total seconds for one HTTP exchange.
        allowed_http_hosts: hosts that may be spoken to without TLS; for tests.
        failpoint: called as ``acme.CALL.before`` and ``acme.CALL.after``.
        observe: called once for each call.

    Every call raises IssuanceUnavailable, IssuanceRateLimited or IssuanceRejected.
    """

    def __init__(
        self,
        directory_url: str,
        account_key: AccountKey,
        *,
        trusted_roots: Path | None = None,
        proxy: str | None = None,
        user_agent: str = "split-horizon-relay",
        account_url: str | None = None,
        clock: Clock = time.time,
        sleep: Sleep = time.sleep,
        timeout: float = 30.0,
        allowed_http_hosts: frozenset[str] = frozenset(),
        failpoint: Failpoint = no_failpoint,
        observe: Observe = unobserved,
    ) -> None:
        self._directory_url = directory_url
        self._origin = Origin(directory_url, allowed_http_hosts)
        self._jwk = to_jwk(account_key)
        self._clock = clock
        self._failpoint = failpoint
        self._observe = observe
        self._directory: DirectoryInfo | None = None
        self._network = BoundedNetwork(
            account_key,
            self._origin,
            trusted_roots=trusted_roots,
            proxy=proxy,
            user_agent=user_agent,
            clock=clock,
            sleep=sleep,
            timeout=timeout,
        )
        self.account_url = account_url
        self._network.use_account(account_url)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections to the CA."""
        self._network.session.close()

    def directory(self) -> DirectoryInfo:
        """Return the directory, fetched once by each client."""
        if self._directory is None:
            with self._call("directory"):
                answer = self._network.fetch(self._directory_url)
                self._directory = read_directory(answer, self._origin)
        return self._directory

    def clock_skew(self) -> float | None:
        """Return the seconds by which the CA's last Date is ahead of our clock, if it sent one."""
        return self._network.clock_skew

    def check_clock(self) -> None:
        """
        Raises:
            ClockWrong: our clock and the CA's differ by more than 300 s.
        """
        self.directory()
        skew = self.clock_skew()
        if skew is not None and abs(skew) > MAX_CLOCK_SKEW:
            side = "behind" if skew > 0 else "ahead of"
            raise ClockWrong(
                f"This machine's clock is {abs(skew):.0f} s {side} that of {self._origin.host}."
            )

    @property
    def thumbprint(self) -> str:
        """The account key's JWK thumbprint (RFC 7638), base64url."""
        return thumbprint(self._jwk)

    @contextlib.contextmanager
    def _call(self, name: str) -> Iterator[None]:
        self._failpoint(f"acme.{name}.before")
        began = time.monotonic()
        failure: RelayError | None = None
        try:
            yield
        except RelayError as error:
            failure = error
            raise
        finally:
            self._observe(self._origin.host, name, time.monotonic() - began, failure)
        self._failpoint(f"acme.{name}.after")

    @contextlib.contextmanager
    def _signing_with(self, key: AccountKey | None) -> Iterator[None]:
        """Sign with another key and name it in `jwk`, or with the account's if it is None."""
        if key is None:
            yield
            return
        own, account = self._network.key, self.account_url
        algorithm = self._network.alg
        self._network.use_key(key)
        self._network.use_account(None)
        try:
            yield
        finally:
            self._network.key, self._network.alg = own, algorithm
            self._network.use_account(account)

    def _use_key(self, key: AccountKey) -> None:
        self._jwk = to_jwk(key)
        self._network.use_key(key)

    def _post(self, url: str, payload: dict[str, object] | None) -> Answer:
        signed = None if payload is None else Payload(payload)
        return self._network.sign_and_post(url, self.directory().new_nonce, signed)
