"""The way of a submission: taken in, rebuilt, run, and written down.

First comes a safe copy of what was handed in, and the notebook is rebuilt from it. The steps of
`c.Autograde.autograde_preprocessors` make the graded notebook of that (`job`, in any process). Then
the process that owns gradebook, files and record writes to them, in this order. A submission that
is under way is an object of its own, so any number may be.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nbformat import NotebookNode
from nbformat.v4 import new_notebook
from nbgrader.converters.base import NbGraderException
from nbgrader.preprocessors import AssignLatePenalties
from nbgrader.utils import find_all_files, rmtree
from sqlalchemy.exc import OperationalError
from traitlets.utils.importstring import import_item

from nbjudge import disk, settings, trees
from nbjudge.classes import calibration, extensions, job, past_releases, saving
from nbjudge.classes.converter import ClassAutograde, NotReady
from nbjudge.classes.record import Graded
from nbjudge.classes.saving import RunGradebook
from nbjudge.codes import NOT_HANDED_IN, Flag, shown
from nbjudge.intake import folder as intake
from nbjudge.intake import rebuild
from nbjudge.intake.notebook import Submission as Submitted
from nbjudge.intake.notebook import Unreadable, language_of, read_notebook
from nbjudge.run.provisioner import NoSuchKernel, can_fork, kernel_for
from nbjudge.server.forkserver import ForkServer


@dataclass
class Submission:
    """One submission on its way.

    staged: the safe copy of what was handed in. rebuilt: each notebook as it is to be run, as JSON
    text by name. done: what came of them.
    """

    student: str
    staged: Path
    rebuilt: dict[str, str] = field(default_factory=dict)
    done: dict[str, job.Done] = field(default_factory=dict)


class Grading:
    """Grades those whom a run (`ClassAutograde`) has found; a subclass says how many at a time."""

    def __init__(self, run: ClassAutograde):
        """Get ready. Raises `NotReady` where a module that the course names cannot be had."""
        self.run, self.log = run, run.log
        self.course, self.assignment = run.coursedir, run.coursedir.assignment_id
        self.lessons: dict[str, rebuild.Lesson] = {}
        self._others: dict[str, set[str]] | None = None
        try:
            settings.apply(run.config)
        except ImportError as error:
            raise NotReady(str(error)) from error
        source = self.course.format_path(self.course.source_directory, ".", self.assignment)
        self.source = Path(source)
        self.own_files = self._own_files()

    def load_lessons(self, names: list[str]) -> None:
        """Load the lesson as graded; `NotReady` where the course is not."""
        course = self.course
        past_releases.keep(course, self.assignment, self.log)
        try:
            self._extensions = extensions.promised(course, self.assignment)
        except ValueError as error:
            raise NotReady(str(error)) from error
        for name in names:
            path = self.source / f"{name}.ipynb"
            try:
                lesson = rebuild.load_lesson(
                    path, name, self.assignment, course.db_url, self.run.config, course.root
                )
                given = past_releases.of(course, self.assignment, name)
                self.lessons[name] = replace(lesson, releases=given)
                kernel_for(self.lessons[name].notebook.metadata)
            except rebuild.CourseError as error:
                raise NotReady(str(error)) from error
            except NoSuchKernel as error:
                raise NotReady(f"{path}: {error}.") from error
        try:
            calibration.apply(course, self.assignment, self.lessons, self.run.config, self.log)
        except (rebuild.CourseError, RuntimeError) as error:
            raise NotReady(
                f"{self.assignment} could not be calibrated, so nothing was graded: {error}"
            ) from error

        self._content = {name: rebuild.content_of(each) for name, each in self.lessons.items()}

    def grade(self) -> None:
        """Grade them; who could not be graded is in the run's `errors` afterwards.

        Raises `NbGraderException` where it had to stop, and what the gradebook raises.
        """
        run, course = self.run, self.course
        if not run.todo:
            return
        self.warm_up()
        self._rebuilding = [
            import_item(step)(parent=run) for step in map(_name, run.sanitize_preprocessors)
        ]
        self._steps = tuple(map(_name, run.autograde_preprocessors))
        self._settings = job.settings_of(self._steps, run.config)
        self._course_files = {
            name: (self.source / name).read_bytes() for name in sorted(self.own_files)
        }
        self._late = AssignLatePenalties(parent=run)
        self._looks = {
            student: intake.look(Path(run.submitted(student, self.assignment)))
            for student in run.todo
        }
        self._gradebook = RunGradebook(course.db_url, course.course_id)
        with contextlib.closing(self._gradebook), _without_old_objects():
            self.grade_all()

    def warm_up(self) -> None:
        """Start the fork server, which imports while the class is taken in."""
        if can_fork():
            ForkServer.instance().begin()

    def grade_all(self) -> None:
        """Bring every submission of the run's `todo` to its end."""
        raise NotImplementedError

    def _own_files(self) -> set[str]:
        """Return the relative paths of the course's files, which stand in every submission."""
        found = find_all_files(str(self.source), [*self.course.ignore, "*.ipynb"])
        own = {os.path.relpath(path, self.source) for path in found}
        learners = self.run.exclude_overwriting.get(self.assignment, [])
        return own - {os.path.normpath(path) for path in learners}

    @contextlib.contextmanager
    def guarded(self, student: str) -> Iterator[None]:
        """See to it that what goes wrong with a submission does not stop the class."""
        run = self.run
        try:
            yield
        except Exception as error:
            if isinstance(error, OperationalError) and not disk.is_full(error):
                raise
            if disk.is_full(error):
                done = f"{run.settled} of {len(run.students)} submissions are done"
                raise NbGraderException(disk.said(done)) from error
            self.log.error("Could not grade %s:\n%s", student, traceback.format_exc())
            run.errors.append(student)

    # -- before it is run ------------------------------------------------------------------

    def take(self, student: str) -> Submission:
        """Take a submission in and rebuild its notebooks."""
        run, course = self.run, self.course
        assert run.freshness is not None and run.staging is not None
        staged = run.staging / student / self.assignment
        submitted = Path(run.submitted(student, self.assignment))
        run.freshness.hand_in(student)  # before it is read: what changes later is seen later
        flags = intake.take_in(
            *(submitted, staged, run.expected, self.own_files, course.ignore, self._content),
            earlier=self._looks.pop(student, None),
        )
        run.freshness.record.begin(student, run.expected)
        run.notebooks = [str(staged / f"{name}.ipynb") for name in run.expected]
        run.run_pre_convert_hook()
        submission = Submission(student, staged)
        for name in run.expected:
            submission.rebuilt[name] = self._rebuilt(submission, name, flags[name])
        return submission

    def _rebuilt(self, submission: Submission, name: str, flags: list[Flag]) -> str:
        """Return a notebook as it is to be run; what cannot be read counts as an empty one."""
        path, lesson = submission.staged / f"{name}.ipynb", self.lessons[name]
        found = Submitted()
        if not any(flag.code in NOT_HANDED_IN for flag in flags):
            try:
                found = read_notebook(path, language_of(lesson.notebook.metadata) or "python")
            except Unreadable as error:
                flags = [*flags, Flag("unreadable", detail=str(error))]
        found.flags = [*flags, *found.flags]
        notebook: NotebookNode = new_notebook()
        resources = {
            "unique_key": name,
            "nbgrader": self._where(submission, name),
            "metadata": {"name": name, "path": str(submission.staged)},
            rebuild.LESSON: lesson,
            rebuild.SUBMISSION: found,
            rebuild.OTHERS: self._other_lessons,
        }
        for step in self._rebuilding:
            notebook, resources = step(notebook, resources)
        return json.dumps(notebook)

    def _other_lessons(self) -> dict[str, set[str]]:
        """Return the names of the graded cells of the course's other assignments, by assignment."""
        if self._others is None:
            course, marker = self.course, "\1"
            before, after = course.format_path(course.source_directory, ".", marker).split(marker)
            folder = Path(before)
            names = sorted(os.listdir(folder)) if folder.is_dir() else []
            self._others = {
                name: set().union(*map(_grade_ids, Path(before, name + after).glob("*.ipynb")))
                for name in names
                if name != self.assignment
            }
        return self._others

    def _where(self, submission: Submission, name: str) -> dict[str, str]:
        return {
            "student": submission.student,
            "assignment": self.assignment,
            "notebook": name,
            "db_url": self.course.db_url,
        }

    def job(self, submission: Submission, name: str) -> job.Job:
        """Return what has to be done to grade a notebook, for whoever does it."""
        return job.Job(
            submission.rebuilt[name],
            self._files(submission),
            self._where(submission, name),
            self._steps,
            self._settings,
            self._course_files,
        )

    def _files(self, submission: Submission) -> dict[str, bytes]:
        """Return what lies beside a submission's notebooks; the course's own files win."""
        return _bytes_in(submission.staged) | self._course_files

    # -- after it was run ------------------------------------------------------------------

    def save(self, submission: Submission) -> None:
        """Write down what came of a submission: gradebook, files, and the record last of all."""
        run, student = self.run, submission.student
        assert run.freshness is not None
        if run.create_student:
            self._gradebook.update_or_create_student(student)
        else:
            self._gradebook.find_student(student)  # or it raises `MissingEntry`, which names them
        found = {name: done.found for name, done in submission.done.items()}
        submitted = Path(run.submitted(student, self.assignment))
        missing = {
            name
            for name in self.lessons.keys() - found.keys()
            if not (submitted / f"{name}.ipynb").exists()
        }
        timestamp = self.course.get_existing_timestamp(str(submission.staged))
        saving.save(
            self._gradebook,
            *(self.assignment, student, timestamp, found, missing, self._late),
            extension=self._extensions.get(student),
        )
        graded = Path(run._format_dest(self.assignment, student))
        self._write_files(submission, graded)
        run.set_permissions(self.assignment, student)
        run.notebooks = [str(graded / f"{name}.ipynb") for name in found]
        run.run_post_convert_hook()
        hand_in, lessons = run.freshness.hand_in(student), run.freshness.lessons
        entries = {
            name: Graded(
                hand_in, lessons[name], flags=f.flags, answers=f.answers, mistakes=f.mistakes
            )
            for name, f in found.items()
        }
        run.freshness.record.finish(student, entries)
        run.graded += 1
        trees.remove(submission.staged)

    def _write_files(self, submission: Submission, graded: Path) -> None:
        """Lay out what was handed in, the course's files, and the graded notebooks with theirs."""
        if self.course.notebook_id == "*" and graded.exists():
            rmtree(graded)
        graded.mkdir(parents=True, exist_ok=True)
        for name, data in self._files(submission).items():
            target = graded / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)  # an earlier run's, which is read-only
            target.write_bytes(data)
        for name, done in submission.done.items():
            new = graded / f".{name}.ipynb"
            new.write_text(done.notebook, encoding="utf-8")
            os.replace(new, graded / f"{name}.ipynb")
            left_out = intake.lay_out(done.files, graded, self.own_files, self.course.ignore)
            if left_out:
                self.log.warning(
                    "Files that %s's notebook wrote were left out: %s",
                    submission.student,
                    ", ".join(map(shown, left_out[:5])),
                )


class OneByOne(Grading):
    """Runs each notebook in this process, one after the other."""

    def grade_all(self) -> None:
        """Grade one submission after the other."""
        for student in self.run.todo:
            with self.guarded(student):
                submission = self.take(student)
                for name in submission.rebuilt:
                    submission.done[name] = job.run(self.job(submission, name))
                self.save(submission)


@contextlib.contextmanager
def _without_old_objects() -> Iterator[None]:
    """Let garbage collections pass over what exists by now: they took a fifth of the time."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _name(part: Any) -> str:
    return part if isinstance(part, str) else f"{part.__module__}.{part.__qualname__}"


def _grade_ids(path: Path) -> set[str]:
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        about = [cell["metadata"].get("nbgrader", {}) for cell in cells]
        return {each["grade_id"] for each in about if "grade_id" in each}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return set()


def _bytes_in(folder: Path) -> dict[str, bytes]:
    """Return the files below a folder that are no notebooks, by relative path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".ipynb"
    }
