"""What can be done to a notebook: cells, metadata, outputs and sources that are not as given."""

from __future__ import annotations

import copy

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output

from tests.hostile.classroom import RIGHT, WRONG, Classroom, answers, cell_of
from tests.hostile.corpus import ALL, DOUBLE, TESTS, Hand, case

_SCRIPT = "<script>alert('owned')</script>"


def _place(hand: Hand, grade_id: str) -> int:
    return hand.notebook.cells.index(cell_of(hand.notebook, grade_id))


def _delete(hand: Hand, *grade_ids: str) -> None:
    for grade_id in grade_ids:
        del hand.notebook.cells[_place(hand, grade_id)]


@case(flags={"duplicate"}, says="several copies of the cell of double")
def cell_copied(hand: Hand) -> None:
    original = cell_of(hand.notebook, "double")
    scratch = copy.deepcopy(original)
    scratch.source = "def double(x):\n    return 'scratch'"
    hand.notebook.cells.insert(_place(hand, "double"), scratch)


@case(flags={"copied"}, says="several copies of the cell test_double_core")
def test_cell_copied(hand: Hand) -> None:
    copied = copy.deepcopy(cell_of(hand.notebook, "test_double_core"))
    hand.notebook.cells.append(copied)


def _said_in_formgrader(room: Classroom, student: str) -> None:
    assert "The cell of double was not in your notebook" in room.comment(student, "double")
    assert room.comment(student, "total") is None
    top = room.autograded(student).cells[0]
    assert "`missing` `double`" in top.source


@case(lost=DOUBLE, flags={"missing"}, says="The cell of double was not in your notebook")
def solution_deleted(hand: Hand) -> object:
    _delete(hand, "double")
    return _said_in_formgrader


@case(flags={"restored"}, says="The course's own version was put back")
def test_deleted(hand: Hand) -> None:
    _delete(hand, "test_double_core")


@case(lost=DOUBLE, flags={"missing", "restored"}, says="counts as not solved")
def solution_and_tests_deleted(hand: Hand) -> None:
    _delete(hand, "double", *DOUBLE)


@case(lost=TESTS, flags={"missing", "restored"}, says="counts as not solved")
def all_cells_deleted(hand: Hand) -> None:
    hand.notebook.cells = []


@case(flags={"moved"}, says="stood in another order")
def cells_moved(hand: Hand) -> None:
    hand.notebook.cells.append(hand.notebook.cells.pop(_place(hand, "double")))


@case(flags={"duplicate"}, says="several copies")
def cell_split(hand: Hand) -> None:
    second = cell_of(hand.notebook, "double")
    first = copy.deepcopy(second)
    first.source, second.source = "factor = 2", "def double(x):\n    return factor * x"
    hand.notebook.cells.insert(_place(hand, "double"), first)


@case(flags={"relabelled"}, says="Type, points or lock of the cell double")
def solution_turned_to_text(hand: Hand) -> None:
    cell = cell_of(hand.notebook, "double")
    cell.cell_type = "markdown"
    del cell["outputs"], cell["execution_count"]


@case(flags={"tampered"}, says="test_double_core is not yours to change")
def test_turned_to_text(hand: Hand) -> None:
    cell = cell_of(hand.notebook, "test_double_core")
    cell.cell_type = "raw"
    del cell["outputs"], cell["execution_count"]


@case(flags={"tampered"}, says="not yours to change")
def points_changed(hand: Hand) -> None:
    cell_of(hand.notebook, "test_double_core").metadata.nbgrader.points = 1000


@case(flags={"tampered", "relabelled"}, says="Type, points or lock of the cell double")
def locks_changed(hand: Hand) -> None:
    cell_of(hand.notebook, "double").metadata.nbgrader.update(locked=True, grade=True, points=50)
    cell_of(hand.notebook, "test_double_core").metadata.nbgrader.update(
        locked=False, solution=True, grade=False
    )


@case(lost=TESTS, flags={"tampered"}, says="test_total_hard is not yours to change")
def tests_emptied_and_nothing_solved(hand: Hand) -> None:
    hand.notebook = copy.deepcopy(hand.room.released)
    for name in TESTS:
        cell_of(hand.notebook, name).source = "pass"


@case(lost=TESTS, flags={"tampered"}, says="quiz_attention is not yours to change")
def quiz_cell_replaced(hand: Hand) -> None:
    hand.notebook = copy.deepcopy(hand.room.released)
    cell_of(hand.notebook, "quiz_attention").source = "1000"


@case(flags={"recovered"}, says="recognised by its content")
def metadata_gone(hand: Hand) -> None:
    for cell in hand.notebook.cells:
        cell.metadata = {}


@case(flags={"recovered"}, says="recognised by its content")
def metadata_and_ids_gone(hand: Hand) -> None:
    for cell in hand.notebook.cells:
        cell.metadata = {}
        del cell["id"]
    hand.notebook.nbformat_minor = 4


@case(flags={"recovered"}, says="recognised by its content")
def metadata_of_wrong_types(hand: Hand) -> None:
    for value, cell in zip([3, [], {}, None, "x", {"nbgrader": 1}] * 9, hand.notebook.cells,
                           strict=False):  # fmt: skip
        cell.metadata = {"nbgrader": {"grade_id": value, "points": value, "locked": value}}
        cell.metadata["tags"] = value


@case(flags={"tampered"}, says="test_double_core is not yours to change")
def newer_schema(hand: Hand) -> None:
    for cell in hand.notebook.cells:
        if "nbgrader" in cell.metadata:
            cell.metadata.nbgrader.schema_version = 99
    cell_of(hand.notebook, "test_double_core").metadata.nbgrader.points = -2


@case(lost=TESTS, flags={"retagged"}, says="Tags of the cell test_double_core had been changed")
def tests_tagged_to_be_skipped(hand: Hand) -> None:
    hand.notebook = copy.deepcopy(hand.room.released)
    for cell in hand.notebook.cells:
        cell.metadata.tags = ["skip-execution", "show", "keep-output"]


@case(lost=TESTS, flags={"forged"}, says="brought a grade of its own along")
def outputs_forged(hand: Hand) -> None:
    hand.notebook = copy.deepcopy(hand.room.released)
    for name in ALL:
        cell = cell_of(hand.notebook, name)
        cell.outputs = [new_output("execute_result", {"text/plain": "1000"}, execution_count=1)]
    hand.notebook.metadata["nbjudge"] = {"graded": True, "flags": [], "answers": {}}


@case(flags={"language"}, says="names another language (bash) than the lesson")
def another_kernel_named(hand: Hand) -> None:
    hand.notebook.metadata.kernelspec = NotebookNode(
        name="bash", display_name="Bash", language="bash"
    )
    hand.notebook.metadata.language_info = NotebookNode(name="bash")


@case()
def solved_in_an_added_cell(hand: Hand) -> None:
    """Not flagged: learners may add cells."""
    given = cell_of(hand.room.released, "double").source
    solution = cell_of(hand.notebook, "double")
    hand.notebook.cells.insert(_place(hand, "double") + 1, new_code_cell(solution.source))
    solution.source = given


@case()
def helper_in_an_edited_reading_cell(hand: Hand) -> None:
    """Not flagged: reading cells are there to be tried out."""
    cell_of(hand.notebook, "total").source = "def total(rows):\n    return helper(rows)"
    for cell in hand.notebook.cells:
        if cell.source == 'print("a reading cell")':
            cell.source = "def helper(rows):\n    return sum(map(sum, rows))"


@case(flags={"control_characters"}, says="U+202E")
def text_of_all_kinds(hand: Hand) -> None:
    cell = cell_of(hand.notebook, "double")
    cell.source = f"# ä 漢字 🧠 \u202e \x07 \x1b[31m\n{cell.source}"
    hand.notebook.cells.append(new_markdown_cell("ünïcode \x00 \x0b \u2028 \ufffe"))


@case(lost=DOUBLE, flags={"control_characters", "syntax"}, says="U+0000")
def nul_and_a_lone_surrogate(hand: Hand) -> None:
    cell_of(hand.notebook, "double").source = "def double(x):\n    return 2 * x \x00"
    hand.notebook.cells.append(new_code_cell("'SURROGATE'"))
    hand.write()
    hand.path.write_text(hand.path.read_text().replace("SURROGATE", "\\ud800"))


@case(flags={"cut_in_page"}, says="larger than a page can show")
def thousands_of_cells(hand: Hand) -> None:
    """Many, and fewer than the bound (`endless_cells` has more): all of them count."""
    hand.notebook.cells += [new_markdown_cell("x") for _ in range(1_500)]


@case(flags={"too_large"}, lost=DOUBLE, says="larger than 200 kB")
def a_cell_of_megabytes(hand: Hand) -> None:
    cell_of(hand.notebook, "double").source += "\n#" + "x" * 3_000_000


@case(flags={"too_large", "cut_in_page"}, says="2,000 cells")
def endless_cells(hand: Hand) -> None:
    hand.notebook.cells += [new_markdown_cell("x") for _ in range(5_000)]


@case(flags={"unknown_cells"}, says="unknown kind (attack)")
def cells_of_no_known_kind(hand: Hand) -> None:
    hand.notebook.cells.insert(
        2, NotebookNode(cell_type="heading", level=3, source="x", metadata={}, id="double")
    )
    hand.notebook.cells.insert(2, NotebookNode(cell_type="attack", source=3, metadata=4, id=5))


def _no_script(room: Classroom, student: str) -> None:
    assert _SCRIPT not in room.feedback(student)
    assert 'href="javascript:' not in room.feedback(student)
    graded = room.autograded(student)
    for cell in graded.cells:
        for output in cell.get("outputs", []):
            own = cell.metadata.get("nbgrader", {}).get("grade_id") == "quiz_attention"
            assert own or not {"text/html", "application/javascript", "image/svg+xml"} & set(
                output.get("data", {})
            )


@case(flags={"script", "script_in_text"}, says="Scripts are left out")
def scripts_in_text_and_outputs(hand: Hand) -> object:
    shows = (
        "from IPython.display import HTML, Javascript, SVG, Markdown, display\n"
        f"script = {_SCRIPT!r}\n"
        "display(HTML(script), Javascript('alert(1)'), Markdown(script))\n"
        "display({'image/svg+xml': '<svg>' + script + '</svg>'}, raw=True)\n"
        "display({'image/png': '\">' + script, 'text/latex': script}, raw=True)\n"
        "display({'text/html': script}, metadata={'text/html': {'isolated': True}}, raw=True)\n"
    )
    hand.notebook.cells.append(new_code_cell(shows))
    cell_of(hand.notebook, "double").source += "\n" + shows
    for text in (_SCRIPT, "[click](javascript:alert(1))", f"```\n{_SCRIPT}", f"    {_SCRIPT}"):
        hand.notebook.cells.append(new_markdown_cell(text))
    hand.notebook.cells.append(
        NotebookNode(cell_type="raw", source=_SCRIPT, metadata={"raw_mimetype": "text/html"})
    )
    return _no_script


@case(lost=DOUBLE, flags={"script"}, says="Scripts are left out")
def script_in_an_error(hand: Hand) -> object:
    raising = f"raise ValueError({_SCRIPT!r})"
    cell_of(
        hand.notebook, "double"
    ).source = f"def double(x):\n    return 2 * x if x > 2 else exec({raising!r})"
    return _no_script


@case(says="none was recorded", lost={"quiz_attention"})
def no_answer(hand: Hand) -> None:
    """Not flagged: nobody has to answer."""
    (hand.folder / "quiz_answers.json").unlink()


def _carry(hand: Hand, record: object) -> None:
    cell_of(hand.notebook, "quiz_attention").outputs = [
        new_output("display_data", {"text/plain": ""}, metadata={"llm_memory": record})
    ]


@case()
def answer_in_the_notebook_alone(hand: Hand) -> None:
    """Not flagged: the file of answers need not come along."""
    (hand.folder / "quiz_answers.json").unlink()
    _carry(hand, answers(RIGHT))


@case(lost={"quiz_attention"})
def later_answer_in_the_notebook(hand: Hand) -> None:
    """Not flagged: both records are the learner's, and the later counts."""
    _carry(hand, answers(WRONG, "2026-01-05T11:30:00+00:00"))


@case()
def earlier_answer_in_the_notebook(hand: Hand) -> None:
    """Not flagged, as above."""
    _carry(hand, answers(WRONG, "2026-01-05T10:30:00+00:00"))


@case(flags={"answers"}, says="could not be read and was left out")
def absurd_answers_in_the_notebook(hand: Hand) -> None:
    _carry(hand, {"schema": 1, "answers": {"attention": {"choice": [[]] * 1000, "time": {}}}})
