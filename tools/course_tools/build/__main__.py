"""`python -m course_tools.build [LESSON …]`: build what changed, and say what is done."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat

from course_tools.build import course, fingerprints, inputs, lesson, source

STAMPS = ".build"


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
    """Build one lesson: fingerprints, `source/` and `release/`, each if what it is made of changed.

    Raises `LessonError` naming notebook and cell.
    """
    print(name, end="", flush=True)
    stamps = Stamps(folder / STAMPS / f"{name}.json", force)
    notebook = lesson.read(folder / "notebooks" / f"{name}.md", folder)
    place = folder / "source" / name / f"{name}.ipynb"
    refuse_companions(place)

    prints = folder / inputs.FINGERPRINTS / f"{name}.json"
    with stamps.step("fingerprints", prints, inputs.of_fingerprints(folder, name, notebook)) as due:
        if due:
            bank = fingerprints.load_bank(folder, name)
            fingerprints.write(fingerprints.compute(notebook, name, bank), prints)
    with stamps.step("run", place, inputs.of_run(folder, name, notebook)) as due:
        if due:
            source.execute(notebook, name)
        else:
            source.keep_outputs(notebook, nbformat.read(place, as_version=4))
        place.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, place)
    released = folder / "release" / name / f"{name}.ipynb"
    with stamps.step("release", released, inputs.of_release(folder, name)) as due:
        if due:
            release(folder, name)
    print(", done" if stamps.done else ": unchanged")


class Stamps:
    """For each step of one lesson, the digests of what it was made from and of what it made."""

    def __init__(self, path: Path, force: bool):
        """`force` lets every step be due."""
        self.path, self.force = path, force
        self.done: list[str] = []
        self._stored: dict[str, list[str]] = {}
        if path.is_file():
            self._stored = json.loads(path.read_text(encoding="utf-8"))

    @contextmanager
    def step(self, name: str, made: Path, made_from: str) -> Iterator[bool]:
        """Tell whether a step is due, and note it as done when the block is left without error."""
        due = self.force or self._stored.get(name) != [made_from, inputs.of_file(made)]
        if due:
            self.done.append(name)
            print(f", {name}", end="", flush=True)
        yield due
        self._stored[name] = [made_from, inputs.of_file(made)]
        self.path.parent.mkdir(exist_ok=True)
        self.path.write_text(json.dumps(self._stored), encoding="utf-8")


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


if __name__ == "__main__":
    sys.exit(main())
