"""Tables: drawn on a terminal, plain columns for everything that reads them."""

from __future__ import annotations

from collections.abc import Sequence

from shared.contract.plain_text import one_line
from shared.host.terminal import draw, emit, is_terminal


def print_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under their titles."""
    rows = [[one_line(cell) for cell in row] for row in rows]
    if is_terminal():
        _draw(titles, rows)
        return
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    for row in (titles, *rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        emit("  ".join(cells).rstrip())


def _draw(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(*titles, box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*map(escape, row))
    draw(table)
