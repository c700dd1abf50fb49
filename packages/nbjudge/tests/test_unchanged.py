"""Where nothing has changed, a run says what the last one said; where anything has, it does not."""

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from nbjudge import cli
from nbjudge.classes import unchanged

from packages.nbjudge.tests.second_course import course
from tests.commands import nbgrader, run

pytestmark = [pytest.mark.slow, pytest.mark.takes_long]

LESSON = "words"


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """Return a course with a class that is graded, and what grading it printed."""
    folder = tmp_path_factory.mktemp("unchanged") / "course"
    course.write(folder / "source" / LESSON, LESSON)
    shutil.copy(Path(course.__file__).with_name("nbgrader_config.py"), folder)
    nbgrader(folder, "generate_assignment", LESSON)
    for student, kind in (("ada", "solved"), ("bob", "wrong")):
        course.write(folder / "submitted" / student / LESSON, LESSON, kind)
    return folder, run(cli.main, folder, "grade", LESSON, "--workers=1")


@contextlib.contextmanager
def changed(path, change):
    """Let `change` do something to a file, or a folder; then put it back as it was."""
    path = Path(path)
    kept = path.with_name(f"{path.name}-kept")
    copy = shutil.copytree if path.is_dir() else shutil.copy2
    copy(path, kept)
    try:
        change(path)
        yield
    finally:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        os.replace(kept, path)


def more(text):
    return lambda path: path.write_text(path.read_text() + text)


def more_in(folder):
    folder.mkdir()
    (folder / f"{LESSON}-checkpoint.ipynb").write_text("{}")


def give_points(path):
    with contextlib.closing(sqlite3.connect(path)) as gradebook, gradebook:
        assert gradebook.execute("UPDATE grade SET manual_score = 1").rowcount


CHANGES = {
    "a hand-in": (f"submitted/ada/{LESSON}/{LESSON}.ipynb", more(" ")),
    "a notebook in a folder that nbgrader passes over": (
        f"submitted/ada/{LESSON}", lambda path: more_in(path / ".ipynb_checkpoints")
    ),
    "one hand-in more": ("submitted", lambda path: shutil.copytree(path / "ada", path / "eve")),
    "one hand-in less": ("submitted", lambda path: shutil.rmtree(path / "ada")),
    "the lesson": (f"source/{LESSON}/{LESSON}.ipynb", more(" ")),
    "a file beside it": (f"source/{LESSON}", lambda path: (path / "new.txt").touch()),
    "points by hand": ("gradebook.db", give_points),
    "the record": (f".nbjudge/graded/{LESSON}.jsonl", more("\n")),
    "how tests are checked": (f".nbjudge/{LESSON}.json", more(" ")),
    "a graded notebook is gone": (
        f"autograded/bob/{LESSON}", lambda path: (path / f"{LESSON}.ipynb").unlink()
    ),
    "the report": (f"reports/{LESSON}.html", more(" ")),
    "a setting": ("nbgrader_config.py", more("\nc.Execute.timeout = 61\n")),
    "the configuration cannot be loaded": ("nbgrader_config.py", more("\n1 / 0\n")),
    "the configuration ends the command": ("nbgrader_config.py", more("\nexit()\n")),
    "what was kept cannot be read": (f".nbjudge/reported/{LESSON}-standing.json", more("}")),
}  # fmt: skip


def test_whatever_has_changed_is_looked_at_by_the_long_way(graded, monkeypatch):
    folder, _ = graded
    monkeypatch.chdir(folder)
    assert unchanged.look(folder, LESSON)
    for what, (path, change) in CHANGES.items():
        with changed(folder / path, change):
            assert unchanged.look(folder, LESSON) is None, what
        assert unchanged.look(folder, LESSON), f"{what}: it was put back"


def test_the_engines_and_the_courses_code_count(graded, monkeypatch, tmp_path):
    folder, _ = graded
    monkeypatch.chdir(folder)
    monkeypatch.setattr(unchanged, "version", lambda name: "0")
    assert unchanged.look(folder, LESSON) is None
    monkeypatch.undo()
    package = tmp_path / "own_rules"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    config = unchanged.Config(NbJudge={"exercise_of": "own_rules.rule:name"})
    before = unchanged._code(config)
    assert before != unchanged._code(unchanged.Config())
    (package / "rule.py").write_text("name = None")
    assert unchanged._code(config) != before
    with pytest.raises(unchanged.Unknown, match="there is no nowhere_rules"):
        unchanged._code(unchanged.Config(NbJudge={"recorder": "nowhere_rules:name"}))


def test_a_run_with_settings_of_its_own_is_not_taken_for_one_without(graded, monkeypatch):
    folder, _ = graded
    monkeypatch.chdir(folder)
    config = unchanged.guard.load(folder)
    config.Exporter.default_preprocessors = []
    assert unchanged.look(folder, LESSON, config)
    config.Execute.timeout = 1
    assert unchanged.look(folder, LESSON, config) is None


def test_what_changes_while_a_run_ends_is_not_kept(graded, monkeypatch):
    folder, _ = graded
    monkeypatch.chdir(folder)
    path = folder / ".nbjudge" / "reported" / f"{LESSON}-standing.json"
    kept = json.loads(path.read_text())
    places = unchanged.Places(**{k: unchanged._fixed(v) for k, v in kept["places"].items()})
    standing = unchanged.Standing.of(places, unchanged.Before(**kept["before"]), kept["hand_ins"])
    with changed(path, Path.unlink):
        with changed(folder / "gradebook.db", give_points):
            standing.keep(unchanged.Said(**kept["said"]))
            assert not path.exists()
        standing.keep(unchanged.Said(**kept["said"]))
        assert unchanged.look(folder, LESSON)


def test_the_command_says_it_again_and_imports_no_nbgrader(graded):
    folder, first = graded
    code = (
        "import sys\nfrom nbjudge.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: print(sorted({'nbgrader', 'sqlalchemy', 'nbconvert'} & {*sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "grade", LESSON], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    said, imported = done.stdout.rstrip().rsplit("\n", 1)
    assert imported == "[]"
    summary = first[first.index(LESSON + ":") :].rstrip()
    assert "2 graded" in summary and said == summary


def test_autograde_says_the_same_the_short_way_and_the_long_way(graded):
    folder, _ = graded

    def said():
        printed = nbgrader(folder, "autograde", LESSON)
        assert "All 2 of words are graded already" in printed
        return printed[printed.index("All 2 of") :]

    short = said()
    assert "ada: 4 of 4" in short and "bob: 0 of 4" in short
    path = folder / ".nbjudge" / "reported" / f"{LESSON}-standing.json"
    with changed(path, Path.unlink):
        assert said() == short
        assert path.exists()
