"""The summary of a class in the terminal, and as an HTML page with pictures."""

from __future__ import annotations

import base64
import functools
import io
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
    mistakes = [f"{count} × {name}" for name, count in summary.mistakes.most_common(HARDEST)]
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
            picture=_scores_picture(summary),
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
        first = summary.first.get(name, {})
        rows = [
            (f"{'✔ ' if id in question.right else ''}{text}", first.get(id, 0), chosen.get(id, 0))
            for id, text in question.options.items()
        ]
        found.append({"text": question.text, "rows": rows})
    return found


def _scores_picture(summary: Summary) -> dict[str, str]:
    """Return the picture as base64, and its text."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 2.6), layout="constrained")
    axes = figure.add_subplot()
    bins = [summary.maximum * edge / 10 for edge in range(11)]
    counts, _, patches = axes.hist(list(summary.scores.values()), bins=bins, edgecolor="white")
    axes.bar_label(patches, [f"{int(n)}" if n else "" for n in counts])
    axes.set(xlabel=f"points of {summary.maximum:g}", ylabel="learners", xlim=(0, summary.maximum))
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110, metadata={"Software": None})
    picture = base64.b64encode(file.getvalue()).decode()
    spread = ", ".join(
        f"{int(n)} from {low:g} to {high:g}"
        for n, low, high in zip(counts, bins, bins[1:], strict=False)
        if n
    )
    text = f"How many learners have how many points: {spread or 'nobody is graded yet'}."
    return {"alt": text, "data": picture}


def write_html(summary: Summary, folder: Path) -> Path:
    """Write the page to `reports/<assignment>.html` in the course's folder; return its path."""
    path = folder / "reports" / f"{summary.assignment}.html"
    path.parent.mkdir(exist_ok=True)
    path.write_text(to_html(summary), encoding="utf-8")
    return path
