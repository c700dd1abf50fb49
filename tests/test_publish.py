"""The students' repository: what is in it, what is not, and that it refuses to give away."""

import os
import shutil
import subprocess
import sys
import tomllib

import pytest
from course_tools.build.leaks import secrets
from course_tools.build.publish import PublishError, publish

from tests.submissions import ROOT


@pytest.fixture
def clone(tmp_path):
    folder = tmp_path / "clone"
    ignore = shutil.ignore_patterns(".venv", ".git", "work", "artefacts", "__pycache__", "source")
    shutil.copytree(ROOT, folder, ignore=ignore)
    return folder


def test_the_students_repository_has_lessons_and_no_instructor_part(clone, tmp_path):
    target = tmp_path / "students"
    written = publish(clone, target)
    assert "release/attention/attention.ipynb" in written
    assert "src/llm_memory/quiz/bank.json" in written
    assert not [path for path in written if path.startswith(("source", "tests", "notebooks"))]
    for part in ("grading", "build", "training"):
        assert not (target / "src/llm_memory" / part).exists()
    project = tomllib.loads((target / "pyproject.toml").read_text())["project"]
    assert "scripts" not in project and "entry-points" not in project
    assert set(project["optional-dependencies"]) == {"checkpoints", "lab"}
    assert "instructor" not in (target / "environment.yml").read_text()


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
    with open(clone / "src/llm_memory/progress.py", "a") as file:
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
