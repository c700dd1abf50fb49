"""Feedback pages: nbconvert's own, byte for byte, whatever stands in a cell."""

import pytest
from nbconvert.exporters import HTMLExporter
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from nbgrader.server_extensions.formgrader import handlers
from nbjudge.plugins import pages
from nbjudge.plugins.pages import FeedbackExporter
from traitlets.config import Config


def config(template):
    settings = {
        "template_name": template,
        "extra_template_basedirs": [handlers.template_path],
        "extra_template_paths": [f"{handlers.static_path}/node_modules/bootstrap/dist/css"],
    }
    return Config({"HTMLExporter": settings, "Exporter": {"default_preprocessors": []}})


@pytest.fixture(scope="module")
def exporters():
    """Nbconvert's exporter and ours, as feedback is made, kept for all pages of this module."""
    return HTMLExporter(config=config("feedback")), FeedbackExporter(config=config("feedback"))


def page(exporter, *cells, name="ps"):
    """Return the page of a notebook with these cells, and a plain one before and after them."""
    cells = [new_code_cell("a = 1", id="a"), *cells, new_markdown_cell("the *end*", id="z")]
    score = {"score": 1.0, "max_score": 2.0, "late_penalty": 0}
    names = {"student": "ada", "assignment": "ps", "notebook": name, **score}
    resources = {
        "nbgrader": names,
        "metadata": {"name": name, "path": ""},
        "inlining": {"css": []},
        "unique_key": name,
    }
    notebook = new_notebook(cells=cells, metadata={"language_info": {"name": "python"}})
    return exporter.from_notebook_node(notebook, resources=resources)[0]


def graded(source, **about):
    about = {"grade_id": "t", "grade": True, "solution": True, "points": 2, "score": 1.0, **about}
    return new_code_cell(source, id="t", metadata={"nbgrader": about})


PICTURE = new_output("display_data", {"image/png": "iVBORw0KGgo=", "text/plain": "<Figure>"})
#: What a cell's HTML may do to what comes after it, and what nbconvert does to it itself.
CELLS = {
    "code": new_code_cell("def f(x):\n    return x < 1 and '&amp;'", id="b"),
    "text": new_markdown_cell("# Título\n\n- a\n- b `c`\n\n$x<y$ and <b>bold</b>", id="b"),
    "white space": new_markdown_cell("  \n\n   ", id="b"),
    "nothing": new_markdown_cell("", id="b"),
    "raw text": {"cell_type": "raw", "id": "b", "metadata": {}, "source": "\n <i> raw"},
    "a picture": new_code_cell("plot()", id="b", outputs=[PICTURE]),
    "a picture in text": new_markdown_cell("![](x.png) <img src=y.png>", id="b"),
    "an error": new_code_cell(
        "1/0", id="b", outputs=[new_output("error", ename="E", evalue="<v>")]
    ),
    "a score and a comment": graded("x", comment="Well *done* </div> & so"),
    "an element left open": new_markdown_cell("<div><b>left open", id="b"),
    "an element closed": new_markdown_cell("one </div></div></div> two", id="b"),
    "the page closed": new_markdown_cell("</div></body></html>", id="b"),
    "a comment left open": new_markdown_cell("a <!-- b", id="b"),
    "a tag left open": new_markdown_cell('<a href="x', id="b"),
    "a script left open": new_markdown_cell("<script>let a = '</div>'", id="b"),
    "a form feed and entities": new_markdown_cell("<p>&nbsp;&lt;\x0c&copy;&bogus;</p>", id="b"),
    "void elements": new_markdown_cell("<br><hr/>x</br></p><input disabled>", id="b"),
    "preformatted": new_markdown_cell("<pre>\n\n  a\n\n</pre>   <textarea>\n\n</textarea>", id="b"),
    "a template": new_markdown_cell("{{ 7 * 7 }} {% raw %}", id="b"),
    "classes of another page": new_markdown_cell(
        '<div class="jp-Notebook"><div class="jp-Cell-inputWrapper">x</div></div>', id="b"
    ),
    "the mark of another run": new_markdown_cell("<!--x0123456789abcdef-0-->", id="b"),
}


@pytest.mark.parametrize("what", CELLS)
def test_a_page_is_nbconverts_own(exporters, what):
    theirs, ours = (page(exporter, CELLS[what]) for exporter in exporters)
    assert ours == theirs
    # Once more, from what was kept.
    assert page(exporters[1], CELLS[what]) == theirs


def test_cells_that_do_not_end_are_the_page_s_own_matter(exporters):
    cells = [CELLS["an element left open"], CELLS["a picture"], CELLS["an element closed"]]
    for number, each in enumerate(cells):
        each["id"] = f"c{number}"
    theirs, ours = (page(exporter, *cells) for exporter in exporters)
    assert ours == theirs


def test_other_scores_and_comments_are_another_cell(exporters):
    one = page(exporters[1], graded("x", comment="primus"))
    other = page(exporters[1], graded("x", comment="secundus", score=2.0))
    assert "primus" in one and "secundus" in other and "primus" not in other
    assert other == page(exporters[0], graded("x", comment="secundus", score=2.0))


def test_what_is_kept_has_an_end(exporters, monkeypatch):
    monkeypatch.setattr(pages, "MOST_KEPT", 4)
    exporter = FeedbackExporter(config=config("feedback"))
    for number in range(10):
        cell = new_code_cell(f"x = {number}", id="b")
        assert page(exporter, cell) == page(exporters[0], cell)
        assert len(exporter._kept) <= 4


def test_another_template_is_another_page():
    theirs, ours = (kind(config=config("lab")) for kind in (HTMLExporter, FeedbackExporter))
    for what in ("code", "a picture", "an element closed"):
        assert page(ours, CELLS[what]) == page(theirs, CELLS[what])


def test_a_cell_is_rendered_once(exporters, monkeypatch):
    exporter = FeedbackExporter(config=config("feedback"))
    rendered = []
    original = FeedbackExporter._tidied
    monkeypatch.setattr(
        FeedbackExporter, "_tidied", lambda self, html: rendered.append(1) or original(self, html)
    )
    page(exporter, CELLS["code"])
    before = len(rendered)
    page(exporter, CELLS["code"], name="other")
    assert before == 3 and len(rendered) == before
