"""The report on a class: opened as a file, with no network, by somebody with 200 learners."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from nbjudge import settings
from nbjudge.classes.changes import Changes
from nbjudge.classes.points import Grades
from nbjudge.classes.report import to_html
from nbjudge.classes.summary import Item, Summary
from traitlets.config import Config

from tests.browser.lab import running_chromium

LEARNERS = [f"learner{number:03}" for number in range(200)]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with running_chromium(tmp_path_factory.mktemp("chromium")) as context:
        yield context


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Return the page of a class in which every section has something to say."""
    settings.apply(Config())
    points = {name: float(number % 11) for number, name in enumerate(LEARNERS)}
    first = {name: float(number % 3) for number, name in enumerate(LEARNERS)}
    grades = Grades(10, points, {"double": first, "square": points}, {"double": 2, "square": 8})
    summary = Summary("small", 10, points)
    item = Item("test_double", 2, list(first.values()))
    summary.cells, summary.exercises = {"test_double": item}, {"double": item}
    summary.flags = [("learner003", "renamed", "", "<b>renamed</b>")]
    summary.made = {"halves it": {"learner004", "learner007"}}
    summary.missing, summary.late, summary.by_hand = ["zoé"], {"learner005": 5400}, ["learner006"]
    summary.changes = Changes("2026-01-05T10:00:00+00:00", {"learner001": (None, 1.0)})
    summary.similar = [("learner008", "learner009", "double")]
    path = tmp_path_factory.mktemp("report") / "small.html"
    path.write_text(to_html(summary, grades), encoding="utf-8")
    return path


@pytest.fixture
def page(browser, report):
    page = browser.new_page()
    noticed = []
    page.on("console", lambda line: noticed.append(line.text))
    page.on("pageerror", lambda error: noticed.append(str(error)))
    page.on("request", lambda sent: noticed.append(sent.url))
    page.goto(report.as_uri())
    assert noticed == [report.as_uri()], "it asks for nothing else"
    yield page
    page.close()


def test_the_report_has_no_fault_for_axe_core(page):
    faults = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    assert [(fault["id"], fault["nodes"][0]["html"][:200]) for fault in faults] == []


def test_the_report_is_sorted_searched_and_printed(page):
    names = page.locator("#table tbody tr:visible th")
    page.locator("#table thead button").nth(1).click()
    assert names.nth(0).inner_text() == "learner000" and names.count() == 200
    page.locator("#table thead button").nth(1).click()
    assert names.nth(0).inner_text() == "learner010", "most points first"
    page.get_by_role("searchbox").fill("renamed")
    assert names.all_inner_texts() == ["learner003"]
    names_of = page.locator("details", has_text="learner004")
    assert names_of.inner_text().split() == ["2"]
    names_of.locator("summary").click()
    assert "learner004, learner007" in names_of.inner_text()
    text = page.locator("main").inner_text()
    for words in ("1 h 30 min", "learner006", "zoé", "learner008", "<b>renamed</b>", "–"):
        assert words in text
    page.set_viewport_size({"width": 390, "height": 800})
    page.emulate_media(media="print")
    assert not page.get_by_role("searchbox").is_visible()
    assert len(page.pdf()) > 10_000
