"""The learners' repository: lessons, the package without instructor parts, and the environment.

The course's own repository holds `source/`, so a public copy of it gives the solutions away. What
Binder and Colab launch is the repository that is assembled here.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import nbformat
import tomlkit

from course_tools.build import course, sizes
from course_tools.build.leaks import find_leaks, given_to_learners, secrets

#: Copied as they are.
WHOLE = (
    *("LICENSE", "constraints.txt", "environment.mk", ".gitignore"),
    *("release", "src/llm_memory", "jupyter/labels"),
)
#: What only the learners' repository has, by its place there.
OWN = {
    "Makefile": "Makefile",
    "LICENSE-lessons": "LICENSE-lessons",
    "run_lessons.py": "run_lessons.py",
    "Dockerfile": "binder/Dockerfile",
    "page_config.json": "jupyter/page_config.json",
}
STUDENT_EXTRAS = ("checkpoints", "lab")


class PublishError(Exception):
    """The learners' repository would give something away, or has no place to go."""


@dataclass
class Published:
    """What was written, sorted, and the tag that lessons on Colab and Binder ask for."""

    files: list[str]
    tag: str


def publish(folder: Path, target: Path) -> Published:
    """Assemble the learners' repository in `target`.

    Lessons install the package from a tag, `v` and the course's version, so that a later push
    changes nothing under those who work on the lesson that they opened.

    Parameters
    ----------
    folder
        The course's root, with `release/` built.
    target
        A new or empty folder, or a clone of the learners' repository (it has `.git`), whose
        other files are replaced.

    Raises
    ------
    PublishError
        Nothing is released yet, `target` holds files and is no clone, the version was published
        with other contents, or a line of a solution or of a hidden test would be published;
        `target` is as it was then.
    """
    if not list((folder / "release").glob("*/*.ipynb")):
        raise PublishError("nothing in release/: run `make build` first")
    secret = secrets(folder)
    _refuse_leaks(given_to_learners(folder), secret)
    if target.exists() and any(target.iterdir()) and not (target / ".git").exists():
        raise PublishError(f"{target} holds files and is no clone: name a new folder or a clone")
    tag = f"v{course.version(folder)}"
    with tempfile.TemporaryDirectory() as temporary:
        made = Path(temporary) / "students"
        _assemble(folder, made, tag)
        written = sorted(path for path in made.rglob("*") if path.is_file())
        # Read back what stands there: the check above cannot know what copying added.
        kinds = {".py", ".ipynb", ".json", ".md", ".txt", ".toml", ".yml", ".mk"}
        texts = {
            path.relative_to(made).as_posix(): path.read_text(encoding="utf-8")
            for path in written
            if path.suffix in kinds
        }
        _refuse_leaks(texts, secret)
        names = [path.relative_to(made).as_posix() for path in written]
        _refuse_another_content(target, tag, made, names)
        target.mkdir(parents=True, exist_ok=True)
        for path in target.iterdir():
            if path.name != ".git":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.copytree(made, target, dirs_exist_ok=True)
    return Published(names, tag)


def _assemble(folder: Path, made: Path, tag: str) -> None:
    """Write the whole repository to the new folder `made`."""
    made.mkdir()
    for name in WHOLE:
        _copy(folder / name, made / name)
    here = Path(__file__).with_name("students")
    for name, place in OWN.items():
        (made / place).parent.mkdir(exist_ok=True)
        shutil.copyfile(here / name, made / place)
    address = course.repository(folder)
    lessons = sorted((made / "release").glob("*/*.ipynb"))
    for path in lessons:
        readdress(path, address, tag)
    project = students_project(folder)
    (made / "pyproject.toml").write_text(project, encoding="utf-8")
    environment = (folder / "environment.yml").read_text(encoding="utf-8")
    (made / "environment.yml").write_text(_students_environment(environment), encoding="utf-8")
    names = [path.stem for path in lessons]
    readme = students_readme(folder, [n for n in course.LESSONS if n in names], tag)
    (made / "README.md").write_text(readme, encoding="utf-8")


def _refuse_leaks(texts: dict[str, str], secret: dict[str, str]) -> None:
    if leaks := find_leaks(texts, secret):
        raise PublishError("not published, it would give away:\n  " + "\n  ".join(leaks))


def _refuse_another_content(target: Path, tag: str, made: Path, names: list[str]) -> None:
    """Raise `PublishError` if the clone has the tag already, on other contents."""
    if not (target / ".git").exists():
        return
    git = ["git", "-C", str(target.resolve())]
    tagged = subprocess.run(
        [*git, "ls-tree", "-r", "--format=%(objectname) %(path)", f"refs/tags/{tag}"],
        capture_output=True,
        text=True,
    )
    if tagged.returncode:
        return
    hashed = subprocess.run(
        [*git, "hash-object", "--no-filters", "--stdin-paths"],
        input="".join(f"{made.resolve() / name}\n" for name in names),
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    now = {f"{digest} {name}" for digest, name in zip(hashed, names, strict=True)}
    if now != set(tagged.stdout.splitlines()):
        raise PublishError(
            f"{tag} is published already, with other contents, and learners hold lessons that "
            "name it: raise `version` in pyproject.toml, then publish again"
        )


def readdress(path: Path, address: str, tag: str) -> None:
    """Put the repository's address and the tag into a built lesson.

    Raises `PublishError` if the lesson names no address where the build puts one.
    """
    notebook = nbformat.read(path, as_version=4)
    sources = "\n".join(cell.source for cell in notebook.cells)
    named = re.search(r'"git\+(https?://[^"@]+)"', sources)
    if named is None:
        raise PublishError(f"{path.name} does not say where it installs from: run `make build`")
    old = named[1]
    changes = {
        named[0]: f'"git+{address}@{tag}"',
        course.badges(old, path.stem): course.badges(address, path.stem, tag),
    }
    for before, after in changes.items():
        if before not in sources:
            raise PublishError(f"{path.name} lacks its badges: run `make build`")
        for cell in notebook.cells:
            cell.source = cell.source.replace(before, after)
    left = "\n".join(cell.source for cell in notebook.cells)
    if old != address and course.owner_and_name(old) in left:
        raise PublishError(f"{path.name} names {old} in its text: run `make build`")
    nbformat.write(notebook, path)


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        ignore = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
        shutil.copytree(source, target, ignore=ignore)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def students_readme(folder: Path, lessons: list[str], tag: str) -> str:
    """Return the README of the learners' repository: where to open it, and how it is taken."""
    address = course.repository(folder)
    rows = [
        f"| [{name}](release/{name}/{name}.ipynb) | [open]({course.binder(address, name, tag)}) "
        f"| [open]({course.colab(address, name, tag)}) |"
        for name in lessons
    ]
    text = (folder / "docs" / "students.md").read_text(encoding="utf-8")
    filled = {
        "repository": address,
        "owner_and_name": course.owner_and_name(address),
        "tag": tag,
        "version": course.version(folder),
        "lessons": "\n".join(rows),
        "students": text.split("\n", 1)[1].strip(),
        "gigabytes": f"{sizes.installed('llm-memory', 'lab') / 1e9:.1f}",
    }
    readme = Path(__file__).with_name("students").joinpath("README.md").read_text(encoding="utf-8")
    return re.sub(r"{{(\w+)}}", lambda name: filled[name[1]], readme)


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
    for tool in ("ruff", "pytest", "mypy"):
        project["tool"].pop(tool, None)
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    # Learners have no Formgrader and no "Create Assignment"; JupyterLab's settings for editing
    # lessons stay with who edits them.
    wheel["shared-data"].pop("jupyter/overrides.json")
    wheel["shared-data"]["jupyter/page_config.json"] = "etc/jupyter/labconfig/page_config.json"
    wheel["dev-mode-dirs"] = ["src"]
    return tomlkit.dumps(project)
