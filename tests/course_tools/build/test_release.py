"""Nothing of a solution or of a hidden test is in what learners get."""

import json
import re

import nbformat
import pytest
from course_tools.build import course as clone
from course_tools.build.leaks import find_leaks, given_to_learners, secrets

from tests.submissions import released

ROOT = clone.root()
LESSONS = [name for name in clone.LESSONS if (ROOT / "release" / name).is_dir()]


@pytest.fixture(scope="module")
def secret():
    return secrets(ROOT)


def test_there_is_something_to_hide(secret):
    assert sum(kind == "solution" for kind in secret.values()) > 20
    assert sum(kind == "hidden test" for kind in secret.values()) > 40


def test_learners_get_no_solution_and_no_hidden_test(secret):
    assert find_leaks(given_to_learners(ROOT), secret) == []


def a_secret(secret, kind):
    return max((line for line, what in secret.items() if what == kind), key=len)


@pytest.mark.parametrize("kind", ["solution", "hidden test"])
@pytest.mark.parametrize("place", ["source", "output", "metadata", "widget state"])
def test_a_planted_leak_is_found(secret, kind, place):
    notebook = released(LESSONS[0])
    line = a_secret(secret, kind)
    cell = next(cell for cell in notebook.cells if cell.cell_type == "code")
    if place == "source":
        cell.source += "\n    " + line.replace(" ", "  ")
    elif place == "output":
        cell.outputs = [nbformat.v4.new_output("stream", text=line)]
    elif place == "metadata":
        cell.metadata["note"] = line
    else:
        notebook.metadata["widgets"] = {"state": {"a": {"value": line}}}
    found = find_leaks({"planted.ipynb": json.dumps(notebook)}, secret)
    assert found and found[0].startswith("planted.ipynb: ")


def test_a_solved_picture_in_the_widget_state_is_found(secret):
    notebook = released(LESSONS[0])
    notebook.metadata["widgets"] = {"state": {"a": {"value": "iVBORw0KGgo"}}}
    assert find_leaks({"planted.ipynb": json.dumps(notebook)}, secret)


@pytest.mark.parametrize("name", LESSONS)
def test_only_cells_that_say_so_keep_their_output(name):
    for cell in released(name).cells:
        if cell.get("outputs"):
            assert "keep-output" in cell.metadata.get("tags", []), cell.id
            assert "widget-view" not in json.dumps(cell.outputs)


@pytest.mark.parametrize("name", LESSONS)
def test_unsolved_exercises_raise_not_implemented(name):
    text = json.dumps([cell.source for cell in released(name).cells])
    assert "raise NotImplementedError" in text
    assert not re.search(r"### (BEGIN|END)", text)
