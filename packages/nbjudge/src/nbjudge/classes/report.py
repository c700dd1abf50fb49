"""The summary of a class in the terminal, and as an HTML page."""

from __future__ import annotations

import base64
import functools
import hashlib
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from nbjudge import graders
from nbjudge.classes.points import Grades
from nbjudge.classes.said import Shown
from nbjudge.classes.summary import Summary
from nbjudge.intake.recorded import recorder

HARDEST = 5


def for_terminal(summary: Summary) -> Shown:
    """Return what the terminal shows of a summary."""
    n = len(summary.scores)
    heading = (
        f"[bold]{summary.assignment}[/bold]: {n} graded, mean {summary.mean:.1f} of "
        f"{summary.maximum:g} points, {len(summary.flags)} flags, {len(summary.missing)} missing"
    )
    rows = [
        [item.name, f"{item.maximum:g}", f"{item.share * item.maximum:.1f}", f"{item.share:.0%}"]
        for item in summary.exercises.values()
    ]
    return Shown(heading, rows, _lists(summary))


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
        ("Need a manual look", [", ".join(summary.by_hand)] if summary.by_hand else []),
        ("Missing", [", ".join(summary.missing)] if summary.missing else []),
    ]


def to_html(summary: Summary, grades: Grades | None = None) -> str:
    """Return the summary as one HTML page that needs no other file.

    grades: for the table of learners, which the page's own script sorts and searches; the page's
    policy lets no other script run.
    """
    script = _script()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    found = {
        name: value
        for name in (grades.exercises if grades else ())
        if grades is not None and (value := grades.discrimination(name)) is not None
    }
    return (
        _templates()
        .get_template("report.html.j2")
        .render(
            summary=summary,
            spread=_spread(summary),
            hardest=summary.hardest[:HARDEST],
            questions=_questions(summary),
            grades=grades,
            columns=["learner", "all", *(grades.exercises if grades else ()), "flags"],
            learners=_learners(summary, grades) if grades else [],
            discrimination={name: f"{value:+.2f}" for name, value in found.items()},
            changed=[
                (name, *("–" if score is None else f"{score:g}" for score in scores))
                for name, scores in summary.changes.scores.items()
            ],
            late=[(name, _how_long(seconds)) for name, seconds in summary.late.items()],
            script=Markup(script),
            script_hash=digest,
            scores=[(name, f"{score:g}") for name, score in summary.scores.items()],
        )
    )


def _learners(summary: Summary, grades: Grades) -> list[dict[str, Any]]:
    """Return a line for each learner: points of the whole and of each exercise, flags, a link."""
    flags: dict[str, list[str]] = {}
    for student, code, _, _ in summary.flags:
        flags.setdefault(student, []).append(code)
    return [
        {
            "student": student,
            "link": f"../{quote(summary.graded_at.get(student) or _usual(summary, student))}/",
            "cells": [
                f"{points.get(student, 0.0):g}"
                for points in (grades.scores, *grades.exercises.values())
            ],
            "flags": ", ".join(dict.fromkeys(flags.get(student, []))),
        }
        for student in grades.scores
    ]


def _usual(summary: Summary, student: str) -> str:
    """Return where nbgrader puts graded notebooks by itself."""
    return f"autograded/{student}/{summary.assignment}"


def _how_long(seconds: float) -> str:
    minutes = round(seconds / 60)
    days, rest = divmod(minutes, 24 * 60)
    return f"{days} d {rest // 60} h {rest % 60} min" if days else f"{rest // 60} h {rest % 60} min"


@functools.cache
def _script() -> str:
    return resources.files("nbjudge.classes").joinpath("templates/report.js").read_text("utf-8")


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


def write_html(summary: Summary, folder: Path, grades: Grades | None = None) -> Path:
    """Write the page to `reports/<assignment>.html` in the course's folder; return its path.

    grades: as for `to_html`.
    """
    path = graders.folder(folder, "reports") / f"{summary.assignment}.html"
    graders.write(path, to_html(summary, grades), folder)
    return path
