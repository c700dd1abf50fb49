"""Folders in folders without end stop nobody."""

import os
import sys

import pytest
from nbjudge import trees
from nbjudge.intake.folder import copy_in
from nbjudge.run.provisioner import can_fork

from tests.submission_cells import errors, printed, run_cells

DEEPER_THAN_PYTHON = 2 * sys.getrecursionlimit()
DIG = f"""
import os
here = os.getcwd()
for _ in range({DEEPER_THAN_PYTHON}):
    os.mkdir("d")
    os.chdir("d")
open("file", "w").write("x")
os.chdir(here)
"""


@pytest.fixture
def deep(tmp_path):
    here = os.getcwd()
    root = tmp_path / "deep"
    root.mkdir()
    try:
        os.chdir(root)
        (root / "beside").write_text("x")
        (root / "itself").symlink_to("itself")
        (root / "out").symlink_to("/")
        exec(DIG, {})
    finally:
        os.chdir(here)
    yield root
    trees.remove(root)
    assert not root.exists()


def test_a_walk_ends_where_nobody_looks_any_more(deep):
    with pytest.raises(RecursionError):
        list(os.walk(deep))
    found = list(trees.walk(deep))
    assert len(found) == trees.MAX_DEPTH + 1
    assert found[0][0] == str(deep)
    assert set(found[0][1]) == {"d", "out"} and set(found[0][2]) == {"beside", "itself"}


def test_what_is_taken_out_of_a_walk_is_not_looked_into(tmp_path):
    for name in ("a/b", "c/d"):
        (tmp_path / name).mkdir(parents=True)
    seen = []
    for folder, folders, _ in trees.walk(tmp_path):
        seen.append(os.path.basename(folder))
        if "c" in folders:
            folders.remove("c")
    assert seen == [tmp_path.name, "a", "b"]


def test_a_hand_in_of_folders_without_end_is_taken_in(deep, tmp_path):
    flags = copy_in(deep, tmp_path / "staged", ["lesson"], set(), [])
    codes = [flag.code for flag in flags["lesson"]]
    assert "files_skipped" in codes and "missing_notebook" in codes
    assert (tmp_path / "staged" / "beside").read_text() == "x"


@pytest.mark.skipif(not can_fork(), reason="kernels cannot be forked on this platform")
def test_code_that_digs_folders_without_end_leaves_the_next_submission_alone(tmp_path):
    for _ in range(2):
        notebook = run_cells(DIG, "print('after')", folder=tmp_path)
        assert errors(notebook.cells[0]) == []
        assert printed(notebook.cells[1]) == "after\n"
