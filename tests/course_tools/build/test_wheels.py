"""Both packages as wheels: they build, carry their data, and run where no clone is."""

import os
import re
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from course_tools.build import course
from course_tools.build.leaks import find_leaks, secrets

from tests.submissions import ROOT

pytestmark = pytest.mark.slow
PACKAGES = {"llm_memory": ROOT, "nbjudge": ROOT / "packages" / "nbjudge"}


@pytest.fixture(scope="module")
def wheels(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("wheels")
    build = [sys.executable, "-m", "uv", "build", "--quiet", "--wheel", "--out-dir", str(folder)]
    for place in PACKAGES.values():
        done = subprocess.run([*build, str(place)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return {name: next(folder.glob(f"{name}-*.whl")) for name in PACKAGES}


@pytest.fixture(scope="module")
def installed(wheels, tmp_path_factory) -> dict[str, str]:
    """An environment in which the wheels alone are added to what is installed already."""
    folder = tmp_path_factory.mktemp("installed")
    for wheel in wheels.values():
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
    return os.environ | {"PYTHONPATH": str(folder), "WHERE": str(folder)}


def run(code: str, environment: dict[str, str], cwd: Path) -> str:
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_wheel_holds_its_package_and_nothing_of_a_solution(wheels):
    for name, wheel in wheels.items():
        with zipfile.ZipFile(wheel) as archive:
            names = archive.namelist()
            texts = {
                entry: archive.read(entry).decode()
                for entry in names
                if entry.endswith((".py", ".json", ".md", ".txt"))
            }
        tops = {entry.split("/")[0] for entry in names}
        assert all(top.startswith(name) for top in tops), tops
        # The engine is none of the course's and learners do not get it: a line may be alike.
        assert name == "nbjudge" or find_leaks(texts, secrets(ROOT)) == []
        tracked = subprocess.run(
            ["git", "ls-files", f"src/{name}"], cwd=PACKAGES[name], capture_output=True, text=True
        ).stdout.split()
        assert tracked and {path.removeprefix("src/") for path in tracked} <= set(names)


def test_the_metadata_says_what_it_is(wheels):
    for name, wheel in wheels.items():
        with zipfile.ZipFile(wheel) as archive:
            [path] = [entry for entry in archive.namelist() if entry.endswith("/METADATA")]
            said = Parser().parsestr(archive.read(path).decode())
        assert said["Name"].replace("-", "_") == name and said["Summary"]
        assert said["License-Expression"] and said["Requires-Python"] == ">=3.11"
        assert said["Description-Content-Type"] == "text/markdown"
        text = said.get_payload()
        assert text.strip() and not re.findall(r"\]\((?!https?://)[^)]*\)", text)
    assert f"-{course.version(ROOT)}-" in wheels["llm_memory"].name


def test_the_lessons_package_runs_from_its_wheel(installed, tmp_path):
    code = (
        "import os, llm_memory\n"
        "from llm_memory.model import load_model\n"
        "from llm_memory.quiz import BANK\n"
        "assert llm_memory.__file__.startswith(os.environ['WHERE'])\n"
        "model, tokenizer = load_model()\n"
        "print(len(BANK) > 0, tokenizer.tokens('the student')[-1])\n"
    )
    assert run(code, installed, tmp_path).split() == ["True", "student"]


def test_the_engine_runs_from_its_wheel(installed, tmp_path):
    code = (
        "import os, nbjudge\n"
        "from nbjudge import cli\n"
        "assert nbjudge.__file__.startswith(os.environ['WHERE'])\n"
        "from nbjudge.classes import report\n"
        "cli.main(['--help'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=installed, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0 and "verify" in done.stdout, done.stderr
