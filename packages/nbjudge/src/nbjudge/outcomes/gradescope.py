"""An assignment as an autograder of Gradescope's: the zip that it takes, and what runs in it.

Gradescope unpacks the zip to `/autograder/source`, runs `setup.sh` once, and for each submission
`run_autograder`, with the learner's files in `/autograder/submission`; it reads
`/autograder/results/results.json`. A submission that could not be graded leaves no such file, so
that Gradescope says so, instead of a 0. All of this is as Gradescope documents it:
https://gradescope-autograders.readthedocs.io/en/latest/specs/
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nbgrader.api import Gradebook
from nbgrader.apps import AutogradeApp
from nbgrader.coursedir import CourseDirectory

from nbjudge import graders, guard
from nbjudge.codes import KEY, OWN_FOLDER, all_flags
from nbjudge.steps.feedback import said_of

#: The one learner of a container.
STUDENT = "learner"
_LEFT_OUT = {"__pycache__", ".ipynb_checkpoints", ".venv", ".git", "build", "dist"}

SETUP = """#!/usr/bin/env bash
# Runs once, when Gradescope builds the autograder's image.
set -euo pipefail
apt-get update && apt-get install -y python3 python3-pip python3-venv
# The image's own Python may be too old: uv brings another one.
python3 -m venv /autograder/tools
/autograder/tools/bin/pip install uv
export UV_PYTHON_INSTALL_DIR=/autograder/python
/autograder/tools/bin/uv venv --python '>=3.11' /autograder/venv
install() {{
  /autograder/tools/bin/uv pip install --python /autograder/venv/bin/python {packages}
}}
# Of PyTorch, where the course needs it, what works without a GPU; PyPI has the other one.
UV_TORCH_BACKEND=cpu install || install
"""

RUN = """#!/usr/bin/env bash
# Runs for each submission.
set -uo pipefail
root="${{AUTOGRADER:-/autograder}}"
python="${{AUTOGRADER_PYTHON:-$root/venv/bin/python}}"
cd "$root/source/course"
exec "$python" -m nbjudge.outcomes.gradescope "$root" {assignment}
"""


class NotReady(Exception):
    """An assignment that no autograder can be made of; the message says what to do."""


def build(
    course: CourseDirectory, assignment: str, target: Path, include: Iterable[str] = ()
) -> None:
    """Write the zip that Gradescope takes.

    include: paths in the course's folder that its configuration or its notebooks import; a folder
    with a `pyproject.toml`, or that file of the course's own, is installed as it lies there, with
    the extras that are named behind it (`pyproject.toml[lab]`). Raises `NotReady`.
    """
    root = Path(course.root)
    source = Path(course.format_path(course.source_directory, ".", assignment))
    if not (source.is_dir() and any(source.glob("*.ipynb"))):
        raise NotReady(f"There is no notebook in {source}: name an assignment of the course.")
    extras = dict(map(_with_extras, include))
    paths = [root / "nbgrader_config.py", source, *(root / name for name in extras)]
    kept = root / OWN_FOLDER / f"{assignment}.json"
    if not kept.is_file():
        raise NotReady(
            f"How the tests of {assignment} are checked is not known yet. Run `nbjudge verify "
            f"{assignment}`, then the same command again."
        )
    paths += [kept, root / OWN_FOLDER / "released" / assignment]
    if missing := [str(path) for path in paths[:-1] if not path.exists()]:
        raise NotReady(f"{', '.join(missing)} is missing, and the autograder needs it.")
    place = "/autograder/source/course"
    # As they lie there: what a wheel leaves out, such as a course's own tools, is imported, too.
    installed = [
        f"-e '{place}/{Path(name).as_posix()}{extra}'"
        for name, extra in extras.items()
        if (root / name / "pyproject.toml").is_file()
    ]
    if (own := root / "pyproject.toml") in paths:
        installed.append(f"-e '{place}{extras[own.name]}'")
    engine = f"'nbjudge=={importlib.metadata.version('nbjudge')}'"
    packages = " ".join(installed) if installed else engine
    target.parent.mkdir(parents=True, exist_ok=True)
    with (
        graders.replaced(target) as new,
        zipfile.ZipFile(new, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for name, text in (
            ("setup.sh", SETUP.format(packages=packages)),
            ("run_autograder", RUN.format(assignment=assignment)),
        ):
            entry = zipfile.ZipInfo(name)
            entry.external_attr = 0o755 << 16
            archive.writestr(entry, text)
        for file in sorted({file for path in paths for file in _files(path)}):
            archive.write(file, f"course/{file.relative_to(root).as_posix()}")


def _with_extras(name: str) -> tuple[str, str]:
    """Return a path and the extras behind it: ("a", "[b]") for "a[b]"."""
    found = re.fullmatch(r"(.+?)(\[[\w,-]+\])?", name)
    return (found[1], found[2] or "") if found else (name, "")


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return [
        found
        for found in path.rglob("*")
        if found.is_file()
        and not any(
            part in _LEFT_OUT or part.endswith(".egg-info")
            for part in found.relative_to(path).parts
        )
    ]


def run(root: Path, assignment: str) -> dict[str, Any]:
    """Grade the submission in `root/submission`; return what `results.json` holds.

    The current folder is the course's. Raises what grading raises.
    """
    from nbjudge.classes.converter import ClassAutograde
    from nbjudge.run.provisioner import SandboxProvisioner

    course = AutogradeApp()
    course.initialize([f"--assignment={assignment}", f"--student={STUDENT}", "--force"])
    if problem := guard.refusal(course.coursedir, course.config):
        raise NotReady(problem)
    place = Path(
        course.coursedir.format_path(course.coursedir.submitted_directory, STUDENT, assignment)
    )
    if place.exists():
        shutil.rmtree(place)
    shutil.copytree(root / "submission", place, symlinks=True)
    ClassAutograde(coursedir=course.coursedir, parent=course).start()
    if missing := sorted(SandboxProvisioner.missing_here):
        # On standard output, which Gradescope keeps to instructors. Where a test is hidden,
        # learners do not see their total score.
        print("For the instructor: protections that this container lacks:", ", ".join(missing))
    return results(course.coursedir, assignment)


def results(course: CourseDirectory, assignment: str) -> dict[str, Any]:
    """Return a graded submission in the form of Gradescope's `results.json`."""
    tests: list[dict[str, Any]] = []
    sentences: list[str] = []
    with Gradebook(course.db_url, course.course_id) as gradebook:
        submission = gradebook.find_submission(assignment, STUDENT)
        for handed_in in sorted(submission.notebooks, key=lambda notebook: notebook.name):
            folder = course.format_path(course.autograded_directory, STUDENT, assignment)
            notebook = json.loads(Path(folder, f"{handed_in.name}.ipynb").read_text("utf-8"))
            sentences += [flag["sentence"] for flag in all_flags(notebook)]
            grades = {grade.name: grade for grade in handed_in.grades}
            for cell in notebook["cells"]:
                name = cell["metadata"].get("nbgrader", {}).get("grade_id")
                grade = grades.get(name)
                if grade is None or not cell["metadata"]["nbgrader"].get("grade"):
                    continue
                test: dict[str, Any] = {
                    "name": name,
                    "output": said_of(cell),
                    "output_format": "text",
                    "visibility": "visible",
                }
                if grade.needs_manual_grade:
                    test["name"] += " (a teacher will grade this)"
                else:
                    test |= {"score": grade.score, "max_score": grade.max_score}
                tests.append(test)
    return {
        # Said here, too, since a test that a teacher grades has none of its own.
        "score": sum(test.get("score", 0) for test in tests),
        "stdout_visibility": "hidden",
        "output": "\n".join(dict.fromkeys(sentences)),
        "output_format": "text",
        "tests": tests,
        "extra_data": {KEY: importlib.metadata.version("nbjudge")},
    }


def main() -> int:
    """Grade one submission in a container; the exit status is 0 where it was graded."""
    root, assignment = Path(sys.argv[1]), sys.argv[2]
    target = root / "results" / "results.json"
    target.unlink(missing_ok=True)
    try:
        found = run(root, assignment)
    except Exception as error:
        print(f"Not graded: {error}", file=sys.stderr)
        return 1
    target.parent.mkdir(exist_ok=True)
    temporary = target.with_suffix(".new")
    temporary.write_text(json.dumps(found), encoding="utf-8")
    os.replace(temporary, target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
