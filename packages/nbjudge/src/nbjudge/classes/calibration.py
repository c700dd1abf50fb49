"""Which test cells the judge can check: an assignment is graded both ways before anybody is.

The solved source and the stub that learners are given are graded by the judge, and as nbgrader
would (every cell in one kernel, in order). If both ways give the same scores, the test cell is
checked outside. If only the way inside gives the solved source its points, it is run there. If
neither does, a teacher grades it. A teacher's tag (`judge-outside`, `judge-inside`,
`judge-manual`) has the last word. The outcome is kept in the course's `.nbjudge` folder with a
digest of all that it depends on, and made anew where that has changed.
"""

from __future__ import annotations

import copy
import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from logging import Logger, getLogger
from pathlib import Path
from typing import Any

from nbformat import NotebookNode
from nbgrader.api import Gradebook, MissingEntry
from nbgrader.converters.base import NbGraderException
from nbgrader.coursedir import CourseDirectory
from nbgrader.utils import determine_grade, find_all_files, is_grade, is_solution, setenv
from rich.console import Console
from rich.table import Table
from rich.text import Text
from traitlets.config import Config

from nbjudge import graders, settings
from nbjudge.classes.temporary import folder_for_submissions
from nbjudge.codes import INSIDE, KEY, MANUAL, OUTSIDE, OWN_FOLDER, by_hand, forced_mode, own
from nbjudge.intake import rebuild
from nbjudge.intake.recorded import recorder
from nbjudge.run.execution import SandboxedExecute, is_test
from nbjudge.run.judge_client import ENVIRONMENT
from nbjudge.run.judged import COURSE_FOLDER, JudgedExecute

__all__ = ["Calibration", "Tested", "apply", "calibrate", "report", "stored", "table"]

#: Version of the stored form. An outcome of another version is made anew.
_VERSION = 3


@dataclass(frozen=True)
class Tested:
    """What calibration found about one test cell.

    mode: how it is graded (of `codes.MODES`), and why, unless it is by the judge.
    The scores are of the solved source and of the stub, by the judge and inside: None where the
    judge could not say, or where inside had nothing to add.
    warning: what the course should look at, or "".
    """

    mode: str
    why: str = ""
    warning: str = ""
    points: float = 0.0
    solved_outside: float | None = None
    solved_inside: float | None = None
    stub_outside: float | None = None
    stub_inside: float | None = None


@dataclass
class Calibration:
    """The outcome for an assignment: by notebook its digest, and its test cells by grade_id."""

    assignment: str
    digests: dict[str, str] = field(default_factory=dict)
    notebooks: dict[str, dict[str, Tested]] = field(default_factory=dict)

    @property
    def warnings(self) -> list[str]:
        """What the course should look at, a sentence each."""
        return [
            f"{name}: {found.warning}"
            for notebook in self.notebooks.values()
            for name, found in notebook.items()
            if found.warning
        ]

    def count(self, mode: str) -> int:
        """Return how many test cells have a mode."""
        return sum(t.mode == mode for cells in self.notebooks.values() for t in cells.values())


# -- kept with the assignment ---------------------------------------------------------------


def stored(course: CourseDirectory, assignment: str) -> Calibration:
    """Return what is kept of an assignment; an empty outcome if nothing readable is kept."""
    found = Calibration(assignment)
    try:
        data = json.loads(_path(course, assignment).read_text(encoding="utf-8"))
        if data["version"] == _VERSION:
            for name, notebook in data["notebooks"].items():
                found.notebooks[name] = {k: Tested(**t) for k, t in notebook["cells"].items()}
                found.digests[name] = notebook["digest"]
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return Calibration(assignment)
    return found


def store(course: CourseDirectory, found: Calibration) -> None:
    """Keep an outcome. Raises OSError where the folder cannot be written."""
    data = {
        "version": _VERSION,
        "notebooks": {
            name: {
                "digest": found.digests[name],
                "cells": {grade_id: asdict(tested) for grade_id, tested in cells.items()},
            }
            for name, cells in sorted(found.notebooks.items())
        },
    }
    path = _path(course, found.assignment)
    graders.folder(course.root, OWN_FOLDER)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{found.assignment}-")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(data, file, indent=1)
        # Another grader of the same course reads it, too.
        os.chmod(temporary, graders.file_mode(course.root))
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def _path(course: CourseDirectory, assignment: str) -> Path:
    return Path(course.root, OWN_FOLDER, f"{assignment}.json")


# -- what an outcome depends on -------------------------------------------------------------


@dataclass(frozen=True)
class _Material:
    """A notebook of an assignment as it is calibrated, and the files beside it."""

    stub: NotebookNode
    solved: NotebookNode
    files: dict[str, str]
    #: What the judge is told of the course's own code, as it is for a submission.
    common: dict[str, list[str]]

    @property
    def digest(self) -> str:
        cells = [
            [
                (c.cell_type, c.source, c.metadata.get("tags", []), _grading(c))
                for c in notebook.cells
            ]
            for notebook in (self.stub, self.solved)
        ]
        files = [(name, *_content(path)) for name, path in sorted(self.files.items())]
        kernel = self.stub.metadata.get("kernelspec", {}).get("name")
        data = json.dumps([_VERSION, _engine(), kernel, cells, files], sort_keys=True)
        return hashlib.sha256(data.encode("utf-8", "surrogatepass")).hexdigest()


def _grading(cell: NotebookNode) -> dict[str, Any]:
    about = cell.metadata.get("nbgrader", {})
    return {key: about.get(key) for key in ("grade_id", "grade", "solution", "locked", "points")}


@lru_cache(maxsize=1)
def _engine() -> str:
    try:
        return importlib.metadata.version("nbjudge")
    except importlib.metadata.PackageNotFoundError:
        return ""


def _content(path: str) -> tuple[str]:
    state = os.stat(path)
    return (_digest_of(path, state.st_mtime_ns, state.st_size),)


@lru_cache(maxsize=1024)
def _digest_of(path: str, changed: int, size: int) -> str:
    """Digest a file of the course once for each state of it."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _material(
    course: CourseDirectory, assignment: str, name: str, lesson: rebuild.Lesson
) -> _Material:
    folder = _source(course, assignment)
    path = folder / f"{name}.ipynb"
    state = os.stat(path)
    source = rebuild._read_source(str(path), state.st_mtime_ns, state.st_size)
    by_name = {_grading(cell)["grade_id"]: cell for cell in source.cells}
    solved = copy.deepcopy(lesson.notebook)
    aligned = len(solved.cells) == len(source.cells)
    for index, cell in enumerate(solved.cells):
        grade_id = _grading(cell)["grade_id"]
        if is_solution(cell) and grade_id in by_name:
            cell.source = by_name[grade_id].source
        elif grade_id is None and aligned:
            cell.source = source.cells[index].source
    files = {
        os.path.relpath(found, folder): found
        for found in find_all_files(str(folder), [*course.ignore, "*.ipynb"])
    }
    return _Material(lesson.notebook, solved, files, lesson.common)


def _source(course: CourseDirectory, assignment: str) -> Path:
    return Path(course.format_path(course.source_directory, ".", assignment))


# -- grading both ways ----------------------------------------------------------------------


class _AsNbgrader(SandboxedExecute):
    """Runs every cell in the one kernel, as nbgrader does; recorded questions are not run."""

    def _is_run(self, cell: NotebookNode) -> bool:
        return recorder().question_of(cell) is None and super()._is_run(cell)


class _Outside(JudgedExecute):
    """The judge alone, whatever a cell's mode is."""

    def _mode_of(self, cell: NotebookNode) -> str | None:
        return None


@dataclass(frozen=True)
class _Graded:
    """What a test cell got: its score (None: not for this way to say), and its error's name."""

    score: float | None
    error: str = ""
    says: str = ""


def _grade(
    kind: type[SandboxedExecute], notebook: NotebookNode, material: _Material, config: Config
) -> dict[str, _Graded]:
    """Grade a notebook in one way; returns what each test cell got, by grade_id."""
    with folder_for_submissions() as folder, folder_for_submissions() as course_folder:
        for name, path in material.files.items():
            for place in (folder, course_folder):
                copied = place / name
                copied.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copied)
        execute = kind(config=config)
        if isinstance(execute, JudgedExecute):
            execute.inside = False
        resources = {"metadata": {"path": str(folder)}, COURSE_FOLDER: str(course_folder)}
        notebook = copy.deepcopy(notebook)
        notebook.metadata[KEY] = NotebookNode(copy.deepcopy(material.common))
        graded, _ = execute.preprocess(notebook, resources)
    unchecked = by_hand(graded)
    found = {}
    for cell in graded.cells:
        if not is_test(cell) or not execute._is_run(cell):
            continue
        grade_id = cell.metadata.nbgrader.grade_id
        errors = [output for output in cell.outputs if output.output_type == "error"]
        if grade_id in unchecked:
            found[grade_id] = _Graded(None, says=unchecked[grade_id])
        elif errors:
            said = f"{errors[0].ename}: {errors[0].evalue}"
            found[grade_id] = _Graded(0.0, errors[0].ename, said)
        else:
            found[grade_id] = _Graded(_points(cell))
    return found


def _points(cell: NotebookNode) -> float:
    try:
        return float(determine_grade(cell)[0])
    except ValueError:  # more than the cell's points, at which nbgrader stops
        return float("inf")


def _decide(
    cell: NotebookNode,
    solved: tuple[_Graded, _Graded | None],
    stub: tuple[_Graded, _Graded],
) -> Tested:
    """Choose the mode of a test cell from what each way gave it: (outside, inside)."""
    points = float(cell.metadata.nbgrader.points)
    outside, inside = solved[0], solved[1] or solved[0]
    agree = outside.score == inside.score and stub[0].score == stub[1].score
    mode, why, warning = forced_mode(cell), "the course asks for it", ""
    if mode is None and agree and (_is_full(outside, points) or outside.error == inside.error):
        mode, why = OUTSIDE, _learners_word(cell.source)
    elif mode is None and _is_full(inside, points):
        mode = INSIDE
        why = (
            "the judge gives it points without a solution"
            if _is_full(outside, points) and stub[0].score
            else "the judge fails it without a solution, nbgrader does not"
            if _is_full(outside, points)
            else outside.says or f"the judge gives it {outside.score} of {points:g} points"
        )
    elif mode is None:
        mode = MANUAL
        why = f"the course's own solution does not pass it: {inside.says or outside.says}"
    counted, bare = (outside, stub[0]) if mode == OUTSIDE else (inside, stub[1])
    if not _is_full(counted, points):
        score = "no score" if counted.score is None else f"{counted.score:g} of {points:g} points"
        warning = f"the course's own solution gets {score}. {counted.says}".strip()
    elif points and bare.score:
        part = "passes" if _is_full(bare, points) else f"gets {bare.score:g} of {points:g} points"
        warning = f"{part} without a solution"
    return Tested(
        mode,
        _short(why),
        _short(warning),
        points,
        outside.score,
        solved[1].score if solved[1] else None,
        stub[0].score,
        stub[1].score,
    )


#: What a learner's process says of its own code: nothing else can say it.
_OWN_WORD = re.compile(r"\b(getsource(?:lines)?|getcomments|__code__|co_names|co_consts)\b")


def _learners_word(source: str) -> str:
    """Return what a teacher is told of a test that asks the learner's code about itself, or ""."""
    asked = sorted(set(_OWN_WORD.findall(source)))
    if not asked:
        return ""
    return f"not protected: {', '.join(asked)} is answered by the learner's own process"


def _is_full(graded: _Graded, points: float) -> bool:
    return graded.score is not None and graded.score >= points


def _short(text: str, most: int = 300) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _calibrate_notebook(material: _Material, config: Config) -> dict[str, Tested]:
    """Grade a notebook's solved source and its stub both ways, side by side."""
    tests = {c.metadata.nbgrader.grade_id: c for c in material.stub.cells if is_test(c)}
    if not tests:
        return {}
    with (
        ThreadPoolExecutor(max_workers=min(3, os.cpu_count() or 1)) as pool,
        setenv(**ENVIRONMENT),
    ):

        def grade(
            kind: type[SandboxedExecute], notebook: NotebookNode
        ) -> Future[dict[str, _Graded]]:
            return pool.submit(_grade, kind, notebook, material, config)

        work = grade(_Outside, material.solved)
        stubs = grade(_AsNbgrader, material.stub), grade(_Outside, material.stub)
        solved, stock_stub, stub = (w.result() for w in (work, *stubs))
        # Where the judge has no doubt, nbgrader's own way has nothing to add.
        certain = all(
            _is_full(graded, float(tests[name].metadata.nbgrader.points))
            and stub[name].score == stock_stub[name].score
            and forced_mode(tests[name]) is None
            for name, graded in solved.items()
        )
        stock = {} if certain else grade(_AsNbgrader, material.solved).result()
    return {
        name: _decide(tests[name], (solved[name], stock.get(name)), (stub[name], stock_stub[name]))
        for name in tests
        if name in solved
    }


def calibrate(
    course: CourseDirectory,
    assignment: str,
    config: Config,
    lessons: dict[str, rebuild.Lesson] | None = None,
    *,
    anew: bool = True,
    log: Logger | None = None,
) -> Calibration:
    """Return how each test cell of a released assignment is graded, and keep it.

    lessons: its notebooks as graded, where they are loaded already. anew: whether to grade what is
    known and has not changed, too.
    Raises `rebuild.CourseError` where the assignment is not ready, and what the fork server and
    the kernels raise where nothing can be run.
    """
    log = log or getLogger(__name__)
    settings.apply(config)
    lessons = _lessons(course, assignment, config) if lessons is None else lessons
    before = stored(course, assignment)
    found = Calibration(assignment)
    fresh = False
    for name, lesson in sorted(lessons.items()):
        material = _material(course, assignment, name, lesson)
        digest = material.digest
        known = not anew and before.digests.get(name) == digest
        fresh |= not known
        if not known:
            log.info(
                "Finding out how each test of %s is checked: its solution and its stub are graded "
                "both ways, which takes as long as four hand-ins.",
                name,
            )
        found.digests[name] = digest
        found.notebooks[name] = (
            before.notebooks[name] if known else _calibrate_notebook(material, config)
        )
    if fresh:
        try:
            # What another notebook of the assignment has is still right.
            kept = {n: c for n, c in before.notebooks.items() if n not in found.notebooks}
            digests = {n: before.digests[n] for n in kept}
            store(
                course,
                Calibration(assignment, digests | found.digests, kept | found.notebooks),
            )
        except OSError as error:
            log.warning("What calibration found of %s could not be kept: %s", assignment, error)
    return found


def _lessons(course: CourseDirectory, assignment: str, config: Config) -> dict[str, rebuild.Lesson]:
    with Gradebook(course.db_url, course.course_id) as gradebook:
        try:
            names = sorted(nb.name for nb in gradebook.find_assignment(assignment).notebooks)
        except MissingEntry:
            names = []
    if not names:
        raise rebuild.CourseError(
            f"{assignment} was never released. Run `nbgrader generate_assignment {assignment}`."
        )
    folder = _source(course, assignment)
    return {
        name: rebuild.load_lesson(folder / f"{name}.ipynb", name, assignment, course.db_url, config)
        for name in names
    }


def apply(
    course: CourseDirectory,
    assignment: str,
    lessons: dict[str, rebuild.Lesson],
    config: Config,
    log: Logger,
) -> None:
    """Write into each test cell of `lessons` how it is graded; calibrates what is not known.

    Raises as `calibrate`.
    """
    found = calibrate(course, assignment, config, lessons, anew=False, log=log)
    for name, lesson in lessons.items():
        for cell in lesson.notebook.cells:
            tested = found.notebooks[name].get(_grading(cell)["grade_id"])
            if tested is not None and is_grade(cell):
                own(cell).mode = tested.mode
                if tested.mode != OUTSIDE:
                    own(cell).why = tested.why


# -- what is printed ------------------------------------------------------------------------


def table(found: Calibration) -> Table:
    """Return what was found, a line for each test cell."""
    shown = Table(title=Text(f"How the test cells of {found.assignment} are checked"))
    for heading in ("Test cell", "Checked", "Points"):
        shown.add_column(
            heading, justify="right" if heading == "Points" else "left", overflow="fold"
        )
    for heading in ("Solved", "inside", "Stub", "inside"):
        shown.add_column(heading, justify="right")
    shown.add_column("Why", overflow="fold")
    for notebook, cells in found.notebooks.items():
        for grade_id, tested in cells.items():
            name = grade_id if len(found.notebooks) == 1 else f"{notebook}: {grade_id}"
            said = [tested.why] if tested.why else []
            said += [f"! {tested.warning}"] if tested.warning else []
            scores = [
                "–" if score is None else f"{score:g}"
                for score in (
                    tested.solved_outside,
                    tested.solved_inside,
                    tested.stub_outside,
                    tested.stub_inside,
                )
            ]
            # Text: a course's own words are no markup.
            row = [name, tested.mode, f"{tested.points:g}", *scores, "\n".join(said)]
            shown.add_row(*map(Text, row))
    return shown


def report(found: Calibration, say: Callable[[Any], None]) -> None:
    """Print what was found, by `say`."""
    say(table(found))
    for warning in found.warnings:
        say(Text(f"! {warning}"))


def verify(course: CourseDirectory, assignments: Iterable[str], config: Config) -> int:
    """Calibrate assignments anew and print what was found; returns a command's exit status.

    1 where the course has something to look at, 0 where all is as it should be.
    """
    say, status = Console().print, 0
    for assignment in assignments:
        try:
            found = calibrate(course, assignment, config)
        except (rebuild.CourseError, NbGraderException, RuntimeError) as error:
            say(Text(str(error)))
            status = 1
            continue
        report(found, say)
        status |= bool(found.warnings)
    return status
