"""More time for a learner, given before the hand-in: kept until the gradebook has a place for it.

nbgrader keeps an extension with the submission, which the gradebook has from the first grading on.
Who asks for more time has usually not handed in.
"""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

from nbgrader.coursedir import CourseDirectory

from nbjudge import graders
from nbjudge.codes import OWN_FOLDER

_FILE = "extensions.json"


def promised(course: CourseDirectory, assignment: str) -> dict[str, timedelta]:
    """Return the extensions of an assignment that were given before the hand-in, by learner.

    Raises `ValueError` where the file that holds them cannot be read.
    """
    return {
        student: timedelta(seconds=seconds)
        for student, seconds in _read(course).get(assignment, {}).items()
    }


def promise(course: CourseDirectory, assignment: str, student: str, extension: timedelta) -> None:
    """Keep an extension for a learner's first grading; none of length takes it back.

    Raises `ValueError` where the file that holds them cannot be read, and `OSError`.
    """
    every = _read(course)
    those = every.setdefault(assignment, {})
    those.pop(student, None)
    if extension:
        those[student] = extension.total_seconds()
    path = graders.folder(course.root, OWN_FOLDER) / _FILE
    graders.write(path, json.dumps(every, indent=1), course.root)


def _read(course: CourseDirectory) -> dict[str, dict[str, float]]:
    path = Path(course.root, OWN_FOLDER, _FILE)
    try:
        data: dict[str, dict[str, float]] = json.loads(path.read_text(encoding="utf-8"))
        for those in data.values():
            for seconds in those.values():
                timedelta(seconds=seconds)
    except FileNotFoundError:
        return {}
    except PermissionError:
        raise  # which has another remedy
    except (OSError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(
            f"{path}, which holds the extensions, cannot be read ({error}). Mend it, or remove it "
            "and give them again."
        ) from error
    return data
