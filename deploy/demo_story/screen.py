"""What the demo shows: steps with a spinner on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.rule import Rule
from rich.table import Table


class Screen:
    def __init__(self) -> None:
        self.console = Console(highlight=False, soft_wrap=True)
        self._begin = time.monotonic()

    def chapter(self, title: str) -> None:
        self.console.print()
        if self.console.is_terminal:
            self.console.print(Rule(f"[bold]{title}", align="left"))
        else:
            self.console.print(f"== {title}")

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Show that something is being done, then that it was done and how long it took."""
        begin = time.monotonic()
        if self.console.is_terminal:
            with self.console.status(text):
                yield
        else:
            yield
        self.console.print(f"[green]✓[/] {text} [dim]({time.monotonic() - begin:.1f} s)[/]")

    def note(self, text: str) -> None:
        self.console.print(f"  [dim]{text}[/]")

    def failed(self, text: str) -> None:
        self.console.print("[bold red]✗ The demo failed.[/]")
        self.console.print(text, markup=False)

    def table(self, *columns: str, rows: list[tuple[str, ...]]) -> None:
        if not self.console.is_terminal:
            for row in rows:
                self.console.print("  " + "  ".join(row))
            return
        table = Table(*columns, box=None, pad_edge=True, header_style="dim")
        for row in rows:
            table.add_row(*row)
        self.console.print(table)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._begin
