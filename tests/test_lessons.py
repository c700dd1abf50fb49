"""The lessons as learners run them: unsolved to the end, standing alone, offline."""

import nbformat
import pytest
from nbclient import NotebookClient

from llm_memory.build import course as clone
from llm_memory.build.lesson import is_test
from tests.submissions import ROOT, released

LESSONS = [name for name in clone.LESSONS if (ROOT / "release" / name).is_dir()]


@pytest.mark.parametrize("lesson", LESSONS)
def test_an_unsolved_lesson_runs_to_its_end_and_only_exercises_are_open(lesson, tmp_path):
    notebook = released(lesson)
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=600, allow_errors=True, resources=resources).execute()
    for cell in notebook.cells:
        found = [output for output in cell.get("outputs", []) if output.output_type == "error"]
        assert all(output.ename == "NotImplementedError" for output in found), (
            cell.id,
            [output.evalue for output in found],
        )
        # A learner who is stuck can read on: nothing but tests and checks is stopped.
        checks = is_test(cell) or cell.source.startswith("check(")
        assert not found or checks, f"{cell.id} depends on an unsolved exercise"
        for output in cell.get("outputs", []):
            assert output.get("name") != "stderr", f"{cell.id} warns: {output.text}"


@pytest.mark.parametrize("lesson", LESSONS)
def test_every_picture_has_a_text(lesson):
    source = nbformat.read(ROOT / "source" / lesson / f"{lesson}.ipynb", as_version=4)
    for cell in source.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                words = "".join(data.get("text/plain", ""))
                assert words and not words.startswith("<"), f"{cell.id}: a picture without words"
