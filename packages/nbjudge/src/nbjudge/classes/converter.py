"""nbgrader's Autograde, made safe for what learners hand in.

nbgrader chooses its converter by name in the code of its two entry points, the command and
Formgrader's button, and offers no setting for it; `install` puts ours in that place. All that can
be set by configuration is (see `nbjudge.configure`).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import replace
from fnmatch import fnmatch
from glob import escape, glob
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbgrader.apps.api
import nbgrader.apps.autogradeapp
import nbgrader.utils
from nbgrader.api import Assignment, Gradebook, MissingEntry, SubmittedAssignment
from nbgrader.converters import Autograde
from nbgrader.converters.base import NbGraderException
from nbgrader.coursedir import CourseDirectory
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError
from traitlets import Instance, Integer, List
from traitlets.utils.importstring import import_item

from nbjudge import disk, graders, guard
from nbjudge.classes import engines, generate, gradebook_file, one_at_a_time, release, unchanged
from nbjudge.classes.freshness import Freshness, Why
from nbjudge.classes.temporary import folder_for_submissions
from nbjudge.classes.unchanged import Before, Places, Said, Standing
from nbjudge.ids import printable, stands_for_many

if TYPE_CHECKING:
    from nbjudge.classes.grading import Grading


class NotReady(Exception):
    """The course, or this environment, is not ready to grade; the message says what to do."""


LOCK_SECONDS = 60  # how long to wait for Formgrader to let go of the gradebook


def install() -> None:
    """Let `nbgrader autograde` and Formgrader use `ClassAutograde`, and one engine a gradebook."""
    engines.install()
    generate.install()
    nbgrader.utils.is_ignored = is_ignored
    nbgrader.apps.autogradeapp.Autograde = ClassAutograde
    nbgrader.apps.api.Autograde = ClassAutograde


def is_ignored(filename: str, ignore_globs: Iterable[str] | None = None) -> bool:
    """Return whether a file's own name matches a pattern, whatever its folder is called.

    nbgrader's takes brackets in the folder for a pattern, too, finds nothing, and passes over
    nothing: graded notebooks, hidden tests and all, then lie beside the feedback.
    """
    folder = escape(os.path.dirname(filename))
    return any(filename in glob(os.path.join(folder, name)) for name in ignore_globs or ())


GRADEBOOK_TROUBLE = (
    "The gradebook could not be used ({}). If Formgrader or another run has it open, close that; "
    "if nbgrader was upgraded, run `nbgrader db upgrade`. Then run the same command again to go on."
)


class ClassAutograde(Autograde):
    """Autograde that takes every submission in first, and always reaches the last learner.

    What is new or has changed is graded (`nbjudge.classes.freshness`). Each submission is read from
    a safe copy (`nbjudge.intake.folder`); of a broken one, what is there is graded. A run that was
    cut off goes on where it stopped. Where nothing can be graded, it says what to do. It ends with
    a summary of scores and flags.
    """

    #: What grades them, by name: importing it takes longer than finding out that nothing is new.
    grading = "nbjudge.classes.grading.OneByOne"
    #: Whether a run says again what the last one said, where nothing has changed since.
    repeats = True
    #: What this run has left, if it came to its end for the whole class.
    standing: Standing | None = None
    staging = Instance(Path, allow_none=True, help="Where hand-ins are copied to.")
    expected: Any = List(help="The lesson's notebooks, without suffix.")
    freshness = Instance(Freshness, allow_none=True)
    students: Any = List(help="Who handed in and is asked for, whether graded now or before.")
    todo: Any = List(help="Those of them who are to be graded now.")
    graded = Integer(0, help="How many of those are.")
    errors: Any = List(help="Those of them who could not be.")

    def start(self) -> None:
        """Grade the class; `NbGraderException` where that cannot be or somebody was left out."""
        if not self.config.Execute.get("enabled", True):
            # nbgrader would take what is saved in a notebook for the outcome of its tests.
            self._fail("Outputs that were handed in are no grade: leave out --no-execute.")
        # nbgrader's own start, which is guarded, is not called from here.
        if problem := guard.refusal(self.coursedir, self.config):
            self._fail(problem)
        url = self.coursedir.db_url
        if url.startswith("sqlite:") and "?" not in url:
            self.coursedir.db_url = f"{url}?timeout={LOCK_SECONDS}"
        held = one_at_a_time.grading(self.coursedir, self.coursedir.assignment_id, self.log)
        try:
            shared = graders.together(self.coursedir.root)
            with shared, held, contextlib.chdir(self.coursedir.root):
                self._start()
        except OperationalError as error:
            self._fail(self._trouble(error))
        except PermissionError as error:
            self._fail(graders.may_not(error.filename or "it", self.coursedir.root))

    def _trouble(self, error: OperationalError) -> str:
        if disk.is_full(error):
            return disk.said()
        path = make_url(self.coursedir.db_url).database
        if "readonly" in str(error.orig) and path and not os.access(path, os.W_OK):
            return graders.may_not(path, self.coursedir.root)
        return GRADEBOOK_TROUBLE.format(error.orig)

    def _start(self) -> None:
        assignment = self.coursedir.assignment_id
        whole = not self.force and self.coursedir.student_id == self.coursedir.notebook_id == "*"
        if whole and self.repeats:
            said = unchanged.look(self.coursedir.root, assignment, self.config)
            if said is not None:
                self.log.info("All %d of %s are graded already.", said.students, assignment)
                self._say_summary(said.lines)
                return
        before = self._before(assignment) if whole else None
        every = self._notebook_names(assignment)
        self.expected = [name for name in every if fnmatch(name, self.coursedir.notebook_id)]
        if not self.expected:
            self._fail(f"No notebook of {assignment} matches {self.coursedir.notebook_id!r}.")
        self.students = self._students(assignment)
        reasons = self._reasons(assignment, anew=True)
        if not reasons:
            self.log.info("All %d of %s are graded already.", len(self.students), assignment)
            self._leave(before)
            return
        try:
            grading: Grading = import_item(self.grading)(self)
            grading.load_lessons(every)
        except NotReady as error:
            self._fail(str(error))
        # Calibration may have found another way to check a test.
        reasons = self._reasons(assignment, anew=False)
        for student, why in reasons.items():
            if why is not Why.NEW:
                self.log.warning("Grading %s again: %s.", student, why.value)
        self.todo = list(reasons)
        if standing := len(self.students) - len(reasons):
            self.log.info("%d of %d are graded already.", standing, len(self.students))
        try:
            with folder_for_submissions() as self.staging:
                grading.grade()
        except BaseException:
            self._summarize()
            raise
        self._leave(None if self.errors else before)
        if self.errors:
            names = ", ".join(self.errors)
            raise NbGraderException(f"Not graded: {names}. See the log above; run again to retry.")

    # What a run that finds nothing new may say again.

    def _before(self, assignment: str) -> tuple[Places, Before] | None:
        """Look at what this run will read; None where not all of that can be told."""
        course, marker = self.coursedir, "\0"
        gradebook = make_url(course.db_url)
        if gradebook.get_backend_name() != "sqlite" or not gradebook.database:
            return None

        def around(step: str) -> tuple[str, str]:
            before, behind = course.format_path(step, marker, assignment).split(marker)
            return before, behind

        places = Places(
            assignment,
            os.path.abspath(course.root),
            course.format_path(course.source_directory, ".", assignment),
            os.path.abspath(gradebook.database),
            around(course.submitted_directory),
            around(course.autograded_directory),
            notebooks=(),
            ignore=tuple(course.ignore),
        )
        seen = Before.at(places, self.config)
        return None if seen is None else (places, seen)

    def _leave(self, before: tuple[Places, Before] | None) -> None:
        """Say what came of the run; keep it, where all that it came of was seen before."""
        if before is not None and self.freshness is not None:
            places, seen = before
            places = replace(places, notebooks=tuple(self.expected))
            others = set(unchanged.handed_in(places)) - set(self.students)
            if others <= set(self.coursedir.student_id_exclude.split(",")):
                everybody = (*self.students, *others)
                hand_ins = {name: self.freshness.hand_in(name) for name in everybody}
                self.standing = Standing.of(places, seen, hand_ins)
        lines = self._summarize()
        if self.standing is not None:
            self.standing.keep(Said(len(self.students), lines))

    def _say_summary(self, lines: list[str]) -> None:
        self.log.info(
            "Summary of %s:\n  %s",
            *(self.coursedir.assignment_id, "\n  ".join(lines) or "nothing graded"),
        )

    def _students(self, assignment: str) -> list[str]:
        """Return who handed in and is asked for, in order; `NbGraderException` if nobody did."""
        wanted = self.coursedir.student_id
        pattern = self.submitted(wanted, assignment)
        found = []
        # A learner's name may hold what glob takes for a pattern. One that stands for many names
        # nobody: a folder called "*" would be taken for the whole class, and graded alone.
        named = os.path.lexists(pattern) and not stands_for_many(wanted)
        for path in [pattern] if named else self._matching(assignment):
            student = self._student_of(path)
            if "\n" in student or stands_for_many(student):
                self.log.error(
                    "Not graded: the folder %s. Its name cannot be a student's id, because it "
                    "stands for many names or has several lines; rename it.",
                    printable(path),
                )
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
        before, after = self.submitted("\0", assignment).split("\0")
        return sorted(glob(escape(before) + self.coursedir.student_id + escape(after)))

    def _reasons(self, assignment: str, *, anew: bool) -> dict[str, Why]:
        """Return why each learner whose grade does not stand is graded.

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

    def submitted(self, student: str, assignment: str) -> str:
        return self.coursedir.format_path(self.coursedir.submitted_directory, student, assignment)

    def _student_of(self, path: str) -> str:
        marker = "\0"
        before, after = self.submitted(marker, self.coursedir.assignment_id).split(marker)
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
            except release.CourseError as error:
                self._fail(str(error))
            with Gradebook(course.db_url, course.course_id) as gradebook:
                names = _notebooks_of(gradebook, assignment)
        if not names:
            self._fail(nowhere(course, assignment))
        return names

    @property
    def settled(self) -> int:
        """How many are done: graded before or now, or named among the errors."""
        return len(self.students) - len(self.todo) + self.graded + len(self.errors)

    def _summarize(self) -> list[str]:
        """Say in the log what came of each learner; returns the lines."""
        course = self.coursedir
        lines: list[str] = []
        if self.freshness is None:
            return lines
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
        self._say_summary(lines)
        return lines


def _scores(gradebook: Gradebook, assignment: str) -> dict[str, tuple[float, float]]:
    """Return each learner's score of an assignment, and how much it could be."""
    rows = gradebook.db.query(
        SubmittedAssignment.student_id, SubmittedAssignment.score, SubmittedAssignment.max_score
    )
    found = rows.join(Assignment).filter(Assignment.name == assignment).all()
    return {student: (score, most) for student, score, most in found}


def unknown(course: CourseDirectory, assignment: str) -> str | None:
    """Return that a course has no such assignment, and which it has; None where it has it."""
    folder = Path(course.format_path(course.source_directory, ".", assignment))
    if any(folder.glob("*.ipynb")):
        return None
    if problem := gradebook_file.problem(course.db_url):
        return problem
    with Gradebook(course.db_url, course.course_id) as gradebook:
        return None if _notebooks_of(gradebook, assignment) else nowhere(course, assignment)


def nowhere(course: CourseDirectory, assignment: str) -> str:
    """Return what to do about an assignment that is neither in `source/` nor in the gradebook."""
    folder = Path(course.format_path(course.source_directory, ".", assignment))
    lesson = Path(course.root) / "notebooks" / f"{assignment}.md"
    if lesson.is_file():
        return (
            f"{assignment} was never built. Run `make build`, then `nbgrader "
            f"generate_assignment {assignment}`."
        )
    return release.absent(folder, assignment)


def _notebooks_of(gradebook: Gradebook, assignment: str) -> list[str]:
    try:
        return sorted(notebook.name for notebook in gradebook.find_assignment(assignment).notebooks)
    except MissingEntry:
        return []
