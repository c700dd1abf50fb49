"""A configuration that is not whole grades nothing: every command says why, and ends with 1."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from course_tools import cli

from tests.commands import run
from tests.hostile.classroom import LESSON, Classroom
from tests.submissions import ROOT

pytestmark = pytest.mark.slow

WHOLE = (ROOT / "nbgrader_config.py").read_text(encoding="utf-8")
#: What the engine's distribution puts into the environment's Jupyter configuration.
GUARD = ROOT / "packages" / "nbjudge" / "jupyter"

#: What a configuration may be, and words of the message that it gets.
BROKEN = {
    "a name that is not there": (WHOLE + "\nc.Execute.timeout = 2 * minutes\n", "'minutes'"),
    "a syntax error": (WHOLE + "\nc.Execute.timeout = = 2\n", "SyntaxError"),
    "a colleague's folder": (
        WHOLE + "\nraise PermissionError(1, 'Operation not permitted', 'exchange')\n",
        "PermissionError",
    ),
    "an exit": ("import sys\nsys.exit(0)\n" + WHOLE, "ends the command by itself"),
    "the engine is not there": (
        "import sys\nsys.modules['nbjudge'] = None\n" + WHOLE,
        "Run `make lab`, which installs it",
    ),
    "configure is not reached": (
        WHOLE.replace("configure(c)", "if False:\n    configure(c)"),
        "lacks Autograde",
    ),
    "a step is taken out": (
        WHOLE + "\nc.Autograde.autograde_preprocessors = ['nbgrader.preprocessors.Execute']\n",
        "JudgedExecute",
    ),
    "the judge is switched off": (WHOLE + "\nc.JudgedExecute.enabled = False\n", "JudgedExecute"),
    "all that executes is switched off": (
        WHOLE + "\nc.ExecutePreprocessor.enabled = False\n",
        "ExecutePreprocessor.enabled",
    ),
    "the rebuild is switched off": (WHOLE + "\nc.Rebuild.enabled = False\n", "Rebuild"),
    "scores are saved before the tests run": (
        WHOLE + "\nc.Autograde.autograde_preprocessors.reverse()\n",
        "the order",
    ),
    "steps that are no list": (WHOLE + "\nc.Autograde.autograde_preprocessors = 5\n", "5"),
    "a setting that is not there": (
        WHOLE + "\nc.NbJudge.preloads = ['numpy']\n",
        "c.NbJudge.preloads, which is no setting (did you mean preload?)",
    ),
    "a step's setting that is not there": (
        WHOLE + "\nc.JudgedExecute.cell_secondz = 5\n",
        "c.JudgedExecute.cell_secondz, which is no setting",
    ),
    "a setting that does not fit": (WHOLE + "\nc.CourseDirectory.root = 3 / 0\n", "division"),
}


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    room = Classroom(tmp_path_factory.mktemp("fails-closed") / "course")
    room.hand_in("ada")
    return room


def _refused(room: Classroom, *arguments: str) -> str:
    return room.nbgrader(*arguments, code=1, JUPYTER_CONFIG_PATH=str(GUARD))


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_not_whole_is_refused_with_its_cause(case, room):
    text, words = BROKEN[case]
    (room.folder / "nbgrader_config.py").write_text(text, encoding="utf-8")
    assert words in _refused(room, "autograde", LESSON)
    assert not (room.folder / "autograded").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"Autograde": {"sanitize_preprocessors": []}}', "Rebuild"),
        ('{"JudgedExecute": {"enabled": false}}', "JudgedExecute"),
        ('{"Execute": {"timeout": 60}', "nbgrader_config.json could not be loaded"),
    ],
)
def test_a_second_file_of_the_other_kind_takes_nothing_out(room, text, words):
    (room.folder / "nbgrader_config.py").write_text(WHOLE, encoding="utf-8")
    second = room.folder / "nbgrader_config.json"
    second.write_text(text, encoding="utf-8")
    try:
        assert words in _refused(room, "autograde", LESSON)
        assert not (room.folder / "autograded").exists()
    finally:
        second.unlink()


def test_what_fails_after_configure_is_refused_where_jupyters_configuration_is_not_read(room):
    text, words = BROKEN["a name that is not there"]
    (room.folder / "nbgrader_config.py").write_text(text, encoding="utf-8")
    assert words in room.nbgrader("autograde", LESSON, code=1, JUPYTER_NO_CONFIG="1")
    assert not (room.folder / "autograded").exists()


def test_feedback_and_release_and_the_class_run_are_refused_too(room):
    text, words = BROKEN["a name that is not there"]
    (room.folder / "nbgrader_config.py").write_text(text, encoding="utf-8")
    assert words in _refused(room, "generate_feedback", LESSON)
    assert words in _refused(room, "generate_assignment", LESSON, "--force")
    printed = run(_grade, room.folder, "grade", LESSON, code=1, JUPYTER_CONFIG_PATH=str(GUARD))
    assert words in printed and "StopIteration" not in printed
    assert not (room.folder / "autograded").exists()


def _grade():
    sys.exit(cli.main())


def test_a_course_that_lost_its_configuration_is_refused(room):
    (room.folder / "nbgrader_config.py").unlink()
    assert (room.folder / ".nbjudge").is_dir()
    assert "lacks Autograde" in _refused(room, "autograde", LESSON)


def test_a_half_installed_engine_is_refused(room, tmp_path):
    (tmp_path / "nbjudge").mkdir()
    (tmp_path / "nbjudge" / "__init__.py").write_text("import a_part_that_is_missing\n")
    (room.folder / "nbgrader_config.py").write_text(
        f"import sys\nc = get_config()\nc.CourseDirectory.root = {str(room.folder)!r}\n"
    )
    half = tmp_path / "etc"
    half.mkdir()
    text = (GUARD / "nbgrader_config.py").read_text(encoding="utf-8")
    missing = text.replace("from nbjudge.guard", "from nbjudge.no_such_part")
    (half / "nbgrader_config.py").write_text(missing)
    printed = room.nbgrader("autograde", LESSON, code=1, JUPYTER_CONFIG_PATH=str(half))
    assert "only half installed" in printed and "no_such_part" in printed


def test_the_guard_is_in_the_environment():
    installed = Path(sys.prefix, "etc", "jupyter", "nbgrader_config.py")
    assert installed.read_text(encoding="utf-8") == (GUARD / "nbgrader_config.py").read_text()


#: A command of nbgrader's in a Python whose site folder holds what the distribution puts there.
_STARTED = """
import site, sys
site.addsitedir(sys.argv.pop(1))
sys.argv[0] = "nbgrader"
from nbgrader.apps.nbgraderapp import NbGraderApp
NbGraderApp.launch_instance()
"""


def test_no_file_of_jupyters_is_needed_to_refuse(room, tmp_path):
    text, words = BROKEN["a syntax error"]
    (room.folder / "nbgrader_config.py").write_text(text, encoding="utf-8")
    shutil.copy(ROOT / "packages" / "nbjudge" / "nbjudge_guard.pth", tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", _STARTED, str(tmp_path), "autograde", LESSON],
        cwd=room.folder,
        env={**os.environ, "JUPYTER_NO_CONFIG": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and words in done.stderr
    assert not (room.folder / "autograded").exists()
