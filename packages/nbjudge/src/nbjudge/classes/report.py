"""The summary of a class in the terminal, and as an HTML page with pictures."""

from __future__ import annotations

import base64
import io
from html import escape
from pathlib import Path

from rich.console import Console
from rich.table import Table

from llm_memory.quiz import BANK
from nbjudge.classes.summary import Item, Summary

HARDEST = 5


def to_terminal(summary: Summary, console: Console) -> None:
    """Print the summary: scores by exercise, the hardest cells, mistakes, flags, who is missing."""
    n = len(summary.scores)
    mean = sum(summary.scores.values()) / n if n else 0
    console.print(
        f"[bold]{summary.assignment}[/bold]: {n} graded, mean {mean:.1f} of {summary.maximum:g} "
        f"points, {len(summary.flags)} flags, {len(summary.missing)} missing"
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
    parts = [f"<h1>{escape(summary.assignment)}</h1>", _head(summary), _scores_picture(summary)]
    parts += ["<h2>Scores by exercise and quiz</h2>", _bars(list(summary.exercises.values()))]
    parts += ["<h2>The hardest test cells</h2>", _bars(summary.hardest[:HARDEST])]
    if summary.mistakes:
        rows = [[name, str(count)] for name, count in summary.mistakes.most_common()]
        parts += ["<h2>The mistakes made most</h2>", _table(["mistake", "times"], rows)]
    parts += ["<h2>Quiz answers</h2>", *(_quiz(summary, name) for name in summary.chosen)]
    parts += [
        "<h2>Flags</h2>",
        _table(["learner", "code", "cell", "what"], [list(flag) for flag in summary.flags]),
        "<h2>Missing</h2>",
        f"<p>{escape(', '.join(summary.missing) or 'nobody')}</p>",
        "<h2>Scores</h2>",
        _table(
            ["learner", f"of {summary.maximum:g}"],
            [[name, f"{score:g}"] for name, score in summary.scores.items()],
        ),
    ]
    style = (
        "body{font:16px/1.5 sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
        "table{border-collapse:collapse}td,th{padding:.2rem .8rem .2rem 0;text-align:left}"
        ".bar{display:inline-block;height:.8em;background:#3b6ea8}"
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">"
        f"<title>{escape(summary.assignment)}</title><style>{style}</style>{''.join(parts)}</html>"
    )


def _head(summary: Summary) -> str:
    n = len(summary.scores)
    mean = sum(summary.scores.values()) / n if n else 0
    return (
        f"<p>{n} graded, mean {mean:.1f} of {summary.maximum:g} points, "
        f"{len(summary.flags)} flags, {len(summary.missing)} missing.</p>"
    )


def _scores_picture(summary: Summary) -> str:
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
    return f'<p><img alt="{escape(text)}" src="data:image/png;base64,{picture}"></p>'


def _bars(items: list[Item]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(item.name)}</code></td><td>{item.share:.0%}</td>"
        f'<td><span class="bar" style="width:{item.share * 16:.2f}rem"></span></td>'
        f"<td>{item.share * item.maximum:.1f} of {item.maximum:g}</td></tr>"
        for item in items
    )
    return (
        "<table><tr><th>what</th><th>share</th><th></th><th>mean points</th></tr>"
        + rows
        + "</table>"
    )


def _quiz(summary: Summary, name: str) -> str:
    quiz = BANK[name]
    rows = [
        [
            f"{'✔ ' if option.correct else ''}{option.text}",
            str(summary.first.get(name, {}).get(option.id, 0)),
            str(summary.chosen[name].get(option.id, 0)),
        ]
        for option in quiz.options
    ]
    table = _table(["option", "first answers", "at the end"], rows)
    return f"<h3>{escape(quiz.question)}</h3>{table}"


def _table(head: list[str], rows: list[list[str]]) -> str:
    if not rows:
        return "<p>none</p>"
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><tr>{top}</tr>{body}</table>"


def write_html(summary: Summary, folder: Path) -> Path:
    """Write the page to `reports/<assignment>.html` in the course's folder; return its path."""
    path = folder / "reports" / f"{summary.assignment}.html"
    path.parent.mkdir(exist_ok=True)
    path.write_text(to_html(summary), encoding="utf-8")
    return path
