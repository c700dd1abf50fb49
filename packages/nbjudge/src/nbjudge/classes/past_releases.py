"""What learners were given: every release of an assignment, kept in the course's own folder.

Who fetched a lesson before it was corrected has not tampered with it. Each release is kept by its
content, cell by cell, and a submission is compared with the one that it comes from.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from datetime import UTC, datetime
from logging import Logger
from pathlib import Path
from typing import Any

from nbgrader.coursedir import CourseDirectory

from nbjudge import graders
from nbjudge.codes import OWN_FOLDER
from nbjudge.intake.given import Given

_VERSION = 1


def keep(course: CourseDirectory, assignment: str, log: Logger) -> None:
    """Keep what stands in `release/` now, unless it is kept already."""
    release = Path(course.format_path(course.release_directory, ".", assignment))
    kept = _folder(course, assignment)
    for path in sorted(release.glob("*.ipynb")) if release.is_dir() else []:
        try:
            cells = _cells(path)
            digest = hashlib.sha256(json.dumps(cells).encode()).hexdigest()[:16]
            target = kept / f"{path.stem}-{digest}.json"
            if target.is_file():
                continue
            when = datetime.fromtimestamp(path.stat().st_mtime, UTC)
            about = {
                "version": _VERSION,
                "notebook": path.stem,
                "when": when.isoformat(timespec="seconds"),
                "cells": cells,
            }
            graders.folder(course.root, OWN_FOLDER, "released", assignment)
            graders.write(target, json.dumps(about), course.root)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning(
                "What %s was released with could not be kept (%s): after a correction, who has "
                "this release will be flagged.",
                *(path, error),
            )


def of(course: CourseDirectory, assignment: str, notebook: str) -> list[Given]:
    """Return every release of a notebook that is kept, the newest first."""
    found = []
    kept = _folder(course, assignment)
    for path in sorted(kept.glob("*.json")) if kept.is_dir() else []:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            about = json.loads(path.read_text(encoding="ascii"))
            if about["version"] == _VERSION and about["notebook"] == notebook:
                found.append(Given(about["when"], about["cells"]))
    return sorted(found, key=lambda given: given.when, reverse=True)


def _folder(course: CourseDirectory, assignment: str) -> Path:
    return Path(course.root, OWN_FOLDER, "released", assignment)


def _cells(path: Path) -> list[dict[str, Any]]:
    """Return what counts of each cell of a released notebook."""
    found = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = cell["source"]
        about = cell.get("metadata", {}).get("nbgrader", {})
        keys = ("grade_id", "grade", "solution", "locked", "task", "points")
        found.append(
            {
                "cell_type": cell["cell_type"],
                "id": cell.get("id", ""),
                "source": source if isinstance(source, str) else "".join(source),
                "nbgrader": {key: about[key] for key in keys if key in about},
            }
        )
    return found
