"""What a page shows of a graded notebook: no hidden test, no script of a learner's."""

from html.parser import HTMLParser

import pytest
from nbconvert.exporters import HTMLExporter
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from nbgrader.server_extensions.formgrader import handlers
from nbjudge.intake.rebuild import Lesson, rebuild
from nbjudge.steps.feedback import WithoutHiddenTests
from nbjudge.steps.outputs import SafeOutputs
from traitlets.config import Config

from tests.hostile.classroom import HIDDEN, cell_of, lesson

SCRIPT = "<script>owned()</script>"
ATTACKS = [
    {"text/html": SCRIPT},
    {"text/html": "<img src=x onerror=owned()>", "text/plain": "<img src=x onerror=owned()>"},
    {"application/javascript": "owned()"},
    {"text/markdown": f"{SCRIPT} [a](javascript:owned())"},
    {"text/latex": SCRIPT},
    {"image/svg+xml": f"<svg onload='owned()'>{SCRIPT}</svg>"},
    {"image/png": f'"><img src=x onerror=owned()>{SCRIPT}'},
    {"image/jpeg": '" onerror="owned()'},
    {"application/vnd.jupyter.widget-view+json": {"model_id": f"</script>{SCRIPT}"}},
    {"text/plain": SCRIPT},
]
TEXTS = [
    SCRIPT,
    "<img src=x onerror=owned()>",
    "[click](javascript:owned())",
    "<javascript:owned()>",
    f"```\n{SCRIPT}",
    f"`````\n```\n{SCRIPT}\n```",
    f"$$x{SCRIPT}$$ and ${SCRIPT}$ and \\begin{{align}}{SCRIPT}\\end{{align}}",
    f'![x]( "><img src=x onerror=owned()>") {SCRIPT}',
    f"~~~\n{SCRIPT}\n~~~\n\r{SCRIPT}",
]


class Scripts(HTMLParser):
    """Collects whatever a browser would run or follow."""

    def __init__(self):
        super().__init__()
        self.found, self.inside = [], False

    def handle_starttag(self, tag, attrs):
        self.inside = tag == "script"
        self.found += [
            value
            for key, value in attrs
            if value and (key.startswith("on") or "javascript:" in value.lower())
        ]
        if tag in ("iframe", "object", "embed", "svg", "link", "base", "form"):
            self.found.append(str(attrs))

    def handle_endtag(self, tag):
        self.inside = self.inside and tag != "script"

    def handle_data(self, data):
        if self.inside:
            self.found.append(data)


def graded():
    """Return a submission full of attacks as it stands in `autograded/`."""
    notebook = lesson()
    given = Lesson(
        notebook,
        [cell.source for cell in notebook.cells],
        {
            cell.metadata.nbgrader.grade_id: place
            for place, cell in enumerate(notebook.cells)
            if "nbgrader" in cell.metadata
        },
    )
    cells = [*lesson().cells, *map(new_markdown_cell, TEXTS), new_code_cell(SCRIPT)]
    cell = cells[notebook.cells.index(cell_of(notebook, "double"))]
    cell.cell_type, cell.source = "markdown", SCRIPT
    notebook, _ = rebuild(given, cells)
    outputs = [new_output("display_data", data) for data in ATTACKS]
    outputs += [
        new_output("display_data", {"text/html": SCRIPT}, metadata={"text/html": {"isolated": 1}}),
        new_output("execute_result", {"text/html": SCRIPT}, execution_count=1),
        new_output("stream", name="stdout", text=SCRIPT),
        new_output("error", ename=SCRIPT, evalue=SCRIPT, traceback=[SCRIPT, f"\x1b[31m{SCRIPT}"]),
    ]
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = outputs
            cell.metadata.alt = f'"{SCRIPT}'
    return notebook


@pytest.mark.parametrize("template", ["feedback", "formgrade"])
def test_no_page_runs_a_learners_script(template):
    page = rendered(template, SafeOutputs().preprocess(graded(), {})[0])
    assert page.count("owned()") > 20  # the attacks are shown
    scripts = Scripts()
    scripts.feed(page)
    assert not [script for script in scripts.found if "owned" in script]


def rendered(template, notebook):
    settings = {
        "template_name": template,
        "extra_template_basedirs": [handlers.template_path],
        "extra_template_paths": [
            f"{handlers.static_path}/node_modules/bootstrap/dist/css",
        ],
    }
    # As nbgrader's converters have it; the steps of nbconvert are not what is asked about.
    config = Config({"HTMLExporter": settings, "Exporter": {"default_preprocessors": []}})
    for cell in notebook.cells:
        if "nbgrader" in cell.metadata:
            cell.metadata.nbgrader.update(score=0, points=1, comment=None)
    resources = {
        "nbgrader": {
            "notebook": "attention", "score": 0, "max_score": 7, "late_penalty": 0,
            "assignment": "attention", "student": "ada", "index": 0, "total": 1,
            "notebook_id": "attention", "assignment_id": "attention", "submission_id": "x",
        },
        "base_url": "", "unique_key": "attention", "student": "ada", "last_name": "",
        "first_name": "", "index": 0, "total": 1, "notebook_id": "a", "assignment_id": "a",
        "submission_id": "x", "mathjax_url": "", "notebook_path": "", "keybindings": "",
    }  # fmt: skip
    return HTMLExporter(config=config).from_notebook_node(notebook, resources=resources)[0]


def test_hidden_tests_are_not_in_the_feedback():
    notebook = lesson()
    cell = cell_of(notebook, "test_double_core")
    hidden = f"----> 5 assert double({HIDDEN}) == 2"
    cell.outputs = [
        new_output(
            "error",
            ename="AssertionError",
            evalue="it has to work for large numbers",
            traceback=[f"File /home/grader/x.py\n{hidden}", "in your double, line 3"],
        )
    ]
    own = cell_of(notebook, "double")
    own.outputs = [new_output("error", ename="NameError", evalue="x", traceback=["their own"])]
    notebook, _ = WithoutHiddenTests().preprocess(notebook, {})
    assert HIDDEN not in str(notebook)
    assert "assert double(2) == 4" in cell.source
    assert cell.outputs[0].traceback == [
        "✘ it has to work for large numbers",
        "in your double, line 3",
    ]
    assert own.outputs[0].traceback == ["their own"]


def test_outputs_are_kept_within_bounds():
    lines = [new_output("stream", name="stdout", text="x" * 100_000) for _ in range(300)]
    error = new_output("error", ename="E", evalue="y" * 100_000, traceback=["z" * 100_000] * 900)
    picture = new_output("display_data", {"image/png": "iVBORw0KGgo=\n", "text/plain": "Figure"})
    notebook = new_notebook(cells=[new_code_cell("a", outputs=[picture, *lines, error])])
    notebook, _ = SafeOutputs().preprocess(notebook, {})
    outputs = notebook.cells[0].outputs
    assert len(str(notebook)) < 5_000_000
    assert outputs[0].data == picture.data
    assert outputs[-1].output_type == "error"


def test_stderr_of_a_test_cell_counts_as_printed():
    notebook = lesson()
    warning = new_output("stream", name="stderr", text="UserWarning")
    for name in ("double", "test_double_core"):
        cell_of(notebook, name).outputs = [warning]
    notebook, _ = SafeOutputs().preprocess(notebook, {})
    assert cell_of(notebook, "test_double_core").outputs[0].name == "stdout"
    assert cell_of(notebook, "double").outputs[0].name == "stderr"
