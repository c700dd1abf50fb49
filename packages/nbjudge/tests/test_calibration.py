"""A small course is calibrated, and graded as calibration says.

Its test cells are of the kinds that there are: one that the judge can check, one that looks into
the learner's code, one whose helper a later cell of the learner's needs, one that a teacher grades,
and one that passes without a solution.
"""

import copy
import json

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook
from nbgrader.api import Gradebook
from nbgrader.preprocessors import Execute
from nbgrader.utils import determine_grade
from nbjudge.classes import calibration
from nbjudge.cli import main
from nbjudge.codes import all_flags
from nbjudge.run import judged
from nbjudge.run.judged import JudgedExecute

from tests.commands import nbgrader, run

pytestmark = pytest.mark.slow

CONFIG = """
from nbjudge import configure
c = get_config()
c.CourseDirectory.course_id = "small"
c.Exchange.root = str(__import__("pathlib").Path(__file__).resolve().parent / "exchange")
configure(c)
"""
#: Stands in hidden tests and nowhere else.
HIDDEN = "424242"
INSIDE = {"test_uses_helper"}


def cell(source: str, grade_id: str, points: int = 0, tags: tuple = (), **kinds: bool):
    """Return a cell of nbgrader's."""
    about = {"schema_version": 3, "grade_id": grade_id, "task": False}
    about |= {"grade": bool(points), "solution": False, "locked": bool(points)} | kinds
    made = new_code_cell(source, id=grade_id.replace("_", "-"))
    made.metadata.nbgrader = NotebookNode(about)
    if points:
        made.metadata.nbgrader.points = points
    if tags:
        made.metadata.tags = list(tags)
    return made


def hidden(visible: str, source: str) -> str:
    """Return the source of a test cell with a hidden part."""
    return f"{visible}\n### BEGIN HIDDEN TESTS\n{source}\n### END HIDDEN TESTS"


def solution(head: str, body: str) -> str:
    """Return the source of a solution cell."""
    return f"{head}\n    ### BEGIN SOLUTION\n    {body}\n    ### END SOLUTION"


def source() -> NotebookNode:
    """Return the source notebook."""
    looks = f'assert "return" in inspect.getsource(double), "the {HIDDEN}th secret"'
    cells = [
        cell("import inspect", "imports", locked=True),
        cell(solution("def double(x):", "return 2 * x"), "double", solution=True),
        cell(hidden("assert double(1) == 2", f"assert double({HIDDEN}) > 800000"), "test_plain", 2),
        cell(
            hidden(
                "assert callable(double)",
                f"{looks}\nprint({HIDDEN})\n1.0 if double(2) == 4 else 0.5",
            ),
            "test_looks_inside",
            1,
        ),
        cell(
            "def helper(x):\n    return x + 1\n\nassert helper.__code__.co_argcount == 1\n"
            "assert double.__code__.co_varnames == ('x',)",
            "test_helper",
            1,
        ),
        cell(solution("def more(x):", "return helper(double(x))"), "more", solution=True),
        cell("early = helper(1)", "early", solution=True),
        cell(hidden("assert more(1) == 3", "assert early == 2"), "test_uses_helper", 3),
        cell("assert double(0) == 0", "test_by_hand", 4, ("judge-manual",)),
        cell("assert callable(double)", "test_given_away", 1),
    ]
    notebook = new_notebook(cells=cells)
    notebook.metadata.kernelspec = {"display_name": "P", "language": "python", "name": "python3"}
    return notebook


def changed(notebook: NotebookNode, **sources: str) -> NotebookNode:
    """Return a notebook in which cells have another source, by grade_id."""
    notebook = copy.deepcopy(notebook)
    for one in notebook.cells:
        one.source = sources.get(one.metadata.nbgrader.grade_id, one.source)
    return notebook


def without_marks(notebook: NotebookNode) -> NotebookNode:
    """Return the source as a learner would have solved it."""
    return changed(
        notebook,
        double="def double(x):\n    return 2 * x",
        more="def more(x):\n    return helper(double(x))",
        early="early = helper(1)",
    )


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """Return a course folder with a released assignment and a graded class."""
    folder = tmp_path_factory.mktemp("small") / "course"
    (folder / "source" / "one").mkdir(parents=True)
    (folder / "nbgrader_config.py").write_text(CONFIG)
    nbformat.write(source(), folder / "source" / "one" / "one.ipynb")
    printed = nbgrader(folder, "generate_assignment", "one")
    (folder / "printed.txt").write_text(printed)
    released = nbformat.read(folder / "release" / "one" / "one.ipynb", 4)
    cheat = "\ninspect.getsource = lambda thing: 'return'\n"
    class_ = {
        "ada": without_marks(released),
        "stub": released,
        "wrong": changed(without_marks(released), double="def double(x):\n    return 2 * x + 1"),
        # Reads its own tests and prints them: the learner's page must not hold them.
        "nosy": changed(
            without_marks(released),
            double="import inspect\ndef double(x):\n    print(x, In)\n    return 2 * x",
            early="early = helper(1)\nprint(In)",
        ),
        "cheat": changed(
            released,
            double="def double(x):\n    return Yes()\nclass Yes(float):\n"
            "    def __eq__(self, other): return True\n"
            "    def __truediv__(self, other): return 1.0\n"
            "    def __gt__(self, other): return True\n"
            f"    __hash__ = None{cheat}",
        ),
    }
    for student, notebook in class_.items():
        place = folder / "submitted" / student / "one"
        place.mkdir(parents=True)
        nbformat.write(notebook, place / "one.ipynb")
    nbgrader(folder, "autograde", "one")
    nbgrader(folder, "generate_feedback", "one")
    return folder


def grades(course, student: str) -> dict[str, float | None]:
    """Return what the grader gave, None for what it left to a teacher."""
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as gradebook:
        submitted = gradebook.find_submission("one", student)
        found = {grade.name: grade.auto_score for grade in submitted.notebooks[0].grades}
        for grade in submitted.notebooks[0].grades:
            assert grade.needs_manual_grade == (grade.auto_score is None)
        return found


def modes(course) -> dict[str, str]:
    """Return what is stored with the assignment."""
    kept = json.loads((course / ".nbjudge" / "one.json").read_text())
    return {name: tested["mode"] for name, tested in kept["notebooks"]["one"]["cells"].items()}


def as_stock(notebook: NotebookNode) -> dict[str, float]:
    """Return the scores that stock nbgrader gives a notebook with its tests in place."""
    notebook = copy.deepcopy(notebook)
    Execute(kernel_name="python3").preprocess(notebook, {"metadata": {"path": "."}})
    tests = [c for c in notebook.cells if c.metadata.nbgrader.grade]
    return {c.metadata.nbgrader.grade_id: determine_grade(c)[0] for c in tests}


def test_each_cell_is_checked_outside_if_it_can_be(course):
    found = modes(course)
    assert found["test_plain"] == found["test_given_away"] == "outside"
    assert {name for name, mode in found.items() if mode == "inside"} == INSIDE
    assert found["test_by_hand"] == "manual"


def test_the_table_and_the_warnings_are_printed(course):
    printed = (course / "printed.txt").read_text()
    assert "test_given_away: passes without a solution" in " ".join(printed.split())
    assert "inside" in printed
    again = run(main, course, "verify", "one", code=1)
    assert "test_given_away: passes without a solution" in " ".join(again.split())
    assert "no_such was never released" in run(main, course, "verify", "no_such", code=1)


def test_a_right_answer_has_stocks_score_and_a_teacher_is_asked_where_the_tag_says_so(course):
    stock = as_stock(source())
    stock["test_by_hand"] = None
    assert stock["test_looks_inside"] == 1.0
    assert grades(course, "ada") == stock == grades(course, "nosy")


def test_a_stub_and_a_wrong_answer_have_stocks_scores(course):
    wrong = as_stock(changed(source(), double="def double(x):\n    return 2 * x + 1"))
    assert grades(course, "wrong") == wrong | {"test_by_hand": None}
    assert wrong["test_plain"] == 0
    stub = grades(course, "stub")
    assert (stub["test_plain"], stub["test_uses_helper"], stub["test_given_away"]) == (0, 0, 1)


def test_what_ran_inside_is_flagged_by_name(course):
    notebook = nbformat.read(course / "autograded" / "ada" / "one" / "one.ipynb", 4)
    flagged = {(flag["code"], flag["cell"]) for flag in all_flags(notebook)}
    assert flagged == {("unprotected", name) for name in INSIDE} | {("by_hand", "test_by_hand")}


def test_the_learners_page_shows_nothing_of_a_test(course):
    for student in ("ada", "nosy", "wrong", "cheat"):
        page = (course / "feedback" / student / "one" / "one.html").read_text()
        assert HIDDEN not in page
        assert "This test passed." in page or "This test did not pass." in page


def test_a_cell_that_needs_what_a_test_defines_shows_no_error_that_is_none(course):
    notebook = nbformat.read(course / "autograded" / "ada" / "one" / "one.ipynb", 4)
    cells = {c.metadata.nbgrader.grade_id: c for c in notebook.cells if "nbgrader" in c.metadata}
    assert [output.output_type for output in cells["early"].outputs] == ["stream"]
    assert "without an error" in cells["early"].outputs[0].text


def test_tampering_earns_nothing_in_cells_that_are_checked_outside(course):
    assert grades(course, "cheat")["test_plain"] == 0


def test_a_changed_source_is_calibrated_before_it_is_graded(course, tmp_path):
    before = (course / ".nbjudge" / "one.json").read_text()
    try:
        (course / ".nbjudge" / "one.json").unlink()
        nbgrader(course, "autograde", "one", "--student", "ada", "--force")
        assert (course / ".nbjudge" / "one.json").read_text() == before
        assert grades(course, "ada")["test_looks_inside"] == 1.0
    finally:
        (course / ".nbjudge" / "one.json").write_text(before)


class _GivesUp:
    """A judge that cannot check what it is asked."""

    def run(self, source, seconds):
        outcome = judged_outcome()
        outcome.unchecked = "it looks inside"
        return outcome

    def close(self):
        """As a judge's."""


def judged_outcome():
    """Return an outcome with nothing in it."""
    from nbjudge.judge.verdicts import Outcome

    return Outcome()


@pytest.mark.parametrize(
    ("mode", "tags", "right", "score", "code"),
    [
        (None, (), True, 1.0, "unprotected"),
        (None, (), False, 0.0, "unprotected"),
        # The judge can check it: that it could not now may be the learner's doing.
        ("outside", (), True, None, "unchecked"),
        ("outside", (), False, 0.0, "unprotected"),
        (None, ("judge-outside",), True, None, "unchecked"),
    ],
)
def test_what_the_judge_gives_up_is_no_wrong_answer_and_no_free_point(
    monkeypatch, mode, tags, right, score, code
):
    monkeypatch.setattr(judged, "open_judge", lambda *args, **kwargs: _GivesUp())
    test = cell("assert a == 1", "test_it", 1, tags)
    if mode:
        test.metadata.nbjudge = NotebookNode(mode=mode)
    answer = cell(f"a = {1 if right else 2}", "answer", solution=True)
    notebook, _ = JudgedExecute().preprocess(new_notebook(cells=[answer, test]), {})
    assert [flag.code for flag in all_flags(notebook)] == [code]
    if score is None:
        assert "test_it" in notebook.metadata.nbjudge.by_hand
        # Where nobody takes note of that, there are no points.
        assert determine_grade(notebook.cells[1])[0] == 0
    else:
        assert "by_hand" not in notebook.metadata.nbjudge
        assert determine_grade(notebook.cells[1])[0] == score


def graded(outside, inside, stub_outside, stub_inside) -> str:
    """Return the mode for the scores (None: unchecked) of a cell with 2 points."""

    def got(score):
        return calibration._Graded(score, "" if score else "AssertionError")

    solved = got(outside), None if inside is None else got(inside)
    stub = got(stub_outside), got(stub_inside)
    return calibration._decide(cell("", "test_it", 2), solved, stub).mode


@pytest.mark.parametrize(
    ("scores", "mode"),
    [
        ((2, None, 0, 0), "outside"),
        ((2, 2, 1, 1), "outside"),
        ((0, 2, 0, 0), "inside"),
        ((1, 2, 0, 0), "inside"),
        ((2, 2, 2, 0), "inside"),
        ((2, 2, 0, 2), "inside"),
        # A source that nobody solved: both ways say the same of it.
        ((0, 0, 0, 0), "outside"),
        ((2, 1, 0, 0), "manual"),
    ],
)
def test_the_mode_follows_from_what_each_way_gives(scores, mode):
    assert graded(*scores) == mode


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("import inspect\nassert 'for' not in inspect.getsource(f)", "getsource"),
        ("assert 'sum' in f.__code__.co_names", "__code__"),
        ("assert f(1) == 2", ""),
        ("assert source_code(f) == 2", ""),
    ],
)
def test_a_teacher_is_told_where_a_test_takes_the_learners_word(source, told):
    good = calibration._Graded(2.0)
    bad = calibration._Graded(0.0, "AssertionError")
    tested = calibration._decide(cell(source, "test_it", 2), (good, None), (bad, bad))
    assert tested.mode == "outside" and not tested.warning
    assert (told in tested.why) if told else not tested.why
