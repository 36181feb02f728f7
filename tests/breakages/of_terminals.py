"""Promises about what reaches a terminal or a log (30)."""

from __future__ import annotations

from typing import Final

from tests.breakages.model import Breakage

BREAKAGES: Final = (
    Breakage(
        30,
        "what a peer says may bring lines of its own",
        "shared/host/terminal.py",
        'map(one_line, line.split("\\t"))',
        'map(str, line.split("\\t"))',
        "test_one_argument_is_one_line",
    ),
    Breakage(
        30,
        "a table shows what a peer says as it came",
        "shared/host/terminal.py",
        "Segment(plain_text.lines(one.text), one.style)",
        "Segment(one.text, one.style)",
        "test_a_table_lets_nothing_pass_but_its_colours",
    ),
    Breakage(
        30,
        "a record of a log keeps what steers a terminal",
        "shared/host/terminal.py",
        "return one_line(super().formatMessage(record))",
        "return super().formatMessage(record)",
        "test_a_record_is_one_line_but_for_its_traceback",
    ),
)
