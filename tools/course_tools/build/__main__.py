"""`python -m course_tools.build [LESSON …]`: build what changed, and say what is done."""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import nbformat

from course_tools.build import course, fingerprints, lesson, source

STAMPS = ".build"
# What changes a lesson's outputs or its release: the package that it imports and what builds it.
PARTS = ("build", "check", "data", "grading/clear.py", "plots", "quiz", "*.py")


def main(argv: list[str] | None = None) -> int:
    """Build the lessons named, or all; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m course_tools.build", description=__doc__)
    parser.add_argument("lessons", nargs="*", metavar="LESSON", help="default: all")
    parser.add_argument("--force", action="store_true", help="build what did not change, too")
    options = parser.parse_args(argv)
    folder = course.root()
    there = [name for name in course.LESSONS if (folder / "notebooks" / f"{name}.md").is_file()]
    if unknown := set(options.lessons) - set(there):
        parser.error(f"no lesson {', '.join(sorted(unknown))}; there are: {', '.join(there)}")
    try:
        for name in options.lessons or there:
            build(folder, name, force=options.force)
    except lesson.LessonError as error:
        print(f"\nbuild stopped: {error}", file=sys.stderr)
        return 1
    return 0


def build(folder: Path, name: str, force: bool = False) -> None:
    """Build one lesson: fingerprints, `source/` and `release/`.

    Raises `LessonError` naming notebook and cell.
    """
    stamp = folder / STAMPS / f"{name}.json"
    state = digest(folder, name)
    if not force and stamp.is_file() and json.loads(stamp.read_text()) == state:
        print(f"{name}: unchanged")
        return
    print(f"{name}: read", end="", flush=True)
    notebook = lesson.read(folder / "notebooks" / f"{name}.md", folder)
    print(", fingerprints", end="", flush=True)
    prints = fingerprints.compute(notebook, name, fingerprints.load_bank(folder, name))
    target = folder / "src" / "llm_memory" / "check" / "fingerprints" / f"{name}.json"
    fingerprints.write(prints, target)
    print(", run", end="", flush=True)
    place = folder / "source" / name / f"{name}.ipynb"
    refuse_companions(place)
    source.execute(notebook, name)
    place.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, place)
    print(", release", end="", flush=True)
    release(folder, name)
    stamp.parent.mkdir(exist_ok=True)
    stamp.write_text(json.dumps(digest(folder, name)))
    print(", done")


def refuse_companions(notebook: Path) -> None:
    """Raise `LessonError` if a file lies beside a source notebook: nbgrader would release it."""
    if notebook.parent.is_dir():
        for path in sorted(notebook.parent.iterdir()):
            if path != notebook and path.name != ".ipynb_checkpoints":
                raise lesson.LessonError(
                    f"{notebook.stem}: {path.name} lies beside the source notebook and would be "
                    "given to learners; move it away"
                )


def release(folder: Path, name: str) -> None:
    """Run `nbgrader generate_assignment`; `LessonError` with what it printed if it fails."""
    command = [sys.executable, "-m", "nbgrader", "generate_assignment", name, "--force"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise lesson.LessonError(f"{name}: nbgrader generate_assignment failed:\n{done.stderr}")


def digest(folder: Path, name: str) -> dict[str, str]:
    """Return what stands for all that the lesson is built from, and for what was built."""
    package = Path(importlib.util.find_spec("llm_memory").origin).parent
    files = [
        folder / "notebooks" / f"{name}.md",
        folder / "tools" / "course_tools" / "mistakes" / "bank.py",
        folder / "tools" / "course_tools" / "mistakes" / f"{name}.py",
        folder / "nbgrader_config.py",
        folder / "pyproject.toml",
    ]
    for part in PARTS:
        for path in sorted(package.glob(part)):
            files += sorted(path.rglob("*")) if path.is_dir() else [path]
    inputs = hashlib.sha256()
    for path in files:
        if path.is_file() and path.suffix != ".pyc" and path.parent.name != "fingerprints":
            inputs.update(path.name.encode() + b"\0" + path.read_bytes())
    outputs = hashlib.sha256()
    for place in ("source", "release"):
        path = folder / place / name / f"{name}.ipynb"
        outputs.update(path.read_bytes() if path.is_file() else b"missing")
    return {"inputs": inputs.hexdigest(), "outputs": outputs.hexdigest()}


if __name__ == "__main__":
    sys.exit(main())
