"""`nbgrader generate_assignment`, which finds out how the test cells can be checked."""

from __future__ import annotations

import sys

import nbgrader.apps.api
import nbgrader.apps.generateassignmentapp

from nbjudge import graders
from nbjudge.classes.release import Release


class CalibratedGenerate(Release):
    """Releases, and then finds out how the test cells can be checked."""

    def start(self) -> None:
        """Release the assignment, calibrate it and print what came of it."""
        with graders.together(self.coursedir.root):
            self._start()

    def _start(self) -> None:
        super().start()
        if self.no_database:
            return
        # Every nbgrader command loads this module, and only this one needs what calibrates.
        from rich.console import Console

        from nbjudge.classes.calibration import calibrate, report, stored
        from nbjudge.intake.rebuild import CourseError

        course, assignment = self.coursedir, self.coursedir.assignment_id
        before = stored(course, assignment)
        try:
            found = calibrate(course, assignment, self.config, anew=False, log=self.log)
        except CourseError as error:
            self._fail(f"{assignment} is not ready to be graded: {error}")
        except Exception as error:
            # It is released all the same; grading finds out for itself, or refuses.
            self.log.error("%s could not be calibrated: %s", assignment, error)
            return
        if found != before:
            report(found, Console(file=sys.stderr).print)


def install() -> None:
    """Let `nbgrader generate_assignment` and Formgrader calibrate what they release."""
    nbgrader.apps.generateassignmentapp.GenerateAssignment = CalibratedGenerate
    nbgrader.apps.api.GenerateAssignment = CalibratedGenerate
