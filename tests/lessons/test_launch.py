"""Launching a lesson elsewhere: alone in an empty folder, on Binder, from the badges."""

import json
import os
import re
import subprocess
import sys
import tomllib
import venv

import nbformat
import pytest
import yaml
from course_tools.build import course as clone

from tests.submissions import ROOT, only_exercises_are_open, released

pytestmark = [pytest.mark.slow, pytest.mark.takes_long]
LESSONS = [name for name in clone.LESSONS if (ROOT / "release" / name).is_dir()]


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """A fresh environment with a kernel and no course in it, as Colab is one."""
    folder = tmp_path_factory.mktemp("elsewhere") / "env"
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    packages = ["ipykernel", "nbclient", "ipywidgets<8", "-c", ROOT / "constraints.txt"]
    # As `make` does it: by uv, and by pip, which takes far longer, where uv cannot.
    for how in (
        [sys.executable, "-m", "uv", "pip", "install", "--python", python],
        [python, "-m", "pip", "install", "--no-compile"],
    ):
        done = subprocess.run([*how, "-q", *packages], capture_output=True, text=True)
        if done.returncode == 0:
            return python
    raise AssertionError(done.stderr)


RUN = """
import json, sys, nbclient, nbformat
notebook = nbformat.read(sys.argv[1], 4)
nbclient.NotebookClient(notebook, allow_errors=True, timeout=600).execute()
json.dump(notebook, open(sys.argv[1], "w"))
"""


def run_alone(python, lesson, folder):
    """Run a released, unsolved lesson alone in `folder`; return it with its outputs."""
    path = folder / f"{lesson}.ipynb"
    nbformat.write(released(lesson), path)
    environment = os.environ | {
        # The lesson installs from the public address; git reads this clone in its place.
        "GIT_CONFIG_COUNT": "2",
        "GIT_CONFIG_KEY_0": f"url.file://{ROOT}.insteadOf",
        "GIT_CONFIG_VALUE_0": clone.repository(ROOT),
        "GIT_CONFIG_KEY_1": "safe.directory",
        "GIT_CONFIG_VALUE_1": "*",
        "PIP_CONSTRAINT": str(ROOT / "constraints.txt"),
        "PIP_NO_COMPILE": "0",  # so pip spells "do not compile"
        "JUPYTER_DATA_DIR": str(folder / "data"),
        "OMP_NUM_THREADS": "1",
    }
    for name in ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV"):
        environment.pop(name, None)
    done = subprocess.run(
        [python, "-c", RUN, path.name], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return nbformat.read(path, as_version=4)


@pytest.mark.timeout(1200)
def test_a_lesson_alone_installs_the_course_and_runs_unsolved_to_its_end(elsewhere, tmp_path):
    look = [elsewhere, "-c", "import ipywidgets, llm_memory; print(ipywidgets.__version__)"]
    assert subprocess.run(look, capture_output=True).returncode, "the package is there already"
    for number, lesson in enumerate(LESSONS):
        folder = tmp_path / lesson
        folder.mkdir()
        only_exercises_are_open(run_alone(elsewhere, lesson, folder))
        if number == 0:
            there = subprocess.run(look, capture_output=True, text=True)
            assert there.stdout.startswith("7."), "the lesson replaced Colab's ipywidgets"


@pytest.mark.parametrize("lesson", LESSONS)
def test_the_badges_lead_to_the_lesson(lesson):
    text = "\n".join(cell.source for cell in released(lesson).cells)
    owner_and_name = "/".join(clone.repository(ROOT).split("/")[-2:])
    path = f"release/{lesson}/{lesson}.ipynb"
    assert f"mybinder.org/v2/gh/{owner_and_name}/HEAD?urlpath=lab/tree/{path}" in text
    assert f"colab.research.google.com/github/{owner_and_name}/blob/main/{path}" in text
    assert (ROOT / path).is_file()
    assert "{{" not in re.sub(r"f['\"].*", "", text)


def test_binder_builds_from_our_environment():
    command = [sys.executable, "-m", "repo2docker", "--no-build", "--debug", str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    printed = done.stdout + done.stderr
    assert done.returncode == 0, printed
    assert "environment.yml" in printed


def test_the_environment_and_the_project_agree():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    conda = [item for item in environment["dependencies"] if isinstance(item, str)]
    [pip] = [item["pip"] for item in environment["dependencies"] if isinstance(item, dict)]
    *options, engine, course = pip
    # Conda's channel has builds of PyTorch for GPUs; pip is told where the CPU's are.
    assert options == [
        "--extra-index-url https://download.pytorch.org/whl/cpu",
        "--constraint constraints.txt",
    ]
    extra = re.fullmatch(r"--editable \.\[(\w+)\]", course)
    assert engine == "--editable packages/nbjudge" and extra[1] in project["optional-dependencies"]
    python = next(item.removeprefix("python=") for item in conda if item.startswith("python="))
    minimum = project["requires-python"].removeprefix(">=")
    assert [int(n) for n in python.split(".")] >= [int(n) for n in minimum.split(".")]
    assert not [item for item in conda if "torch" in item]


@pytest.mark.parametrize("lesson", LESSONS)
def test_the_first_cell_does_nothing_where_the_package_is(lesson):
    setup = next(cell for cell in released(lesson).cells if cell.cell_type == "code")
    assert "setup" in setup.metadata.tags and setup.source.startswith("#")

    def refuse(*_, **__):
        raise AssertionError("it installs though the package is there")

    space = {"subprocess": None}
    exec(setup.source.replace("subprocess.run", "refuse"), space | {"refuse": refuse})


def test_the_releases_are_valid_notebooks():
    for lesson in LESSONS:
        nbformat.validate(json.loads((ROOT / "release" / lesson / f"{lesson}.ipynb").read_text()))
