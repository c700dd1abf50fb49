"""`nbgrader generate_assignment`: the release changes whole or not at all, and is remembered.

nbgrader deletes what was released before it makes the new one, and does nothing at all where a
release is there, in a fresh clone, say, whose gradebook knows nothing of it. Here the new release
is made beside the old one and takes its place at the end; without `--force` a release stays as it
is, and the gradebook is filled where it lacks the assignment.
"""

from __future__ import annotations

import filecmp
import os
import shutil
import tempfile
from fnmatch import fnmatch
from logging import Logger
from pathlib import Path
from typing import Any

import nbformat.reader
from nbgrader.api import Gradebook, MissingEntry
from nbgrader.converters import GenerateAssignment
from nbgrader.converters.base import NbGraderException
from nbgrader.coursedir import CourseDirectory
from traitlets.config import Config

from nbjudge import graders
from nbjudge.classes import gradebook_file, past_releases
from nbjudge.intake.rebuild import CourseError

__all__ = ["Release", "fill_gradebook"]


class Release(GenerateAssignment):
    """nbgrader's GenerateAssignment, whose failure leaves everything released as it was."""

    _beside: Path | None = None
    _record = True
    no_database: Any

    def start(self) -> None:
        """Release the assignment; `NbGraderException` where that fails, with nothing changed."""
        course, assignment = self.coursedir, self.coursedir.assignment_id
        if problem := gradebook_file.problem(course.db_url):
            self._fail(problem)
        place = Path(os.path.normpath(self._format_dest(assignment, ".")))
        kept = place.is_dir() and not self.force
        known = self.no_database or is_known(course, assignment)
        place.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(place.parent, os.W_OK):
            self._fail(graders.may_not(place.parent, course.root))
        with tempfile.TemporaryDirectory(prefix=".release-", dir=place.parent) as beside:
            self._beside, self._record = Path(beside), not (kept and known)
            try:
                super().start()
                new = self._new
            finally:
                self._beside, self._record = None, True
            if not kept:
                self._take_place(new, place)
            elif known:
                self.log.info("Skipping existing assignment: %s", place)
            else:
                self.log.info(
                    "%s was released before: it stays as it is, and the gradebook, which did not "
                    "know it, was filled from %s.",
                    assignment,
                    course.source_directory,
                )
            if kept and not _same_files(new, place):
                self.log.warning(
                    "%s differs from what %s would give now. `nbgrader generate_assignment %s "
                    "--force` puts the new one in its place.",
                    *(place, course.source_directory, assignment),
                )
        past_releases.keep(course, assignment, self.log)

    @property
    def _new(self) -> Path:
        assert self._beside is not None
        return self._beside / "new"

    def _format_dest(self, assignment_id: str, student_id: str, escape: bool = False) -> str:
        if self._beside is not None:
            return str(self._new)
        return super()._format_dest(assignment_id, student_id, escape=escape)

    def init_notebooks(self) -> None:
        """List the notebooks of the assignment, whatever characters the course's path has."""
        folder = Path(os.path.normpath(self._format_source(self.coursedir.assignment_id, ".")))
        if not folder.is_dir():
            self._fail(absent(folder, self.coursedir.assignment_id))
        found = sorted(
            # Joined as nbgrader does, which takes the path apart again.
            os.path.join(self._format_source(self.coursedir.assignment_id, "."), path.name)
            for path in folder.iterdir()
            if path.suffix == ".ipynb" and fnmatch(path.stem, self.coursedir.notebook_id)
        )
        if not found:
            self._fail(f"No notebook in {folder} matches {self.coursedir.notebook_id!r}.")
        for path in found:
            if problem := _unreadable(path):
                self._fail(f"{path} is no notebook that can be used ({problem}): mend it.")
        self.assignments = {self._format_source(self.coursedir.assignment_id, "."): found}

    def init_destination(self, assignment_id: str, student_id: str) -> bool:
        """Return True: what is made stands beside what is there."""
        # nbconvert would make it without the rights of the group.
        self._new.mkdir(parents=True, exist_ok=True)
        return True

    def init_assignment(self, assignment_id: str, student_id: str) -> None:
        """As nbgrader's, with the gradebook left alone where it is only looked at."""
        before, self.no_database = self.no_database, self.no_database or not self._record
        try:
            super().init_assignment(assignment_id, student_id)
        finally:
            self.no_database = before

    def convert_single_notebook(self, notebook_filename: str) -> None:
        """As nbgrader's, without saving the cells where the gradebook is only looked at."""
        if not self._record:
            self.exporter._preprocessors = [
                step
                for step in self.exporter._preprocessors
                if not type(step).__name__.endswith("SaveCells")
            ]
        super().convert_single_notebook(notebook_filename)

    def _clean_old_notebooks(self, assignment_id: str, student_id: str) -> None:
        """Remove notebooks that are no longer in the assignment, unless somebody's work is in."""
        new = {Path(path).stem for path in self.notebooks}
        with Gradebook(self.coursedir.db_url, self.coursedir.course_id) as gradebook:
            assignment = gradebook.find_assignment(assignment_id)
            gone = sorted({notebook.name for notebook in assignment.notebooks} - new)
            if gone and assignment.submissions:
                raise NbGraderException(
                    f"{', '.join(gone)} cannot be taken out of {assignment_id}: it has been handed "
                    f"in and graded. Put {gone[0]}.ipynb back into "
                    f"{self._format_source(assignment_id, student_id)}; nothing was changed."
                )
            for name in gone:
                self.log.warning("Removing notebook '%s' from the gradebook", name)
                gradebook.remove_notebook(name, assignment_id)

    def _take_place(self, new: Path, place: Path) -> None:
        """Put the new release in the place of the old one."""
        if self.coursedir.notebook_id != "*" and place.is_dir():
            for path in sorted(new.rglob("*")):
                if path.is_file():
                    target = place / path.relative_to(new)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    os.replace(path, target)
            return
        old = new.with_name("old")
        if os.path.lexists(place):
            os.rename(place, old)
        try:
            os.rename(new, place)
        except OSError:
            if old.exists():
                os.rename(old, place)
            raise
        shutil.rmtree(old, ignore_errors=True)

    def _fail(self, message: str) -> None:
        self.log.error(message)
        raise NbGraderException(message)


def absent(folder: Path, assignment: str) -> str:
    """Say what there is where the folder of an assignment's source is missing."""
    if not folder.parent.is_dir():
        return (
            f"There is no folder {folder.parent}, in which nbgrader keeps a course's "
            f"assignments. Put it back with {assignment} in it, or run the command in the "
            "folder of the course."
        )
    there = sorted({path.parent.name for path in folder.parent.glob("*/*.ipynb")})
    return f"There is no assignment {assignment!r}. There are: {', '.join(there) or 'none'}."


def _unreadable(path: str) -> str:
    """Return why a file is no notebook at all, or ""; nbgrader says what else is wrong with one."""
    try:
        with open(path, encoding="utf-8") as file:
            nbformat.reader.read(file)
    except OSError as error:
        return error.strerror or str(error)
    except Exception as error:
        return str(error).strip().partition("\n")[0] or type(error).__name__
    return ""


def is_known(course: CourseDirectory, assignment: str) -> bool:
    """Whether the gradebook has an assignment and every notebook of its source."""
    folder = Path(course.format_path(course.source_directory, ".", assignment))
    there = {path.stem for path in folder.glob("*.ipynb")} if folder.is_dir() else set()
    with Gradebook(course.db_url, course.course_id) as gradebook:
        try:
            found = {
                notebook.name
                for notebook in gradebook.find_assignment(assignment).notebooks
                if notebook.source_cells or notebook.grade_cells
            }
        except MissingEntry:
            found = set()
    return bool(found) and there <= found


def fill_gradebook(course: CourseDirectory, assignment: str, config: Config, log: Logger) -> None:
    """Record an assignment's cells from `source/`, with nothing released or changed elsewhere.

    Raises `CourseError` where that fails.
    """
    log.info("The gradebook does not know %s: it is filled from source/.", assignment)
    before: Any = course.student_id, course.notebook_id
    course.notebook_id = "*"
    try:
        with tempfile.TemporaryDirectory(prefix="release-") as beside:
            release = Release(coursedir=course, config=config)
            release.log = log
            release._beside = Path(beside)
            course.student_id = "."
            GenerateAssignment.start(release)
    except NbGraderException as error:
        raise CourseError(
            f"{assignment} could not be taken over from source/: {error} Mend the notebook, then "
            "run the same command again."
        ) from error
    finally:
        course.student_id, course.notebook_id = before


def _same_files(one: Path, other: Path) -> bool:
    """Whether each file below `one` is below `other`, with the same content."""
    return all(
        (other / path.relative_to(one)).is_file()
        and filecmp.cmp(path, other / path.relative_to(one), shallow=False)
        for path in one.rglob("*")
        if path.is_file()
    )
