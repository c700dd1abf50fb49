"""Fingerprints: what the solution and each known mistake do on the check's inputs, as data."""

from __future__ import annotations

import importlib.util
import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from nbformat import NotebookNode

from course_tools.build.lesson import (
    LessonError,
    grade_id,
    is_exercise,
    is_quiz,
    is_test,
    quiz_name,
    tested_exercise,
)
from llm_memory.check import scenario
from llm_memory.check.given import make
from llm_memory.check.recognise import GUARD, wrong_steps


def load_bank(folder: Path, lesson: str) -> Any:
    """Return the lesson's bank of mistakes from `tools/course_tools/mistakes/`.

    Raises `LessonError` where there is none.
    """
    path = folder / "tools" / "course_tools" / "mistakes" / f"{lesson}.py"
    if not path.is_file():
        raise LessonError(f"{lesson}: no bank of mistakes at {path}")
    return _load(path, f"mistakes_{lesson}").bank


def _load(path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def solved_namespace(notebook: NotebookNode, lesson: str) -> dict[str, Any]:
    """Return what the lesson's imports and solutions define, without running anything else."""
    space: dict[str, Any] = {"__name__": f"solved_{lesson}"}
    for cell in notebook.cells:
        if is_exercise(cell) or grade_id(cell) == "imports":
            try:
                exec(compile(cell.source, f"{lesson}, cell {cell.id}", "exec"), space)
            except Exception as error:
                raise LessonError(f"{lesson}, cell {cell.id}: {error!r}") from error
    return space


def compute(notebook: NotebookNode, lesson: str, bank: Any) -> dict:
    """Return the lesson's fingerprints; `LessonError` where one cannot tell what it should.

    A mistake that the check's inputs do not tell from the right answer must be marked
    `visible=False` in the bank, and is left to the hidden tests.
    """
    space = solved_namespace(notebook, lesson)
    names = [grade_id(cell) for cell in notebook.cells if is_exercise(cell)]
    if unknown := set(bank.exercises) - set(names):
        raise LessonError(f"{lesson}: the bank names exercises that are not there: {unknown}")
    points = dict.fromkeys(names, 0)
    for cell in filter(is_test, notebook.cells):
        points[tested_exercise(grade_id(cell), names)] += cell.metadata.nbgrader.points
    return {
        "lesson": lesson,
        "quizzes": {
            quiz_name(cell): cell.metadata.get("nbgrader", {}).get("points", 0)
            for cell in filter(is_quiz, notebook.cells)
        },
        "exercises": {
            name: {"points": points[name], **_of_exercise(name, space, bank, lesson)}
            for name in names
        },
    }


def _of_exercise(name: str, space: dict[str, Any], bank: Any, lesson: str) -> dict:
    if name not in space:
        raise LessonError(f"{lesson}, cell {name}: the solution defines no {name!r}")
    known = bank.exercises.get(name)
    if known is None or not known.steps:
        raise LessonError(f"{lesson}: the bank has no check inputs for {name!r}")
    steps = scenario.encode_steps(known.steps)
    for step in steps:
        if terms := known.terms.get(step.get("name", "call")):
            step["terms"] = terms
    right = _outcomes(space[name], steps)
    stored: dict = {"steps": steps, "right": right, "mistakes": []}
    for mistake in known.mistakes:
        outcomes = _outcomes(mistake.work, steps)
        told = bool(wrong_steps(stored, outcomes))
        if told != mistake.visible:
            does = "tells" if told else "does not tell"
            raise LessonError(
                f"{lesson}: the check of {name!r} {does} {mistake.name!r} from the right answer, "
                f"but the bank says visible={mistake.visible}"
            )
        if told:
            stored["mistakes"].append(
                {"name": mistake.name, "sentence": mistake.sentence, "outcomes": outcomes}
            )
    return stored


def _outcomes(work: Callable, steps: list[dict]) -> list[dict]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NaN and overflow are what some mistakes are about
        outcomes = scenario.run(work, steps, make)
    for outcome in outcomes:
        # Learners must not read where in the bank an exception was raised, only that it is a guard.
        if GUARD in outcome.pop("where", ""):
            outcome["meant"] = True
    return outcomes


def write(fingerprints: dict, path: Path) -> None:
    """Write fingerprints, one exercise's item a line, so that a change reads as a diff."""
    lines = []
    for name, stored in fingerprints["exercises"].items():
        mistakes = ",\n   ".join(json.dumps(m, ensure_ascii=False) for m in stored["mistakes"])
        lines.append(
            f' {json.dumps(name)}: {{\n  "points": {stored["points"]},\n'
            f'  "steps": {json.dumps(stored["steps"])},\n'
            f'  "right": {json.dumps(stored["right"], ensure_ascii=False)},\n'
            f'  "mistakes": [\n   {mistakes}\n  ]\n }}'
        )
    body = ",\n".join(lines)
    path.write_text(
        f'{{"lesson": {json.dumps(fingerprints["lesson"])},\n'
        f'"quizzes": {json.dumps(fingerprints["quizzes"])},\n"exercises": {{\n{body}\n}}}}\n',
        encoding="utf-8",
    )
