"""Who has how many points for what: an assignment's grades, by learner and exercise."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import correlation

from nbgrader.api import (
    BaseCell,
    Grade,
    Gradebook,
    Notebook,
    SubmittedAssignment,
    SubmittedNotebook,
)
from nbgrader.coursedir import CourseDirectory

from nbjudge.wire import course as settings
from nbjudge.wire import named


@dataclass
class Grades:
    """An assignment's points by learner, of the whole and of each exercise, and their maxima."""

    maximum: float
    scores: dict[str, float] = field(default_factory=dict)
    exercises: dict[str, dict[str, float]] = field(default_factory=dict)
    maxima: dict[str, float] = field(default_factory=dict)

    def discrimination(self, exercise: str) -> float | None:
        """Return how an exercise's points go with those of all others (Pearson's correlation).

        1: who has it has the rest, too; near 0, or below: it tells nothing, or the contrary, and
        is worth a look. None where all have the same, or there are fewer than three learners.
        """
        own = [self.exercises[exercise].get(student, 0.0) for student in self.scores]
        rest = [score - one for score, one in zip(self.scores.values(), own, strict=True)]
        if len(own) < 3 or len(set(own)) < 2 or len(set(rest)) < 2:
            return None
        return correlation(own, rest)


def grades_of(course: CourseDirectory, assignment: str) -> Grades:
    """Return an assignment's points; late penalties are taken off. `MissingEntry` if unknown."""
    rule = settings.here().exercise_of
    exercise_of = named.load(rule) if rule else lambda test, exercises: None
    with Gradebook(course.db_url, course.course_id) as gradebook:
        about = gradebook.find_assignment(assignment)
        found = Grades(about.max_score)
        solutions = [cell.name for notebook in about.notebooks for cell in notebook.solution_cells]
        groups = {}
        for notebook in about.notebooks:
            for cell in [*notebook.grade_cells, *notebook.task_cells]:
                name = exercise_of(cell.name, solutions) or cell.name
                groups[notebook.name, cell.name] = name
                found.maxima[name] = found.maxima.get(name, 0.0) + cell.max_score
                found.exercises.setdefault(name, {})
        # All rows at once: a class has ten thousand of them.
        whole = gradebook.db.query(
            SubmittedAssignment.student_id,
            SubmittedAssignment.score,
            SubmittedAssignment.late_submission_penalty,
        )
        for student, score, penalty in whole.filter_by(assignment_id=about.id):
            found.scores[student] = max(0.0, score - (penalty or 0.0))
        grades = gradebook.db.query(
            SubmittedAssignment.student_id, Notebook.name, BaseCell.name, Grade.score
        )
        grades = grades.select_from(Grade).join(BaseCell, BaseCell.id == Grade.cell_id)
        grades = grades.join(SubmittedNotebook, SubmittedNotebook.id == Grade.notebook_id)
        grades = grades.join(Notebook, Notebook.id == SubmittedNotebook.notebook_id)
        grades = grades.join(
            SubmittedAssignment, SubmittedAssignment.id == SubmittedNotebook.assignment_id
        )
        grades = grades.filter(SubmittedAssignment.assignment_id == about.id)
        for student, notebook_name, cell_name, score in grades:
            points = found.exercises[groups[notebook_name, cell_name]]
            points[student] = points.get(student, 0.0) + (score or 0.0)
    found.scores = dict(sorted(found.scores.items()))
    return found
