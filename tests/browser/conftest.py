"""One JupyterLab and one Chromium for each module of browser tests, on folders of its own."""

from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from tests.browser.lab import ARTEFACTS, NotebookPage, running_chromium, running_lab


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """A running JupyterLab: ``folder``, its root, is empty; ``open(path)`` opens a notebook."""
    private = tmp_path_factory.mktemp("private")
    folder = tmp_path_factory.mktemp("course")
    with running_lab(folder, private) as address, running_chromium(private) as context:

        def open_notebook(path: str) -> NotebookPage:
            for page in context.pages[1:]:
                page.close()
            return NotebookPage(context.new_page(), address, folder, path)

        yield SimpleNamespace(folder=folder, address=address, context=context, open=open_notebook)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo):
    """Keep a picture of the page on which a test failed."""
    report = yield
    lab = getattr(item, "funcargs", {}).get("lab")
    if report.failed and report.when == "call" and lab is not None:
        ARTEFACTS.mkdir(exist_ok=True)
        picture = ARTEFACTS / f"failed-{item.name}.png"
        lab.context.pages[-1].screenshot(path=picture)
        report.sections.append(("Page when it failed", str(picture)))
    return report
