"""What comes from a submission is text, and of a size that fits what it is, wherever it is read."""

import ast
import json
import re
import sys
from types import SimpleNamespace

import pytest
from IPython.core import inputtransformer2
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from nbgrader.server_extensions.formgrader import formgrader as stock
from nbgrader.server_extensions.formgrader import handlers
from nbgrader.utils import determine_grade
from nbjudge.codes import Flag, as_text, mark, note, own, record
from nbjudge.intake import folder, forbidden, notebook, rebuild
from nbjudge.intake.forbidden import on_exercises
from nbjudge.intake.notebook import MAX_SOURCES, parse_notebook
from nbjudge.names import bound_names, definitions, names_read, without_magics
from nbjudge.plugins.formgrader import TextEnvironment, TextExporter, install
from nbjudge.run.execution import is_test
from nbjudge.run.judged import JudgedExecute
from nbjudge.steps.pages import FitPages

from tests.hostile.classroom import POINTS, cell_of, lesson
from tests.nbjudge.plugins.test_feedback import Scripts, rendered
from tests.settings import COURSE

#: Each ends or begins something in HTML, Markdown, MathJax, a script, a shell or a terminal.
ACTIVE = [
    "<img src=x onerror=owned()>",
    "<ScRiPt >owned()</sCrIpT>",
    "&lt;b&gt; &#60;script&#62;owned()",
    "[x](javascript:owned())",
    '![x](x "y\' onerror=owned()")',
    "$\\href{javascript:owned()}{x}$",
    "\\(\\style{background:url(x)}{y}\\)",
    "`code` ``<b>``\n\n    <b>",
    "a\n\n# heading\n- list\n| a | b |\n|---|---|",
    "\x1b]0;title\x07 \x1b[2J \u202edeltit\u2066",
    "*bold* ~~gone~~ <https://example.org>",
]


def test_words_of_a_submission_in_a_sentence_are_text_on_every_page():
    sentences = []
    for text in ACTIVE:
        cell = new_code_cell("")
        note(cell, "patched", what=text)
        mark(cell, "kernel_died", how=text)
        sentences += [own(cell).notes[0].detail, own(cell).detail]
        sentences += [Flag("renamed", detail=text).sentence, Flag("missing", text).sentence]
    assert not [line for line in sentences if re.search("[\n\x1b\x07\u202e\u2066]", line)]
    shown = new_markdown_cell("\n".join(f"- {line}" for line in sentences))
    for template in ("feedback", "formgrade"):
        scripts = Scripts()
        page = rendered(template, new_notebook(cells=[shown]))
        scripts.feed(page)
        assert not [script for script in scripts.found if "owned" in script]
        items = page[page.index("<ul>") : page.rindex("</ul>")].replace("<ul>", "")
        kept = items.replace("<li>", "").replace("</li>", "")
        assert items.count("<li>") == len(sentences)
        assert "<" not in kept and "$" not in kept and "\\" not in kept


def test_text_is_cut_and_ordinary_names_stay():
    assert as_text("Ünï (1) 漢字_x.y-z, a/b: c's") == "Ünï (1) 漢字_x.y-z, a/b: c's"
    assert len(as_text("x" * 10_000)) == 1_000


def test_formgraders_pages_are_filled_with_text(monkeypatch):
    for name in ("Environment", "HTMLExporter"):
        monkeypatch.setattr(stock, name, getattr(stock, name))
    install()
    assert (stock.Environment, stock.HTMLExporter) == (TextEnvironment, TextExporter)
    pages = TextEnvironment(loader=stock.FileSystemLoader([handlers.template_path]))
    for text in [*ACTIVE, '";owned();"', "</script><script>owned()</script>", "\\';owned();//"]:
        page = pages.get_template("manage_students_assignments.tpl").render(student_id=text)
        scripts = Scripts()
        scripts.feed(page)
        outside = [part for part in scripts.found if "owned" in part]
        # In a script it stands in a string, which nothing in it ends.
        assert all('student_id = "' in part and part.count('"') % 2 == 0 for part in outside)
    page = pages.get_template("manage_students_assignments.tpl").render(student_id="O'Brien & Ü")
    assert 'var student_id = "O\'Brien & Ü";' in page


def test_formgrader_hands_out_a_learners_file_shut_in(monkeypatch):
    for name in ("Environment", "HTMLExporter"):
        monkeypatch.setattr(stock, name, getattr(stock, name))

    class Files(handlers.SubmissionFilesHandler):
        """As Jupyter's server may make one of it."""

    monkeypatch.setattr(handlers, "SubmissionFilesHandler", Files)
    install()
    install()  # with each configuration that is loaded
    handler = object.__new__(type("Made", (Files,), {}))
    policy = {"headers": {"Content-Security-Policy": "frame-ancestors 'self'"}}
    handler.application = SimpleNamespace(settings=policy)
    # Once for this class, and once for nbgrader's, where a test before has loaded the settings.
    parts = handler.content_security_policy.split("; ")
    assert parts[0] == "frame-ancestors 'self'" and set(parts[1:]) == {"sandbox"}


def test_formgrader_that_is_not_loaded_is_left_alone(monkeypatch):
    monkeypatch.delitem(sys.modules, stock.__name__)
    install()
    assert stock.__name__ not in sys.modules


#: Sources for which the highlighter takes minutes, or makes pages of tens of megabytes.
LARGE = {
    "empty lines": "\n" * 150_000,
    "lines of blanks": " \n" * 75_000,
    "tabs": "\t\n" * 75_000,
    "one long line": "x = '" + "y" * 150_000 + "'",
    "open brackets": "+(" * 75_000,
    "many short lines": "x = 1 + 2\n" * 15_000,
    "blanks": "x = 1" + " " * 150_000,
    "percent signs": "%" * 150_000,
}


@pytest.mark.parametrize("source", LARGE.values(), ids=LARGE)
def test_what_is_too_large_for_a_page_is_cut_with_a_word_about_it(source):
    notebook = lesson()
    cell_of(notebook, "double").source = source
    tests = cell_of(notebook, "test_double_core").source
    fenced = new_markdown_cell(f"````\n```{source}\n````", id="added-90")
    notebook.cells += [new_code_cell(source, id="added-91"), fenced]
    notebook, _ = FitPages().preprocess(notebook, {})
    for cell in (cell_of(notebook, "double"), *notebook.cells[-2:]):
        assert len(cell.source) < 12_500 and cell.source.count("\n") < 610
        assert "characters are not shown" in cell.source
    assert cell_of(notebook, "test_double_core").source == tests
    said = [flag.sentence for flag in notebook.metadata.nbjudge.flags]
    assert len(said) == 1 and "double, an added cell" in said[0] and "graded" in said[0]
    # The fence is closed, and the sentence stands below it.
    assert notebook.cells[-1].source.split("\n")[-3] == "````"


def test_what_is_of_an_ordinary_size_is_shown_whole():
    notebook = lesson()
    source = (
        "def double(x):\n" + "".join(f"    y{i} = {i}\n\n\n" for i in range(150)) + "    return x"
    )
    cell_of(notebook, "double").source = source
    before = [cell.source for cell in notebook.cells]
    notebook, _ = FitPages().preprocess(notebook, {})
    assert [cell.source for cell in notebook.cells] == before
    assert "nbjudge" not in notebook.metadata


def test_of_very_many_added_cells_the_first_are_shown():
    notebook = lesson()
    most, before = FitPages().max_cells, len(notebook.cells)
    notebook.cells += [new_code_cell("1", id=f"added-{i}") for i in range(most + 20)]
    notebook, _ = FitPages().preprocess(notebook, {})
    assert len(notebook.cells) == before + most
    assert "20 added cells" in notebook.metadata.nbjudge.flags[0].sentence


def test_a_time_stamp_is_short_or_none(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(folder, "parse_utc", asked.append)
    stamp = tmp_path / "timestamp.txt"
    long = ("1." * 400_000, "2026-01-05 12:00:00 UTC" + " " * 200, "\x00" * 101)
    # A zone's name is opened as a file.
    paths = (":../../etc/passwd", "a/../../../x", "/etc/passwd", "~root/x", "\uff0e\uff0e/x")
    for text in (*long, *(f"2026-01-05 12:00:00 {path}" for path in paths)):
        stamp.write_text(text, encoding="utf-8")
        assert [flag.code for flag in folder._check_timestamp(tmp_path)] == ["timestamp"]
        assert not stamp.exists()
    assert not asked
    stamp.write_text("2026-01-05 12:00:00.000000 UTC\n", encoding="utf-8")
    assert folder._check_timestamp(tmp_path) == [] and asked == ["2026-01-05 12:00:00.000000 UTC"]
    folder.time_of("2026-01-05 12:00:00 America/New_York")
    assert asked[1:] == ["2026-01-05 12:00:00 America/New_York"]


@pytest.mark.parametrize("value", ["[]", '{"a":0}', "0"])
def test_more_values_than_a_notebook_needs_are_not_read(value, monkeypatch):
    monkeypatch.setattr(notebook, "MAX_VALUES", 1_000)
    many = ",".join([value] * 1_001)
    with pytest.raises(notebook.Unreadable, match="more than 1,000 values"):
        notebook.load(f'{{"cells": [], "x": [{many}]}}'.encode())
    # In a text they are no values, in whatever encoding.
    text = json.dumps({"cells": [], "x": f'\\"{many}\\'})
    for encoding in ("utf-8", "utf-16"):
        assert notebook.load(text.encode(encoding))[0]["cells"] == []


def test_many_values_in_outputs_cost_the_outputs_only(tmp_path, monkeypatch):
    monkeypatch.setattr(notebook, "MAX_VALUES", 60_000)
    lesson_ = lesson()
    picture = {"application/vnd.plotly.v1+json": {"x": [0] * 80_000}}
    lesson_.cells[1].outputs = [new_output("display_data", picture)]
    path = tmp_path / "submitted" / "attention.ipynb"
    path.parent.mkdir()
    path.write_text(json.dumps(lesson_))
    flags = folder.copy_in(path.parent, tmp_path / "staged", ["attention"], set(), [])
    assert [flag.code for flag in flags["attention"]] == ["large_outputs"]
    assert "values" in flags["attention"][0].sentence
    found = notebook.read_notebook(tmp_path / "staged" / "attention.ipynb")
    assert len(found.cells) == len(lesson_.cells)


def test_all_sources_together_have_a_bound():
    cells = [{"cell_type": "code", "source": f"a = {i}\n" + "#" * 190_000} for i in range(30)]
    cells.append({"cell_type": "code", "source": "last = 1"})
    found = parse_notebook({"cells": cells})
    assert sum(len(cell.source) for cell in found.cells) <= MAX_SOURCES
    assert found.cells[-1].source == "last = 1"
    assert [flag.code for flag in found.flags] == ["too_large"]


def test_a_cell_is_parsed_once_however_many_exercises_are_missing(monkeypatch):
    notebook = lesson()
    places = {
        cell.metadata.nbgrader.grade_id: place
        for place, cell in enumerate(notebook.cells)
        if "nbgrader" in cell.metadata
    }
    given = rebuild.Lesson(notebook, [cell.source for cell in notebook.cells], places)
    parsed = []

    class Counting:
        def __getattr__(self, name):
            return getattr(ast, name)

        def parse(self, source):
            parsed.append(source)
            return ast.parse(source)

    monkeypatch.setattr(rebuild, "ast", Counting())
    large = "# double total\nx = 1\n" + "#" * 1000
    submitted = [new_code_cell(large), new_code_cell("y = 2\n")]
    _, flags = rebuild.rebuild(given, submitted)
    assert parsed.count(large) == 1 and "y = 2\n" not in parsed
    assert {flag.cell for flag in flags if flag.code == "missing"} == {"double", "total"}


@pytest.mark.parametrize("code", ["unreadable", "missing_notebook"])
def test_what_cannot_be_read_costs_no_kernel_and_has_no_points(code, monkeypatch):
    notebook = lesson()
    record(notebook, [Flag(code, detail="it is no JSON")])
    runner = JudgedExecute(config=COURSE)
    monkeypatch.setattr(JudgedExecute, "_start_kernel", lambda self: pytest.fail("a kernel"))
    runner.preprocess(notebook, {})
    for cell in filter(is_test, notebook.cells):
        quiz = "quiz" in cell.metadata.nbgrader.grade_id
        assert [output.ename for output in cell.outputs] == ([] if quiz else ["NothingHandedIn"])
        assert quiz or determine_grade(cell)[0] == 0
    assert len([cell for cell in notebook.cells if is_test(cell)]) == len(POINTS)


@pytest.mark.parametrize("line", ["%a", "x = !ls", "a?", "if 1:\n  %a", ",a b", "x = y = %a"])
def test_a_cell_of_very_many_magics_is_looked_at_a_few_times(line, monkeypatch):
    """IPython takes the whole cell apart once more for each: the square of what was handed in."""
    taken_apart = []
    stock_tokens = inputtransformer2.make_tokens_by_line
    monkeypatch.setattr(
        inputtransformer2,
        "make_tokens_by_line",
        lambda lines: taken_apart.append(1) or stock_tokens(lines),
    )
    python = without_magics("\n".join([line] * 200 + ["kept = !ls", "z = 3"]))
    assert len(taken_apart) < 50
    assert {"kept", "z"} <= bound_names(python)
    few = without_magics("%matplotlib inline\nx = !ls")
    assert "run_line_magic('matplotlib', 'inline')" in few and "getoutput('ls')" in few


@pytest.mark.parametrize(
    "answer",
    [
        "-" * 100_000 + "1",
        "'\0'",
        "'\ud800'",
        "a" + ".a" * 2_500,
        "(" * 10_000,
        "a" + "[0]" * 3_000,
    ],
    ids=["minus", "nul", "surrogate", "dots", "brackets", "items"],
)
def test_source_that_no_parser_can_read_is_looked_for_what_is_forbidden(answer):
    cell = new_code_cell(f"def double(x):\n    return {answer}")
    cell.metadata.nbgrader = NotebookNode(grade_id="double")
    flags = on_exercises([cell], [cell], {"double": ["torch.softmax"]})
    assert {flag.code for flag in flags} <= {"forbidden"}
    for look in (names_read, bound_names, definitions):
        look(cell.source)


def test_helpers_of_helpers_are_each_looked_into_once(monkeypatch):
    helpers = [new_code_cell(f"def h{n}(x):\n    return h{n + 1}(x)") for n in range(60)]
    helpers.append(new_code_cell("import torch\ndef h60(x):\n    return torch.softmax(x)"))
    cell = new_code_cell("def double(x):\n    return h0(x)")
    cell.metadata.nbgrader = NotebookNode(grade_id="double")
    looked = []
    monkeypatch.setattr(forbidden, "bound_names", lambda s: looked.append(s) or bound_names(s))
    monkeypatch.setattr(forbidden, "names_read", lambda s: looked.append(s) or names_read(s))
    flags = on_exercises([cell, *helpers], [cell, *helpers], {"double": ["torch.softmax"]})
    assert [flag.detail for flag in flags] == ["torch.softmax"]
    assert len(looked) <= 2 * len([cell, *helpers])
