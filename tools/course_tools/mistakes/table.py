"""What tests and checks make of the bank of mistakes: `make mistakes` writes docs/mistakes.md."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType
from typing import Any

from course_tools.build import course, fingerprints
from course_tools.build import lesson as reading
from course_tools.mistakes import drafts
from llm_memory.check import CheckFailed, check, exercises, scenario
from llm_memory.check.given import make
from llm_memory.check.recognise import outcome_difference

#: How the check treats a mistake: by its name, by another's, or as one that it does not know.
NAMED, MISNAMED, UNKNOWN = "named", "misnamed", "unknown"


@dataclass
class Row:
    """One exercise: how many mistakes are found and named, how many variants are accepted."""

    exercise: str
    graded: bool
    mistakes: int = 0
    visible: int = 0
    caught: int = 0
    named: int = 0
    drafts: int = 0
    variants: int = 0
    accepted: int = 0
    #: "whole" or "draft", the mistake, and what the check made of it
    others: list[tuple[str, str, str]] = field(default_factory=list)


def rows(root: Path, lessons: list[str]) -> Iterator[Row]:
    """Yield the row of every exercise; the stored fingerprints must be those of the bank."""
    for lesson in lessons:
        notebook = reading.read(root / "notebooks" / f"{lesson}.md", root)
        path = root / "tools" / "course_tools" / "mistakes" / f"{lesson}.py"
        bank, unguarded = fingerprints.load_bank(root, lesson), drafts.load(path).bank
        for exercise, known in bank.exercises.items():
            tests = hidden_tests(notebook, exercise)
            row = Row(exercise, bool(tests))
            works = {m.name: m.work for m in unguarded.exercises[exercise].mistakes}
            guards = guards_of(exercise, works)
            for mistake in known.mistakes:
                row.mistakes += 1
                row.caught += any(fails(test, exercise, mistake.work) for test in tests)
                if not mistake.visible:
                    continue
                row.visible += 1
                for kind, work in (("whole", mistake.work), ("draft", works[mistake.name])):
                    said = judged(exercise, mistake, work, guards if kind == "draft" else set())
                    if said != NAMED:
                        row.others.append((kind, mistake.name, said))
                    row.named += kind == "whole" and said == NAMED
                    row.drafts += kind == "draft" and said == NAMED
            for variant in known.variants:
                row.variants += 1
                row.accepted += accepts(exercise, variant) and not any(
                    fails(test, exercise, variant) for test in tests
                )
            yield row


def hidden_tests(notebook: Any, exercise: str) -> list[CodeType]:
    """Return an exercise's test cells as code."""
    names = [reading.grade_id(cell) for cell in notebook.cells if reading.is_exercise(cell)]
    return [
        compile(cell.source, cell.id, "exec")
        for cell in notebook.cells
        if reading.is_test(cell) and reading.tested_exercise(cell.id, names) == exercise
    ]


def fails(test: CodeType, exercise: str, work: Callable) -> bool:
    """Tell whether a test cell fails, without its visible check."""
    with _quiet():
        try:
            exec(test, {exercise: work, "check": lambda *_, **__: None})
        except Exception:
            return True
    return False


def accepts(exercise: str, work: Callable) -> bool:
    """Tell whether the visible check says right, hard cases too."""
    with _quiet():
        try:
            check(work, exercise, hard=True)
        except CheckFailed:
            return False
    return True


def judged(exercise: str, mistake: Any, work: Callable, guards: set[str]) -> str:
    """Return how the check treats a mistake; `guards` are sentences that a draft may hear, too."""
    sentences = {m["name"]: m["sentence"] for m in exercises()[exercise]["mistakes"]}
    with _quiet():
        try:
            check(work, exercise, hard=True)
        except CheckFailed as error:
            said = {sentences[name] for name in error.mistakes}
        else:
            said = set()
        if guards and only_about_guards(exercise, work):
            return NAMED if said and said <= guards else MISNAMED if said - guards else UNKNOWN
    if said - guards - {mistake.sentence}:
        return MISNAMED
    return NAMED if mistake.sentence in said else UNKNOWN


def guards_of(exercise: str, works: dict[str, Callable]) -> set[str]:
    """Return the sentences of the mistakes that are about guards only: right work but for them."""
    with _quiet():
        return {
            m["sentence"]
            for m in exercises()[exercise]["mistakes"]
            if only_about_guards(exercise, works[m["name"]])
        }


def only_about_guards(exercise: str, draft: Callable) -> bool:
    """Tell whether a draft, which has no guards, is right wherever no error is asked for."""
    stored, spoilt = exercises()[exercise], False
    outcomes = scenario.run(draft, stored["steps"], make)
    for right, came, step in zip(stored["right"], outcomes, stored["steps"], strict=True):
        # What an error should have prevented is in the object from then on.
        spoilt = (spoilt and step["step"] != "call") or "raises" in right
        if not spoilt and outcome_difference(right, came, step):
            return False
    return True


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def page(found: list[Row]) -> str:
    """Return the table for docs/."""
    total = Row("all", True)
    for row in found:
        for name in ("mistakes", "visible", "named", "drafts", "variants", "accepted"):
            setattr(total, name, getattr(total, name) + getattr(row, name))
    graded = [row for row in found if row.graded]
    caught, asked = sum(r.caught for r in graded), sum(r.mistakes for r in graded)
    misnamed = sum(said == MISNAMED for row in found for *_, said in row.others)
    lines = [
        "# The bank of mistakes",
        "",
        "Written by `make mistakes`. Each mistake is one misunderstanding with all else right. It",
        "meets the hidden tests alone, then the visible check; then once more as a first draft,",
        "without any of the `ValueError` guards. A variant is another way to be right.",
        "",
        f"- Hidden tests catch {caught} of {asked} mistakes (optional exercises have none).",
        f"- The check names {total.named} of {total.visible} rightly"
        f" ({total.named / total.visible:.1%}), as first drafts {total.drafts}"
        f" ({total.drafts / total.visible:.1%}); it gives {misnamed} another's name.",
        f"- Both accept {total.accepted} of {total.variants} variants.",
        f"- {total.mistakes - total.visible} mistakes are left to the hidden tests: the check's",
        "  small inputs cannot tell them.",
        "",
        "| exercise | mistakes | caught by hidden tests | named | named as first drafts "
        "| variants | accepted |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for r in found:
        of = f"of {r.visible}"
        cells = (
            f"`{r.exercise}`", r.mistakes, r.caught if r.graded else "–", f"{r.named} {of}",
            f"{r.drafts} {of}", r.variants, r.accepted,
        )  # fmt: skip
        lines.append(f"| {' | '.join(map(str, cells))} |")
    rest = [(row.exercise, *other) for row in found for other in row.others]
    if rest:
        lines += ["", "Not named rightly:", ""]
        lines += [
            f"- `{name}` ({kind}): {said}, `{exercise}`" for exercise, kind, name, said in rest
        ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write the table; return 1 where a mistake is caught by nothing or a variant is refused."""
    root = course.root()
    found = list(rows(root, list(course.LESSONS)))
    (root / "docs" / "mistakes.md").write_text(page(found), "utf-8")
    for row in found:
        for kind, name, said in row.others:
            print(f"{row.exercise}: {name} ({kind}): {said}")
    missed = [row.exercise for row in found if row.graded and row.caught < row.mistakes]
    refused = [row.exercise for row in found if row.accepted < row.variants]
    for what, names in (("a mistake is not caught", missed), ("a variant is refused", refused)):
        for name in names:
            print(f"{name}: {what}")
    return int(bool(missed or refused))


if __name__ == "__main__":
    sys.exit(main())
