"""nbgrader's Autograde, made safe for what learners hand in.

nbgrader chooses its converter by name in the code of its two entry points, the command and
Formgrader's button, and offers no setting for it; `install` puts ours in that place. All that can
be set by configuration is (see `nbjudge.configure`).
"""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import replace
from fnmatch import fnmatch
from glob import escape, glob
from pathlib import Path
from typing import Any

import nbgrader.apps.api
import nbgrader.apps.autogradeapp
from nbconvert.exporters import NotebookExporter
from nbformat.v4 import new_notebook
from nbgrader.api import Assignment, Gradebook, MissingEntry, SubmittedAssignment
from nbgrader.converters import Autograde
from nbgrader.converters.base import NbGraderException
from nbgrader.utils import find_all_files, remove, rmtree
from traitlets import Dict, Instance, List

from nbjudge import settings
from nbjudge.classes import (
    calibration,
    engines,
    gradebook_file,
    one_at_a_time,
    past_releases,
    release,
)
from nbjudge.classes.freshness import Freshness, Why
from nbjudge.classes.record import Graded
from nbjudge.classes.temporary import folder_for_submissions
from nbjudge.codes import KEY, Flag, all_flags, shown
from nbjudge.intake import folder as intake
from nbjudge.intake import rebuild
from nbjudge.intake.choice import Content
from nbjudge.intake.notebook import Submission, Unreadable, language_of, read_notebook
from nbjudge.run.execution import WRITTEN
from nbjudge.run.judged import COURSE_FOLDER
from nbjudge.run.provisioner import NoSuchKernel, can_fork, kernel_for
from nbjudge.server.forkserver import ForkServer


def install() -> None:
    """Let `nbgrader autograde` and Formgrader use `ClassAutograde`, and one engine a gradebook."""
    engines.install()
    calibration.install()
    nbgrader.apps.autogradeapp.Autograde = ClassAutograde
    nbgrader.apps.api.Autograde = ClassAutograde


class SubmissionExporter(NotebookExporter):
    """Reads a submitted notebook as hostile; what cannot be read becomes an empty one."""

    parent: ClassAutograde

    def from_filename(
        self, filename: str, resources: dict | None = None, **kw: Any
    ) -> tuple[Any, dict]:
        """As nbconvert's. In the first of nbgrader's two passes the usable part of the notebook
        goes to `Rebuild` in `resources["submission"]`.
        """
        converter: Any = self.parent
        if not converter.sanitizing:
            return super().from_filename(filename, resources=resources, **kw)
        found = converter.flags_of(filename)
        submission = Submission()
        if not any(flag.code in ("missing_notebook", "unreadable") for flag in found):
            try:
                lesson = converter.lessons[Path(filename).stem].notebook
                language = language_of(lesson.metadata) or "python"
                submission = read_notebook(filename, language)
            except Unreadable as error:
                found = [*found, Flag("unreadable", detail=str(error))]
        submission.flags = [*found, *submission.flags]
        path, name = os.path.split(filename)
        resources = {
            **(resources or {}),
            "metadata": {"name": os.path.splitext(name)[0], "path": path},
            "submission": submission,
        }
        return self.from_notebook_node(new_notebook(), resources=resources, **kw)


class ClassAutograde(Autograde):
    """Autograde that takes every submission in first, and always reaches the last student.

    It grades what is new or has changed (`nbjudge.classes.freshness`), reads each submission from
    a safe copy (`nbjudge.intake.folder`), grades what is there of a broken one, goes on where a run
    was cut off, says what to do where nothing can be graded, and ends with a summary of scores and
    flags.
    """

    staging = Instance(Path, allow_none=True)
    course_files = Instance(
        Path, allow_none=True, help="A copy of the course's own files, which the judge may use."
    )
    notebooks: list[str]
    expected: Any = List(help="The lesson's notebooks, without suffix.")
    lessons = Dict(help="The lesson as graded, by the notebook's name.")
    staged_flags = Dict(help="The flags of each staged notebook, by path.")
    _graded_now: Any = Dict(help="What was graded and is not recorded yet, by student, notebook.")
    freshness = Instance(Freshness, allow_none=True)
    students: Any = List(help="Who handed in and is asked for, whether graded now or before.")

    _others: dict[str, set[str]] | None = None
    _contents: dict[str, Content] | None = None

    @property
    def sanitizing(self) -> bool:
        """Whether this is the first of nbgrader's two passes over a notebook."""
        return self._sanitizing

    @property
    def _input_directory(self) -> str:
        # format_path joins it to the root, which an absolute path replaces.
        return str(self.staging) if self._sanitizing else self.coursedir.autograded_directory

    def _format_source(self, assignment_id: str, student_id: str, escape: bool = False) -> str:
        if not self._sanitizing:
            return super()._format_source(assignment_id, student_id, escape=escape)
        # However the course is laid out: this folder is the grader's own.
        staging = str(self.staging)
        if escape:
            return re.escape(os.path.sep).join([re.escape(staging), student_id, assignment_id])
        return os.path.join(staging, student_id, assignment_id)

    def start(self) -> None:
        """Grade the class; `NbGraderException` where that cannot be or somebody was left out."""
        if not self.config.Execute.get("enabled", True):
            # nbgrader would take what is saved in a notebook for the outcome of its tests.
            self._fail("Outputs that were handed in are no grade: leave out --no-execute.")
        try:
            settings.apply(self.config)
        except ImportError as error:
            self._fail(str(error))
        with (
            one_at_a_time.grading(self.coursedir, self.coursedir.assignment_id, self.log),
            folder_for_submissions() as self.staging,
            folder_for_submissions() as self.course_files,
        ):
            super().start()

    def init_notebooks(self) -> None:
        """List the submissions that have to be graded, and get ready where there are any."""
        assignment = self.coursedir.assignment_id
        every = self._notebook_names(assignment)
        self.expected = [name for name in every if fnmatch(name, self.coursedir.notebook_id)]
        if not self.expected:
            self._fail(f"No notebook of {assignment} matches {self.coursedir.notebook_id!r}.")
        self.students = self._students(assignment)
        reasons = self._reasons(assignment, anew=True)
        if reasons:
            self._load_lessons(assignment, every)
            # Calibration may have found another way to check a test.
            reasons = self._reasons(assignment, anew=False)
        self.assignments = {}
        for student, why in reasons.items():
            if why is not Why.NEW:
                self.log.warning("Grading %s again: %s.", student, why.value)
            staged = Path(self._format_source(assignment, student))
            self.assignments[str(staged)] = [
                str(staged / f"{name}.ipynb") for name in self.expected
            ]
        if standing := len(self.students) - len(reasons):
            self.log.info("%d of %d are graded already.", standing, len(self.students))
        if reasons:
            self._copy_course_files(assignment)
            self.warm_up()

    def _students(self, assignment: str) -> list[str]:
        """Return who handed in and is asked for, in order; `NbGraderException` if nobody did."""
        pattern = self._submitted(self.coursedir.student_id, assignment)
        found = []
        # A student's name may hold what glob takes for a pattern.
        for path in [pattern] if os.path.lexists(pattern) else self._matching(assignment):
            student = self._student_of(path)
            if "\n" in student:
                self.log.error("The name of the folder %r cannot be a student's; rename it.", path)
                continue
            found.append(student)
        if not found:
            self._fail(
                f"There is nothing to grade: no folder matches {pattern}. Run `nbgrader collect "
                f"{assignment}`, or put each learner's notebook there yourself."
            )
        excluded = self.coursedir.student_id_exclude.split(",")
        return [student for student in found if student not in excluded]

    def _matching(self, assignment: str) -> list[str]:
        """Return the hand-ins of an assignment whose learner matches what is asked for."""
        # The course's own path may hold what glob takes for a pattern, too.
        before, after = self._submitted("\0", assignment).split("\0")
        return sorted(glob(escape(before) + self.coursedir.student_id + escape(after)))

    def _reasons(self, assignment: str, *, anew: bool) -> dict[str, Why]:
        """Return why each student whose grade does not stand is graded.

        anew: whether to look at the hand-ins, too, or at nothing but the lesson once more.
        """
        course = self.coursedir
        with Gradebook(course.db_url, course.course_id) as gradebook:
            if anew or self.freshness is None:
                self.freshness = Freshness(course, assignment, self.expected, gradebook, self.log)
            else:
                self.freshness.look_at_lesson(gradebook)
        reasons = {student: self.freshness.why(student) for student in self.students}
        if self.force:
            return {student: why or Why.FORCED for student, why in reasons.items()}
        return {student: why for student, why in reasons.items() if why is not None}

    def _copy_course_files(self, assignment: str) -> None:
        source = Path(self.coursedir.format_path(self.coursedir.source_directory, ".", assignment))
        assert self.course_files is not None
        for name in sorted(self._own_files(assignment)):
            copied = self.course_files / name
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, copied)

    def init_single_notebook_resources(self, notebook_filename: str) -> dict[str, Any]:
        """As nbgrader's, with the folder of the course's own files."""
        resources = super().init_single_notebook_resources(notebook_filename)
        return {**resources, COURSE_FOLDER: str(self.course_files)}

    def warm_up(self) -> None:
        """Start the fork server, which imports while the class is taken in."""
        if can_fork():
            ForkServer.instance().begin()

    def _submitted(self, student: str, assignment: str) -> str:
        return self.coursedir.format_path(self.coursedir.submitted_directory, student, assignment)

    def _student_of(self, path: str) -> str:
        marker = "\0"
        before, after = self._submitted(marker, self.coursedir.assignment_id).split(marker)
        return path[len(before) : len(path) - len(after)]

    def _fail(self, message: str) -> None:
        self.log.error(message)
        raise NbGraderException(message)

    def _notebook_names(self, assignment: str) -> list[str]:
        """Return the names of an assignment's notebooks, as the gradebook has them."""
        course = self.coursedir
        if problem := gradebook_file.problem(course.db_url):
            self._fail(problem)
        with Gradebook(course.db_url, course.course_id) as gradebook:
            names = _notebooks_of(gradebook, assignment)
        folder = Path(course.format_path(course.source_directory, ".", assignment))
        if not names and folder.is_dir() and any(folder.glob("*.ipynb")):
            try:
                release.fill_gradebook(course, assignment, self.config, self.log)
            except rebuild.CourseError as error:
                self._fail(str(error))
            with Gradebook(course.db_url, course.course_id) as gradebook:
                names = _notebooks_of(gradebook, assignment)
        past_releases.keep(course, assignment, self.log)
        if not names:
            folder = Path(course.format_path(course.source_directory, ".", assignment))
            self._fail(self._not_ready(assignment, folder))
        return names

    def _load_lessons(self, assignment: str, names: list[str]) -> None:
        """Load the lesson as graded; `NbGraderException` where the course is not ready."""
        course = self.coursedir
        folder = Path(course.format_path(course.source_directory, ".", assignment))
        for name in names:
            try:
                lesson = rebuild.load_lesson(
                    folder / f"{name}.ipynb",
                    name,
                    assignment,
                    course.db_url,
                    self.config,
                    course.root,
                )
                given = past_releases.of(course, assignment, name)
                self.lessons[name] = replace(lesson, releases=given)
                kernel_for(self.lessons[name].notebook.metadata)
            except rebuild.CourseError as error:
                self._fail(str(error))
            except NoSuchKernel as error:
                self._fail(f"{folder / f'{name}.ipynb'}: {error}.")
        try:
            calibration.apply(course, assignment, self.lessons, self.config, self.log)
        except (rebuild.CourseError, RuntimeError) as error:
            self._fail(f"{assignment} could not be calibrated, so nothing was graded: {error}")

    def _not_ready(self, assignment: str, folder: Path) -> str:
        lesson = Path(self.coursedir.root) / "notebooks" / f"{assignment}.md"
        if lesson.is_file():
            return (
                f"{assignment} was never built. Run `make build`, then `nbgrader "
                f"generate_assignment {assignment}`."
            )
        if not folder.parent.is_dir():
            return (
                f"There is no folder {folder.parent}, in which nbgrader keeps a course's "
                f"assignments. Put it back with {assignment} in it, or run the command in the "
                "folder of the course."
            )
        there = sorted({path.parent.name for path in folder.parent.glob("*/*.ipynb")})
        return f"There is no assignment {assignment!r}. There are: {', '.join(there) or 'none'}."

    def init_destination(self, assignment_id: str, student_id: str) -> bool:
        """Take the submission in, and remove what was graded before."""
        assert self.freshness is not None
        submitted = Path(self._submitted(student_id, assignment_id))
        staged = Path(self._format_source(assignment_id, student_id))
        course = self.coursedir
        self.freshness.hand_in(student_id)  # before it is read: what changes later is seen later
        ours = self._own_files(assignment_id)
        if self._contents is None:
            self._contents = {n: rebuild.content_of(lesson) for n, lesson in self.lessons.items()}
        found = intake.take_in(
            submitted, staged, self.expected, ours, course.ignore, self._contents
        )
        self.staged_flags.update(
            {str(staged / f"{name}.ipynb"): those for name, those in found.items()}
        )
        self.freshness.record.begin(student_id, self.expected)
        graded = Path(self._format_dest(assignment_id, student_id))
        if course.notebook_id == "*":
            if graded.exists():
                rmtree(graded)
        else:
            for name in self.expected:  # the other notebooks are not this run's
                if (path := graded / f"{name}.ipynb").exists():
                    remove(path)
        return True

    def other_lessons(self) -> dict[str, set[str]]:
        """Return the names of the graded cells of the course's other assignments, by assignment."""
        if self._others is None:
            course, marker = self.coursedir, "\1"
            before, after = course.format_path(course.source_directory, ".", marker).split(marker)
            folder = Path(before)
            names = sorted(os.listdir(folder)) if folder.is_dir() else []
            self._others = {
                name: set().union(*map(_grade_ids, Path(before, name + after).glob("*.ipynb")))
                for name in names
                if name != course.assignment_id
            }
        return self._others

    def _own_files(self, assignment_id: str) -> set[str]:
        """Return the relative paths of the course's files, which stand in every submission."""
        course = self.coursedir
        source = course.format_path(course.source_directory, ".", assignment_id)
        found = find_all_files(source, [*course.ignore, "*.ipynb"])
        own = {os.path.relpath(path, source) for path in found}
        learners = self.exclude_overwriting.get(assignment_id, [])
        return own - {os.path.normpath(path) for path in learners}

    def init_assignment(self, assignment_id: str, student_id: str) -> None:
        """As nbgrader's, with every notebook of the lesson to be graded."""
        expected = list(self.notebooks)
        super().init_assignment(assignment_id, student_id)
        self.notebooks = expected

    def write_single_notebook(self, output: str, resources: dict) -> None:
        """As nbgrader's; then the files that the notebook's code wrote, as far as they may be."""
        files = resources.pop(WRITTEN, {})
        super().write_single_notebook(output, resources)
        names = resources["nbgrader"]
        if not self.sanitizing:
            self._graded_now[names["student"], names["notebook"]] = json.loads(output)
        if not files:
            return
        left_out = intake.lay_out(
            files,
            Path(self._format_dest(names["assignment"], names["student"])),
            self._own_files(names["assignment"]),
            self.coursedir.ignore,
        )
        if left_out:
            names_left = ", ".join(map(shown, left_out[:5]))
            self.log.warning(
                "Files that %s's notebook wrote were left out: %s", names["student"], names_left
            )

    def set_permissions(self, assignment_id: str, student_id: str) -> None:
        """As nbgrader's; then the staged copy has served, and the grade is recorded."""
        super().set_permissions(assignment_id, student_id)
        shutil.rmtree(self._format_source(assignment_id, student_id), ignore_errors=True)
        assert self.freshness is not None
        hand_in, lessons = self.freshness.hand_in(student_id), self.freshness.lessons
        self.freshness.record.finish(
            student_id,
            {
                name: _graded(self._graded_now.pop((student_id, name)), hand_in, lessons[name])
                for name in self.expected
            },
        )

    def flags_of(self, filename: str) -> list[Flag]:
        """Return what stood out when a staged notebook was taken in."""
        return self.staged_flags.get(filename, [])

    def convert_notebooks(self) -> None:
        """Grade all, then say what came of it."""
        try:
            self.convert_all()
        finally:
            self._summarize()

    def convert_all(self) -> None:
        """Grade one submission after the other."""
        super().convert_notebooks()

    def _summarize(self) -> None:
        course = self.coursedir
        lines = []
        if self.freshness is None:
            return
        with Gradebook(course.db_url, course.course_id) as gradebook:
            scores = _scores(gradebook, course.assignment_id)
        for student in self.students:
            if student not in scores:
                lines.append(f"{student}: not graded, see the error above")
                continue
            found = []
            for name in self.expected:
                last = self.freshness.record.of(student, name)
                found += [f"{f['code']} {f['cell']}".strip() for f in (last.flags if last else [])]
            score, most = scores[student]
            line = f"{student}: {score:g} of {most:g}"
            lines.append(line + (f"; {', '.join(found)}" if found else ""))
        self.log.info(
            "Summary of %s:\n  %s", course.assignment_id, "\n  ".join(lines) or "nothing graded"
        )


def _scores(gradebook: Gradebook, assignment: str) -> dict[str, tuple[float, float]]:
    """Return each student's score of an assignment, and how much it could be."""
    rows = gradebook.db.query(
        SubmittedAssignment.student_id, SubmittedAssignment.score, SubmittedAssignment.max_score
    )
    found = rows.join(Assignment).filter(Assignment.name == assignment).all()
    return {student: (score, most) for student, score, most in found}


def _graded(notebook: dict[str, Any], hand_in: str, lesson: str) -> Graded:
    """Return what the record keeps of a graded notebook."""
    ours = notebook.get("metadata", {}).get(KEY, {})
    mistakes = [cell["metadata"].get(KEY, {}).get("mistake") for cell in notebook["cells"]]
    return Graded(
        hand_in,
        lesson,
        flags=all_flags(notebook),
        answers=ours.get("answers", {}),
        mistakes=[mistake for mistake in mistakes if mistake],
    )


def _notebooks_of(gradebook: Gradebook, assignment: str) -> list[str]:
    try:
        return sorted(notebook.name for notebook in gradebook.find_assignment(assignment).notebooks)
    except MissingEntry:
        return []


def _grade_ids(path: Path) -> set[str]:
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        about = [cell["metadata"].get("nbgrader", {}) for cell in cells]
        return {each["grade_id"] for each in about if "grade_id" in each}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return set()
