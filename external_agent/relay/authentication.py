"""Who is asking: reads the signature headers of a request and finds the key they belong to.

The order is fixed: shape and key id, before anything of the body is read; signature; clock. What
the caller may do is decided after that, by ``admission``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from external_agent.records.rows import PullerRow, TokenRow
from shared.contract.errors import BadSignature, KeysRefused, MalformedMessage, SignatureMalformed
from shared.contract.http_signatures import (
    CLOCK_TOLERANCE,
    MAX_SIGNATURE_INPUT,
    REQUEST_LABEL,
    TOKEN_LABEL,
    PresentedSignature,
    SignedTarget,
    check_profile,
    parse_signatures,
    verify_request,
)
from shared.contract.signing import VerifyKey
from shared.contract.wire import ENROLMENTS_PATH, EnrolmentRequest

_METHODS = frozenset(("GET", "POST", "PUT"))
_HEADERS = frozenset((b"signature-input", b"signature", b"content-digest"))


class Refused(Exception):
    """The request is not authenticated: its answer is not signed.

    Args:
        slug: of the problem document.
    """

    def __init__(self, slug: str, detail: str = "") -> None:
        super().__init__(slug)
        self.slug = slug
        self.detail = detail


@dataclass(frozen=True, slots=True)
class RequestHead:
    """What of a request is looked at; no header besides these changes what it does."""

    target: SignedTarget
    signature_input: str
    signature: str
    digest: str | None


@dataclass(frozen=True, slots=True)
class Claim:
    """Whose request this says it is; nothing of it is proven.

    Attributes:
        key: known here under the key id that is claimed: the puller's, or the token's.
        token: the token's signature, while enrolling.
    """

    head: RequestHead
    key: VerifyKey
    request: PresentedSignature
    token: PresentedSignature | None


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose request this is, proven.

    Attributes:
        puller: key id of the signing key.
        signature: of the request; the answer is bound to it.
        enrolment: the verified offer of keys, while enrolling.
        token: id of the token that authorises it.
    """

    puller: str
    signature: bytes
    created: int
    nonce: str
    enrolment: EnrolmentRequest | None = None
    token: str = ""

    def clock_difference(self, now: float) -> int | None:
        """Return the seconds by which the clocks differ, if that is too much."""
        difference = round(self.created - now)
        return difference if abs(difference) > CLOCK_TOLERANCE else None


class KeyDirectory(Protocol):
    """Where the public keys are; part of the store."""

    def puller(self, puller: str) -> PullerRow | None: ...

    def token(self, token_id: str) -> TokenRow | None: ...


def read_head(
    method: str, raw_path: bytes, raw_query: bytes, headers: Sequence[tuple[bytes, bytes]]
) -> RequestHead:
    """Check the shape of a request before its body is read.

    Raises:
        Refused: method, path or signature headers are not of the permitted shape.
    """
    if method not in _METHODS:
        raise Refused("method-not-allowed")
    found: dict[bytes, str] = {}
    for name, value in headers:
        if name in _HEADERS:
            if name in found or len(value) > MAX_SIGNATURE_INPUT:
                raise Refused("signature-malformed")
            found[name] = value.decode("latin-1")
    try:
        target = SignedTarget(method, "", raw_path.decode("ascii"), raw_query.decode("ascii"))
    except UnicodeDecodeError:
        raise Refused("signature-malformed", "The request line is not ASCII.") from None
    return RequestHead(
        target,
        found.get(b"signature-input", ""),
        found.get(b"signature", ""),
        found.get(b"content-digest"),
    )


class Authenticator:
    """Verifies requests against the keys in the store.

    Args:
        keys: looked up in a thread by ``run``.
        authorities: ``@authority`` of every origin under which this agent is known.
        run: calls a function that may block.
    """

    def __init__(
        self,
        keys: KeyDirectory,
        authorities: Sequence[str],
        run: Callable[..., Awaitable[object]],
    ) -> None:
        self._keys = keys
        self._authorities = tuple(dict.fromkeys(authorities))
        self._run = run

    async def identify(self, head: RequestHead) -> Claim:
        """Find the key that a request claims to be signed by, before its body is read.

        Raises:
            Refused: unsigned refusal: the signatures' shape, or a key that is not known here.
            StoreError: the keys could not be looked up.
        """
        enrolling = head.target.method == "POST" and head.target.path == ENROLMENTS_PATH
        try:
            presented = parse_signatures(head.signature_input, head.signature)
            if set(presented) != ({REQUEST_LABEL, TOKEN_LABEL} if enrolling else {REQUEST_LABEL}):
                raise SignatureMalformed("The request carries other signatures than it must.")
            for one in presented.values():
                check_profile(one, head.target)
            mine, token = presented[REQUEST_LABEL], presented.get(TOKEN_LABEL)
            if token is None:
                row = await self._run(self._keys.puller, mine.keyid)
                key = VerifyKey(row.signing_key) if isinstance(row, PullerRow) else None
            else:
                if (token.nonce, token.created) != (mine.nonce, mine.created):
                    raise SignatureMalformed("The two signatures do not belong together.")
                row = await self._run(self._keys.token, token.keyid)
                key = VerifyKey(row.public_key) if isinstance(row, TokenRow) else None
        except SignatureMalformed as error:
            raise Refused("signature-malformed", error.what) from error
        if key is None:
            raise Refused("not-authenticated")
        return Claim(head, key, mine, token)

    def verify(self, claim: Claim, body: bytes) -> Caller:
        """Return the proven caller; its clock is for the caller of this method to judge.

        Raises:
            Refused: unsigned refusal.
        """
        try:
            if claim.token is not None:
                return self._enrolling(claim, claim.token, body)
            self._verify(claim.request, claim.head, body, claim.key)
        except (BadSignature, KeysRefused) as error:
            raise Refused("not-authenticated") from error
        except MalformedMessage as error:
            raise Refused("malformed-request", error.what) from error
        mine = claim.request
        return Caller(claim.key.id, mine.signature, mine.created, mine.nonce)

    def _enrolling(self, claim: Claim, token: PresentedSignature, body: bytes) -> Caller:
        # Two verifications with two keys, each chosen by its label alone: with one key look-up
        # for both, whoever is in the middle would sign both labels himself.
        self._verify(token, claim.head, body, claim.key)
        offer = EnrolmentRequest.decode(body)
        key, mine = VerifyKey(offer.signing_key), claim.request
        self._verify(mine, claim.head, body, key)
        return Caller(key.id, mine.signature, mine.created, mine.nonce, offer, claim.key.id)

    def _verify(
        self, presented: PresentedSignature, head: RequestHead, body: bytes, key: VerifyKey
    ) -> None:
        last: BadSignature | None = None
        for authority in self._authorities:
            try:
                target = replace(head.target, authority=authority)
                return verify_request(presented, target, body, head.digest, key)
            except BadSignature as error:
                last = error
        raise last or BadSignature("This agent has no relay origin.")
