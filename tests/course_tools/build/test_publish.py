"""The students' repository: what is in it, what is not, and that it refuses to give away."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
from course_tools.build import course
from course_tools.build.leaks import secrets
from course_tools.build.publish import PublishError, publish

from tests.submissions import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture
def clone(tmp_path):
    folder = tmp_path / "clone"
    ignore = shutil.ignore_patterns(".venv", ".git", "work", "artefacts", "__pycache__", "source")
    shutil.copytree(ROOT, folder, ignore=ignore)
    return folder


def test_the_students_repository_has_lessons_and_no_instructor_part(clone, tmp_path):
    target = tmp_path / "students"
    written = publish(clone, target).files
    assert "release/attention/attention.ipynb" in written
    assert "src/llm_memory/quiz/bank.json" in written
    assert not [path for path in written if path.startswith(("source", "tests", "notebooks"))]
    for part in ("grading", "build", "training"):
        assert not (target / "src/llm_memory" / part).exists()
    project = tomllib.loads((target / "pyproject.toml").read_text())["project"]
    assert "scripts" not in project and "entry-points" not in project
    assert set(project["optional-dependencies"]) == {"checkpoints", "lab"}
    assert "instructor" not in (target / "environment.yml").read_text()
    for link in re.findall(r"\]\(([^)#]+)\)", (target / "README.md").read_text()):
        assert link.startswith("https://") or (target / link).exists(), link
    for folder in re.findall(r"(\w+)/[),]", (target / "LICENSE-lessons").read_text()):
        assert (target / folder).is_dir()


def test_a_forks_address_is_put_in_at_publishing_and_nothing_of_the_old_one_is_left(
    clone, tmp_path
):
    project = clone / "pyproject.toml"
    old = course.repository(clone)
    fork = "https://github.com/some-teacher/llm-course-2027"
    project.write_text(project.read_text().replace(old, fork).replace('"1.0.0"', '"3.1"'))
    target = tmp_path / "students"
    published = publish(clone, target)
    assert published.tag == "v3.1"
    texts = {name: (target / name).read_bytes() for name in published.files}
    assert not [name for name, text in texts.items() if course.owner_and_name(old).encode() in text]
    for path in (target / "release").glob("*/*.ipynb"):
        sources = "\n".join(cell.source for cell in nbformat.read(path, 4).cells)
        assert f'address = "git+{fork}@v3.1"' in sources
        assert "gh/some-teacher/llm-course-2027/v3.1?" in sources
        assert "github/some-teacher/llm-course-2027/blob/v3.1/" in sources


def test_publishing_twice_changes_nothing_and_another_content_needs_another_version(
    clone, tmp_path
):
    target = tmp_path / "students"
    published = publish(clone, target)
    git = ["git", "-C", target, "-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", "init", "-q", target], check=True)
    subprocess.run([*git, "add", "--all"], check=True)
    subprocess.run([*git, "commit", "-qm", published.tag], check=True)
    subprocess.run([*git, "tag", published.tag], check=True)
    assert publish(clone, target) == published
    status = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True)
    assert status.stdout == ""
    (clone / "docs" / "students.md").write_text("# Students\n\nAnother text.\n")
    with pytest.raises(PublishError, match=r"v1\.0\.0 is published already.*raise `version`"):
        publish(clone, target)
    status = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True)
    assert status.stdout == "", "what stood there is as it was"
    project = clone / "pyproject.toml"
    project.write_text(project.read_text().replace('"1.0.0"', '"1.0.1"'))
    assert publish(clone, target).tag == "v1.0.1"


def test_its_makefile_has_only_targets_that_work_there(clone, tmp_path):
    target = tmp_path / "students"
    publish(clone, target)
    listed = subprocess.run(
        ["make", "help"], cwd=target, capture_output=True, text=True, check=True
    )
    targets = [line.split()[1] for line in re.findall(r"make .*", listed.stdout)]
    assert set(targets) == {"help", "lab", "model", "test-lessons"}
    # Only what a lesson costs is left out: the environment is this one, the lesson a short one.
    (target / ".venv").symlink_to(Path(sys.prefix), target_is_directory=True)
    for path in (target / "release").glob("*/*.ipynb"):
        notebook = nbformat.read(path, 4)
        notebook.cells = notebook.cells[:4]
        nbformat.write(notebook, path)
    run = [sys.executable, "run_lessons.py"]
    done = subprocess.run(run, cwd=target, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    notebook.cells.append(nbformat.v4.new_code_cell("1 / 0", id="broken"))
    nbformat.write(notebook, path)
    done = subprocess.run(run, cwd=target, capture_output=True, text=True)
    assert done.returncode == 1
    assert "cell broken: ZeroDivisionError: division by zero" in done.stdout


def test_a_lesson_that_was_not_built_is_refused_by_name(clone, tmp_path):
    path = clone / "release" / "attention" / "attention.ipynb"
    path.write_text(path.read_text().replace("git+https", "https"))
    with pytest.raises(PublishError, match=r"attention\.ipynb does not say .*make build"):
        publish(clone, tmp_path / "students")
    assert not (tmp_path / "students").exists()


def test_learners_see_no_formgrader(clone, tmp_path):
    """The names are those that nbgrader's own JupyterLab extension registers."""
    target = tmp_path / "students"
    publish(clone, target)
    off = json.loads((target / "jupyter" / "page_config.json").read_text())["disabledExtensions"]
    extension = Path(sys.prefix, "share/jupyter/labextensions/@jupyter/nbgrader/static")
    code = "".join(path.read_text(encoding="utf-8") for path in extension.glob("*.js"))
    assert off and all(name in code for name in off)
    project = tomllib.loads((target / "pyproject.toml").read_text())
    shared = project["tool"]["hatch"]["build"]["targets"]["wheel"]["shared-data"]
    assert shared == {
        "jupyter/page_config.json": "etc/jupyter/labconfig/page_config.json",
        "jupyter/labels": "share/jupyter/labextensions/llm-memory-labels",
    }
    assert all((target / source).exists() for source in shared)


def test_its_package_imports_on_its_own(clone, tmp_path):
    target = tmp_path / "students"
    publish(clone, target)
    code = (
        "import pkgutil, importlib, llm_memory\n"
        "for m in pkgutil.walk_packages(llm_memory.__path__, 'llm_memory.'):\n"
        "    importlib.import_module(m.name)\n"
        "print(llm_memory.__file__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(target / "src")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().startswith(str(target))


def test_a_leak_is_refused_and_nothing_is_left(clone, tmp_path):
    line = max(secrets(clone), key=len)
    with open(clone / "src/llm_memory/progress.py", "a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")
    target = tmp_path / "students"
    with pytest.raises(PublishError, match=r"progress\.py: a line of a"):
        publish(clone, target)
    assert not target.exists()


def test_a_folder_with_other_files_is_not_touched(clone, tmp_path):
    target = tmp_path / "precious"
    target.mkdir()
    (target / "thesis.txt").write_text("mine")
    with pytest.raises(PublishError, match="holds files and is no clone"):
        publish(clone, target)
    assert (target / "thesis.txt").read_text() == "mine"


def test_a_clone_keeps_its_history(clone, tmp_path):
    target = tmp_path / "students"
    subprocess.run(["git", "init", "-q", target], check=True)
    (target / "old.txt").write_text("from the last term")
    publish(clone, target)
    assert (target / ".git").is_dir() and not (target / "old.txt").exists()
