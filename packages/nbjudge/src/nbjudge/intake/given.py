"""A release as one learner may have it: what is compared with when something looks changed."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from nbformat import NotebookNode

#: Characters of a source beyond which its plain form is not kept.
_MOST_KEPT = 4_000


@dataclass(frozen=True)
class Given:
    """One release of a notebook.

    when: its day and time, ISO. cells: of each `cell_type`, `id`, `source` and `nbgrader`, what
    nbgrader knew of it.
    """

    when: str
    cells: list[dict[str, Any]]

    @cached_property
    def _by_name(self) -> dict[str, dict[str, Any]]:
        return {
            cell["nbgrader"]["grade_id"]: cell
            for cell in self.cells
            if cell["nbgrader"].get("grade_id")
        }

    @cached_property
    def _sources(self) -> dict[str, list[dict[str, Any]]]:
        found = defaultdict(list)
        for cell in self.cells:
            found[plain(cell["source"])].append(cell)
        return found

    def likeness(self, submitted: list[NotebookNode]) -> int:
        """Return how many cells of a submission are, character by character, of this release."""
        return sum(self.has(cell) for cell in submitted)

    def has(self, cell: NotebookNode) -> bool:
        """Whether a submitted cell is one of this release's, untouched."""
        name = named(cell)
        if name is not None and name in self._by_name:
            return plain(self._by_name[name]["source"]) == plain(cell.source)
        return name is None and plain(cell.source) in self._sources

    def knows(self, grade_id: str) -> bool:
        """Whether this release has a cell of that name."""
        return grade_id in self._by_name

    def about(self, grade_id: str) -> dict[str, Any]:
        """Return what nbgrader knew of a cell of this release; {} if it has none of that name."""
        found = self._by_name.get(grade_id)
        return {} if found is None else {"cell_type": found["cell_type"], **found["nbgrader"]}


def plain(source: str) -> str:
    """Return a source without the white space that editors add and take at the ends of lines."""
    return _plain(source) if len(source) > _MOST_KEPT else _kept_plain(source)


def _plain(source: str) -> str:
    return "\n".join(line.rstrip() for line in source.strip().splitlines())


#: The course's own cells stand in every notebook of a class, and each is compared several times.
_kept_plain = lru_cache(maxsize=2_000)(_plain)


def named(cell: NotebookNode) -> str | None:
    """Return the grade_id that a submitted cell carries, if any."""
    about = cell.metadata.get("nbgrader", {})
    name = about.get("grade_id") if isinstance(about, dict) else None
    return name if isinstance(name, str) else None
