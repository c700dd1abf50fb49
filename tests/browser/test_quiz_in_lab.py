"""The quiz in a real JupyterLab: by mouse, by keyboard, kept over a restart, in the saved file."""

from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from playwright.sync_api import expect

from llm_memory.quiz import BANK, answers_in_notebook, read_answers
from llm_memory.quiz.record import FILE_NAME

pytestmark = pytest.mark.slow

KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}


def write_notebook(path: Path, *names: str) -> None:
    """A notebook with these quizzes and the cell to run before handing in."""
    path.parent.mkdir()
    cells = ["from llm_memory.quiz import hand_in, quiz", *(f'quiz("{name}")' for name in names)]
    cells.append(f'hand_in("{BANK[names[0]].topic}")')
    nbformat.write(new_notebook(cells=[*map(new_code_cell, cells)], metadata=KERNEL), path)


def feedback(name: str, option_id: str) -> str:
    """The words of a feedback as they stand on the page."""
    return BANK[name].feedback(option_id).replace("**", "")


def test_an_answer_by_mouse_and_by_keyboard_is_kept_over_a_restart_and_a_reload(lab):
    folder = lab.folder / "journey"
    write_notebook(folder / "quizzes.ipynb", "attention", "attention-scale", "guess-shuffle")
    page = lab.open("journey/quizzes.ipynb")
    page.run_all()
    quiz = page.quiz("attention")
    assert quiz.chosen() == [False, False, False]
    for option in BANK["attention"].options:
        expect(quiz.output).to_contain_text(option.text)

    quiz.choose_with_mouse("A")
    expect(quiz.output).to_contain_text(feedback("attention", "recent"))
    expect(quiz.output).to_contain_text("Kept (1 choice so far)")
    answers, problems = read_answers(folder / FILE_NAME)
    assert (answers["attention"]["choice"], answers["attention"]["tries"]) == ("recent", 1)
    assert quiz.focused() == 0

    page.page.keyboard.press("Tab")
    assert quiz.focused() == 1
    assert quiz.focus_is_visible()
    assert quiz.chosen() == [True, False, False], "Tab moves, it does not choose"
    page.page.keyboard.press("Space")
    expect(quiz.output).to_contain_text(feedback("attention", "relevant"))
    expect(quiz.output).to_contain_text("Kept (2 choices so far)")
    assert quiz.focused() == 1, "the keyboard keeps its place when the record is written"
    assert quiz.chosen() == [False, True, False]
    page.screenshot("quiz-by-keyboard")

    page.save()
    answers, problems = read_answers(folder / FILE_NAME)
    assert not problems
    assert answers["attention"] | {"time": ""} == {
        "choice": "relevant",
        "first": "recent",
        "tries": 2,
        "time": "",
    }
    saved = nbformat.read(folder / "quizzes.ipynb", as_version=4)
    assert answers_in_notebook(saved) == (answers, [])

    page.restart_and_run_all()
    assert page.quiz("attention").chosen() == [False, True, False]
    expect(page.quiz("attention").output).to_contain_text(feedback("attention", "relevant"))
    assert page.quiz("attention-scale").chosen() == [False, False, False]

    # Only the notebook comes back from Colab: then the answer in it is what counts.
    (folder / FILE_NAME).unlink()
    page.restart_and_run_all()
    assert page.quiz("attention").chosen() == [False, True, False]
    page.save()
    assert read_answers(folder / FILE_NAME) == (answers, [])
    saved = nbformat.read(folder / "quizzes.ipynb", as_version=4)
    assert answers_in_notebook(saved) == (answers, [])
    page.screenshot("quiz-after-restart")

    page.quiz("guess-shuffle").choose_with_mouse("B")
    expect(page.quiz("guess-shuffle").output).to_contain_text("Kept (1 choice so far)")
    page.save()
    # The page forgets what its quizzes hold; the last cell brings it into the notebook.
    page = page.reloaded()
    page.quiz("guess-shuffle").choose_with_mouse("C")
    expect(page.quiz("guess-shuffle").output).to_contain_text(feedback("guess-shuffle", "mean"))
    answers, _ = read_answers(folder / FILE_NAME)
    assert answers["attention"]["choice"] == "relevant"
    assert answers["guess-shuffle"]["choice"] == "mean"
    page.run_cell(page.cell("hand_in("))
    expect(page.cell("hand_in(").locator(".jp-Cell-outputArea")).to_contain_text(
        "Guesses (no points): 1 of 3 answered."
    )
    page.save()
    saved = nbformat.read(folder / "quizzes.ipynb", as_version=4)
    assert answers_in_notebook(saved) == (answers, [])
    page.screenshot("quiz-handed-in")


def test_a_choice_after_a_restart_says_at_its_place_that_it_is_not_kept(lab):
    folder = lab.folder / "restarted"
    write_notebook(folder / "quizzes.ipynb", "attention")
    page = lab.open("restarted/quizzes.ipynb")
    page.run_all()
    quiz = page.quiz("attention")
    quiz.choose_with_mouse("A")
    warning = quiz.output.get_by_role("alert")
    expect(quiz.output).to_contain_text("Kept (1 choice so far)")
    expect(warning).to_be_hidden()

    page.restart()
    quiz.choose_with_mouse("B")
    expect(warning).to_be_visible()
    expect(warning).to_contain_text("is not kept: run this cell again")
    expect(quiz.output.get_by_text("Kept (1 choice so far)")).to_be_hidden()
    assert read_answers(folder / FILE_NAME)[0]["attention"]["choice"] == "recent"
    page.screenshot("quiz-without-kernel")

    page.run_all()
    quiz = page.quiz("attention")
    expect(quiz.output.get_by_role("alert")).to_be_hidden()
    quiz.choose_with_mouse("B")
    expect(quiz.output).to_contain_text("Kept (2 choices so far)")
    assert read_answers(folder / FILE_NAME)[0]["attention"]["choice"] == "relevant"
