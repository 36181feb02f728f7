"""Text of a peer, a CA, a server or a command, made so that it cannot steer what shows it."""

from __future__ import annotations

from typing import Final

REPLACEMENT: Final = "?"
# Default_Ignorable_Code_Point (UAX #44) that str.isprintable lets pass: nothing is seen of them.
_UNSEEN: Final = frozenset(
    map(
        chr,
        (
            *(0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFFA0),
            *range(0x180B, 0x1810),
            *range(0xFE00, 0xFE10),
            *range(0xE0100, 0xE01F0),
        ),
    )
)


def one_line(text: str) -> str:
    """Return ``text`` as one line without anything that steers a terminal, a log or a reader.

    White space of every kind, line and paragraph separators included, becomes a space. Replaced
    are the control characters (C0, DEL, C1), and with them every escape sequence; bidirectional
    marks, overrides and isolates; what has no width; lone surrogates, which stand for octets that
    are no text; private and unassigned code points.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_shown, text))


def lines(text: str) -> str:
    """Return ``text`` with its lines, each as :func:`one_line`; for output of a command, say."""
    return "\n".join(map(one_line, text.split("\n")))


def _shown(character: str) -> str:
    if character.isprintable() and character not in _UNSEEN:
        return character
    return " " if character.isspace() else REPLACEMENT
