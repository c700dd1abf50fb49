"""`nbgrader autograde` as a whole: what it says and goes on with, and stock nbgrader's scores."""

import json
import shutil
import subprocess
import sys
from logging import getLogger

import nbformat
import pytest
from nbgrader.coursedir import CourseDirectory
from nbjudge.classes.record import Record
from nbjudge.steps.clear import ClearOutput
from nbjudge.steps.recorded import ScoreRecorded
from traitlets.config import Config

from tests.hostile.classroom import FULL, LESSON, POINTS, RIGHT, WRONG, Classroom, answers, cell_of
from tests.submissions import scores

pytestmark = pytest.mark.slow


@pytest.fixture
def room(tmp_path):
    return Classroom(tmp_path / "course")


def test_messages_say_what_to_do(room):
    assert "nbgrader collect attention" in room.nbgrader("autograde", LESSON, code=1)

    room.hand_in("ada")
    assert "leave out --no-execute" in room.nbgrader("autograde", LESSON, "--no-execute", code=1)

    printed = room.nbgrader("autograde", "attentoin", code=1)
    assert "no assignment 'attentoin'. There are: attention." in printed

    (room.folder / "gradebook.db").unlink()
    shutil.rmtree(room.folder / "source")
    (room.folder / "notebooks").mkdir()
    (room.folder / "notebooks" / f"{LESSON}.md").touch()
    assert "never built. Run `make build`" in room.nbgrader("autograde", LESSON, code=1)


def test_a_changed_course_stops_before_anybody_is_graded(room):
    room.hand_in("ada")
    path = room.folder / "source" / LESSON / f"{LESSON}.ipynb"
    notebook = nbformat.read(path, 4)
    cell_of(notebook, "test_double_hard").metadata.nbgrader.grade_id = "test_double_other"
    nbformat.write(notebook, path)
    printed = room.nbgrader("autograde", LESSON, code=1)
    assert "differ in these cells: test_double_hard, test_double_other" in printed
    assert "Run `nbgrader generate_assignment attention --force`" in printed
    assert not (room.folder / "autograded").exists()


def test_a_second_run_grades_what_was_cut_off_and_what_is_newer(room):
    room.hand_in("ada")
    room.hand_in("ben")
    late = room.hand_in("cem", room.released, choice=None)
    room.nbgrader("autograde", LESSON)
    assert sum(room.scores("cem").values()) == 0
    # As a run leaves it that is killed while it grades him.
    path = room.folder / "autograded" / "ben" / LESSON / f"{LESSON}.ipynb"
    path.chmod(0o644)
    path.write_text("{")
    config = Config(CourseDirectory={"root": str(room.folder)})
    Record(CourseDirectory(config=config), LESSON, getLogger()).begin("ben", [LESSON])
    whole = room.folder / "autograded" / "ada" / LESSON / f"{LESSON}.ipynb"
    before = whole.stat().st_mtime_ns
    nbformat.write(room.solved(), late / f"{LESSON}.ipynb")
    (late / "timestamp.txt").write_text("2026-01-06 12:00:00.000000 UTC")

    assert "Grading ben again" in room.nbgrader("autograde", LESSON)
    assert room.autograded("ben").metadata.nbjudge.graded is True
    assert sum(room.scores("cem").values()) == FULL - POINTS["quiz_attention"]
    assert whole.stat().st_mtime_ns == before

    times = {path: path.stat().st_mtime_ns for path in (room.folder / "autograded").rglob("*")}
    printed = room.nbgrader("autograde", LESSON)
    assert "All 3 of attention are graded already" in printed
    assert f"cem: {FULL - POINTS['quiz_attention']:g} of {FULL:g}" in printed
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_formgraders_button_grades_one_student_and_a_warning_costs_no_points(room):
    """The button calls nbgrader's API in the server, with the course's configuration."""
    name = "ada [x]"
    notebook = room.solved()
    cell_of(notebook, "double").source = (
        "import sys, warnings\n\ndef double(x):\n"
        "    warnings.warn('beware')\n    print('oh', file=sys.stderr)\n    return 2 * x"
    )
    room.hand_in(name, notebook)
    room.hand_in("ben")
    script = (
        "import sys\n"
        "from nbgrader.apps import NbGrader\n"
        "from nbgrader.apps.api import NbGraderAPI\n"
        "app = NbGrader()\n"
        "app.initialize([])\n"
        f"result = NbGraderAPI(app.coursedir, parent=app).autograde({LESSON!r}, {name!r})\n"
        "sys.exit(0 if result['success'] else str(result))\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=room.folder, check=True, timeout=300)
    assert room.scores(name) == POINTS
    with room.gradebook() as gradebook:
        assert [student.id for student in gradebook.students] == [name]


def test_scores_are_stock_nbgraders(room, tmp_path):
    """On honest work: solved, unsolved, partly solved, with cells and files added."""
    stock = tmp_path / "stock"
    wrong = room.solved()
    cell_of(wrong, "double").source = "def double(x):\n    return abs(2 * x)"
    helped = room.solved()
    cell_of(helped, "total").source = "def total(rows):\n    return add(sum(r) for r in rows)"
    helped.cells.insert(1, nbformat.v4.new_code_cell("def add(all):\n    return sum(all)"))
    printing = room.solved()
    cell_of(printing, "double").source = "def double(x):\n    print(x)\n    return 2 * x"
    work = {
        "all": room.solved(),
        "none": room.released,
        "wrong": wrong,
        "helped": helped,
        "printing": printing,
    }
    for student, notebook in work.items():
        room.hand_in(student, notebook)
    shutil.copytree(room.folder, stock)
    # A course that never used the engine: the guard refuses stock nbgrader in one that did.
    shutil.rmtree(stock / ".nbjudge")
    (stock / "nbgrader_config.py").write_text("c = get_config()\n")
    room.nbgrader("autograde", LESSON)
    subprocess.run(
        [sys.executable, "-c", "import os, sys; os.environ['PATH'] = os.path.dirname("
         "sys.executable) + ':' + os.environ['PATH']; from nbgrader.apps.nbgraderapp import main; "
         "sys.argv[1:] = ['autograde', 'attention']; main()"],
        cwd=stock, check=True, timeout=500, capture_output=True,
    )  # fmt: skip
    for student, cells in scores(stock, LESSON).items():
        del cells["quiz_attention"]  # stock nbgrader gives its point to everybody
        ours = room.scores(student)
        assert ours.pop("quiz_attention") == POINTS["quiz_attention"]
        assert ours == cells, student
        work.pop(student)
    assert not work


def quiz_scored(record, count="last"):
    """Return the score and the text that a quiz cell gets."""
    from nbgrader.utils import determine_grade

    from tests.hostile.classroom import lesson

    notebook = lesson()
    notebook.metadata.nbjudge = {"answers": record}
    scoring = ScoreRecorded(config=Config({"ScoreRecorded": {"count": count}}))
    notebook, _ = scoring.preprocess(notebook, {})
    cell = cell_of(notebook, "quiz_attention")
    return determine_grade(cell)[0], cell.outputs[0].data["text/plain"]


def test_quiz_scores():
    last_wrong = answers(WRONG, first=RIGHT)["answers"]
    assert quiz_scored(answers(RIGHT)["answers"])[0] == 1
    assert quiz_scored(answers(WRONG)["answers"])[0] == 0
    assert quiz_scored({})[0] == 0
    assert "none was recorded" in quiz_scored({})[1]
    assert quiz_scored(last_wrong)[0] == 0
    points, text = quiz_scored(last_wrong, "first")
    assert points == 1
    assert "2 tries" in text


def test_the_release_keeps_outputs_that_depend_on_nothing():
    from nbformat.v4 import new_code_cell, new_notebook, new_output

    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "random"}}
    outputs = [
        new_output("display_data", {"text/plain": "a quiz", **view}),
        new_output("display_data", dict(view)),
        new_output("execute_result", {"text/plain": "kept"}, execution_count=7),
    ]
    kept = new_code_cell(
        "a", outputs=outputs, execution_count=7, metadata={"tags": ["keep-output"]}
    )
    cleared = new_code_cell("b", outputs=outputs, execution_count=8)
    notebook = new_notebook(cells=[kept, cleared], metadata={"widgets": {"state": "a solution"}})
    notebook, _ = ClearOutput().preprocess(notebook, {})
    assert "widgets" not in notebook.metadata
    assert [output.data for output in notebook.cells[0].outputs] == [
        {"text/plain": "a quiz"},
        {"text/plain": "kept"},
    ]
    assert notebook.cells[1].outputs == []
    assert "random" not in json.dumps(notebook)
    assert not any(cell.execution_count for cell in notebook.cells)
