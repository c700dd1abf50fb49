"""A real JupyterLab on a folder, and a real Chromium looking at it."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, Locator, Page, TimeoutError, expect, sync_playwright

REPOSITORY = Path(__file__).resolve().parents[2]
ARTEFACTS = REPOSITORY / "artefacts"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 120_000  # ms for whatever needs a kernel; a limit for the stuck, not a measure
expect.set_options(timeout=30_000)  # a page on a busy machine needs more than Playwright's 5 s

# Each of these keeps Chromium off the network or out of what a container lacks.
CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def chromium() -> str:
    """The path of the browser, or a failure that says which package is missing."""
    for name in BROWSERS:
        if path := shutil.which(name):
            return path
    raise FileNotFoundError(
        f"The browser tests need one of {', '.join(BROWSERS)}, and none is there: "
        "install the package 'chromium' (Debian, Ubuntu: apt-get install chromium)."
    )


@contextmanager
def running_lab(folder: Path, private: Path, preferred_dir: Path | None = None) -> Iterator[str]:
    """Run JupyterLab on ``folder`` and yield its address.

    ``private`` takes its settings, its runtime files and its log, so that nothing of whoever runs
    the test has a part in it.
    """
    settings = private / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text(
        json.dumps({"fetchNews": "false", "checkForUpdates": False})
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {
        "JUPYTER_CONFIG_DIR": str(private / "config"),
        "JUPYTER_DATA_DIR": str(private / "data"),
        "JUPYTER_RUNTIME_DIR": str(private / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(private / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(private / "workspaces"),
        "IPYTHONDIR": str(private / "ipython"),
        "MPLCONFIGDIR": str(private / "matplotlib"),
        "OMP_NUM_THREADS": "1",
    }
    log = private / "jupyterlab.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [
                *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"),
                f"--ServerApp.root_dir={folder}",
                f"--ServerApp.port={port}",
                "--ServerApp.port_retries=0",
                "--ServerApp.ip=127.0.0.1",
                "--IdentityProvider.token=",
                "--LabApp.expose_app_in_browser=True",  # to see when cells are done
            ],
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        address = f"http://127.0.0.1:{port}"
        _wait_for(server, address, log)
        yield address
    finally:
        server.send_signal(signal.SIGTERM)  # lets it end its kernels first
        try:
            server.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def _wait_for(server: subprocess.Popen, address: str, log: Path) -> None:
    for _ in range(240):
        if server.poll() is not None:
            raise RuntimeError(
                f"JupyterLab ended while starting:\n{log.read_text(encoding='utf-8')[-3000:]}"
            )
        try:
            urllib.request.urlopen(f"{address}/api", timeout=5).close()
            return
        except OSError:
            time.sleep(0.5)
    raise RuntimeError(f"JupyterLab did not answer:\n{log.read_text(encoding='utf-8')[-3000:]}")


@contextmanager
def running_chromium(private: Path) -> Iterator[BrowserContext]:
    """Run Chromium without a window, with a profile of its own in ``private``."""
    executable = chromium()
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            private / "profile",
            executable_path=executable,
            headless=True,
            args=CHROMIUM_ARGUMENTS,
            viewport={"width": 1280, "height": 1000},
        )
        context.set_default_timeout(30_000)
        try:
            yield context
        finally:
            context.close()


class NotebookPage:
    """One notebook open in JupyterLab, used as a learner uses it: by menu, mouse and keyboard."""

    def __init__(self, page: Page, address: str, folder: Path, path: str):
        self.page = page
        self.file = folder / path
        self._arguments = (page, address, folder, path)
        page.goto(f"{address}/lab/tree/{path}?reset")
        self.notebook = page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook")
        expect(self.notebook).to_be_visible(timeout=PATIENCE)
        self.wait_until_idle()

    def reloaded(self) -> "NotebookPage":
        """The same notebook after the page was loaded again, its kernel still running."""
        return NotebookPage(*self._arguments)

    def menu(self, name: str, item: str | re.Pattern) -> None:
        """Choose an item of the menu bar."""
        bar = self.page.locator("#jp-MainMenu, .jp-MenuBar, .lm-MenuBar").first
        bar.get_by_role("menuitem", name=name, exact=True).click()
        self.page.locator(".lm-Menu").get_by_text(item, exact=isinstance(item, str)).click()

    def run_all(self) -> None:
        """Run > Run All Cells, and wait until all of them are done."""
        self._watch_runs()
        self.menu("Run", "Run All Cells")
        self._wait_until_all_ran()

    def restart_and_run_all(self) -> None:
        """Kernel > Restart Kernel and Run All Cells…, as learners are told before handing in."""
        self._watch_runs()
        self.menu("Kernel", re.compile("^Restart Kernel and Run All Cells"))
        self.page.locator(".jp-Dialog .jp-mod-accept").click()
        self._wait_until_all_ran()

    def restart(self) -> None:
        """Kernel > Restart Kernel…, and no cell is run."""
        self.menu("Kernel", re.compile("^Restart Kernel…"))
        self.page.locator(".jp-Dialog .jp-mod-accept").click()
        self.wait_until_idle()

    def run_cell(self, cell: Locator) -> None:
        """Click into a cell and press Shift+Enter."""
        cell.locator(".cm-content").click()
        self.page.keyboard.press("Shift+Enter")
        self.wait_until_idle()

    def write(self, cell: Locator, source: str) -> None:
        """Replace what stands in a cell, as a learner who pastes their code."""
        cell.locator(".cm-content").click()
        self.page.keyboard.press("ControlOrMeta+A")
        self.page.keyboard.insert_text(source)

    def wait_until_idle(self) -> None:
        """Wait until the kernel is there and has nothing to do."""
        # The notebook's own indicator says "idle" before the kernel is connected, too.
        status = self.page.locator("#jp-main-statusbar")
        expect(status).to_contain_text(re.compile(r"Python 3.*\| Idle"), timeout=PATIENCE)

    def _watch_runs(self) -> None:
        # The prompts of cells out of sight are not on the page, so the notebook itself is asked.
        self.page.evaluate(
            """() => {
                const code = jupyterapp.shell.currentWidget.content.widgets.filter(
                    cell => cell.model.type === 'code' && cell.model.sharedModel.source.trim());
                window.cellsToRun = new Set(code);
                for (const cell of code)
                    cell.model.stateChanged.connect((_, change) => {
                        if (change.name === 'executionCount' && change.newValue !== null)
                            window.cellsToRun.delete(cell);
                    });
            }"""
        )

    def _wait_until_all_ran(self) -> None:
        try:
            self.page.wait_for_function(
                "window.cellsToRun.size === 0", timeout=PATIENCE, polling=500
            )
        except TimeoutError as error:
            first = "[...window.cellsToRun][0].model.sharedModel.source"
            raise AssertionError(f"did not run: {self.page.evaluate(first)}") from error
        self.wait_until_idle()

    def save(self) -> None:
        """File > Save Notebook, and wait until the server says that the file is written."""
        self.wait_until_idle()
        with self.page.expect_response(
            lambda response: response.request.method == "PUT" and "/api/contents/" in response.url,
            timeout=PATIENCE,
        ) as saved:
            self.menu("File", "Save Notebook")
        assert saved.value.ok, saved.value.text()

    def cell(self, text: str | re.Pattern) -> Locator:
        """The first code cell whose source contains this text, scrolled to."""
        source = self.page.locator(".jp-InputArea-editor", has_text=text)
        cell = self.notebook.locator(".jp-CodeCell").filter(has=source).first
        self._scroll_to(cell)
        return cell

    def _scroll_to(self, cell: Locator) -> None:
        # JupyterLab draws a cell only when it comes near the visible part of the notebook.
        outer = self.notebook.locator(".jp-WindowedPanel-outer")
        if not cell.count():
            outer.evaluate("outer => outer.scrollTo(0, 0)")
        for _ in range(500):
            if cell.count():
                cell.scroll_into_view_if_needed()
                self.page.wait_for_timeout(500)  # what is drawn above it pushes it down
                cell.scroll_into_view_if_needed()
                return
            outer.evaluate("outer => outer.scrollBy(0, 0.7 * outer.clientHeight)")
            self.page.wait_for_timeout(100)
        raise AssertionError(f"no such cell: {cell}")

    def quiz(self, name: str) -> "QuizOnPage":
        """The quiz of this name."""
        return QuizOnPage(self, self.cell(re.compile(rf"""quiz\(["']{re.escape(name)}["']\)""")))

    def serious_faults(self) -> list[tuple[str, list[str]]]:
        """What axe-core calls serious or critical in texts and outputs: rule, and where.

        It sees the cells that are drawn: those near the visible part.
        """
        where = {"include": [[".jp-OutputArea-output"], [".jp-MarkdownOutput"]]}
        found = Axe().run(self.page, where, {"resultTypes": ["violations"]}).response
        return [
            (violation["id"], [node["html"] for node in violation["nodes"]])
            for violation in found["violations"]
            if violation["impact"] in ("serious", "critical")
        ]

    def screenshot(self, name: str, of: Locator | None = None) -> None:
        """Keep a picture of the page, or of a part of it, among the artefacts."""
        ARTEFACTS.mkdir(exist_ok=True)
        (of or self.page).screenshot(path=ARTEFACTS / f"{name}.png")


class QuizOnPage:
    """A quiz cell with its outputs."""

    def __init__(self, notebook: NotebookPage, cell: Locator):
        self.notebook = notebook
        self.cell = cell
        self.radios = cell.locator("input[type=radio]")
        self.output = cell.locator(".jp-Cell-outputArea")

    def choose_with_mouse(self, letter: str) -> None:
        """Click the option's label."""
        self.cell.locator("label", has=self.notebook.page.locator("input[type=radio]")).filter(
            has_text=re.compile(rf"^\s*{letter}\b")
        ).click()

    def chosen(self) -> list[bool]:
        """Which of the radio buttons are on."""
        return [self.radios.nth(i).is_checked() for i in range(self.radios.count())]

    def focused(self) -> int | None:
        """The index of the radio button that has the keyboard, None if none has it."""
        for i in range(self.radios.count()):
            if self.radios.nth(i).evaluate("element => element === document.activeElement"):
                return i
        return None

    def focus_is_visible(self) -> bool:
        """Whether a ring is drawn around the radio button that has the keyboard."""
        ring = "element => getComputedStyle(element).outlineStyle"
        return self.radios.nth(self.focused()).evaluate(ring) != "none"
