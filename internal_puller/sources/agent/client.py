"""The relay API as the puller speaks it: signed requests, and answers believed only if signed."""

from __future__ import annotations

import dataclasses
import os
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from internal_puller.sources.agent.transport import Answer, Request, Transport
from shared.contract.enrolment_token import authority
from shared.contract.errors import (
    AnswerUnauthenticated,
    ClockWrong,
    KeysRefused,
    MalformedMessage,
    PullerRevoked,
    RefusedForNow,
    RelayError,
    RequestRefused,
    SignatureMalformed,
    TokenExpired,
    TokenUsed,
)
from shared.contract.http_signatures import (
    REQUEST_LABEL,
    TOKEN_LABEL,
    SignedTarget,
    parse_signatures,
    sign_request,
    verify_response,
)
from shared.contract.plain_text import one_line
from shared.contract.signing import SigningKey, VerifyKey
from shared.contract.wire import (
    CERTIFICATES_PATH,
    DIRECT_PATH,
    ENROLMENTS_PATH,
    MAX_ANSWER,
    RECEIPTS_PATH,
    BundleAnswer,
    EnrolmentAnswer,
    EnrolmentRequest,
    Listing,
    Machine,
    Problem,
    bundle_path,
    csr_path,
    rehearsal_path,
)

if TYPE_CHECKING:
    from shared.contract.batches import BatchAnswer
    from shared.contract.diagnosis import Half
    from shared.contract.rehearsal import RehearsalAnswer

MAX_RETRY_AFTER = 3600
_LONGEST_DETAIL = 500
_ENROLMENT_REFUSALS: dict[str, type[RelayError]] = {
    "token-expired": TokenExpired,
    "token-used": TokenUsed,
    "keys-refused": KeysRefused,
}


class RelayClient:
    """
    Args:
        machine: which one this is, for the agent to notice a copy; ``None`` where it is not known.

    Attributes:
        clock_difference: seconds by which the agent's clock was ahead of ours in its last answer;
            ``None`` before the first. Reported, never judged.
    """

    def __init__(
        self,
        relay_url: str,
        agent: VerifyKey,
        key: SigningKey,
        transport: Transport,
        *,
        timeout: float,
        clock: Callable[[], float] = time.time,
        machine: Machine | None = None,
    ) -> None:
        self._authority = authority(relay_url)
        self._agent = agent
        self._key = key
        self._transport = transport
        self._timeout = timeout
        self._clock = clock
        self._machine = machine
        self.clock_difference: int | None = None

    @property
    def tls_check(self) -> str:
        """How the relay's TLS certificate was accepted: ``pin``, ``roots`` or ``none``."""
        return self._transport.tls_check

    def close(self) -> None:
        self._transport.close()

    # --- calls --------------------------------------------------------------------------------

    def listing(self, *, since: str = "", wait: int = 0) -> Listing:
        """Return everything granted to us; with ``wait`` (seconds) held until ``since`` changes.

        Raises:
            TransportError: no answer signed by the agent, or a refusal signed by it.
            ClockWrong: our clocks differ by more than 300 s.
        """
        members: dict[str, str] = {}
        if wait and since:
            members |= {"since": since, "wait": str(wait)}
        if self._machine is not None:
            members |= {"installation": self._machine.installation, "host": self._machine.host}
        query = "&".join(f"{name}={value}" for name, value in members.items())
        return Listing.decode(self._call("GET", CERTIFICATES_PATH, query, wait=wait))

    def bundle(self, certificate: str, *, after: int) -> BundleAnswer:
        """Return the newest bundle above generation ``after``. Raises as :meth:`listing`."""
        return BundleAnswer.decode(self._call("GET", bundle_path(certificate), f"after={after}"))

    def leave_csr(self, certificate: str, csr_der: bytes) -> None:
        """Leave the CSR for the next generation. Raises as :meth:`listing`."""
        self._call("PUT", csr_path(certificate), body=csr_der)

    def send_receipts(self, batch: bytes) -> BatchAnswer:
        """Deliver ``receipts`` (``shared.contract.batches``). Raises as :meth:`listing`."""
        return self._deliver(RECEIPTS_PATH, batch)

    def send_direct(self, batch: bytes) -> BatchAnswer:
        """Deliver ``reports`` of direct certificates. Raises as :meth:`listing`."""
        return self._deliver(DIRECT_PATH, batch)

    def _deliver(self, path: str, batch: bytes) -> BatchAnswer:
        from shared.contract.batches import BatchAnswer  # not on the quiet path of `pull`

        answer = BatchAnswer.decode(self._call("POST", path, body=batch))
        told = (
            dataclasses.replace(one, detail=one_line(one.detail)[:_LONGEST_DETAIL])
            for one in answer.refused
        )
        return BatchAnswer(tuple(told))

    def diagnose(self, ours: Half) -> Half:
        """Give the agent the puller's half of a diagnosis, and get its own.

        Raises: as :meth:`listing`.
        """
        from shared.contract.diagnosis import DOCTOR_PATH, Half  # not on the quiet path of `pull`

        return Half.decode(self._call("POST", DOCTOR_PATH, body=ours.encode()), "agent")

    def begin_rehearsal(self, certificate: str) -> RehearsalAnswer:
        """Have the agent order from a staging CA, for us. Raises as :meth:`listing`."""
        return self._rehearsal("POST", certificate)

    def rehearsal(self, certificate: str) -> RehearsalAnswer:
        """Return how it stands. Raises as :meth:`listing`."""
        return self._rehearsal("GET", certificate)

    def _rehearsal(self, method: str, certificate: str) -> RehearsalAnswer:
        from shared.contract.rehearsal import RehearsalAnswer

        return RehearsalAnswer.decode(self._call(method, rehearsal_path(certificate)))

    def enrol(self, token_key: SigningKey, request: EnrolmentRequest) -> EnrolmentAnswer:
        """Redeem a token.

        Raises:
            EnrolmentError: the agent refuses the token or the keys.
            TransportError, ClockWrong: as :meth:`listing`.
        """
        answer = self._call(
            "POST", ENROLMENTS_PATH, body=request.encode(), also={TOKEN_LABEL: token_key}
        )
        return EnrolmentAnswer.decode(answer)

    # --- one exchange -------------------------------------------------------------------------

    def _call(
        self,
        method: str,
        path: str,
        query: str = "",
        *,
        body: bytes = b"",
        wait: int = 0,
        also: Mapping[str, SigningKey] | None = None,
    ) -> bytes:
        now = self._clock()
        headers = sign_request(
            SignedTarget(method, self._authority, path, query),
            body,
            {**(also or {}), REQUEST_LABEL: self._key},
            created=int(now),
            nonce=urlsafe_b64encode(os.urandom(16)).rstrip(b"=").decode(),
        )
        answer = self._transport.exchange(
            Request(method, f"{path}?{query}" if query else path, headers, body),
            seconds=self._timeout + wait,
            max_answer=MAX_ANSWER,
        )
        presented = parse_signatures(headers["Signature-Input"], headers["Signature"])
        self._authenticate(answer, presented[REQUEST_LABEL].signature)
        if answer.status != 200:
            raise self._refusal(answer)
        return answer.body

    def _authenticate(self, answer: Answer, request_signature: bytes) -> None:
        try:
            signed_at = verify_response(
                answer.status, answer.headers, answer.body, request_signature, self._agent
            )
        except AnswerUnauthenticated as error:
            raise AnswerUnauthenticated(
                error.what, do=_hint(answer), retry_after=_retry_after(answer)
            ) from error
        self.clock_difference = signed_at - int(self._clock())

    def _refusal(self, answer: Answer) -> RelayError:
        try:
            problem = Problem.decode(answer.body)
        except MalformedMessage as error:
            if not _ends_by_itself(answer.status):
                return error
            problem = Problem("", f"status {answer.status}", answer.status, "")
        detail = one_line(problem.detail or problem.title)[:_LONGEST_DETAIL]
        what = f"The agent refuses: {detail}"
        if problem.slug == "clock":
            return ClockWrong(
                f"The agent's clock is {self.clock_difference or 0:+d} s away from this machine's."
            )
        if problem.slug in _ENROLMENT_REFUSALS:
            return _ENROLMENT_REFUSALS[problem.slug](what)
        refusal = PullerRevoked if problem.slug == "puller-revoked" else RequestRefused
        if _ends_by_itself(answer.status):
            refusal = RefusedForNow
        return refusal(
            what,
            do=_NEXT_STEPS.get(problem.slug),
            problem_type=problem.slug,
            retry_after=_retry_after(answer),
        )


_SAME_RELEASE = MalformedMessage.do
_WAIT = "Nothing to do: it is asked again after the pause that the agent named."
_NEXT_STEPS: dict[str, str] = {
    "puller-suspended": "The token that enrolled this machine was offered a second time by "
    "another: look at external-agent events, then external-agent puller confirm.",
    "csr-refused": "The next pull makes another key and CSR. If that is refused, too: what the "
    "target asks for does not fit what the agent grants; look at external-agent status there.",
    "certificate-unknown": "Grant it on the agent: external-agent puller grant.",
    "store-unavailable": "Nothing to do unless it lasts: then look at the agent's database.",
    "too-many-waits": _WAIT,
    "quota": _WAIT,
    "replayed-nonce": "Nothing to do: the next request is made anew.",
    "internal": "A bug in the agent: look at its log, and please report it.",
    "malformed-request": _SAME_RELEASE,
    "method-not-allowed": _SAME_RELEASE,
    "not-found": _SAME_RELEASE,
    "signature-malformed": SignatureMalformed.do,
}


def _ends_by_itself(status: int) -> bool:
    """Whether a signed refusal is for now only: too much at once, or a fault at the agent."""
    return status == 429 or status >= 500


def _retry_after(answer: Answer) -> float | None:
    """A hint that can only make us wait longer, and not for long: nobody signed it."""
    text = answer.headers.get("retry-after", "")
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        return None
    return float(min(int(text), MAX_RETRY_AFTER))


def _hint(answer: Answer) -> str:
    if 300 <= answer.status < 400:
        return "The relay URL leads elsewhere; redirects are not followed. Look at the proxy."
    if answer.status == 401:
        return "The agent may not know this token or machine (any more): look at its log."
    if answer.status in (429, 502, 503, 504):
        return "The agent, or a proxy before it, is not ready; it is tried again."
    return AnswerUnauthenticated.do
