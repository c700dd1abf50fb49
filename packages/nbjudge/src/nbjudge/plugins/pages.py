"""Feedback pages as nbconvert makes them, byte for byte, with what many of them share made once.

Most cells of a class are the same: the lesson's text and tests. nbconvert renders each of them for
each learner, and then takes the whole page apart and puts it together again to name pictures
without a text. Here a cell is rendered and tidied once for each form of it, and of a page only what
is around its cells is taken apart. Where a cell's HTML does not end by itself, so that it would
change what comes after it, the page is made nbconvert's way.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bs4 import BeautifulSoup, Tag
from markupsafe import Markup
from nbconvert.exporters import HTMLExporter
from nbconvert.exporters.html import WidgetsDataTypeFilter
from nbconvert.exporters.templateexporter import TemplateExporter
from nbconvert.filters import Highlight2HTML
from nbconvert.preprocessors import CSSHTMLHeaderPreprocessor
from nbformat import NotebookNode

#: Cells whose HTML is kept; a learner's own are of no use to the next page.
MOST_KEPT = 5_000
_ALT = "No description has been provided for this image"


@dataclass(frozen=True)
class _Cell:
    """A cell's HTML between white space: as the template gives it, and tidied.

    tidied is None where it does not end by itself.
    """

    before: str
    raw: str
    after: str
    tidied: str | None


class FeedbackExporter(HTMLExporter):
    """nbconvert's HTML exporter for many notebooks that have cells in common."""

    def __init__(self, *args: Any, **kwargs: Any):
        """Make it, as nbconvert's."""
        self._kept: dict[str, _Cell] = {}
        self._cells: list[_Cell] = []
        self._about = ""
        self._token = f"x{secrets.token_hex(8)}"  # no learner's text can be taken for ours
        super().__init__(*args, **kwargs)
        self.raw_template = (
            f"{{% extends {self.template_file!r} %}}"
            "{%- block any_cell scoped -%}{{ kept_cell(cell, super) }}{%- endblock any_cell -%}"
        )

    def _create_environment(self) -> Any:
        environment = super()._create_environment()
        environment.globals["kept_cell"] = self._kept_cell
        return environment

    def from_notebook_node(  # type: ignore[override]  # as in nbconvert's own
        self, nb: NotebookNode, resources: dict | None = None, **kw: Any
    ) -> tuple[str, dict]:
        """Return the page of a notebook, as `HTMLExporter.from_notebook_node` would."""
        language = nb.metadata.get("language_info", {})
        lexer = language.get("pygments_lexer", language.get("name", None))
        highlight = self.filters.get(
            "highlight_code", Highlight2HTML(pygments_lexer=lexer, parent=self)
        )
        resources = self._init_resources(resources)
        self.register_filter("highlight_code", highlight)
        self.register_filter(
            "filter_data_type",
            WidgetsDataTypeFilter(
                notebook_metadata=self._nb_metadata, parent=self, resources=resources
            ),
        )
        self._cells = []
        self._about = json.dumps([lexer, nb.metadata.get("widgets")])
        html, resources = TemplateExporter.from_notebook_node(self, nb, resources, **kw)
        return self._page(html), resources

    def _kept_cell(self, cell: NotebookNode, render: Callable[[], str]) -> Markup:
        """Return what stands in a page for a cell until the page is put together."""
        key = f"{self._about}{json.dumps(cell, sort_keys=True)}"
        found = self._kept.get(key)
        if found is None:
            html = str(render())
            raw = html.strip()
            start = html.index(raw)
            found = _Cell(html[:start], raw, html[start + len(raw) :], self._tidied(raw))
            # Pictures in a file beside the notebook are not in the cell.
            if not self.embed_images:
                if len(self._kept) >= MOST_KEPT:
                    self._kept.clear()
                self._kept[key] = found
        self._cells.append(found)
        mark = f"<!--{self._token}-{len(self._cells) - 1}-->" if found.raw else ""
        return Markup(f"{found.before}{mark}{found.after}")

    def _page(self, html: str) -> str:
        whole = any(cell.raw and cell.tidied is None for cell in self._cells)
        # Its cells are changed by what is around them (nbconvert's own template, "lab").
        if whole or "jp-Notebook" in html:
            html = self._filled(html, lambda cell: cell.raw)
            return str(_tidy(BeautifulSoup(html, features="html.parser")))
        around = str(_tidy(BeautifulSoup(html, features="html.parser")))
        return self._filled(around, lambda cell: cell.tidied or "")

    def _filled(self, html: str, what: Callable[[_Cell], str]) -> str:
        mark = re.compile(rf"<!--{self._token}-(\d+)-->")
        return mark.sub(lambda found: what(self._cells[int(found[1])]), html)

    def _tidied(self, html: str) -> str | None:
        """Return a cell's HTML as it comes out of the whole page; None if that depends on more."""
        if not (html.startswith("<") and html.endswith(">")):
            return None
        # In a page like any other: what closes an element of the page's would show.
        outer = ("html", "body", "div", "div", self._token)
        end = f"{self._token}-end"
        opened = "".join(f"<{name}>" for name in outer)
        closed = "".join(f"</{name}>" for name in reversed(outer))
        soup = BeautifulSoup(f"{opened}{html}<{end}></{end}>{closed}", features="html.parser")
        place: Tag = soup
        for name in outer:
            only = place.contents[0] if len(place.contents) == 1 else None
            if not isinstance(only, Tag) or only.name != name:
                return None
            place = only
        last = place.contents[-1]
        if not isinstance(last, Tag) or last.name != end or last.contents:
            return None
        last.extract()
        _tidy(soup)
        return place.decode_contents()


def _tidy(soup: BeautifulSoup) -> BeautifulSoup:
    """Do to a page, or a part of it, what nbconvert's `HTMLExporter` does to a page last."""
    for picture in soup.select("img:not([alt])"):
        picture.attrs["alt"] = _ALT
    for inside in ("div.jp-Cell-inputWrapper", "div.jp-OutputArea-output"):
        for part in soup.select(f".jp-Notebook {inside}"):
            part.attrs["tabindex"] = "0"
    return soup


class KeptHeader(CSSHTMLHeaderPreprocessor):
    """nbconvert's style sheet for code, made once."""

    _header: list[str] | None = None

    def _generate_header(self, resources: dict) -> list[str]:
        if self._header is None:
            self._header = super()._generate_header(resources)
        return self._header
