"""The build: conventions checked with names, random parts dropped, the same on every run."""

import json
import shutil

import nbformat
import pytest
from course_tools.build import __main__ as building
from course_tools.build import course as clone
from course_tools.build import lesson as lessons
from course_tools.build.lesson import LessonError, check_conventions, read
from course_tools.build.source import drop_random_parts, execute
from nbformat.v4 import new_code_cell, new_notebook, new_output

ROOT = clone.root()
LESSONS = [name for name in clone.LESSONS if (ROOT / "notebooks" / f"{name}.md").is_file()]


def exercise(name="double", **changes):
    settings = {"schema_version": 3, "grade": False, "solution": True, "locked": False}
    source = "### BEGIN SOLUTION\nx = 1\n### END SOLUTION"
    cell = new_code_cell(source, metadata={"nbgrader": settings | {"grade_id": name} | changes})
    cell.id = name or "cell-000"
    return cell


def a_test(name="test_double_core", **changes):
    settings = {"schema_version": 3, "grade": True, "solution": False, "locked": True, "points": 2}
    source = "### BEGIN HIDDEN TESTS\nassert x\n### END HIDDEN TESTS"
    cell = new_code_cell(source, metadata={"nbgrader": settings | {"grade_id": name} | changes})
    cell.id = name or "cell-001"
    return cell


def no_metadata(cell):
    cell.metadata = {}
    return cell


def with_source(cell, source):
    cell.source = source
    return cell


@pytest.mark.parametrize(
    ("cells", "says"),
    [
        ([exercise(), a_test(name="")], "cell cell-001: it has nbgrader metadata but no grade_id"),
        ([exercise(), exercise(), a_test()], "grade_id 'double' stands at two cells"),
        ([exercise()], "the exercise 'double' has no test"),
        ([exercise(), a_test(points=0)], "the test 'test_double_core' has 0 points"),
        ([exercise(), a_test("test_halve_core"), a_test()], "'test_halve_core' belongs to no"),
        ([no_metadata(exercise()), a_test()], "metadata do not say `solution: true`"),
        ([exercise(), no_metadata(a_test())], "metadata do not say `grade: true`"),
        ([with_source(exercise(), "x = 1"), a_test()], "an exercise without `### BEGIN SOLUTION`"),
        ([with_source(exercise(), "### BEGIN SOLUTION"), a_test()], "do not pair"),
        ([exercise(), a_test(), new_code_cell('quiz("nowhere")')], "no quiz 'nowhere'"),
        ([exercise(grade_id="dou ble"), a_test()], "characters other than"),
    ],
)
def test_a_broken_convention_stops_the_build_with_the_cell(cells, says):
    with pytest.raises(LessonError, match=r"^numbers, cell ") as stopped:
        check_conventions(new_notebook(cells=cells), "numbers")
    assert says in str(stopped.value)


def test_a_test_belongs_to_the_longest_exercise_name():
    names = ["generate", "generate_without_cache"]
    assert lessons.tested_exercise("test_generate_without_cache_core", names) == names[1]
    assert lessons.tested_exercise("test_generate_core", names) == "generate"


def test_an_error_in_a_cell_names_notebook_and_cell():
    cell = new_code_cell("1 / 0")
    cell.id = "the-culprit"
    notebook = new_notebook(cells=[new_code_cell("x = 1"), cell])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    with pytest.raises(LessonError, match="numbers, cell the-culprit"):
        execute(notebook, "numbers")


def test_widget_state_and_model_ids_are_dropped():
    view = "application/vnd.jupyter.widget-view+json"
    data = {view: {"model_id": "random"}, "text/plain": "Image(value=b'a solved picture')"}
    cell = new_code_cell("w", outputs=[new_output("display_data", data)])
    cell.id = "picture"
    cell.metadata.execution = {"iopub.execute_input": "2026"}
    notebook = new_notebook(cells=[cell], metadata={"widgets": {"state": "a solved picture"}})
    text = json.dumps(drop_random_parts(notebook))
    assert "random" not in text and "solved picture" not in text and "2026" not in text


def test_an_answers_file_beside_the_source_is_refused(tmp_path):
    place = tmp_path / "attention"
    place.mkdir()
    (place / "attention.ipynb").touch()
    building.refuse_companions(place / "attention.ipynb")
    (place / "quiz_answers.json").touch()
    with pytest.raises(LessonError, match=r"quiz_answers\.json lies beside"):
        building.refuse_companions(place / "attention.ipynb")


@pytest.mark.parametrize("name", LESSONS)
def test_ids_are_the_same_on_every_read_and_unique(name):
    path = ROOT / "notebooks" / f"{name}.md"
    first, second = read(path, ROOT), read(path, ROOT)
    assert first == second
    assert len({cell.id for cell in first.cells}) == len(first.cells)


def without_outputs(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return notebook


def without_pictures(notebook):
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            for kind in [k for k in output.get("data", {}) if k.startswith("image/")]:
                output["data"][kind] = ""
    return notebook


# The shortest to run and the newest: nbval compares the outputs of all.
@pytest.mark.slow
@pytest.mark.parametrize("name", [LESSONS[0], LESSONS[-1]])
def test_building_again_changes_nothing(name, tmp_path):
    folder = tmp_path / "course"
    for part in ("notebooks", "tools/course_tools/mistakes"):
        shutil.copytree(ROOT / part, folder / part)
    for part in ("pyproject.toml", "nbgrader_config.py"):
        shutil.copy(ROOT / part, folder)
    (folder / "src/llm_memory/check/fingerprints").mkdir(parents=True)

    building.build(folder, name, force=True)

    def of(root, place):
        return nbformat.read(root / place / name / f"{name}.ipynb", as_version=4)

    assert without_outputs(of(folder, "source")) == without_outputs(of(ROOT, "source"))
    assert without_pictures(of(folder, "release")) == without_pictures(of(ROOT, "release"))
