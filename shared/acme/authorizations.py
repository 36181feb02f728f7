"""Brings an order's authorizations to valid: choose a challenge, present, answer, look again."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shared.acme.ports import (
    AuthorizationState,
    ChallengeSolver,
    ChallengeState,
    OrderClient,
    PendingChallenge,
    WaitingSolver,
)
from shared.acme.problems import describe
from shared.contract.errors import IssuanceError, IssuanceRejected, RelayError, ValidationFailed

# RFC 8555 section 8.3: base64url without padding, at least 128 bits.
_TOKEN = re.compile(r"[A-Za-z0-9_-]{22,128}\Z", re.ASCII)
_TYPES_WITHOUT_TOKEN = frozenset(("dns-persist-01",))

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StillPending:
    """What the CA is still looking at, and the seconds it asked to wait."""

    what: str
    retry_after: float | None


class Authorizer:
    """The authorizations of one order during one run; repeats are harmless.

    Args:
        names: the only ones that challenges are solved for.
        solvers: by challenge type, the preferred first.
    """

    def __init__(
        self, client: OrderClient, names: frozenset[str], solvers: Mapping[str, ChallengeSolver]
    ) -> None:
        self._client = client
        self._names = names
        self._solvers = solvers
        self._presented: dict[str, PendingChallenge] = {}
        self._ready: set[str] = set()
        self._answered: set[str] = set()
        self._done: set[str] = set()

    def advance(self, urls: Sequence[str]) -> StillPending | None:
        """Answer what can be answered; return what is still pending, None when all are valid.

        Raises:
            IssuanceRejected: one failed, or cannot be solved by us.
        """
        if len(urls) > 2 * len(self._names):
            raise IssuanceRejected(
                f"The CA wants {len(urls)} authorizations for {len(self._names)} names."
            )
        pending = [one for url in urls if (one := self._look_at(url)) is not None]
        unanswered = [
            choice for one in pending if (choice := self._choose(one)).url not in self._answered
        ]
        for challenge in unanswered:
            self._present(challenge)
        self._wait_until_visible({challenge.type for challenge in unanswered})
        for challenge in unanswered:
            self._answer(challenge)
        if not pending:
            return None
        return StillPending(
            what=f"The CA is still validating {', '.join(map(_progress, pending))}",
            retry_after=max(
                (one.retry_after for one in pending if one.retry_after is not None), default=None
            ),
        )

    def _look_at(self, url: str) -> AuthorizationState | None:
        """Return the authorization if it is pending; None if it is valid."""
        if url in self._done:
            return None
        authorization = self._client.fetch_authorization(url)
        if authorization.name not in self._names:
            raise IssuanceRejected(
                f"The CA wants an authorization for {authorization.name!r:.200}, which was not "
                "ordered."
            )
        if authorization.status == "valid":
            self._done.add(url)
            return None
        if authorization.status != "pending":
            raise _failed(authorization)
        for challenge in authorization.challenges:
            if challenge.url in self._answered and _has_failed(challenge):
                raise _failed(authorization)
        return authorization

    def _choose(self, authorization: AuthorizationState) -> PendingChallenge:
        offered = {
            one.type: one
            for one in authorization.challenges
            if one.status in ("pending", "processing")
        }
        for wanted in self._solvers:
            if (challenge := offered.get(wanted)) is not None:
                return self._pending(authorization, challenge)
        raise IssuanceRejected(
            f"The CA offers {', '.join(sorted(offered)) or 'no challenge'} for "
            f"{authorization.name}; this machine can answer "
            f"{', '.join(self._solvers) or 'none'}.",
            do="Choose a challenge that both can do; a wildcard needs a DNS challenge.",
        )

    def _pending(
        self, authorization: AuthorizationState, challenge: ChallengeState
    ) -> PendingChallenge:
        token = challenge.token
        if challenge.type in _TYPES_WITHOUT_TOKEN:
            token = ""
        elif _TOKEN.match(token) is None:
            raise IssuanceRejected(
                f"The CA gave a {challenge.type} token for {authorization.name} that is not 22 to "
                "128 characters of base64url; it was not used."
            )
        return PendingChallenge(
            identifier=authorization.identifier,
            wildcard=authorization.wildcard,
            type=challenge.type,
            url=challenge.url,
            token=token,
            key_authorization=self._client.key_authorization(token) if token else "",
            raw=challenge.raw,
        )

    def _present(self, challenge: PendingChallenge) -> None:
        if challenge.url not in self._ready:
            self._presented[challenge.url] = challenge  # to be cleaned up even if this fails
            self._solvers[challenge.type].present(challenge)
            self._ready.add(challenge.url)

    def _wait_until_visible(self, types: set[str]) -> None:
        for one in sorted(types):
            if isinstance(solver := self._solvers[one], WaitingSolver):
                solver.wait_until_visible()

    def _answer(self, challenge: PendingChallenge) -> None:
        answered = self._client.answer_challenge(challenge)
        self._answered.add(challenge.url)
        if _has_failed(answered):
            raise ValidationFailed(
                f"The CA could not validate {challenge.identifier} by {challenge.type}: "
                f"{describe(answered.problem)}.",
                problem=answered.problem,
            )

    def take_over(self, urls: Sequence[str]) -> None:
        """Have cleaned up what an earlier run left of authorizations that are over: it was killed
        after its answers, so nothing brings these challenges up again.
        """
        for url in urls[: 2 * len(self._names)]:
            try:
                authorization = self._client.fetch_authorization(url)
            except IssuanceError:
                continue
            if authorization.status == "pending" or authorization.name not in self._names:
                continue
            for challenge in authorization.challenges:
                if challenge.type in self._solvers:
                    with contextlib.suppress(IssuanceRejected):
                        self._presented[challenge.url] = self._pending(authorization, challenge)

    def clean_up(self) -> None:
        """Take away every answer that was presented; a failure is logged, never raised."""
        while self._presented:
            _, challenge = self._presented.popitem()
            try:
                self._solvers[challenge.type].clean_up(challenge)
            except RelayError as error:
                _log.warning("challenge of %s not cleaned up: %s", challenge.identifier, error.what)

    def failures(self, urls: Sequence[str]) -> list[ValidationFailed]:
        """Return why authorizations failed, as far as the CA tells."""
        found = []
        for url in urls[: 2 * len(self._names)]:
            try:
                authorization = self._client.fetch_authorization(url)
            except IssuanceError:
                continue
            if authorization.status not in ("valid", "pending"):
                found.append(_failed(authorization))
        return found


def _has_failed(challenge: ChallengeState) -> bool:
    """Tell failure apart from a CA that retries by itself (`processing` with an error).

    Some CAs leave a failed challenge `pending` with an error instead of `invalid`.
    """
    return challenge.status == "invalid" or (
        challenge.status == "pending" and challenge.problem is not None
    )


def _failed(authorization: AuthorizationState) -> ValidationFailed:
    problems = [(one.type, one.problem) for one in authorization.challenges if one.problem]
    words = "; ".join(f"{kind}: {describe(problem)}" for kind, problem in problems)
    return ValidationFailed(
        f"The CA could not validate {authorization.name} "
        f"({authorization.status}): {words or 'no reason given'}.",
        problem=problems[0][1] if problems else None,
    )


def _progress(authorization: AuthorizationState) -> str:
    errors = [describe(one.problem) for one in authorization.challenges if one.problem]
    return f"{authorization.name} ({'; '.join(errors)})" if errors else authorization.name
