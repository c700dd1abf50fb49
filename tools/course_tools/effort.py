"""How long a lesson takes, by its words and by the lines that are to be written in it.

    python -m course_tools.effort

Nobody was timed. 200 words are read a minute; a cell that is run takes a minute, to read it and to
look at what it shows; so does a question, and so does each line of the reference solutions, to
think of, to write and to mend. Optional exercises are left out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from nbformat import NotebookNode

from course_tools.build import course
from course_tools.build.lesson import is_exercise, read, tags

WORDS_A_MINUTE = 200
SOLUTION = re.compile(r"### BEGIN SOLUTION\n(.*?)### END SOLUTION", re.DOTALL)


@dataclass(frozen=True)
class Effort:
    """What a lesson asks of a learner."""

    words: int
    cells: int
    lines: int

    @property
    def minutes(self) -> float:
        """The time by the rule above."""
        return self.words / WORDS_A_MINUTE + self.cells + self.lines

    @property
    def half_hours(self) -> float:
        """The time in hours, rounded to half an hour: what the lesson says."""
        return round(self.minutes / 30) / 2


def effort(lesson: NotebookNode) -> Effort:
    """Count what is read, run and written in a lesson (`course_tools.build.lesson.read`)."""
    words = cells = lines = 0
    for cell in lesson.cells:
        if cell.cell_type == "markdown":
            words += len(_as_read(cell.source))
        elif not is_exercise(cell):
            cells += "setup" not in tags(cell)
        elif "optional" not in tags(cell):
            lines += sum(len(_code(part)) for part in SOLUTION.findall(cell.source))
    return Effort(words, cells, lines)


def _as_read(text: str) -> list[str]:
    """The words of a text as they are seen: no addresses, no signs that stand alone."""
    seen = re.sub(r"\]\([^)]*\)", "]", text)
    return [word for word in seen.split() if re.search(r"\w", word)]


def _code(part: str) -> list[str]:
    """The lines that are neither empty nor a comment."""
    return [line for line in map(str.strip, part.splitlines()) if line and line[0] != "#"]


def main(root: Path | None = None) -> None:
    """Print what each lesson takes."""
    root = root or course.root()
    for name in course.LESSONS:
        found = effort(read(root / "notebooks" / f"{name}.md", root))
        print(
            f"{name:15} {found.words:5,} words, {found.cells:3} cells to run, {found.lines:3} "
            f"lines to write: {found.minutes:3.0f} minutes, so {found.half_hours:g} hours"
        )


if __name__ == "__main__":
    main()
