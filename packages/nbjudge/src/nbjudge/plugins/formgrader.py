"""Formgrader's pages: what they are filled with is text, whoever made it up.

nbgrader's templates put ids and names of learners into HTML and into strings of scripts as they
are. A student's id is the name of a folder that somebody handed in.
"""

from __future__ import annotations

import re
import sys
from typing import Any

from jinja2 import Environment, Template
from nbconvert.exporters import HTMLExporter

#: What ends a string, an attribute or a text, in HTML and in a script in it. An apostrophe is in
#: names, and no template quotes with it.
_ENDING = re.compile(r"[<>\"\\\n\r\u2028\u2029]")


#: Where nbgrader's code has the names. Only Formgrader's own server has imported it.
_STOCK = "nbgrader.server_extensions.formgrader"


def install() -> None:
    """Let Formgrader show what is a learner's as text and pictures: nbgrader has no setting."""
    stock: Any = sys.modules.get(f"{_STOCK}.formgrader")
    if stock is not None:
        stock.Environment = TextEnvironment
        stock.HTMLExporter = TextExporter
    handlers: Any = sys.modules.get(f"{_STOCK}.handlers")
    if handlers is not None:
        handlers.SubmissionFilesHandler.content_security_policy = property(shut_in)


def shut_in(handler: Any) -> str:
    """Return what a browser may do with a file of a learner's that a page links to: show it.

    Formgrader hands it out from the server's own address. A page or a drawing with a script would
    run there with the instructor's rights; Jupyter's own handler of files does likewise.
    """
    stock = super(type(handler), handler).content_security_policy
    return f"{stock}; sandbox"


def inert(value: Any) -> Any:
    """Return what a page is filled with, each text in it such that it stays one."""
    if isinstance(value, str):
        return _ENDING.sub("?", value)
    if isinstance(value, dict):
        return {key: inert(item) for key, item in value.items()}
    if isinstance(value, list):
        return [inert(item) for item in value]
    return value


class TextTemplate(Template):
    """A template whose values are text."""

    def render(self, *args: Any, **values: Any) -> str:
        """Fill the page in."""
        return super().render(*map(inert, args), **inert(values))


class TextEnvironment(Environment):
    """The environment of Formgrader's own pages."""

    template_class = TextTemplate


#: Of the page of a submission, whatever comes from its folder's name and the gradebook.
_NAMES = ("student", "last_name", "first_name", "notebook_path", "assignment_id", "notebook_id")


class TextExporter(HTMLExporter):
    """Makes Formgrader's page of a submission."""

    def from_notebook_node(
        self, nb: Any, resources: dict[str, Any] | None = None, **kwargs: Any
    ) -> tuple[Any, dict[str, Any]]:
        """As nbconvert's, with the names as text."""
        resources = dict(resources or {})
        resources.update({key: inert(resources[key]) for key in _NAMES if key in resources})
        return super().from_notebook_node(nb, resources, **kwargs)
