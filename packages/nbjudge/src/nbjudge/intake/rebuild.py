"""Rebuild a submitted notebook from the course's own, before anything in it is run.

Cells, their order, types, tags, metadata and points come from `source/`, checked against the
gradebook. From the submission come only the learner's solution cells and the cells that they
added, in their place between their neighbours. The rules:

- A solution cell is found by its grade_id; else by its cell id; else, if no cell has either, by
  the name that it defines (`recovered`). If there is none, the released stub stands there
  (`missing`).
- An exercise whose cell is not there is solved by another cell of the lesson in which the learner
  wrote it, because they merged two, say (`merged`).
- If a cell was copied, the last copy above its first test counts; if all stand below it, the
  first. Untouched stubs do not count. The other copies are run in their place (`duplicate`).
- Locked cells come from the course, whether edited (`tampered`) or deleted (`restored`).
- A reading cell that the learner edited counts as a cell that they added: code in the place of
  the original, text below it. A cell that only shows is still not run, unless it now binds a
  name that it did not bind before.
- Outputs, tags, attachments and kernel of the submission are dropped; what stands out in them is
  flagged (`copied`, `retagged`, and the remarks in `submission`).
"""

from __future__ import annotations

import ast
import contextlib
import copy
import functools
import json
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell
from nbgrader import nbgraderformat
from nbgrader.api import Gradebook, MissingEntry
from nbgrader.nbgraderformat import SchemaTooNewError, SchemaTooOldError
from nbgrader.preprocessors import (
    ClearHiddenTests,
    ClearMarkScheme,
    ClearSolutions,
    IncludeHeaderFooter,
    LockCells,
    NbGraderPreprocessor,
)
from nbgrader.utils import is_grade, is_locked, is_solution, is_task
from traitlets.config import Config

from nbjudge.codes import KEY, NOT_HANDED_IN, Flag, record
from nbjudge.intake.choice import Content
from nbjudge.intake.forbidden import on_exercises
from nbjudge.intake.given import Given, plain
from nbjudge.intake.notebook import Submission, answer_flags, language_of
from nbjudge.intake.recorded import answer_files, recorder
from nbjudge.intake.remarks import on_code
from nbjudge.names import import_statements, parsed, rebound_names, shared_names
from nbjudge.wire import course
from nbjudge.wire.given import set_by

#: The tag of cells that grading does not run.
SHOW = "show"
_NOT_RUN = {SHOW, "skip-execution"}


#: Where nbconvert's resources hold the lesson, the usable part of a submitted notebook, and the
#: names of the graded cells of the course's other assignments, by assignment (a function).
LESSON, SUBMISSION, OTHERS = "nbjudge_lesson", "nbjudge_submission", "nbjudge_others"


class CourseError(Exception):
    """The course itself is not ready to grade; the message says what to do."""


@dataclass(frozen=True)
class Lesson:
    """A lesson as graded: stubs where solutions are, hidden tests in place, no outputs."""

    notebook: NotebookNode
    #: The sources that learners were given, cell by cell (hidden tests removed).
    released: list[str]
    #: The place of each grade_id.
    places: dict[str, int]
    #: What the course's own code has in common with its tests, for the judge: its `imports`
    #: (statements), the global names that it binds or reads (`shared`) and that its functions bind
    #: (`rebound`), and the settings of a process that it changes (`settings`, of `wire.given`).
    common: dict[str, list[str]] = field(default_factory=dict)
    #: Every release that is kept, the newest first.
    releases: list[Given] = field(default_factory=list)


def load_lesson(
    path: str | Path,
    notebook_id: str,
    assignment_id: str,
    db_url: str,
    config: Config | None = None,
    root: str | None = None,
) -> Lesson:
    """Return the lesson in `source/`, with the cells that the gradebook recorded.

    Where the two differ in a cell's source, the gradebook's counts: it is what was released.
    root: the course's folder, for the notebooks that nbgrader puts above and below each other one.
    `CourseError` if the source notebook is missing or broken, or the two differ in their cells.
    """
    notebook = _source(Path(path), assignment_id)
    solved = [
        cell.source
        for cell in notebook.cells
        if cell.cell_type == "code" and (is_solution(cell) or not is_grade(cell))
    ]
    # The course's root is where nbgrader looks for the header and the footer.
    with contextlib.chdir(root or os.getcwd()):
        notebook = _through(
            (IncludeHeaderFooter, LockCells, ClearSolutions), notebook, path, config
        )
    _take_recorded(notebook, str(path), notebook_id, assignment_id, db_url)
    given = _through((ClearHiddenTests, ClearMarkScheme), copy.deepcopy(notebook), path, config)
    return Lesson(
        notebook, [cell.source for cell in given.cells], _places(notebook), _common(solved)
    )


def _through(
    steps: Iterable[type[NbGraderPreprocessor]],
    notebook: NotebookNode,
    path: str | Path,
    config: Config | None,
) -> NotebookNode:
    """Return a notebook of the course's as nbgrader's own steps leave it; `CourseError`."""
    for step in steps:
        try:
            notebook, _ = step(config=config)(notebook, {})
        except Exception as error:
            raise CourseError(f"{path}: {step.__name__} failed: {error}") from error
    return notebook


def _source(path: Path, assignment_id: str) -> NotebookNode:
    """Return a notebook of the course's, without outputs; `CourseError` if it cannot be used."""
    remedy = f"mend it, then run `nbgrader generate_assignment {assignment_id}`"
    try:
        state = os.stat(path)
        notebook = copy.deepcopy(_read_source(str(path), state.st_mtime_ns, state.st_size))
    except FileNotFoundError as error:
        raise CourseError(
            f"{path} is missing, and without it nothing of {assignment_id} can be graded. Put the "
            f"notebook that was released back there (or build it again), then run `nbgrader "
            f"generate_assignment {assignment_id}`."
        ) from error
    except OSError as error:
        raise CourseError(
            f"{path} cannot be read ({error.strerror}): see to its permissions."
        ) from error
    except (SchemaTooOldError, SchemaTooNewError) as error:
        raise CourseError(
            f"{path} has grading metadata of another version of nbgrader: run `nbgrader update "
            f"{path.parent}`, then `nbgrader generate_assignment {assignment_id}`."
        ) from error
    except Exception as error:
        what = str(error).strip().partition("\n")[0] or type(error).__name__
        raise CourseError(f"{path} is no notebook that can be used ({what}): {remedy}.") from error
    seen: set[str] = set()
    for cell in notebook.cells:
        if not _recorded(cell):
            continue
        name = cell.metadata.nbgrader.get("grade_id")
        if not name or name in seen:
            what = f"several cells are called {name!r}" if name else "a graded cell has no grade_id"
            raise CourseError(f"{path} cannot be used: {what}; {remedy}.")
        seen.add(name)
    return notebook


@functools.lru_cache(maxsize=8)
def _read_source(path: str, changed: int, size: int) -> NotebookNode:
    """Read a notebook of the course once for each state of its file."""
    notebook = nbgraderformat.read(path, as_version=nbformat.current_nbformat)
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return notebook


def _places(notebook: NotebookNode) -> dict[str, int]:
    return {
        cell.metadata.nbgrader.grade_id: place
        for place, cell in enumerate(notebook.cells)
        if _recorded(cell)
    }


def _take_recorded(
    notebook: NotebookNode, path: str, notebook_id: str, assignment_id: str, db_url: str
) -> None:
    """Put what the gradebook recorded of each cell into the notebook."""
    remedy = f"Run `nbgrader generate_assignment {assignment_id} --force`, then autograde again."
    places = _places(notebook)
    with Gradebook(db_url) as gradebook:
        try:
            recorded = gradebook.find_notebook(notebook_id, assignment_id)
        except MissingEntry as error:
            raise CourseError(
                f"The gradebook does not know the notebook {notebook_id} of {assignment_id}. "
                + remedy
            ) from error
        cells = {cell.name: cell for cell in recorded.source_cells}
        if cells.keys() != places.keys():
            differing = ", ".join(sorted(cells.keys() ^ places.keys()))
            raise CourseError(
                f"{path} and the gradebook differ in these cells: {differing}. {remedy}"
            )
        for name, place in places.items():
            notebook.cells[place].source = cells[name].source
            notebook.cells[place].metadata.nbgrader.checksum = cells[name].checksum
        kernelspec = json.loads(recorded.kernelspec or "null")
        if kernelspec:
            notebook.metadata.kernelspec = NotebookNode(kernelspec)
        for graded in [*recorded.grade_cells, *recorded.task_cells]:
            notebook.cells[places[graded.name]].metadata.nbgrader.points = graded.max_score


def _recorded(cell: NotebookNode) -> bool:
    return is_grade(cell) or is_solution(cell) or is_locked(cell) or is_task(cell)


def _same(one: str, other: str) -> bool:
    """Whether two sources differ in nothing but white space at the ends of lines."""
    return plain(one) == plain(other)


_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def _defined(source: str) -> set[str]:
    """Return the functions and classes that a cell defines at its top level."""
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set(re.findall(r"^(?:async +def|def|class)\s+(\w+)", source, re.MULTILINE))
    return {node.name for node in body if isinstance(node, _DEFINITIONS)}


def _may_define(source: str, names: set[str]) -> bool:
    """Whether a source has one of the names in it; Python reads other letters as the same ones."""
    return not source.isascii() or any(name in source for name in names)


def _bound(source: str) -> set[str] | None:
    """Return the names that a cell binds anywhere; None if it is no plain Python."""
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    names = {node.id for node in nodes if isinstance(node, ast.Name) and _stores(node)}
    names |= {
        alias.asname or alias.name
        for node in nodes
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    return names | {node.name for node in nodes if isinstance(node, _DEFINITIONS)}


def _stores(node: ast.Name) -> bool:
    return isinstance(node.ctx, ast.Store)


def _given_id(cell: NotebookNode) -> str | None:
    metadata = cell.metadata.get("nbgrader", {})
    given = metadata.get("grade_id") if isinstance(metadata, dict) else None
    return given if isinstance(given, str) else None


def _given(lesson: Lesson, submitted: list[NotebookNode]) -> Given | None:
    """Return the earlier release that a submission comes from; None if it is of today's."""
    if not lesson.releases:
        return None
    names = {place: name for name, place in lesson.places.items()}
    today = Given(
        "",
        [
            {
                "source": source,
                "nbgrader": {"grade_id": names[place]} if place in names else {},
                "cell_type": "",
            }
            for place, source in enumerate(lesson.released)
        ],
    )
    likeness, _, given = max(
        (release.likeness(submitted), -age, release) for age, release in enumerate(lesson.releases)
    )
    return given if likeness > today.likeness(submitted) else None


class _Match:
    """Which cell of the lesson each submitted cell is, and which is the learner's own."""

    def __init__(self, lesson: Lesson, submitted: list[NotebookNode]):
        self.lesson, self.submitted = lesson, submitted
        self.place: dict[int, int] = {}
        self.copies: dict[str, list[int]] = defaultdict(list)
        self.flags: list[Flag] = []
        self.given = _given(lesson, submitted)
        self._defined: dict[int, set[str]] = {}
        self._by_grade_id()
        self._by_source_or_id()
        self._by_definition()
        self._merged()

    def _take(self, index: int, place: int) -> None:
        self.place[index] = place
        cell = self.lesson.notebook.cells[place]
        if _recorded(cell):
            self.copies[cell.metadata.nbgrader.grade_id].append(index)

    def _by_grade_id(self) -> None:
        for index, cell in enumerate(self.submitted):
            place = self.lesson.places.get(_given_id(cell) or "")
            if place is not None:
                self._take(index, place)

    def _by_source_or_id(self) -> None:
        cells = self.lesson.notebook.cells
        taken = set(self.place.values())
        by_source, by_id = defaultdict(list), {}
        for place, cell in enumerate(cells):
            if place not in taken:
                by_source[self.lesson.released[place].strip()].append(place)
                by_id[cell.get("id") or place] = place
        for index, cell in enumerate(self.submitted):
            places = by_source.get(cell.source.strip())
            if index not in self.place and places:
                taken.add(places[0])
                self._take(index, places.pop(0))
        for index, cell in enumerate(self.submitted):
            found = by_id.get(cell.get("id"))
            if index not in self.place and found is not None and found not in taken:
                taken.add(found)
                self._take(index, found)
                self._recovered(found)

    def _by_definition(self) -> None:
        cells = self.lesson.notebook.cells
        for grade_id, place in self.lesson.places.items():
            if not is_solution(cells[place]) or self.copies[grade_id]:
                continue
            names = _defined(self.lesson.released[place])
            for index, cell in enumerate(self.submitted):
                if (
                    index not in self.place
                    and cell.cell_type == "code"
                    # Parsing takes long, and most cells name nothing of the kind.
                    and _may_define(cell.source, names)
                    and names & self._defines(index)
                ):
                    self._take(index, place)
            if self.copies[grade_id]:
                self._recovered(place)

    def _merged(self) -> None:
        """Find exercises without a cell of their own in what was written into other cells."""
        for grade_id, place in self.lesson.places.items():
            if not is_solution(self.lesson.notebook.cells[place]) or self.copies[grade_id]:
                continue
            wanted = _defined(self.lesson.released[place])
            for index, other in self.place.items():
                cell = self.submitted[index]
                if cell.cell_type != "code" or not _may_define(cell.source, wanted):
                    continue
                if self.untouched(index):
                    continue
                # What the other cell was to define itself is no sign of this exercise.
                names = wanted - _defined(self.lesson.released[other])
                if names & self._defines(index):
                    self.copies[grade_id].append(index)
            if self.copies[grade_id]:
                self.flags.append(Flag("merged", grade_id))

    def _defines(self, index: int) -> set[str]:
        """Return what a submitted cell defines, parsed once however often that is asked."""
        if index not in self._defined:
            self._defined[index] = _defined(self.submitted[index].source)
        return self._defined[index]

    def _recovered(self, place: int) -> None:
        cell = self.lesson.notebook.cells[place]
        if is_solution(cell):
            self.flags.append(Flag("recovered", cell.metadata.nbgrader.grade_id))

    def chosen(self, grade_id: str) -> int | None:
        """Return the copy of a solution cell that counts, by the rule for duplicates."""
        place = self.lesson.places[grade_id]
        copies = self.copies[grade_id]
        written = [i for i in copies if not self.untouched(i)]
        if not written:
            return copies[0] if copies else None
        first_test = self._first_test(place)
        above = [i for i in written if i < first_test]
        return above[-1] if above else written[0]

    def untouched(self, index: int) -> bool:
        """Whether a submitted cell still is what this learner was given."""
        cell = self.submitted[index]
        if _same(cell.source, self.lesson.released[self.place[index]]):
            return True
        return self.given is not None and self.given.has(cell)

    def about(self, index: int) -> NotebookNode | dict[str, Any]:
        """Return what nbgrader knew of a submitted cell's original when the learner got it."""
        place = self.place[index]
        ours = self.lesson.notebook.cells[place]
        known = {"cell_type": ours.cell_type, **ours.metadata.nbgrader}
        if self.given is None:
            return known
        return {**known, **self.given.about(ours.metadata.nbgrader.grade_id)}

    def left_behind(self, index: int) -> bool:
        """Whether a submitted cell is one of an earlier release that the lesson has no longer."""
        return (
            index not in self.place
            and self.given is not None
            and self.given.has(self.submitted[index])
        )

    def _first_test(self, place: int) -> int:
        for cell in self.lesson.notebook.cells[place + 1 :]:
            if is_grade(cell) and not is_solution(cell):
                return min(
                    self.copies[cell.metadata.nbgrader.grade_id], default=len(self.submitted)
                )
        return len(self.submitted)


def content_of(lesson: Lesson) -> Content:
    """Return what a lesson's notebook is known by, in every release of it."""
    stubs: dict[str, set[str]] = {}
    defined: dict[str, str] = {}
    cells = set(lesson.places)
    for name, place in lesson.places.items():
        if is_solution(lesson.notebook.cells[place]):
            stubs[name] = {plain(lesson.released[place])}
            defined.update(dict.fromkeys(_defined(lesson.released[place]), name))
    for release in lesson.releases:
        for cell in release.cells:
            about = cell["nbgrader"]
            if name := about.get("grade_id"):
                cells.add(name)
                if about.get("solution"):
                    stubs.setdefault(name, set()).add(plain(cell["source"]))
    return Content(
        frozenset(cells), {name: frozenset(found) for name, found in stubs.items()}, defined
    )


def rebuild(lesson: Lesson, submitted: list[NotebookNode]) -> tuple[NotebookNode, list[Flag]]:
    """Return the lesson with a learner's cells in it, and what stood out.

    Neither argument is changed. Cells that the learner added are there without their metadata;
    text among them stands in a fence, so that markup in it is shown, not obeyed.
    """
    match = _Match(lesson, submitted)
    found = match.flags
    cells = copy.deepcopy(lesson.notebook.cells)
    added: dict[int, list[NotebookNode]] = defaultdict(list)
    chosen = {i for name in lesson.places if (i := match.chosen(name)) is not None}

    here, furthest, moved = -1, -1, False
    for index, cell in enumerate(submitted):
        place = match.place.get(index)
        if match.left_behind(index):
            continue
        if place is None:
            added[here].append(_added(cell))
            continue
        original = cells[place]
        if not _recorded(original):
            if not match.untouched(index) and "setup" not in original.metadata.get("tags", []):
                if cell.cell_type == original.cell_type == "code":
                    cells[place] = _edited(cell, original)
                else:
                    added[place].append(_added(cell))
        elif index not in chosen:
            if is_solution(original) and not match.untouched(index):
                added[here].append(_added(cell))
            continue
        here = place
        moved = moved or place < furthest
        furthest = max(furthest, place)
    if match.given is not None:
        found.append(Flag("older_release", detail=match.given.when.partition("T")[0]))
    if moved:
        found.append(Flag("moved"))

    for name, place in lesson.places.items():
        cell, chosen_one = cells[place], match.chosen(name)
        if is_solution(cell):
            found.extend(_solution_flags(match, name, chosen_one))
            if chosen_one is not None and not match.untouched(chosen_one):
                cell.source = _learners_source(submitted[chosen_one], cell.cell_type)
        elif chosen_one is None:
            if match.given is None or match.given.knows(name):
                found.append(Flag("restored", name))
        elif not all(match.untouched(i) for i in match.copies[name]) or _relabelled(
            submitted[chosen_one], match.about(chosen_one)
        ):
            found.append(Flag("tampered", name))
        if not is_solution(cell) and len(match.copies[name]) > 1:
            found.append(Flag("copied", name))
        if chosen_one is not None and _retagged(submitted[chosen_one], cell):
            found.append(Flag("retagged", name))

    notebook = NotebookNode(
        {key: copy.deepcopy(value) for key, value in lesson.notebook.items() if key != "cells"}
    )
    notebook.cells = list(added[-1])
    for place, cell in enumerate(cells):
        notebook.cells.append(cell)
        notebook.cells.extend(added[place])
    _name_cells(notebook)
    return notebook, found


def _solution_flags(match: _Match, name: str, index: int | None) -> list[Flag]:
    if index is None:
        new = match.given is not None and not match.given.knows(name)
        return [Flag("new_exercise" if new else "missing", name)]
    found = []
    if sum(not match.untouched(i) for i in match.copies[name]) > 1:
        found.append(Flag("duplicate", name))
    if _relabelled(match.submitted[index], match.about(index)):
        found.append(Flag("relabelled", name))
    return found


def _relabelled(submitted: NotebookNode, ours: Mapping[str, Any]) -> bool:
    """Whether the type, the points or the lock of a submitted cell were changed."""
    given = submitted.metadata.get("nbgrader")
    if not isinstance(given, dict):
        return False
    keys = ("grade", "solution", "locked", "task", "points")
    return submitted.cell_type != ours["cell_type"] or any(
        key in given and key in ours and given[key] != ours[key] for key in keys
    )


def _retagged(submitted: NotebookNode, original: NotebookNode) -> bool:
    """Whether a submitted cell was given a tag by which a cell is not run."""
    gained = set(submitted.metadata.get("tags", [])) - set(original.metadata.get("tags", []))
    return bool(gained & _NOT_RUN)


def _learners_source(cell: NotebookNode, cell_type: str) -> str:
    return cell.source if cell_type == "code" else _fenced(cell.source)


def _fenced(source: str) -> str:
    longest = max((len(run) for run in re.findall(r"`+", source)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{source}\n{fence}"


def _added(cell: NotebookNode, cell_id: str | None = None) -> NotebookNode:
    if cell.cell_type == "code":
        new = new_code_cell(cell.source)
    else:
        new = new_markdown_cell(_fenced(cell.source))
    new.id = cell_id or ""
    return new


def _edited(cell: NotebookNode, original: NotebookNode) -> NotebookNode:
    new = _added(cell, original.get("id"))
    if SHOW in original.metadata.get("tags", []):
        before, after = _bound(original.source), _bound(cell.source)
        if before is not None and after is not None and after <= before:
            new.metadata.tags = [SHOW]
    return new


def _name_cells(notebook: NotebookNode) -> None:
    """Give the added cells ids that depend on nothing but their order."""
    with_ids = (notebook.nbformat, notebook.nbformat_minor) >= (4, 5)
    for number, cell in enumerate(notebook.cells):
        if not with_ids:
            cell.pop("id", None)
        elif not cell.get("id"):
            cell.id = f"added-{number}"


class Rebuild(NbGraderPreprocessor):
    """The first of the sanitizing preprocessors; see this module for its rules.

    The lesson is in the resources, and what was read of the submission (`LESSON` and its like).
    Quiz answers, from the outputs of the notebook and from the answers file beside it, and the
    flags are carried on in the notebook's own data (`codes.own`).
    """

    def preprocess(self, nb: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
        """Return the rebuilt notebook."""
        lesson: Lesson = resources.pop(LESSON)
        submission: Submission = resources.pop(SUBMISSION)
        others: Callable[[], dict[str, set[str]]] = resources.pop(OTHERS)
        rebuilt, found = rebuild(lesson, submission.cells)
        if any(flag.code in NOT_HANDED_IN for flag in submission.flags):
            found = []  # that nothing is there has been said
        elif other := _other_lesson(lesson, submission.cells, others):
            found = [Flag("other_lesson", detail=other)]
        elif language_of(lesson.notebook.metadata) in ("", "python"):
            theirs = _learners_code(rebuilt, lesson)
            folder = Path(resources["metadata"]["path"])
            found = [*found, *on_code(theirs, folder, submission.python)]
            found += on_exercises(rebuilt.cells, theirs, course.here().forbidden)
        answers, records = submission.answers, recorder()
        for file in answer_files(Path(resources["metadata"]["path"])):
            recorded, problems = records.in_file(file)
            answers = records.merge(answers, recorded)
            found += answer_flags(problems)
        rebuilt.metadata[KEY] = NotebookNode(
            answers=answers, flags=[], **copy.deepcopy(lesson.common)
        )
        record(rebuilt, [*submission.flags, *found])
        return rebuilt, resources


def _other_lesson(
    lesson: Lesson, cells: list[NotebookNode], others: Callable[[], dict[str, set[str]]]
) -> str:
    """Return the name of the lesson that a notebook is of, if it is not this one's."""
    names = {name for cell in cells if (name := _given_id(cell))}
    ours = len(names & lesson.places.keys())
    if not names or 2 * ours >= min(len(names), len(lesson.places)):
        return ""
    alike = others()
    best = max(alike, key=lambda name: len(names & alike[name]), default="")
    return best if best and len(names & alike[best]) > 2 * ours else ""


def _learners_code(rebuilt: NotebookNode, lesson: Lesson) -> list[NotebookNode]:
    """Return the code cells of a rebuilt notebook that are not the course's own."""
    known = {plain(cell.source) for cell in lesson.notebook.cells}
    return [
        cell
        for cell in rebuilt.cells
        if cell.cell_type == "code"
        and (is_solution(cell) or not _recorded(cell))
        and plain(cell.source) not in known
    ]


def _common(solved: list[str]) -> dict[str, list[str]]:
    statements = dict.fromkeys(statement for _, statement in import_statements(solved))
    return {
        "imports": list(statements),
        "shared": sorted(shared_names(solved)),
        "rebound": sorted(rebound_names(solved)),
        "settings": set_by(map(parsed, solved)),
    }
