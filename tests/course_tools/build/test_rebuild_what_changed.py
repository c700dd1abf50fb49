"""`make build` does again what an edit touches, and nothing else."""

import shutil

import nbformat
import pytest
from course_tools.build import __main__ as building
from course_tools.build import course as clone
from course_tools.build import inputs, lesson

ROOT = clone.root()

NOTEBOOK = """---
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

# Numbers

Some prose.

```{code-cell} ipython3
---
tags: [keep-output]
---
with open(RUNS, "a") as runs:
    print(runs.write("run"))
```

```{code-cell} ipython3
---
nbgrader:
  {schema_version: 3, grade: false, solution: true, locked: false, task: false, grade_id: double}
---
def double(x):
    ### BEGIN SOLUTION
    return 2 * x
    ### END SOLUTION
```

```{code-cell} ipython3
---
nbgrader: {schema_version: 3, grade: true, solution: false, locked: true, task: false, points: 1,
  grade_id: test_double_core}
---
### BEGIN HIDDEN TESTS
assert double(2) == 4
### END HIDDEN TESTS
```
"""
BANK = """
from course_tools.mistakes.bank import Bank, call

bank = Bank("numbers")
bank.calls("double", [call(3)])


@bank.mistake("double", "It adds 2.")
def adds(x):
    return x + 2
"""


@pytest.fixture
def a_course(tmp_path):
    """Return the folder of a course with one short lesson, which notes each of its runs."""
    folder = tmp_path / "course"
    for name in (inputs.FINGERPRINTS, f"{inputs.TOOLS}/mistakes", "notebooks", inputs.ENGINE):
        (folder / name).mkdir(parents=True)
    for name in ("pyproject.toml", "nbgrader_config.py"):
        shutil.copy(ROOT / name, folder)
    text = NOTEBOOK.replace("RUNS", repr(str(tmp_path / "runs")))
    (folder / "notebooks/numbers.md").write_text(text)
    (folder / f"{inputs.TOOLS}/mistakes/numbers.py").write_text(BANK)
    return folder


def digests(folder):
    (folder / "source/numbers").mkdir(parents=True, exist_ok=True)
    notebook = lesson.read(folder / "notebooks/numbers.md", folder)
    # As the build writes it: a release is made from the notebook.
    nbformat.write(notebook, folder / "source/numbers/numbers.ipynb")
    return {
        "fingerprints": inputs.of_fingerprints(folder, "numbers", notebook),
        "run": inputs.of_run(folder, "numbers", notebook),
        "release": inputs.of_release(folder, "numbers"),
    }


@pytest.mark.parametrize(
    ("edit", "due"),
    [
        ("nothing", set()),
        ("prose", {"release"}),
        ("code", {"run", "release"}),
        ("solution", {"fingerprints", "run", "release"}),
        ("nbgrader_config.py", {"release"}),
        (f"{inputs.ENGINE}/steps/clear.py", {"release"}),
        (f"{inputs.TOOLS}/grading.py", {"release"}),
        (f"{inputs.TOOLS}/mistakes/numbers.py", {"fingerprints"}),
        (f"{inputs.TOOLS}/mistakes/bank.py", {"fingerprints"}),
        (f"{inputs.TOOLS}/mistakes/other.py", set()),
        (f"{inputs.TOOLS}/build/fingerprints.py", {"fingerprints"}),
        (f"{inputs.TOOLS}/build/source.py", {"run"}),
        (f"{inputs.FINGERPRINTS}/numbers.json", {"run"}),
        (f"{inputs.FINGERPRINTS}/other.json", set()),
        (f"{inputs.PACKAGE}/plots/charts.py", {"fingerprints", "run"}),
        (f"{inputs.PACKAGE}/quiz/bank.json", {"fingerprints", "run", "release"}),
    ],
)
def test_an_edit_makes_due_what_is_built_from_it(edit, due, a_course):
    before = digests(a_course)
    text = a_course / "notebooks/numbers.md"
    words = {
        "prose": ("Some prose.", "Other prose."),
        "code": ('write("run")', 'write("ran")'),
        "solution": ("2 * x", "x + x"),
    }
    if edit in words:
        text.write_text(text.read_text().replace(*words[edit]))
    elif edit != "nothing":
        (a_course / edit).parent.mkdir(parents=True, exist_ok=True)
        with open(a_course / edit, "a") as file:
            file.write("# changed\n")
    after = digests(a_course)
    assert {step for step in before if before[step] != after[step]} == due


def test_the_parts_that_are_watched_are_there():
    for name in (inputs.PACKAGE, inputs.ENGINE, inputs.FINGERPRINTS, *inputs.SHARED):
        assert (ROOT / name).exists()
    for name in ("build/fingerprints.py", "build/source.py", "mistakes/bank.py", "grading.py"):
        assert (ROOT / inputs.TOOLS / name).is_file()
    assert (ROOT / inputs.PACKAGE / "quiz/bank.json").is_file()


@pytest.mark.slow
def test_prose_alone_does_not_execute_the_lesson_again(a_course, capsys):
    def build():
        building.build(a_course, "numbers")
        return capsys.readouterr().out.strip()

    def texts(place):
        notebook = nbformat.read(a_course / place / "numbers/numbers.ipynb", as_version=4)
        return [cell.source for cell in notebook.cells], [
            output.text for cell in notebook.cells for output in cell.get("outputs", [])
        ]

    runs = a_course.parent / "runs"
    assert build() == "numbers, fingerprints, run, release, done"
    assert runs.read_text() == "run"
    assert build() == "numbers: unchanged"

    text = a_course / "notebooks/numbers.md"
    text.write_text(text.read_text().replace("Some prose.", "Other prose.\n\n+++\n\nAnd more."))
    assert build() == "numbers, release, done"
    assert runs.read_text() == "run"
    for place in ("source", "release"):
        sources, _ = texts(place)
        assert any("Other prose." in source for source in sources)
    assert texts("source")[1] == ["3\n"]

    # What was built and then changed by hand is built again.
    (a_course / "source/numbers/numbers.ipynb").write_text("{}")
    assert build() == "numbers, run, done"
    assert runs.read_text() == "runrun"
