"""The rebuild: the lesson's cells come from the course, the learner's own from the submission."""

import copy
import json

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell
from nbjudge.intake import rebuild as rebuilding
from nbjudge.intake.notebook import Unreadable, parse_notebook, read_notebook

from tests.hostile.classroom import HIDDEN, LESSON, ROOT, Classroom, cell_of


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    return Classroom(tmp_path_factory.mktemp("rebuild") / "course")


@pytest.fixture(scope="module")
def the_lesson(room):
    return rebuilding.load_lesson(
        room.folder / "source" / LESSON / f"{LESSON}.ipynb",
        LESSON,
        LESSON,
        f"sqlite:///{room.folder / 'gradebook.db'}",
    )


@pytest.fixture
def rebuild(the_lesson):
    """Rebuild a notebook as it is read; return its sources and the codes and cells flagged."""

    def run(notebook):
        submission = parse_notebook(json.loads(json.dumps(notebook)))
        rebuilt, flags = rebuilding.rebuild(the_lesson, submission.cells)
        return rebuilt, {(flag.code, flag.cell) for flag in flags}

    return run


def place(notebook, grade_id):
    return next(
        i
        for i, cell in enumerate(notebook.cells)
        if cell.metadata.get("nbgrader", {}).get("grade_id") == grade_id
    )


def without(notebook, *grade_ids):
    notebook.cells = [
        cell
        for cell in notebook.cells
        if cell.metadata.get("nbgrader", {}).get("grade_id") not in grade_ids
    ]
    return notebook


def sources(notebook):
    return [cell.source for cell in notebook.cells]


def test_an_honest_notebook_stays_as_it_is(room, rebuild, the_lesson):
    rebuilt, flags = rebuild(room.solved())
    assert flags == set()
    expected = sources(the_lesson.notebook)
    for name in ("double", "total"):
        expected[place(the_lesson.notebook, name)] = cell_of(room.solved(), name).source
    assert sources(rebuilt) == expected
    assert HIDDEN in cell_of(rebuilt, "test_double_core").source
    assert [cell.metadata.get("tags") for cell in rebuilt.cells] == [
        cell.metadata.get("tags") for cell in the_lesson.notebook.cells
    ]


def test_what_was_released_raises_no_flag(room, rebuild, the_lesson):
    rebuilt, flags = rebuild(room.released)
    assert flags == set()
    assert sources(rebuilt) == sources(the_lesson.notebook)


def test_added_cells_keep_their_place(room, rebuild):
    notebook = room.solved()
    notebook.cells.insert(0, new_code_cell("first = 1"))
    notebook.cells.insert(place(notebook, "double") + 1, new_code_cell("helper = 1"))
    notebook.cells.append(new_markdown_cell("my notes <script>"))
    rebuilt, flags = rebuild(notebook)
    assert flags == set()
    assert rebuilt.cells[0].source == "first = 1"
    assert rebuilt.cells[place(rebuilt, "double") + 1].source == "helper = 1"
    assert rebuilt.cells[-1].source == "```\nmy notes <script>\n```"
    assert len({cell.id for cell in rebuilt.cells}) == len(rebuilt.cells)


def test_text_with_fences_cannot_leave_its_fence(room, rebuild):
    notebook = room.solved()
    notebook.cells.append(new_markdown_cell("````\n<script>alert(1)</script>\n````"))
    rebuilt, _ = rebuild(notebook)
    assert rebuilt.cells[-1].source.startswith("`````\n")
    assert rebuilt.cells[-1].source.endswith("\n`````")


@pytest.mark.parametrize(
    ("copies", "expected"),
    [
        ([("above", "one"), ("above", "two")], "two"),
        ([("above", "one"), ("below", "two")], "one"),
        ([("below", "one"), ("below", "two")], "one"),
        ([("above", "one"), ("above", None)], "one"),
        ([("above", None), ("below", "two")], "two"),
    ],
)
def test_of_several_copies_the_one_in_force_at_the_test_counts(room, rebuild, copies, expected):
    notebook = room.released
    original = cell_of(notebook, "double")
    notebook = without(copy.deepcopy(notebook), "double")
    for where, source in copies:
        cell = copy.deepcopy(original)
        cell.source = cell.source if source is None else f"def double(x):\n    return {source!r}"
        test = place(notebook, "test_double_core")
        at = test if where == "above" else next_free(notebook, test)
        notebook.cells.insert(at, cell)
    rebuilt, flags = rebuild(notebook)
    assert repr(expected) in cell_of(rebuilt, "double").source
    written = [source for _, source in copies if source]
    assert (("duplicate", "double") in flags) == (len(written) > 1)
    joined = "\n".join(sources(rebuilt))
    assert all(repr(source) in joined for source in written)
    assert joined.count("def double") == len(written)


def next_free(notebook, test):
    """The first place below a test that is not taken by another copy."""
    at = test + 1
    while notebook.cells[at].metadata.get("nbgrader", {}).get("grade_id") == "double":
        at += 1
    return at


def test_a_split_cell_runs_in_two_parts(room, rebuild):
    notebook = room.solved()
    at = place(notebook, "double")
    first = copy.deepcopy(notebook.cells[at])
    first.source = "factor = 2"
    notebook.cells[at].source = "def double(x):\n    return factor * x"
    notebook.cells.insert(at, first)
    rebuilt, flags = rebuild(notebook)
    at = place(rebuilt, "double")
    assert "def double" in rebuilt.cells[at].source
    assert rebuilt.cells[at - 1].source == "factor = 2"
    assert flags == {("duplicate", "double")}


def test_a_deleted_solution_becomes_the_stub(room, rebuild):
    rebuilt, flags = rebuild(without(room.solved(), "double"))
    assert cell_of(rebuilt, "double").source == cell_of(room.released, "double").source
    assert flags == {("missing", "double")}


@pytest.mark.parametrize("with_ids", [True, False])
def test_lost_metadata_is_recovered_by_content(room, rebuild, with_ids):
    notebook = room.solved()
    for cell in notebook.cells:
        cell.metadata = {}
        if not with_ids:
            del cell["id"]
    rebuilt, flags = rebuild(notebook)
    assert sources(rebuilt) == sources(rebuild(room.solved())[0])
    assert flags == {("recovered", "double"), ("recovered", "total")}


def test_locked_cells_come_from_the_course(room, rebuild, the_lesson):
    notebook = without(room.solved(), "test_total_hard")
    cell_of(notebook, "test_double_core").source = "pass"
    cell_of(notebook, "quiz_attention").source = "pass"
    cell_of(notebook, "imports").source = "import os"
    rebuilt, flags = rebuild(notebook)
    for name in ("test_double_core", "test_total_hard", "quiz_attention", "imports"):
        assert cell_of(rebuilt, name).source == cell_of(the_lesson.notebook, name).source
    assert flags == {
        ("tampered", "test_double_core"),
        ("tampered", "quiz_attention"),
        ("tampered", "imports"),
        ("restored", "test_total_hard"),
    }


def test_points_type_and_lock_come_from_the_course(room, rebuild):
    notebook = room.solved()
    cell_of(notebook, "test_double_core").metadata.nbgrader.points = 100
    cell_of(notebook, "double").cell_type = "markdown"
    cell_of(notebook, "total").metadata.nbgrader.solution = False
    rebuilt, flags = rebuild(notebook)
    assert cell_of(rebuilt, "test_double_core").metadata.nbgrader.points == 2
    assert cell_of(rebuilt, "double").cell_type == "code"
    assert cell_of(rebuilt, "double").source == cell_of(room.solved(), "double").source
    assert cell_of(rebuilt, "total").metadata.nbgrader.solution is True
    assert flags == {
        ("tampered", "test_double_core"),
        ("relabelled", "double"),
        ("relabelled", "total"),
    }


def test_order_comes_from_the_course(room, rebuild, the_lesson):
    notebook = room.solved()
    notebook.cells.reverse()
    rebuilt, flags = rebuild(notebook)
    assert sources(rebuilt) == sources(rebuild(room.solved())[0])
    assert flags == {("moved", "")}


def test_an_edited_reading_cell_is_the_learners(room, rebuild):
    notebook = room.solved()
    for cell in notebook.cells:
        if cell.source == 'print("a reading cell")':
            cell.source = "def helper():\n    return 2"
        if cell.source.startswith("# A small"):
            cell.source += "\n\nmy note"
    rebuilt, flags = rebuild(notebook)
    assert flags == set()
    assert "def helper():\n    return 2" in sources(rebuilt)
    assert 'print("a reading cell")' not in sources(rebuilt)
    assert rebuilt.cells[0].source == room.released.cells[0].source
    assert "my note" in rebuilt.cells[1].source


@pytest.mark.parametrize(
    ("source", "tags"),
    [
        ('print("something else")', ["show"]),
        ("helper = 3", None),
        ("import math as helper", None),
        ("def helper():\n    pass", None),
        ("for helper in [1]:\n    pass", None),
        ("%time 3", None),
    ],
)
def test_an_edited_cell_that_shows_is_run_only_for_a_new_name(room, rebuild, source, tags):
    notebook = room.solved()
    for cell in notebook.cells:
        if cell.source == 'print("to be looked at")':
            cell.source = source
    rebuilt, _ = rebuild(notebook)
    assert [cell.metadata.get("tags") for cell in rebuilt.cells if cell.source == source] == [tags]


def test_tags_outputs_and_kernel_are_dropped(room, rebuild, the_lesson):
    notebook = room.solved()
    notebook.metadata.kernelspec = {"name": "evil", "display_name": "evil", "language": "R"}
    notebook.cells.append(new_code_cell("x = 1", metadata={"tags": ["skip-execution"]}))
    for cell in notebook.cells:
        cell.metadata.tags = ["skip-execution"]
    cell_of(notebook, "test_double_core").outputs = [
        {"output_type": "execute_result", "data": {"text/plain": "2"}, "metadata": {}}
    ]
    rebuilt, _ = rebuild(notebook)
    assert rebuilt.metadata.kernelspec == the_lesson.notebook.metadata.kernelspec
    assert not any("skip-execution" in cell.metadata.get("tags", []) for cell in rebuilt.cells)
    assert not any(cell.get("outputs") for cell in rebuilt.cells)


def test_a_changed_source_cell_is_graded_as_it_was_released(room, the_lesson, tmp_path):
    changed = copy.deepcopy(the_lesson.notebook)
    cell_of(changed, "test_double_core").source = "assert False"
    (tmp_path / "changed.ipynb").write_text(json.dumps(changed))
    database = f"sqlite:///{room.folder / 'gradebook.db'}"
    again = rebuilding.load_lesson(tmp_path / "changed.ipynb", LESSON, LESSON, database)
    assert HIDDEN in cell_of(again.notebook, "test_double_core").source

    changed = without(changed, "test_double_core")
    (tmp_path / "changed.ipynb").write_text(json.dumps(changed))
    with pytest.raises(rebuilding.CourseError, match=r"test_double_core.*generate_assignment"):
        rebuilding.load_lesson(tmp_path / "changed.ipynb", LESSON, LESSON, database)
    with pytest.raises(rebuilding.CourseError, match=r"gone.ipynb is missing.*generate_assignment"):
        rebuilding.load_lesson(tmp_path / "gone.ipynb", LESSON, LESSON, database)


@pytest.mark.parametrize(
    "content",
    [b"", b"  \n", b"{", b"[]", b"null", b"3", b'{"a": 1}', b'{"cells": 3}', b"\xff\xfe\x00",
     b"[" * 100_000, b'{"cells": [' + b"[" * 100_000],
    ids=["empty", "blank", "cut", "list", "null", "number", "no cells", "cells", "bytes", "deep",
         "deep cells"],
)  # fmt: skip
def test_what_is_no_notebook_is_unreadable(tmp_path, content):
    path = tmp_path / "x.ipynb"
    path.write_bytes(content)
    with pytest.raises(Unreadable):
        read_notebook(path)


def test_absurd_cells_are_read_as_far_as_they_go():
    absurd = [
        None, 3, [], {}, {"cell_type": ["code"], "source": {"a": 1}},
        {"cell_type": "code", "source": ["a", 1, "b"], "metadata": []},
        {"cell_type": "code", "source": "x = '\ud800\0'", "id": "a b", "outputs": {"a": 1}},
        {"cell_type": "code", "source": "y", "metadata": {"nbgrader": {"grade_id": ["double"]}}},
        {"cell_type": "code", "source": "y", "outputs": [3, {"metadata": {"llm_memory": [1]}}]},
    ]  # fmt: skip
    found = parse_notebook({"cells": absurd})
    assert [cell.source for cell in found.cells] == ["", "", "ab", "x = '?\ufffd'", "y", "y"]
    assert [flag.code for flag in found.flags] == ["answers", "unknown_cells", "control_characters"]
    json.dumps(found.cells).encode("utf-8")


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "release").glob("*/*.ipynb")))
def test_the_courses_own_lessons(name, monkeypatch):
    # What the gradebook records is what stands in source/: there is none here.
    monkeypatch.setattr(rebuilding, "_take_recorded", lambda *_: None)
    given = rebuilding.load_lesson(ROOT / "source" / name / f"{name}.ipynb", name, name, "")
    released = nbformat.read(ROOT / "release" / name / f"{name}.ipynb", as_version=4)
    rebuilt, flags = rebuilding.rebuild(given, parse_notebook(released).cells)
    assert flags == []
    assert sources(rebuilt) == sources(given.notebook)

    for cell in released.cells:
        cell.metadata = {}
        del cell["id"]
    rebuilt, flags = rebuilding.rebuild(given, parse_notebook(released).cells)
    assert sources(rebuilt) == sources(given.notebook)
    assert {flag.code for flag in flags} <= {"recovered"}


@pytest.mark.parametrize("into", ["double", "test_double_core"])
def test_exercises_that_were_merged_into_one_cell_are_both_graded(room, rebuild, into):
    """Jupyter keeps the metadata of one of the cells, and the other exercise has none left."""
    notebook = room.solved()
    total = cell_of(notebook, "total").source
    cell = cell_of(notebook, into)
    cell.source = f"{cell.source}\n\n{total}"
    rebuilt, flags = rebuild(without(notebook, "total"))
    assert cell_of(rebuilt, "total").source == cell.source
    assert ("merged", "total") in flags
    assert ("missing", "total") not in flags
    assert HIDDEN in cell_of(rebuilt, "test_double_core").source


def test_an_exercise_that_is_nowhere_is_missing_for_all_that_others_call_it(room, rebuild):
    notebook = room.solved()
    cell_of(notebook, "double").source += "\n\ntry:\n    total([1])\nexcept NameError:\n    pass"
    _, flags = rebuild(without(notebook, "total"))
    assert ("missing", "total") in flags
    assert ("merged", "total") not in flags
