"""What a text of another machine may hold when it is shown: nothing that steers the reader."""

from __future__ import annotations

import unicodedata

import pytest

from shared.contract.errors import ConfigurationError
from shared.contract.plain_text import lines, one_line

STEERING = {
    "cursor up": "\x1b[1A\x1b[2K",
    "bell": "\x07",
    "carriage return": "a\rb",
    "backspace": "a\b\b",
    "DEL": "\x7f",
    "C1 CSI": "\x9b2J",
    "next line": "\x85",
    "title": "\x1b]0;x\x07",
    "newline": "a\nneeds attention: none",
    "vertical tab": "\x0b",
    "form feed": "\x0c",
    "separators": "\x1c\x1d\x1e\x1f",
    "line separator": "\u2028",
    "paragraph separator": "\u2029",
    "right to left": "\u202egpj.exe",
    "isolates": "\u2066\u2067\u2068\u2069",
    "marks": "\u200e\u200f\u061c",
    "zero width": "a\u200bb\u200cc\u200dd\u2060\ufeff",
    "soft hyphen": "\u00ad",
    "fillers": "\u115f\u1160\u3164\uffa0\u034f",
    "variation selectors": "\ufe0f\U000e0101\u180e",
    "tags": "\U000e0041",
    "octets that are no text": b"\x9b\xff".decode("utf-8", "surrogateescape"),
    "private use": "\ue000",
    "unassigned": "\u0378",
}
UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@pytest.mark.parametrize("name", STEERING)
def test_nothing_that_steers_is_left(name: str) -> None:
    shown = one_line(f"x{STEERING[name]}y")
    assert shown.isprintable()
    assert not {unicodedata.category(one) for one in shown} & UNSEEN
    assert not set(shown) & set("\u115f\u1160\u3164\uffa0\u034f\ufe0f\U000e0101")
    assert shown.startswith("x")
    assert shown.endswith("y")


@pytest.mark.parametrize("text", ["", "plain", "証明書 日本語", "Ünïcödé", "→ ✓", "e\u0301"])
def test_text_stays_as_it_is(text: str) -> None:
    assert one_line(text) == text


def test_white_space_becomes_spaces() -> None:
    assert one_line("a\u00a0b\u3000c\td\r\ne\u2028f") == "a b c d  e f"


def test_lines_stay_lines_and_each_is_clean() -> None:
    assert lines("a\x1b[2J\nb\rc\n") == "a?[2J\nb c\n"


def test_the_parts_of_an_error_are_one_line_each() -> None:
    error = ConfigurationError("a\nneeds attention: none", do="b\x1b[2J\nc")
    assert error.explain().split("\n") == [
        "a needs attention: none",
        "Nothing was changed.",
        "b?[2J c",
    ]
