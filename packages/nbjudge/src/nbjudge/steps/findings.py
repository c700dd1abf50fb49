"""What grading found in a notebook, as plain data: what goes into the gradebook and the record.

The steps fill it in wherever a notebook is run; the process that owns the gradebook writes it down.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

#: Where nbconvert's resources hold the `Findings` of the notebook.
FINDINGS = "nbjudge_findings"


@dataclass
class Findings:
    """The outcome of one notebook.

    scores: points by the cell's grade_id; None where a teacher has to give them.
    comments: nbgrader's automatic comment by grade_id; None where there is none.
    flags: as `codes.all_flags` gives them. answers: the recorded ones.
    mistakes: the names of known ones that were recognised, for each cell in turn.
    """

    scores: dict[str, float | None] = field(default_factory=dict)
    comments: dict[str, str | None] = field(default_factory=dict)
    flags: list[dict[str, str]] = field(default_factory=list)
    answers: dict[str, Any] = field(default_factory=dict)
    mistakes: list[str] = field(default_factory=list)
