"""A whole class at once: the same converter as `nbgrader autograde`, with workers that execute."""

from __future__ import annotations

import os

from traitlets import Any as AnyTrait
from traitlets import Integer, Unicode

from nbjudge.classes.converter import ClassAutograde


class ClassRun(ClassAutograde):
    """Grades all submissions that are new or changed, many at a time."""

    grading = "nbjudge.classes.many.ManyAtOnce"
    repeats = False  # its command has looked for that, and says more
    workers = Integer(os.cpu_count() or 1, help="Processes that execute.").tag(config=True)
    scheduler = Unicode(
        "", help="Address of a Dask scheduler whose workers execute; '' for this machine's own."
    ).tag(config=True)
    on_progress = AnyTrait(help="Called with (done, total, student) after each submission.")
