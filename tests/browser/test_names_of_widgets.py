"""What a screen reader is told in JupyterLab: names, and values in words."""

import nbformat
import pytest
from axe_playwright_python.sync_playwright import Axe
from nbformat.v4 import new_code_cell, new_notebook
from playwright.sync_api import expect

from llm_memory.quiz import BANK
from tests.browser.lab import PATIENCE
from tests.model_folders import random_model, write_gguf

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


CHAT = """
import os
os.environ["LLM_MEMORY_CACHE"] = os.getcwd()
from llm_memory.chat import Chat, chat_box
from llm_memory.model import load_model
from llm_memory.streaming import ModelCache
chat_box(Chat(*load_model("m.gguf"), ModelCache, most=900)).show()
"""


@pytest.fixture(scope="module")
def page(lab):
    shape = {"vocab_size": 260, "n_heads": 4, "n_kv_heads": 2, "head_dim": 6, "window": 1_000}
    write_gguf(lab.folder / "m.gguf", random_model(**shape))
    cells = [
        "from llm_memory.quiz import quiz",
        'quiz("attention")',
        'quiz("guess-they")',
        PICTURE,
        SLIDER,
        CHAT,
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


def test_a_chat_is_held_stopped_and_gone_on_with_by_keyboard(page):
    cell, keys = page.cell("chat_box("), page.page.keyboard
    text = cell.get_by_role("textbox", name="You:")
    stop = cell.get_by_role("button", name="Stop")
    text.focus()
    keys.press("Enter")
    expect(cell).to_contain_text("Nothing was said", timeout=PATIENCE)
    keys.type("Say something, ")
    keys.press("Tab")  # leaving the field sends nothing
    keys.press("Shift+Tab")
    keys.press("End")
    keys.type("please.")
    expect(stop).to_be_disabled()
    keys.press("Enter")
    expect(cell).to_contain_text("You: Say something, please.", timeout=PATIENCE)
    expect(cell).to_contain_text("tokens a second", timeout=PATIENCE)
    keys.press("Tab")  # Send is off meanwhile
    expect(stop).to_be_focused()
    keys.press("Space")
    expect(cell).to_contain_text("(stopped)", timeout=PATIENCE)
    expect(text).to_be_focused()


def test_axe_finds_nothing_serious_in_the_outputs(page):
    page.cell("slider(")
    found = Axe().run(page.page, ".jp-OutputArea-output", {"resultTypes": ["violations"]}).response
    serious = [
        (violation["id"], [node["html"] for node in violation["nodes"]])
        for violation in found["violations"]
        if violation["impact"] in ("serious", "critical")
    ]
    assert serious == []
