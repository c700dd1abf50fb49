"""What changed since the last run: the scores of an assignment, as the last report had them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from logging import Logger
from pathlib import Path
from typing import Any

from nbgrader.coursedir import CourseDirectory

from nbjudge import graders
from nbjudge.codes import OWN_FOLDER


@dataclass
class Changes:
    """Whose score is another one than before: learner → before (None: had none), and now.

    since: when the scores before were reported, in UTC; "" for the first report.
    """

    since: str = ""
    scores: dict[str, tuple[float | None, float | None]] = field(default_factory=dict)


def note(
    course: CourseDirectory, assignment: str, scores: dict[str, float], log: Logger
) -> Changes:
    """Return what changed since the scores were last others, and keep those of now."""
    path = Path(course.root, OWN_FOLDER, "reported", f"{assignment}.json")
    kept = _read(path)
    if kept is None or kept["scores"] != scores:
        before = kept or {"when": "", "scores": {}}
        now = datetime.now(UTC).isoformat(timespec="seconds")
        kept = {
            "when": now,
            "scores": scores,
            "before": {"when": before["when"], "scores": before["scores"]},
        }
        try:
            graders.folder(course.root, OWN_FOLDER, "reported")
            graders.write(path, json.dumps(kept), course.root)
        except OSError as error:
            log.warning("%s cannot be written (%s).", path, error.strerror)
    old = kept["before"]
    if not old["when"]:
        return Changes()
    changed = {
        student: (old["scores"].get(student), scores.get(student))
        for student in sorted(old["scores"].keys() | scores.keys())
        if old["scores"].get(student) != scores.get(student)
    }
    return Changes(old["when"], changed)


def _read(path: Path) -> dict[str, Any] | None:
    """Return what was kept; None where that is nothing that can be read."""
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        for part in (data, data["before"]):
            dict(part["scores"])
            str(part["when"])
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return data
