"""An instructor in JupyterLab: Formgrader grades and shows flags, lessons open as notebooks."""

import json
import os
import re
import shutil
from types import SimpleNamespace
from urllib.parse import quote

import jupytext
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell
from nbjudge import cli
from playwright.sync_api import expect

from tests.browser.lab import ARTEFACTS, PATIENCE, NotebookPage, running_chromium, running_lab
from tests.commands import run
from tests.hostile.classroom import FULL, LESSON, Classroom, cell_of
from tests.submissions import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def school(tmp_path_factory):
    """A course with two submissions, served by JupyterLab from its root."""
    private = tmp_path_factory.mktemp("private")
    classroom = Classroom(tmp_path_factory.mktemp("school") / "course")
    classroom.hand_in("alice")
    dying = classroom.solved()
    cell_of(dying, "double").source = "import os\nos._exit(1)"
    dying.cells.append(new_code_cell("open('/etc/passwd')"))
    classroom.hand_in("bob", dying)
    folder = classroom.hand_in(MARKUP, hostile(classroom.solved()), choice=MARKUP)
    (folder / f"{MARKUP}.txt").write_text("")
    (folder / f"{MARKUP}.ipynb").write_text(MARKUP)
    script = f"<script>{OWNED}</script>"
    (folder / "page.html").write_text(f"<p>read me</p>{script}")
    (folder / "page.svg").write_text(f"<svg xmlns='http://www.w3.org/2000/svg'>{script}</svg>")
    (classroom.folder / "notebooks").mkdir()
    shutil.copy(ROOT / "notebooks" / "attention.md", classroom.folder / "notebooks")
    # The settings that an installation puts into the environment, and nothing of a user's.
    with (
        running_lab(classroom.folder, private) as address,
        running_chromium(private) as context,
    ):
        yield SimpleNamespace(classroom=classroom, address=address, context=context)


#: What would show that a page ran something.
OWNED = "document.title=`owned`"
MARKUP = f"<img src=x onerror={OWNED}>"


def hostile(notebook):
    """A notebook that puts markup wherever a page shows something of it."""
    cell_of(notebook, "double").source = (
        f"class Wrong(Exception):\n    pass\nWrong.__name__ = Wrong.__qualname__ = '{MARKUP}'\n"
        f"def double(x):\n    raise Wrong('{MARKUP}')\nopen('/etc/{MARKUP}')"
    )
    cell_of(notebook, "total").source = (
        f"class Odd(list):\n    pass\nOdd.__name__ = '{MARKUP}'\n"
        f"def total(rows):\n    return Odd(['{MARKUP}'])"
    )
    display = "import IPython.display as d\nd.display(d.{}({!r}))"
    text = f"{MARKUP}\n\n$\\href{{javascript:{OWNED}}}{{x}}$ <script>{OWNED}</script>"
    notebook.cells += [
        new_markdown_cell(text),
        *(new_code_cell(display.format(kind, MARKUP)) for kind in ("HTML", "SVG", "Markdown")),
        new_code_cell(display.format("Javascript", OWNED)),
        new_code_cell(f"print({MARKUP!r})\nraise ValueError({MARKUP!r})"),
    ]
    notebook.metadata.kernelspec = {"name": MARKUP, "display_name": MARKUP, "language": MARKUP}
    notebook.metadata.title = MARKUP
    return notebook


def screenshot(page, name):
    ARTEFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTEFACTS / f"{name}.png")


def test_formgraders_button_grades_and_shows_the_flag(school):
    page = school.context.new_page()
    page.goto(f"{school.address}/formgrader/manage_submissions/{LESSON}")
    for student, score in (("alice", f"{FULL:g} / {FULL:g}"), ("bob", f"4 / {FULL:g}")):
        row = page.locator("tbody tr", has_text=student)
        row.locator(".autograde a").click()
        expect(page.locator("#success-modal")).to_be_visible(timeout=PATIENCE)
        page.locator("#success-modal .close, #success-modal button").first.click()
        expect(page.locator("#success-modal")).to_be_hidden()
        expect(row).to_contain_text(score)
    screenshot(page, "formgrader-submissions")

    with school.classroom.gradebook() as gradebook:
        submission = gradebook.find_submission_notebook(LESSON, LESSON, "bob").id
    page.goto(f"{school.address}/formgrader/submissions/{submission}")
    shown = page.locator("body")
    expect(shown).to_contain_text("kernel_died")
    expect(shown).to_contain_text("ended Python itself")
    # What cost no points is seen, too.
    expect(shown).to_contain_text("blocked_read")
    expect(shown).to_contain_text("tried to read what grading does not give it: /etc/passwd")
    screenshot(page, "formgrader-flag")
    page.close()


def test_no_page_runs_what_a_learner_wrote(school):
    room = school.classroom
    room.nbgrader("autograde", LESSON)
    room.nbgrader("generate_feedback", LESSON)
    run(cli.main, room.folder, "grade", LESSON, code=None)
    with room.gradebook() as gradebook:
        submission = gradebook.find_submission_notebook(LESSON, LESSON, MARKUP).id
    name = quote(MARKUP, safe="")
    pages = [
        *(f"manage_submissions/{LESSON}", "manage_students", f"manage_students/{name}"),
        *(f"manage_students/{name}/{LESSON}", f"gradebook/{LESSON}/{LESSON}"),
        *(f"submissions/{submission}", "manage_assignments"),
        # What a link in a text cell leads to: files that were handed in, too.
        *(f"submissions/{submission}/{file}" for file in ("page.html", "page.svg")),
    ]
    addresses = [f"{school.address}/formgrader/{page}" for page in pages]
    addresses.append((room.folder / "feedback" / MARKUP / LESSON / f"{LESSON}.html").as_uri())
    addresses.append((room.folder / "reports" / f"{LESSON}.html").as_uri())
    page = school.context.new_page()
    for address in addresses:
        response = page.goto(address)
        assert response is None or response.ok, address
        page.wait_for_load_state("networkidle")
        page.wait_for_timeout(300)
        assert page.title() != "owned", address
        assert not page.locator("img[src=x]").count(), address
    page.close()


def test_a_released_lesson_is_listed_and_validated(school):
    school.classroom.nbgrader("release_assignment", LESSON)
    page = NotebookPage(
        school.context.new_page(),
        school.address,
        school.classroom.folder,
        f"release/{LESSON}/{LESSON}.ipynb",
    )
    page.page.get_by_role("button", name="Validate").click()
    dialog = page.page.locator(".jp-Dialog, .nbgrader-ErrorDialog, .modal")
    expect(dialog).to_contain_text(re.compile("fail", re.IGNORECASE), timeout=PATIENCE)
    screenshot(page.page, "validate")
    page.page.keyboard.press("Escape")
    page.page.close()

    page = school.context.new_page()
    page.goto(f"{school.address}/lab?reset")
    page.locator(".lm-MenuBar").get_by_role("menuitem", name="Nbgrader", exact=True).click(
        timeout=PATIENCE
    )
    page.locator(".lm-Menu").get_by_text("Assignment List", exact=True).click()
    listed = page.locator("#released_assignments_list, .released-assignments").first
    expect(listed).to_contain_text(LESSON, timeout=PATIENCE)
    screenshot(page, "assignment-list")
    page.close()


def test_a_click_opens_a_text_lesson_as_a_notebook_and_saving_keeps_its_grading(school):
    path = school.classroom.folder / "notebooks" / "attention.md"
    before = grading(path)
    page = school.context.new_page()
    page.goto(f"{school.address}/lab/tree/notebooks?reset")
    page.locator(".jp-DirListing-item", has_text="attention.md").dblclick(timeout=PATIENCE)
    notebook = page.locator(".jp-NotebookPanel .jp-Notebook")
    expect(notebook).to_be_visible(timeout=PATIENCE)
    expect(notebook).to_contain_text("Attention Mechanism", timeout=PATIENCE)
    screenshot(page, "text-lesson")
    cell = notebook.locator(".jp-CodeCell .cm-content").first
    cell.click()
    page.keyboard.press("ControlOrMeta+Home")
    page.keyboard.insert_text("# edited in JupyterLab\n")
    page.keyboard.press("ControlOrMeta+S")
    for _ in range(200):
        if "# edited in JupyterLab" in path.read_text():
            break
        page.wait_for_timeout(100)
    assert "# edited in JupyterLab" in path.read_text()
    assert grading(path) == before
    page.close()


def grading(path):
    """Return the nbgrader metadata of a text lesson's cells, in order."""
    cells = jupytext.read(path, fmt="md:myst").cells
    found = [cell.metadata["nbgrader"] for cell in cells if "nbgrader" in cell.metadata]
    return json.loads(json.dumps(found)), os.fspath(path)
