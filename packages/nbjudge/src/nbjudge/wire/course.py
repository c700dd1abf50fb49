"""What a course has told the engine, as plain data, in every process of a grading run.

The grader's process takes it from the configuration (`nbjudge.settings.NbJudge`); the fork server
gets it when it starts, and with it each kernel and each judge.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True)
class Course:
    """The traits of `nbjudge.settings.NbJudge`, which says what each is."""

    preload: list[str] = field(default_factory=list)
    shared: list[str] = field(default_factory=list)
    test_names: dict[str, str] = field(default_factory=dict)
    recorder: str = ""
    exercise_of: str = ""
    answer_files: list[str] = field(default_factory=list)
    watch: bool = True
    handles: dict[str, list[str]] = field(default_factory=dict)
    forbidden: dict[str, list[str]] = field(default_factory=dict)

    def to_json(self) -> str:
        """As text, for a process that is started."""
        return json.dumps(asdict(self), sort_keys=True)


_current = Course()


def use(course: Course) -> None:
    """Let this process grade for `course` from now on."""
    global _current
    _current = course


def is_shared(module: str | None) -> bool:
    """Whether a module is of one of the course's own packages, which both sides have."""
    return isinstance(module, str) and module.partition(".")[0] in _current.shared


def here() -> Course:
    """Return the course that this process grades for; one without settings at first."""
    return _current
