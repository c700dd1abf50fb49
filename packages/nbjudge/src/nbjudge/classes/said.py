"""What a summary says in the terminal, as plain data: it can be kept, and said again."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Shown:
    """A summary's heading (with rich's marks), its table, and lists under their titles.

    rows: exercise or quiz, points, mean, share.
    """

    heading: str
    rows: list[list[str]]
    lists: list[tuple[str, list[str]]]


def show(shown: Shown, console: Console) -> None:
    """Print a summary: scores by exercise, then each list that is not empty."""
    console.print(shown.heading)
    table = Table("exercise or quiz", "points", "mean", "share", box=None)
    for row in shown.rows:
        table.add_row(*row)
    console.print(table)
    for title, lines in shown.lists:
        if lines:
            console.print(f"[bold]{title}[/bold]")
            for line in lines:
                console.print(f"  {line}", markup=False, highlight=False)
