"""`nbgrader generate_feedback` and `release_feedback`: ids are names, and each is reached."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import nbgrader.apps.api
import nbgrader.apps.generatefeedbackapp
from nbgrader.converters import GenerateFeedback
from nbgrader.converters.base import NbGraderException
from nbgrader.exchange.default import ExchangeReleaseFeedback
from nbgrader.utils import notebook_hash

from nbjudge import trees
from nbjudge.ids import printable
from nbjudge.intake.choice import is_variant
from nbjudge.intake.folder import HAND_IN, MAX_FILE
from nbjudge.intake.notebook import Unreadable, read_bytes
from nbjudge.plugins.folders import of_students
from nbjudge.progress import Progress

#: Of a secret or a time stamp, in characters; nbgrader's have 64 and 30.
MAX_LINE = 1_000


def install() -> None:
    """Let `nbgrader generate_feedback` and Formgrader use `Feedback`: nbgrader has no setting."""
    nbgrader.apps.generatefeedbackapp.GenerateFeedback = Feedback
    nbgrader.apps.api.GenerateFeedback = Feedback


class Feedback(GenerateFeedback):
    """As nbgrader's, with the learners taken by name: a folder called `[ab]` is not two others."""

    def init_notebooks(self) -> None:
        """List the graded notebooks; `NbGraderException` where there are none."""
        course = self.coursedir
        self.assignments = {}
        for student, folder in of_students(course, self._input_directory, self.log, graded=True):
            found = sorted(
                str(path) for path in folder.glob(f"{course.notebook_id}.ipynb") if path.is_file()
            )
            if found:
                self.assignments[self._format_source(course.assignment_id, student)] = found
        if not self.assignments:
            message = (
                f"There is nothing to give feedback on: no graded submission of "
                f"{course.assignment_id} for {course.student_id!r}. Run `nbgrader autograde "
                f"{course.assignment_id}`."
            )
            self.log.error(message)
            raise NbGraderException(message)

    def init_destination(self, assignment_id: str, student_id: str) -> bool:
        """As nbgrader's; the folder is made here, by the umask: nbconvert takes the group's off."""
        wanted: bool = super().init_destination(assignment_id, student_id)
        if not wanted:
            self._progress.skip(len(self.notebooks))
        else:
            Path(self._format_dest(assignment_id, student_id)).mkdir(parents=True, exist_ok=True)
        return wanted

    def init_assignment(self, assignment_id: str, student_id: str) -> None:
        """As nbgrader's, without the files that the learner's code wrote while it was graded.

        A test has called that code, and in its files may stand what it was called with.
        """
        super().init_assignment(assignment_id, student_id)
        course = self.coursedir
        known = _contents(course.format_path(course.source_directory, ".", assignment_id))
        known |= _contents(
            course.format_path(course.submitted_directory, student_id, assignment_id)
        )
        graded = Path(self._format_source(assignment_id, student_id))
        there = Path(self._format_dest(assignment_id, student_id))
        for path in _files(graded):
            copied = there / path.relative_to(graded)
            if path.name not in HAND_IN and copied.is_file() and _content(copied) not in known:
                copied.unlink()

    def convert_notebooks(self) -> None:
        """Make the pages, and say how far that is."""
        total = sum(map(len, self.assignments.values()))
        self._progress = Progress("Feedback", total, self.log)
        super().convert_notebooks()

    def convert_single_notebook(self, notebook_filename: str) -> None:
        """Make one page."""
        super().convert_single_notebook(notebook_filename)
        self._progress.step()


class ReleaseFeedback(ExchangeReleaseFeedback):
    """As nbgrader's, but goes on after a submission that did not come through the exchange."""

    def copy_files(self) -> None:
        """Put each page where its learner finds it; name those whose learner cannot.

        Raises `ExchangeError` at the end where the exchange refused a page.
        """
        course = self.coursedir
        failed: list[str] = []
        for student, folder in of_students(course, course.feedback_directory, self.log):
            pages = sorted(path for path in folder.glob("*.html") if path.is_file())
            if not pages:
                continue
            secret = _line(folder / "submission_secret.txt")
            if not secret:
                self.log.warning(
                    "%s cannot fetch this feedback: the submission did not come through the "
                    "exchange (it has no submission_secret.txt). Hand the page over another way: "
                    "%s",
                    student,
                    printable(str(folder)),
                )
                continue
            when = printable(_line(folder / "timestamp.txt") or "no time of handing in")
            handed_in = self._handed_in(student)
            if handed_in == []:
                self.log.warning(
                    "%s cannot fetch this feedback: nbgrader looks for the notebooks that a "
                    "learner handed in, and there was none outside a folder or an archive. Hand "
                    "the page over another way: %s",
                    *(student, printable(str(folder))),
                )
            for page in pages:
                try:
                    for name in _names_of(page.stem, [p.stem for p in pages], handed_in or []):
                        self._release(page, secret, name)
                except OSError as error:
                    self.log.error("Feedback for %s was not released: %s", student, error)
                    failed.append(student)
                    continue
                self.log.info(
                    "Feedback released for student '%s' on assignment '%s/%s/%s' (%s)",
                    *(student, course.course_id, course.assignment_id, page.stem, when),
                )

        if failed:
            self.fail(
                f"Not released: {', '.join(map(printable, dict.fromkeys(failed)))}. See to the "
                f"space and the permissions of {self.root}, then run the same command again."
            )

    def _handed_in(self, student: str) -> list[str] | None:
        """Return the names of the notebooks in a hand-in's own folder; None if that is gone."""
        course = self.coursedir
        place = course.format_path(course.submitted_directory, student, course.assignment_id)
        try:
            return sorted(name[:-6] for name in os.listdir(place) if name.endswith(".ipynb"))
        except OSError:
            return None

    def _release(self, page: Path, secret: str, notebook: str) -> None:
        name = notebook_hash(secret=secret, notebook_id=notebook)
        new = Path(self.dest_path, f"{name}-tmp.html")
        try:
            shutil.copy(page, new)
            os.replace(new, Path(self.dest_path, f"{name}.html"))
        except OSError:
            new.unlink(missing_ok=True)
            raise


def _names_of(page: str, pages: list[str], handed_in: list[str]) -> list[str]:
    """Return the names under which a learner who renamed a notebook looks for its feedback."""
    others = [name for name in handed_in if name not in pages]
    if len(pages) > 1:
        others = [name for name in others if is_variant(name, page)]
    return [page, *others]


def _line(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            text = file.read(MAX_LINE + 1)
    except OSError:
        return ""
    return text if len(text) <= MAX_LINE else ""


def _contents(folder: str) -> set[str]:
    """Return what each file in a folder holds, as digests."""
    return {found for path in _files(Path(folder)) if (found := _content(path))}


def _files(folder: Path) -> Iterator[Path]:
    for inside, _, names in trees.walk(folder):
        yield from (Path(inside, name) for name in names if not name.endswith(".ipynb"))


def _content(path: Path) -> str | None:
    try:
        return hashlib.sha256(read_bytes(path, MAX_FILE)).hexdigest()
    except Unreadable:
        return None
