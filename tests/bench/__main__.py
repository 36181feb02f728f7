"""Run the benchmarks: ``python -m tests.bench [--quick] [--write FILE] [NAME ...]``."""

from __future__ import annotations

import argparse
import importlib
import sys
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.bench.rows import COLUMNS, Row, machine, markdown
from tools.parts import INCOMPLETE

NAMES = ("signing", "challenge", "pull", "issuance", "overview")
_BEGIN, _END = "<!-- begin of the table -->", "<!-- end of the table -->"


def _show(rows: list[Row]) -> None:
    if not sys.stdout.isatty():
        print(markdown(rows))
        return
    table = Table(*COLUMNS)
    for row in rows:
        table.add_row(*row.cells(), style="red" if row.met is False else "")
    Console().print(table)


def _write(path: Path, rows: list[Row]) -> None:
    text = path.read_text()
    head, tail = text.partition(_BEGIN)[0], text.partition(_END)[2]
    when = f"{datetime.now(UTC):%Y-%m-%d}, {machine()}"
    path.write_text(f"{head}{_BEGIN}\n\n{when}:\n\n{markdown(rows)}\n\n{_END}{tail}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a short look; figures are rough")
    parser.add_argument("--write", type=Path, metavar="FILE", help="keep the table in FILE")
    parser.add_argument("names", nargs="*", choices=[[], *NAMES], help="default: all")
    options = parser.parse_args()
    rows: list[Row] = []
    left_out = []
    for name in options.names or NAMES:
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        try:
            rows += importlib.import_module(f"tests.bench.{name}").measure(quick=options.quick)
        except FileNotFoundError as error:
            left_out.append(f"{name}: {error.filename} is not installed")
    _show(rows)
    for line in left_out:
        print(f"NOT MEASURED {line}", file=sys.stderr)
    if options.write and not left_out:
        _write(options.write, rows)
    return INCOMPLETE if left_out else 0


if __name__ == "__main__":
    sys.exit(main())
