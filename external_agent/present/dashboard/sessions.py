"""Who is signed in: a browser holds a random id, we hold everything else, in memory."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

COOKIE = "session"
LONGEST = 12 * 3600
"""Seconds; never longer than the access token lives."""
MOST = 1000


@dataclass(frozen=True, slots=True)
class Session:
    """
    Attributes:
        authorization: the field by which the API is asked; with a token that was voided meanwhile
            the session is worth nothing.
        form_token: has to come with every form (against forged requests).
    """

    authorization: str
    form_token: str
    expires_at: int


class Sessions:
    """A restart signs everybody out.

    Args:
        random: gives so many random bytes.
    """

    def __init__(self, random: Callable[[int], bytes] = secrets.token_bytes) -> None:
        self._random = random
        self._by_digest: OrderedDict[str, Session] = OrderedDict()

    def begin(self, authorization: str, *, now: int, token_ends: int | None) -> str:
        """Return the id for the cookie; only its digest is kept."""
        ends = now + LONGEST if token_ends is None else min(now + LONGEST, token_ends)
        identifier = self._text(32)
        self._by_digest[_digest(identifier)] = Session(authorization, self._text(16), ends)
        while len(self._by_digest) > MOST:
            self._by_digest.popitem(last=False)
        return identifier

    def find(self, identifier: str, now: int) -> Session | None:
        """Return the session of a cookie, while it lasts."""
        found = self._by_digest.get(_digest(identifier))
        if found is not None and found.expires_at <= now:
            self.end(identifier)
            return None
        return found

    def end(self, identifier: str) -> None:
        self._by_digest.pop(_digest(identifier), None)

    def _text(self, size: int) -> str:
        return base64.urlsafe_b64encode(self._random(size)).rstrip(b"=").decode("ascii")


def is_form_of(session: Session, form_token: str) -> bool:
    """Tell whether a form was made for this session, in constant time."""
    return hmac.compare_digest(session.form_token.encode(), form_token.encode())


def _digest(identifier: str) -> str:
    return hashlib.sha256(identifier.encode()).hexdigest()
