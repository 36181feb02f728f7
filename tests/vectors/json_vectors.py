"""Strict JSON alone: any one object, whatever its members mean."""

from __future__ import annotations

from tests.vectors.vector import Vector

LARGEST = 2**53 - 1


def _good() -> dict[str, tuple[str, bytes, bytes]]:
    """Name to comment, octets, and what is written for them: sorted, without white space."""
    depth = b'{"a":' * 15 + b"[]" + b"}" * 15
    return {
        "empty-object": ("no members", b"{}", b"{}"),
        "sorted": ("members in another order", b'{"b":1,"a":2}', b'{"a":2,"b":1}'),
        "white-space": (
            "white space between tokens",
            b' {\t"a" :\r\n [ 1 , null ] } \n',
            b'{"a":[1,null]}',
        ),
        "largest": ("2^53 - 1", b'{"a":%d}' % LARGEST, b'{"a":%d}' % LARGEST),
        "smallest": ("-(2^53 - 1)", b'{"a":-%d}' % LARGEST, b'{"a":-%d}' % LARGEST),
        "booleans": ("true and false", b'{"a":true,"b":false}', b'{"a":true,"b":false}'),
        "depth-16": ("sixteen objects and lists, one in the other", depth, depth),
        "brackets-in-text": (
            "brackets in a string are no nesting",
            b'{"a":"%s"}' % (b"[{" * 20),
            b'{"a":"%s"}' % (b"[{" * 20),
        ),
        "surrogate-pair": (
            "a character by its two halves",
            b'{"a":"\\ud83d\\ude00"}',
            '{"a":"\U0001f600"}'.encode(),
        ),
        "escapes": (
            "every escape",
            b'{"a":"\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041"}',
            b'{"a":"\\"\\\\/\\b\\f\\n\\r\\tA"}',
        ),
        "prototype": (
            "a name that some languages treat as special",
            b'{"__proto__":{"a":1}}',
            b'{"__proto__":{"a":1}}',
        ),
        "empty-name": ("a member without a name", b'{"":1}', b'{"":1}'),
        "utf-8": ("characters beyond ASCII", '{"a":"証明書"}'.encode(), '{"a":"証明書"}'.encode()),
    }


def _bad() -> dict[str, tuple[str, bytes]]:
    return {
        "empty": ("no octets", b""),
        "white-space-only": ("white space", b" \n"),
        "array": ("a list", b"[]"),
        "text": ("a string", b'"a"'),
        "number": ("a number", b"1"),
        "null": ("null", b"null"),
        "byte-order-mark": ("a byte order mark", b"\xef\xbb\xbf{}"),
        "utf-16": ("UTF-16", '{"a":1}'.encode("utf-16-le")),
        "not-utf-8": ("an octet that UTF-8 never has", b'{"a":"\xff"}'),
        "overlong": ("a slash in two octets", b'{"a":"\xc0\xaf"}'),
        "encoded-surrogate": ("a surrogate in UTF-8", b'{"a":"\xed\xa0\x80"}'),
        "lone-surrogate": ("half a pair", b'{"a":"\\ud800"}'),
        "lone-low-surrogate": ("the other half", b'{"a":"\\udc00"}'),
        "surrogate-in-name": ("half a pair in a member's name", b'{"\\ud800":1}'),
        "nul": ("NUL", b'{"a":"\\u0000"}'),
        "nul-in-name": ("NUL in a member's name", b'{"a\\u0000":1}'),
        "control-character": ("a line feed in a string", b'{"a":"\n"}'),
        "member-twice": ("a member that stands twice", b'{"a":1,"a":1}'),
        "member-twice-escaped": ("the same name, spelled otherwise", b'{"a":1,"\\u0061":1}'),
        "member-twice-inside": ("a member twice in an inner object", b'{"a":[{"b":1,"b":2}]}'),
        "integer-2-53": ("2^53", b'{"a":%d}' % 2**53),
        "integer-minus-2-53": ("-(2^53)", b'{"a":-%d}' % 2**53),
        "float": ("1.0", b'{"a":1.0}'),
        "exponent": ("1e3", b'{"a":1e3}'),
        "not-a-number": ("NaN", b'{"a":NaN}'),
        "infinity": ("-Infinity", b'{"a":-Infinity}'),
        "leading-zero": ("01", b'{"a":01}'),
        "plus": ("+1", b'{"a":+1}'),
        "depth-17": ("seventeen, one in the other", b'{"a":' * 16 + b"[]" + b"}" * 16),
        "trailing-comma": ("a comma before the end", b'{"a":1,}'),
        "comment": ("a comment", b'{"a":1/**/}'),
        "single-quotes": ("other quotes", b"{'a':1}"),
        "no-quotes": ("a name without quotes", b"{a:1}"),
        "trailing": ("a second object behind the first", b"{}{}"),
        "cut": ("cut short", b'{"a":'),
    }


def vectors() -> list[Vector]:
    return [
        *(
            Vector(
                f"good-{name}",
                {"expect": "success", "comment": comment, "written": written.hex()},
                octets,
            )
            for name, (comment, octets, written) in _good().items()
        ),
        *(
            Vector(name, {"expect": "malformed", "comment": comment}, octets)
            for name, (comment, octets) in _bad().items()
        ),
    ]
