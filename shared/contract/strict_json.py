"""Untrusted JSON: an object with exactly the expected members, or one family of error.

The decoder refuses what JSON leaves open and parsers read differently (RFC 8259 section 4, 6, 8;
RFC 7493): duplicate members, floats, huge integers, lone surrogates, NUL, deep nesting.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode, standard_b64decode
from collections.abc import Callable
from typing import NoReturn, TypeVar

from shared.contract.errors import MalformedBundle, RelayError

MAX_INTEGER = 2**53 - 1
MAX_DEPTH = 16

# A string that does not end is taken whole: looking for an end from each of its quotes anew would
# take hostile bytes the square of their number.
_STRING = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)', re.DOTALL)
_BRACKET = re.compile(r"[\[\]{}]")

Json = None | bool | int | str | list["Json"] | dict[str, "Json"]
ErrorFactory = Callable[[str], RelayError]
T = TypeVar("T")


def decode_object(
    data: bytes, what: str, *, max_size: int, error: ErrorFactory = MalformedBundle
) -> Members:
    """Parse ``data`` as one JSON object.

    Args:
        data: UTF-8 bytes.
        what: how the thing is called in an error message, with a capital letter.
        max_size: octets.
        error: makes the one kind of error that is raised.
    """
    if len(data) > max_size:
        raise error(f"{what} has {len(data)} octets; at most {max_size} are accepted.")

    def refuse(reason: str) -> NoReturn:
        raise error(f"{what} is not acceptable JSON: {reason}.")

    try:
        text = data.decode("utf-8", errors="strict")
    except UnicodeDecodeError:
        refuse("it is not UTF-8")
    _check_depth(text, refuse)

    try:
        value = json.loads(
            text,
            object_pairs_hook=lambda pairs: _unique(pairs, refuse),
            parse_int=lambda digits: _integer(digits, refuse),
            parse_float=lambda _: refuse("a number is not an integer"),
            parse_constant=lambda _: refuse("a number is not an integer"),
        )
    except (json.JSONDecodeError, RecursionError):
        refuse("it does not parse")
    if not isinstance(value, dict):
        refuse("it is not an object")
    _check_strings(value, refuse)
    return Members(value, what, error)


def _check_depth(text: str, refuse: Callable[[str], NoReturn]) -> None:
    depth = 0
    for bracket in _BRACKET.findall(_STRING.sub("", text)):
        depth += 1 if bracket in "{[" else -1
        if depth > MAX_DEPTH:
            refuse(f"it is nested deeper than {MAX_DEPTH}")


def _unique(pairs: list[tuple[str, Json]], refuse: Callable[[str], NoReturn]) -> dict[str, Json]:
    members = dict(pairs)
    if len(members) != len(pairs):
        refuse("a member stands twice")
    return members


def _integer(digits: str, refuse: Callable[[str], NoReturn]) -> int:
    if len(digits) > 17 or abs(int(digits)) > MAX_INTEGER:
        refuse("a number is beyond 2^53")
    return int(digits)


def _check_strings(value: Json, refuse: Callable[[str], NoReturn]) -> None:
    if isinstance(value, str):
        if "\0" in value:
            refuse("a string holds NUL")
        if not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
            refuse("a string holds a lone surrogate")
    elif isinstance(value, list):
        for item in value:
            _check_strings(item, refuse)
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_strings(key, refuse)
            _check_strings(item, refuse)


class Members:
    """The members of one object, taken one by one with their type; at the end none may be left."""

    def __init__(self, values: dict[str, Json], what: str, error: ErrorFactory) -> None:
        self._values = dict(values)
        self._what = what
        self.error = error

    def refuse(self, reason: str) -> NoReturn:
        raise self.error(f"{self._what}: {reason}.")

    def _take(self, name: str) -> Json:
        if name not in self._values:
            self.refuse(f"member {name!r} is missing")
        return self._values.pop(name)

    def text(self, name: str, *, max_length: int = 1024) -> str:
        value = self._take(name)
        if not isinstance(value, str) or len(value) > max_length:
            self.refuse(f"member {name!r} is not a string of at most {max_length} characters")
        return value

    def take_null(self, name: str) -> bool:
        """Tell whether the member is ``null``, and take it if so."""
        if self._values.get(name, ...) is None:
            del self._values[name]
            return True
        return False

    def integer(self, name: str, *, minimum: int = 0, maximum: int = MAX_INTEGER) -> int:
        value = self._take(name)
        if type(value) is not int or not minimum <= value <= maximum:
            self.refuse(f"member {name!r} is not an integer from {minimum} to {maximum}")
        return value

    def boolean(self, name: str) -> bool:
        value = self._take(name)
        if type(value) is not bool:
            self.refuse(f"member {name!r} is not true or false")
        return value

    def hex_digest(self, name: str) -> str:
        """Lower-case hex of 32 octets: key ids and SHA-256 digests."""
        value = self.text(name, max_length=64)
        if len(value) != 64 or value.strip("0123456789abcdef"):
            self.refuse(f"member {name!r} is not 64 lower-case hexadecimal digits")
        return value

    def octets(self, name: str, *, length: int | None = None, max_length: int = 65536) -> bytes:
        """Canonical standard base64 (RFC 4648 section 4)."""
        value = self.text(name, max_length=4 * (max_length // 3 + 2))
        raw = decode_base64(value)
        if raw is None or len(raw) > max_length or (length is not None and len(raw) != length):
            self.refuse(f"member {name!r} is not canonical base64 of the expected length")
        return raw

    def one_of(self, name: str, choices: frozenset[str]) -> str:
        value = self.text(name)
        if value not in choices:
            self.refuse(f"member {name!r} is none of {', '.join(sorted(choices))}")
        return value

    def texts(self, name: str, *, max_items: int, max_length: int = 255) -> tuple[str, ...]:
        value = self._list(name, max_items)
        for item in value:
            if not isinstance(item, str) or len(item) > max_length:
                self.refuse(f"member {name!r} holds something else than short strings")
        return tuple(item for item in value if isinstance(item, str))

    def objects(self, name: str, read: Callable[[Members], T], *, max_items: int) -> tuple[T, ...]:
        """A list of objects, each read by ``read`` and with nothing left over."""
        found: list[T] = []
        for item in self._list(name, max_items):
            if not isinstance(item, dict):
                self.refuse(f"member {name!r} holds something else than objects")
            members = Members(item, f"{self._what}, {name}", self.error)
            found.append(read(members))
            members.nothing_left()
        return tuple(found)

    def _list(self, name: str, max_items: int) -> list[Json]:
        value = self._take(name)
        if not isinstance(value, list) or len(value) > max_items:
            self.refuse(f"member {name!r} is not a list of at most {max_items}")
        return value

    def leave_the_rest(self) -> None:
        """Take no notice of what is left: the object was refused, and what is beside it is not."""
        self._values.clear()

    def nothing_left(self) -> None:
        """Refuse members that nobody asked for."""
        if self._values:
            self.refuse(f"member {min(self._values)!r:.60} is unknown")


def decode_base64(value: str) -> bytes | None:
    """Return the octets, or ``None`` unless ``value`` is their one canonical encoding."""
    try:
        raw = standard_b64decode(value.encode("ascii"))
    except ValueError:
        return None
    return raw if b64encode(raw) == value.encode("ascii") else None


def encode_base64(raw: bytes) -> str:
    return b64encode(raw).decode("ascii")


def encode(value: object) -> bytes:
    """Return compact UTF-8 JSON with sorted members: the same bytes for the same value."""
    return json.dumps(
        value, ensure_ascii=False, separators=(",", ":"), sort_keys=True, allow_nan=False
    ).encode("utf-8")
