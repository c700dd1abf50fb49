"""What a screen reader is told in JupyterLab: names, and values in words."""

import nbformat
import pytest
from axe_playwright_python.sync_playwright import Axe
from nbformat.v4 import new_code_cell, new_notebook
from playwright.sync_api import expect

from llm_memory.quiz import BANK
from tests.browser.lab import PATIENCE

pytestmark = pytest.mark.slow

KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
PICTURE = """
from matplotlib.figure import Figure
from llm_memory.plots.picture import Picture
figure = Figure()
figure.add_subplot().bar([*"abc"], [1, 2, 3])
Picture(figure, "Three bars, each higher than the last.").show()
"""
SLIDER = """
from llm_memory.plots.picture import slider
slider("Multiply by", [("× 1", 1), ("× 4", 4), ("× 16", 16)], 1)
"""


@pytest.fixture(scope="module")
def page(lab):
    cells = [
        "from llm_memory.quiz import quiz",
        'quiz("attention")',
        'quiz("guess-they")',
        PICTURE,
        SLIDER,
    ]
    notebook = new_notebook(cells=[*map(new_code_cell, cells)], metadata=KERNEL)
    nbformat.write(notebook, lab.folder / "names.ipynb")
    page = lab.open("names.ipynb")
    page.run_all()
    return page


def test_a_slider_has_its_label_as_a_name_and_says_its_value_in_words(page):
    handle = page.cell("slider(").get_by_role("slider", name="Multiply by", exact=True)
    expect(handle).to_have_attribute("aria-valuetext", "× 1", timeout=PATIENCE)
    handle.focus()
    for words in ("× 4", "× 16"):
        page.page.keyboard.press("ArrowRight")
        expect(handle).to_have_attribute("aria-valuetext", words)
    assert handle.evaluate("element => getComputedStyle(element).outlineStyle") == "solid"


@pytest.mark.parametrize("name", ["attention", "guess-they"], ids=["a quiz", "a guess"])
def test_a_quiz_is_a_group_with_its_question_whose_options_carry_their_text(page, name):
    quiz = page.quiz(name).cell
    group = quiz.get_by_role("radiogroup", name=BANK[name].question.replace("**", ""))
    expect(group).to_have_count(1)
    for letter, option in zip("ABC", BANK[name].options, strict=True):
        text = f"{letter}. {option.text}".replace("**", "")
        expect(group.get_by_role("radio", name=text, exact=True)).to_have_count(1)


def test_a_picture_has_its_words_as_an_alternative(page):
    image = page.cell("Three bars").get_by_role("img", name="Three bars, each higher", exact=False)
    expect(image).to_have_attribute("alt", "Three bars, each higher than the last.")


def test_axe_finds_nothing_serious_in_the_outputs(page):
    page.cell("slider(")
    found = Axe().run(page.page, ".jp-OutputArea-output", {"resultTypes": ["violations"]}).response
    serious = [
        (violation["id"], [node["html"] for node in violation["nodes"]])
        for violation in found["violations"]
        if violation["impact"] in ("serious", "critical")
    ]
    assert serious == []
