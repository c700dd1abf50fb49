"""`nbgrader export`: a table that a spreadsheet reads as the data that it is."""

from __future__ import annotations

import csv
import re
from pathlib import Path

from nbgrader.api import Gradebook, MissingEntry
from nbgrader.plugins import CsvExportPlugin

from nbjudge import graders
from nbjudge.progress import Progress

COLUMNS = (
    *("assignment", "duedate", "timestamp", "student_id", "last_name", "first_name", "email"),
    *("raw_score", "late_submission_penalty", "score", "max_score"),
)
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?")
#: What a spreadsheet takes for the beginning of a formula, in full width, too.
_FORMULA = tuple("=+-@\t\r\n＝＋－＠")


def neutral(value: object) -> object:
    """Return a cell that no spreadsheet computes: text that would be a formula is quoted by '."""
    if value is None:
        return ""
    # A dash alone is how platforms write that there is nothing.
    if isinstance(value, str) and value.startswith(_FORMULA) and not _NUMBER.fullmatch(value):
        if value == "-":
            return value
        return f"'{value}"
    return value


class SafeCsvExport(CsvExportPlugin):
    """nbgrader's columns, written by a CSV library: an id with a comma or a line stays one cell."""

    def export(self, gradebook: Gradebook) -> None:
        """Write all grades to `--to`, or `grades.csv`."""
        destination = Path(self.to or "grades.csv")
        students = {str(name) for name in self.student}
        assignments = {str(name) for name in self.assignment}
        self.log.info("Exporting grades to %s", destination)
        rows = len(gradebook.assignments) * len(gradebook.students)
        progress = Progress("Grades", rows, self.log)
        with (
            graders.replaced(destination) as new,
            new.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            for assignment in gradebook.assignments:
                if assignments and assignment.name not in assignments:
                    continue
                for student in gradebook.students:
                    if students and student.id not in students:
                        continue
                    try:
                        graded = gradebook.find_submission(assignment.name, student.id)
                    except MissingEntry:
                        timestamp, score, penalty = "", 0.0, 0.0
                    else:
                        timestamp, score = graded.timestamp, graded.score
                        penalty = graded.late_submission_penalty
                    row = [
                        *(assignment.name, assignment.duedate, timestamp, student.id),
                        *(student.last_name, student.first_name, student.email),
                        *(score, penalty, max(0.0, score - (penalty or 0.0))),
                        assignment.max_score,
                    ]
                    writer.writerow([neutral(cell) for cell in row])
                    progress.step()
