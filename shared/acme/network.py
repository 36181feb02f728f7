"""HTTP and JWS to one CA, bounded: origin, redirects, size, total time, badNonce, errors."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import requests
from acme import errors as acme_errors
from acme.client import ClientNetwork
from acme.messages import RegistrationResource
from josepy.interfaces import JSONDeSerializable

from shared.acme.jwk import signature_algorithm, to_jwk
from shared.acme.keys import AccountKey
from shared.acme.origin import Origin
from shared.acme.ports import Clock, Sleep
from shared.acme.problems import plain_text, problem_code, read_problem, refusal
from shared.acme.waiting import Deadline, http_date, parse_retry_after
from shared.acme.watchdog import Watchdog, WatchedAdapter
from shared.contract.errors import (
    CaNotConfigured,
    ConfigurationError,
    IssuanceError,
    IssuanceUnavailable,
)
from shared.contract.outside_validity import causes, untimely
from shared.host.public_roots import public_roots_file
from shared.host.trusted_file import check_trusted

MAX_BODY = 1_000_000
MAX_NONCE_ATTEMPTS = 100
MAX_NONCE_SECONDS = 60.0
_UNHURRIED_NONCE_ATTEMPTS = 10
_NONCE_PAUSE = 0.1
_HTTP_PROXY_SCHEMES = ("http://", "https://")


@dataclass(frozen=True)
class Answer:
    """A successful answer. `retry_after` in seconds, if the CA sent one."""

    url: str
    body: bytes
    headers: Mapping[str, str]
    retry_after: float | None

    def decoded(self) -> object:
        """Return the JSON in the body, None if it is none."""
        return _json_or_none(self.body)

    def document(self) -> dict[str, Any]:
        """Return the JSON object in the body.

        Raises:
            IssuanceUnavailable: the body is none.
        """
        decoded = self.decoded()
        if isinstance(decoded, dict):
            return decoded
        raise IssuanceUnavailable(f"The CA's answer from {self.url} is not a JSON object.")


class Payload(JSONDeSerializable):
    """A JWS payload from plain values.

    Always true, unlike the library's messages without fields: those would be sent as POST-as-GET
    (RFC 8555 section 6.3) where `{}` is meant.
    """

    def __init__(self, members: Mapping[str, object]) -> None:
        self._members = dict(members)

    def to_partial_json(self) -> dict[str, object]:
        return self._members

    @classmethod
    def from_json(cls, jobj: Any) -> Payload:
        return cls(jobj)


class BoundedNetwork(ClientNetwork):
    """The library's network with the bounds it lacks; one thread at a time.

    Args:
        origin: the only one that is ever called.
        trusted_roots: PEM file of roots; None for public ones. The environment never decides.
        proxy: URL of an HTTP proxy, or None.
        timeout: total seconds for one exchange.

    Raises:
        CaNotConfigured: a roots file that cannot be read, or a proxy that is no http(s) URL.
    """

    def __init__(
        self,
        account_key: AccountKey,
        origin: Origin,
        *,
        trusted_roots: Path | None,
        proxy: str | None,
        user_agent: str,
        clock: Clock,
        sleep: Sleep,
        timeout: float,
    ) -> None:
        super().__init__(
            to_jwk(account_key), alg=signature_algorithm(account_key), user_agent=user_agent
        )
        self._origin = origin
        self._clock = clock
        self._sleep = sleep
        self._timeout = timeout
        self._verify = _roots_file(trusted_roots)
        self._watchdog = Watchdog()
        self.session.trust_env = False
        self.session.proxies = _proxies(proxy)
        for scheme in ("http://", "https://"):
            self.session.mount(scheme, WatchedAdapter(self._watchdog))
        self.clock_skew: float | None = None

    def use_account(self, url: str | None) -> None:
        """Sign with this account URL as `kid` from now on; None: with the key itself."""
        self.account = None if url is None else RegistrationResource(uri=url, body=None)

    def use_key(self, key: AccountKey) -> None:
        """Sign with this key from now on."""
        self.key, self.alg = to_jwk(key), signature_algorithm(key)

    def fetch(self, url: str) -> Answer:
        """GET without a signature: the directory, ARI."""
        return self._answer(self._exchange("GET", url))

    def sign_and_post(self, url: str, new_nonce: str, payload: Payload | None) -> Answer:
        """POST a JWS; None is POST-as-GET. A refused nonce is tried again, 100 times or for a
        minute at most.

        Raises:
            IssuanceError: of the class that fits the CA's answer or its absence.
        """
        deadline = Deadline(monotonic, MAX_NONCE_SECONDS)
        for attempt in range(1, MAX_NONCE_ATTEMPTS + 1):
            response = self._post_signed(url, new_nonce, payload)
            pause = _NONCE_PAUSE if attempt >= _UNHURRIED_NONCE_ATTEMPTS else 0.0
            last = attempt == MAX_NONCE_ATTEMPTS or not deadline.allows(pause)
            if last or not _is_bad_nonce(response):
                break
            if pause:
                self._sleep(pause)
        return self._answer(response)

    def _post_signed(self, url: str, new_nonce: str, payload: Payload | None) -> requests.Response:
        checked = self._origin.check(url, "address of a call")
        if not self._nonces:
            self._answer(self._exchange("HEAD", new_nonce))
        if not self._nonces:
            raise IssuanceUnavailable(f"The CA {self._origin.host} gave no usable nonce.")
        signed = self._wrap_in_jws(payload, self._nonces.pop(), checked)
        return self._exchange("POST", checked, signed)

    def _exchange(self, method: str, url: str, data: str | None = None) -> requests.Response:
        """Send one request, read the whole answer within size and time, note nonce and date."""
        checked = self._origin.check(url, "address of a call")
        try:
            with self._watchdog.within(self._timeout):
                response = self._send(method, checked, data)
            # A connection shut down within the headers looks like an answer without a body.
            if self._watchdog.bit:
                raise requests.Timeout
        except IssuanceError:
            raise
        except Exception as error:
            self.session.close()
            raise self._without_answer(url, error) from error
        self._note(response)
        return response

    def _without_answer(self, url: str, error: Exception) -> Exception:
        """Return what to raise when no whole answer came; what is not the network's stays loud."""
        if self._watchdog.bit or isinstance(error, requests.Timeout):
            return IssuanceUnavailable(
                f"The CA did not finish its answer from {url} within {self._timeout:g} s."
            )
        if isinstance(error, requests.RequestException | OSError):
            return IssuanceUnavailable(_network_words(url, error), do=_network_step(error))
        return error

    def _send(self, method: str, url: str, data: str | None) -> requests.Response:
        headers = {"User-Agent": self.user_agent, "Accept-Encoding": "identity"}
        if data is not None:
            headers["Content-Type"] = self.JOSE_CONTENT_TYPE
        with self.session.request(
            method,
            url,
            data=data,
            headers=headers,
            verify=self._verify,
            timeout=self._timeout,
            allow_redirects=False,
            stream=True,
        ) as response:
            body = bytearray()
            for part in response.iter_content(65536):
                body += part
                if len(body) > MAX_BODY:
                    raise IssuanceUnavailable(
                        f"The CA's answer from {url} is longer than {MAX_BODY} bytes."
                    )
            response._content = bytes(body)
        return response

    def _note(self, response: requests.Response) -> None:
        if (date := http_date(response.headers.get("Date"))) is not None:
            self.clock_skew = date - self._clock()
        with contextlib.suppress(acme_errors.NonceError):
            self._add_nonce(response)

    def _answer(self, response: requests.Response) -> Answer:
        dated = http_date(response.headers.get("Date"))
        now = self._clock() if dated is None else dated
        retry_after = parse_retry_after(response.headers.get("Retry-After"), now)
        url = str(response.url)
        if 300 <= response.status_code < 400:
            location = plain_text(response.headers.get("Location"))
            raise IssuanceUnavailable(
                f"{url} answers with a redirect to {location!r}, which was not followed.",
                do="Give the CA's own directory URL, and see that no portal or proxy answers.",
            )
        if response.status_code >= 400:
            problem = read_problem(_json_or_none(response.content), response.status_code)
            raise refusal(f"The CA refused {url}", problem, retry_after)
        return Answer(url, response.content, response.headers, retry_after)


def _is_bad_nonce(response: requests.Response) -> bool:
    if not 400 <= response.status_code < 500:
        return False
    return problem_code(read_problem(_json_or_none(response.content))) == "badNonce"


def _json_or_none(body: bytes) -> object:
    with contextlib.suppress(ValueError, RecursionError):
        decoded: object = json.loads(body)
        return decoded
    return None


def _network_words(url: str, error: Exception) -> str:
    if isinstance(error, requests.exceptions.SSLError):
        return f"The TLS certificate or connection of {url} is not trusted: {_innermost(error)}."
    if isinstance(error, requests.exceptions.ProxyError):
        return f"The proxy on the way to {url} does not work: {_innermost(error)}."
    return f"No usable answer from {url}: {_innermost(error)}."


_LOOK_AT_THE_CLOCK = (
    "Look at this machine's clock: timedatectl. If it is right, the CA's own certificate is not."
)


def _network_step(error: Exception) -> str | None:
    if untimely(error):
        return _LOOK_AT_THE_CLOCK
    if isinstance(error, requests.exceptions.SSLError):
        return (
            "Name the root of a private CA's HTTPS, or of a proxy that opens TLS, as ca_root in "
            "the settings. With a public CA nothing, unless it lasts."
        )
    return None


def _innermost(error: BaseException) -> str:
    """Return the words of the last cause, without the object addresses of the outer ones."""
    *_, last = causes(error)
    return plain_text(str(last)) or type(last).__name__


def _roots_file(trusted_roots: Path | None) -> str:
    if trusted_roots is None:
        return str(public_roots_file())
    if not trusted_roots.is_file():
        raise CaNotConfigured(
            f"The file of roots for the CA, {trusted_roots}, does not exist.",
            do="Give a PEM file with the root of the CA's own HTTPS server.",
        )
    if not os.access(trusted_roots, os.R_OK, effective_ids=True):
        raise CaNotConfigured(
            f"The file of roots for the CA, {trusted_roots}, cannot be read by this user.",
            do="A service reads no home directories: put it below /etc, mode 0644.",
        )
    try:
        check_trusted(trusted_roots, "file of the CA's roots")
    except ConfigurationError as error:
        raise CaNotConfigured(error.what, do=error.do) from error
    return str(trusted_roots)


def _proxies(proxy: str | None) -> dict[str, str]:
    if proxy is None:
        return {}
    if not proxy.startswith(_HTTP_PROXY_SCHEMES):
        raise CaNotConfigured(
            "The proxy for the CA is not an http or https URL.",  # it may hold a password
            do="Give it as http://HOST:PORT.",
        )
    return {"http": proxy, "https": proxy}
