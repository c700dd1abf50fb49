"""The lessons as text, and the bank of known mistakes and accepted variants of each."""

from course_tools.build import course, fingerprints
from course_tools.build import lesson as reading
from course_tools.build.lesson import grade_id, is_exercise, is_test, read

ROOT = course.root()
LESSONS = {
    name: read(ROOT / "notebooks" / f"{name}.md", ROOT)
    for name in course.LESSONS
    if (ROOT / "notebooks" / f"{name}.md").is_file()
}
BANKS = {name: fingerprints.load_bank(ROOT, name) for name in LESSONS}


def cells_that_test(lesson, exercise):
    """Return an exercise's test cells."""
    names = [grade_id(cell) for cell in LESSONS[lesson].cells if is_exercise(cell)]
    return [
        cell
        for cell in LESSONS[lesson].cells
        if is_test(cell) and reading.tested_exercise(grade_id(cell), names) == exercise
    ]
