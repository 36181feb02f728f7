"""Receipts and reports travel together in one bounded call; its answer names what was refused.

Normative: docs/FORMAT.md, section 8. One that cannot be read, or that is about something that is
not granted any more, harms no other: it is named by its place in the list.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self, TypeVar

from shared.contract import strict_json
from shared.contract.errors import MalformedMessage
from shared.contract.http_signatures import MAX_BODY
from shared.contract.strict_json import Members

MOST_IN_BATCH = 100
MAX_DETAIL = 500
_SLUG = re.compile(r"[a-z]+(?:-[a-z]+)*\Z")
_ANSWER_OCTETS = 512 * 1024
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Refusal:
    """
    Attributes:
        index: place in the list that was sent, from 0.
        slug: as in a problem document's ``type``.
        detail: one sentence, at most :data:`MAX_DETAIL` characters.
    """

    index: int
    slug: str
    detail: str

    def members(self) -> dict[str, object]:
        return {"index": self.index, "type": self.slug, "detail": self.detail[:MAX_DETAIL]}

    @classmethod
    def read(cls, members: Members) -> Self:
        refusal = cls(
            index=members.integer("index", maximum=MOST_IN_BATCH - 1),
            slug=members.text("type", max_length=64),
            detail=members.text("detail", max_length=MAX_DETAIL),
        )
        if not _SLUG.match(refusal.slug):
            members.refuse("member 'type' is not words of a-z joined by '-'")
        return refusal


@dataclass(frozen=True, slots=True)
class BatchAnswer:
    """What was refused for good; everything else was accepted."""

    refused: tuple[Refusal, ...] = ()

    def encode(self) -> bytes:
        return strict_json.encode({"refused": [one.members() for one in self.refused]})

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Raises ``MalformedMessage``."""
        members = strict_json.decode_object(
            data, "The answer to a report", max_size=_ANSWER_OCTETS, error=MalformedMessage
        )
        answer = cls(members.objects("refused", Refusal.read, max_items=MOST_IN_BATCH))
        members.nothing_left()
        return answer


def encode_batch(name: str, encoded: Sequence[str]) -> bytes:
    """Return the body of one call.

    Args:
        name: ``receipts`` or ``reports``.
        encoded: what :meth:`Receipt.encode` and :meth:`DirectReport.encode` gave.
    """
    return f'{{"{name}":[{",".join(encoded)}]}}'.encode()


def batches(encoded: Sequence[str]) -> Iterator[slice]:
    """Divide a list into calls of at most :data:`MOST_IN_BATCH` items and ``MAX_BODY`` octets."""
    start, size = 0, _FRAME
    for place, one in enumerate(encoded):
        more = len(one.encode()) + 1
        if place > start and (place - start >= MOST_IN_BATCH or size + more > MAX_BODY):
            yield slice(start, place)
            start, size = place, _FRAME
        size += more
    if start < len(encoded):
        yield slice(start, len(encoded))


_FRAME = len(encode_batch("receipts", ()))


def decode_batch(
    data: bytes, name: str, read: Callable[[Members], T]
) -> tuple[T | MalformedMessage, ...]:
    """Return what one call holds; in the place of an item that cannot be read, why.

    Raises:
        MalformedMessage: the body as a whole is not of the shape, or its list is empty.
    """
    members = strict_json.decode_object(
        data, f"The list of {name}", max_size=MAX_BODY, error=MalformedMessage
    )

    def one(item: Members) -> T | MalformedMessage:
        try:
            found = read(item)
            item.nothing_left()
        except MalformedMessage as error:
            item.leave_the_rest()
            return error
        return found

    found = members.objects(name, one, max_items=MOST_IN_BATCH)
    if not found:
        members.refuse(f"member {name!r} is empty")
    members.nothing_left()
    return found
