"""The lessons as learners read them."""

import re

import nbformat
import pytest
from course_tools.build import course as clone
from course_tools.build.lesson import is_quiz, quiz_name, read, tags
from course_tools.effort import Effort, effort
from course_tools.site import pages

from llm_memory.quiz import BANK
from tests.submissions import ROOT

LESSONS = [name for name in clone.LESSONS if (ROOT / "release" / name).is_dir()]


@pytest.mark.parametrize("lesson", LESSONS)
def test_every_picture_has_a_text(lesson):
    source = nbformat.read(ROOT / "source" / lesson / f"{lesson}.ipynb", as_version=4)
    for cell in source.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                words = "".join(data.get("text/plain", ""))
                assert words and not words.startswith("<"), f"{cell.id}: a picture without words"


def _read(lesson):
    return (ROOT / "notebooks" / f"{lesson}.md").read_text(encoding="utf-8")


def _headings(text):
    return re.findall(
        r"^#{1,4} (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE
    )


@pytest.mark.parametrize("lesson", LESSONS)
def test_every_link_within_a_lesson_leads_to_a_heading_by_plain_signs(lesson):
    """Jupyter makes a heading's address of its words; signs beyond ASCII get lost on the way."""
    text = _read(lesson)
    places = {heading.replace(" ", "-") for heading in _headings(text)}
    for target in re.findall(r"\]\(#([^)]+)\)", text):
        assert target in places, f"{lesson}: no heading for the link #{target}"
        assert target.isascii(), f"{lesson}: the link #{target} does not scroll in JupyterLab"


@pytest.mark.parametrize("lesson", LESSONS)
def test_every_source_that_is_listed_is_used(lesson):
    body, sources = _read(lesson).split("\n## Sources\n")
    first_lines = [line for line in sources.splitlines() if line.startswith("- ")]
    for line in first_lines:
        links = re.findall(r"\]\((https?://[^)]+)\)", line)
        if links and "further reading" not in line:
            assert any(link.rstrip("/") in body for link in links), f"{lesson}: unused: {line}"


HOURS = {"two and a half": 2.5, "three": 3, "four": 4, "four and a half": 4.5}


@pytest.mark.parametrize("lesson", LESSONS)
def test_a_lesson_says_the_time_that_its_words_and_lines_take(lesson):
    said = re.search(r"\*\*It takes\*\* about ([a-z ]+) hours", _read(lesson))[1]
    counted = effort(read(ROOT / "notebooks" / f"{lesson}.md", ROOT))
    assert abs(60 * HOURS[said] - counted.minutes) <= 20, counted


def test_effort_counts_words_cells_and_lines_of_solutions():
    exercise = """def f(x):
    ### BEGIN SOLUTION
    # why
    y = 2 * x

    return y
    ### END SOLUTION"""
    cells = [
        nbformat.v4.new_markdown_cell("One [link](https://a.b/c d) · and **two** more."),
        nbformat.v4.new_code_cell("setup", metadata={"tags": ["setup"]}),
        nbformat.v4.new_code_cell("plot()"),
    ]
    for tags_ in ([], ["optional"]):
        meta = {"tags": tags_, "nbgrader": {"solution": True, "grade_id": f"f{len(tags_)}"}}
        cells.append(nbformat.v4.new_code_cell(exercise, metadata=meta))
    assert effort(nbformat.v4.new_notebook(cells=cells)) == Effort(words=5, cells=1, lines=2)


def _answers(cells):
    """Return, for each guess, the first cell below it that draws a picture."""
    found = {}
    for place, cell in enumerate(cells):
        if is_quiz(cell) and BANK[quiz_name(cell)].kind == "guess":
            for below in cells[place + 1 :]:
                if is_quiz(below):
                    break
                if ".show()" in below.source:
                    found[quiz_name(cell)] = below
                    break
    return found


@pytest.mark.parametrize("lesson", LESSONS)
def test_the_picture_below_a_guess_is_not_kept(lesson):
    cells = read(ROOT / "notebooks" / f"{lesson}.md", ROOT).cells
    answers = _answers([cell for cell in cells if cell.cell_type == "code"])
    assert answers
    for guess, cell in answers.items():
        assert "answer" in tags(cell), f"{guess}: the cell that answers it needs the tag"
    for cell in cells:
        assert not {"answer", "keep-output"} <= set(tags(cell)), cell.source[:80]


def test_an_answer_is_folded_on_the_site(tmp_path):
    shown = [
        nbformat.v4.new_output("stream", text="a < b"),
        nbformat.v4.new_output("display_data", {"image/png": "AAAA", "text/plain": "A curve."}),
    ]
    solved, released = (
        nbformat.v4.new_notebook(
            cells=[
                nbformat.v4.new_code_cell("plot()", id="one", metadata={"tags": ["answer"]}),
                nbformat.v4.new_code_cell("plot()", id="two"),
            ],
            metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
        )
        for _ in range(2)
    )
    for cell in solved.cells:
        cell.outputs = shown
    folded, open_ = pages.lesson_page(ROOT, "attention", solved, released, tmp_path).cells
    assert len(open_.outputs) == 2
    (only,) = folded.outputs
    assert only.data["text/html"].startswith("<details>")
    assert "a &lt; b" in only.data["text/html"]
    assert 'alt="A curve."' in only.data["text/html"]
