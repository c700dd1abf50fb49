"""The summary of a class in the terminal, and as an HTML page."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader
from rich.console import Console
from rich.table import Table

from nbjudge.classes.summary import Summary
from nbjudge.intake.recorded import recorder

HARDEST = 5


def to_terminal(summary: Summary, console: Console) -> None:
    """Print the summary: scores by exercise, the hardest cells, mistakes, flags, who is missing."""
    n = len(summary.scores)
    console.print(
        f"[bold]{summary.assignment}[/bold]: {n} graded, mean {summary.mean:.1f} of "
        f"{summary.maximum:g} points, {len(summary.flags)} flags, {len(summary.missing)} missing"
    )
    table = Table("exercise or quiz", "points", "mean", "share", box=None)
    for item in summary.exercises.values():
        mean = item.share * item.maximum
        table.add_row(item.name, f"{item.maximum:g}", f"{mean:.1f}", f"{item.share:.0%}")
    console.print(table)
    for title, lines in _lists(summary):
        if lines:
            console.print(f"[bold]{title}[/bold]")
            for line in lines:
                console.print(f"  {line}", markup=False, highlight=False)


def _lists(summary: Summary) -> list[tuple[str, list[str]]]:
    hardest = [
        f"{item.name}: {item.share:.0%} of the points"
        for item in summary.hardest[:HARDEST]
        if item.share < 1
    ]
    mistakes = [
        f"{name}: {count} learner{'s' if count > 1 else ''}"
        for name, count in summary.mistakes.most_common(HARDEST)
    ]
    flags = [
        f"{student}: {code} {cell}".rstrip() + f" – {sentence}"
        for student, code, cell, sentence in summary.flags
    ]
    return [
        ("The hardest test cells", hardest),
        ("The mistakes made most", mistakes),
        ("Flags", flags),
        ("Missing", [", ".join(summary.missing)] if summary.missing else []),
    ]


def to_html(summary: Summary) -> str:
    """Return the summary as one HTML page that needs no other file and runs no script."""
    return (
        _templates()
        .get_template("report.html.j2")
        .render(
            summary=summary,
            spread=_spread(summary),
            hardest=summary.hardest[:HARDEST],
            questions=_questions(summary),
            scores=[(name, f"{score:g}") for name, score in summary.scores.items()],
        )
    )


@functools.cache
def _templates() -> Environment:
    # Names and answers are learners' text: whatever a template shows is escaped.
    return Environment(loader=PackageLoader("nbjudge.classes"), autoescape=True, trim_blocks=True)


def _questions(summary: Summary) -> list[dict[str, Any]]:
    asked = recorder().questions()
    found = []
    for name, chosen in summary.chosen.items():
        question = asked.get(name)
        if question is None:  # of another release of the course
            continue
        first = summary.first[name]
        rows = [
            (f"{'✔ ' if id in question.right else ''}{text}", first.get(id, 0), chosen.get(id, 0))
            for id, text in question.options.items()
        ]
        found.append({"text": question.text, "rows": rows})
    return found


def _spread(summary: Summary) -> list[tuple[str, int]]:
    """Return how many learners have how many points: (range of points, learners), ten of them."""
    counts = [0] * 10
    for score in summary.scores.values():
        share = score / summary.maximum if summary.maximum else 0.0
        counts[min(9, max(0, int(share * 10)))] += 1
    edges = [summary.maximum * edge / 10 for edge in range(11)]
    return [
        (f"{low:g} to {high:g}", count)
        for low, high, count in zip(edges, edges[1:], counts, strict=False)
    ]


def write_html(summary: Summary, folder: Path) -> Path:
    """Write the page to `reports/<assignment>.html` in the course's folder; return its path."""
    path = folder / "reports" / f"{summary.assignment}.html"
    path.parent.mkdir(exist_ok=True)
    path.write_text(to_html(summary), encoding="utf-8")
    return path
