"""The lessons as pages: read in Chromium, with no kernel and no network."""

import functools
import http.server
import re
import threading
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from course_tools.build import course
from course_tools.site.__main__ import main
from playwright.sync_api import Page

from llm_memory.quiz.bank import BANK
from tests.browser.lab import ARTEFACTS, running_chromium

pytestmark = pytest.mark.slow

#: One page of each kind; axe-core takes long for a lesson.
PAGES = ["index", "instructors", "nbjudge", "lessons/attention"]
#: Not what passed: on a page with thousands of parts, listing that takes most of the time.
AXE = {"resultTypes": ["violations"]}


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files and does not print."""

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pages") / "site"
    assert main([str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with running_chromium(tmp_path_factory.mktemp("chromium")) as context:
        yield context


@pytest.fixture
def address(site):
    handler = functools.partial(Quiet, directory=str(site))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


@pytest.fixture
def page(browser):
    page: Page = browser.new_page()
    page.set_viewport_size({"width": 1280, "height": 900})
    yield page
    page.close()


class Links(HTMLParser):
    """The links of a page, and the ids that a link can name."""

    def __init__(self, path: Path):
        super().__init__()
        self.links: list[str] = []
        self.ids: set[str] = {""}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        """Keep what names something and what is named."""
        found = dict(attributes)
        self.ids |= {found.get("id") or "", found.get("name") or ""}
        if tag != "link":
            self.links += [found[key] for key in ("href", "src") if found.get(key)]


def test_no_link_and_no_anchor_is_dead(site):
    pages = {
        path.resolve(): Links(path)
        for path in site.rglob("*.html")
        if "_static" not in path.parts  # the theme's own templates
    }
    dead = []
    for path, parsed in pages.items():
        for link in parsed.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or path.name in {"search.html", "genindex.html"}:
                continue
            there = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not there.exists() or (
                there in pages and unquote(parts.fragment) not in pages[there].ids
            ):
                dead.append(f"{path.name}: {link}")
    assert not dead


def test_each_lesson_has_its_contents_and_every_quiz_and_no_solution(site):
    """That no line of a solution is there is the command's own check; here it is seen to look."""
    for name in course.LESSONS:
        text = (site / "lessons" / f"{name}.html").read_text(encoding="utf-8")
        asked = set(re.findall(r'data-quiz="([\w-]+)"', text))
        assert asked == {quiz.name for quiz in BANK.values() if quiz.topic == name}
        assert "NotImplementedError" in text and "BEGIN HIDDEN" not in text
        assert (site / "_static" / f"{name}.ipynb").is_file()
        for image in re.findall(r"<img class=\"course-picture\"[^>]+>", text):
            assert re.search(r'alt="[^"]{20,}"', image), image


def test_a_page_that_would_give_a_solution_away_is_not_written(tmp_path, monkeypatch, capsys):
    from course_tools.build.leaks import secrets
    from course_tools.site import __main__ as command
    from course_tools.site import pages

    line = max(secrets(course.root()), key=len)

    def leaking(folder, target):
        (target / "index.md").write_text(f"# A page\n\n```python\n{line}\n```\n")
        for name in ("static", "pictures", "downloads"):
            (target / name).mkdir()
        for name in ("icon.svg", "course.css", "course.js"):
            (target / "static" / name).write_text("")

    monkeypatch.setattr(pages, "write", leaking)
    assert command.main([str(tmp_path / "site")]) == 1
    assert "it would give away" in capsys.readouterr().err
    assert not (tmp_path / "site").exists()


def test_a_folder_with_other_files_is_not_touched(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("mine")
    assert main([str(tmp_path)]) == 1
    assert "holds files and is no site" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_quiz_answers_by_keyboard_alone(address, page):
    page.goto(address + "lessons/attention.html")
    quiz = page.locator('form[data-graded="true"]').first
    options = quiz.locator("input")
    options.first.focus()
    page.keyboard.press("Space")
    seen = set()
    for _ in range(options.count()):
        [chosen] = [n for n in range(options.count()) if options.nth(n).is_checked()]
        item = BANK[quiz.get_attribute("data-quiz")]
        option = item.option(options.nth(chosen).get_attribute("value"))
        told = quiz.get_by_role("status")
        words = re.sub(r"[*`]", "", item.feedback(option.id))
        assert told.inner_text().strip() == words
        assert told.get_attribute("data-verdict") == ("right" if option.correct else "wrong")
        seen.add(option.id)
        page.keyboard.press("ArrowDown")
    assert seen == {option.id for option in item.options}
    ARTEFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTEFACTS / "site-quiz.png")


@pytest.mark.parametrize("name", PAGES)
def test_pages_are_accessible_narrow_dark_and_alone(address, page, name):
    """No serious fault for axe-core, none on the console, no request elsewhere, no wide page."""
    faults = []
    # The colours of code are the same everywhere: one page with code is enough, and far quicker.
    seen = None if name == "instructors" else {"exclude": [[".highlight"]]}
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        noticed = []
        page.on("console", lambda line, to=noticed: line.type == "error" and to.append(line.text))
        page.on("pageerror", lambda error, to=noticed: to.append(str(error)))
        page.on("request", lambda sent, to=noticed: to.append(sent.url))
        page.goto(f"{address}{name}.html", wait_until="networkidle")
        # A copy: what axe-core fetches afterwards is no business of the page's.
        faults += [line for line in list(noticed) if not line.startswith(address)]
        faults += [
            f"{theme}: {fault['id']}: {fault['nodes'][0]['html'][:200]}"
            for fault in Axe().run(page, seen, AXE).response["violations"]
            if fault["impact"] in {"serious", "critical"}
        ]
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert not faults


def test_a_search_finds_a_lesson(address, page):
    page.goto(address + "search.html?q=softmax")
    page.locator("ul.search a", has_text="Attention Mechanism").first.wait_for()


def test_a_page_prints(address, page):
    page.goto(address + "lessons/attention.html")
    page.emulate_media(media="print")
    assert not page.locator(".course-open").first.is_visible()
    assert page.locator("form.course-quiz").first.is_visible()
    assert len(page.pdf()) > 10_000
