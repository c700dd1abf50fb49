"""The other two lessons in a real JupyterLab: run, move a picture by keyboard, solve, answer."""

import re
import shutil

import nbformat
import pytest
from playwright.sync_api import expect

from llm_memory.quiz import BANK, read_answers
from llm_memory.quiz.record import FILE_NAME
from tests.browser.lab import PATIENCE
from tests.submissions import ROOT, only_exercises_are_open, solutions

pytestmark = pytest.mark.slow

JOURNEYS = {
    "context_window": ("fit_to_window", "def fit_to_window(", re.compile(r"pictures\.chat_window")),
    "kv_cache": ("KVCache", "class KVCache:", re.compile(r"pictures\.autoregression")),
}


@pytest.mark.parametrize("lesson", JOURNEYS)
def test_a_learner_takes_the_lesson(lab, lesson):
    exercise, head, picture = JOURNEYS[lesson]
    folder = lab.folder / lesson
    shutil.copytree(ROOT / "release" / lesson, folder)
    page = lab.open(f"{lesson}/{lesson}.ipynb")
    page.run_all()
    page.save()
    only_exercises_are_open(nbformat.read(folder / f"{lesson}.ipynb", as_version=4))

    cell = page.cell(picture)
    image = cell.locator("img").first
    before = image.get_attribute("src")
    cell.locator(".noUi-handle").first.focus()
    page.page.keyboard.press("ArrowLeft")
    expect(image).not_to_have_attribute("src", before, timeout=PATIENCE)
    page.screenshot(f"{lesson}-moved")
    assert page.serious_faults() == []

    right = next(option for option in BANK[lesson].options if option.correct)
    quiz = page.quiz(lesson)
    letter = "ABC"[BANK[lesson].options.index(right)]
    quiz.choose_with_mouse(letter)
    expect(quiz.output).to_contain_text(right.feedback)

    check = page.cell(re.compile(rf"^check\({exercise}\)"))
    expect(check.locator(".jp-Cell-outputArea")).to_contain_text("is not solved yet")
    work = page.cell(head)
    page.write(work, solutions(lesson)[exercise])
    page.run_cell(work)
    page.run_cell(check)
    expect(check.locator(".jp-Cell-outputArea")).to_contain_text(f"{exercise}: right")
    page.screenshot(f"{lesson}-solved")
    page.save()
    assert read_answers(folder / FILE_NAME)[0][lesson]["choice"] == right.id
