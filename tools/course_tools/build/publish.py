"""The students' repository: lessons, the package without instructor parts, and the environment.

The course's own repository holds `source/`, so a public copy of it gives the solutions away. What
Binder and Colab launch is the repository that is assembled here.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import tomlkit

from course_tools.build.leaks import find_leaks, given_to_learners, secrets

WHOLE = ("LICENSE", "LICENSE-lessons", "constraints.txt", ".gitignore", "release")
STUDENT_EXTRAS = ("checkpoints", "lab")


class PublishError(Exception):
    """The students' repository would give something away, or has no place to go."""


def publish(folder: Path, target: Path) -> list[str]:
    """Assemble the students' repository in `target` and return the paths written, sorted.

    Parameters
    ----------
    folder
        The course's root, with `release/` built.
    target
        A new or empty folder, or a clone of the students' repository (it has `.git`), whose
        other files are replaced.

    Raises
    ------
    PublishError
        Nothing is released yet, `target` holds files and is no clone, or a line of a solution
        or of a hidden test would be published; nothing is left in `target` then.
    """
    if not list((folder / "release").glob("*/*.ipynb")):
        raise PublishError("nothing in release/: run `make build` first")
    if leaks := find_leaks(given_to_learners(folder), secrets(folder)):
        raise PublishError("not published, it would give away:\n  " + "\n  ".join(leaks))
    if target.exists() and any(target.iterdir()) and not (target / ".git").exists():
        raise PublishError(f"{target} holds files and is no clone: name a new folder or a clone")
    target.mkdir(parents=True, exist_ok=True)
    for path in target.iterdir():
        if path.name != ".git":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for name in WHOLE:
        _copy(folder / name, target / name)
    package = Path("src/llm_memory")
    _copy(folder / package, target / package)
    (target / "pyproject.toml").write_text(students_project(folder), encoding="utf-8")
    _copy(folder / "Makefile", target / "Makefile")
    environment = (folder / "environment.yml").read_text(encoding="utf-8")
    (target / "environment.yml").write_text(_students_environment(environment))
    _copy(folder / "docs" / "students.md", target / "README.md")
    written = [path for path in target.rglob("*") if path.is_file() and ".git" not in path.parts]
    # Read back what stands there: the check above cannot know what copying added.
    texts = {
        str(path): path.read_text(encoding="utf-8")
        for path in written
        if path.suffix in {".py", ".ipynb", ".json", ".md", ".txt", ".toml", ".yml"}
    }
    if leaks := find_leaks(texts, secrets(folder)):
        for path in written:
            path.unlink()
        raise PublishError("not published, it would give away:\n  " + "\n  ".join(leaks))
    return sorted(path.relative_to(target).as_posix() for path in written)


def _copy(source: Path, target: Path, leave_out: tuple[str, ...] = ()) -> None:
    if source.is_dir():
        ignore = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", *leave_out)
        shutil.copytree(source, target, ignore=ignore)
    else:
        shutil.copyfile(source, target)


def _students_environment(text: str) -> str:
    """Return `environment.yml` without the grading engine."""
    lines = [line for line in text.splitlines(keepends=True) if "nbjudge" not in line]
    return "".join(lines).replace("[instructor]", "[lab]")


def students_project(folder: Path) -> str:
    """Return `pyproject.toml` without what only instructors and maintainers run."""
    project = tomlkit.parse((folder / "pyproject.toml").read_text(encoding="utf-8"))
    for table in ("scripts", "entry-points"):
        project["project"].pop(table, None)
    extras = project["project"]["optional-dependencies"]
    for name in list(extras):
        if name not in STUDENT_EXTRAS:
            extras.pop(name)
    for tool in ("ruff", "pytest"):
        project["tool"].pop(tool, None)
    # JupyterLab's settings for editing lessons, and the grader's kernel.
    project["tool"]["hatch"]["build"]["targets"]["wheel"].pop("shared-data", None)
    return tomlkit.dumps(project)
