"""Every reason and flag that grading gives: its code, and the sentence that the learner reads.

Why a cell lost points to something other than its own test stands in the cell's own data (`own`)
as `reason` (the code) and `detail` (the sentence), where the feedback and the summary find it. What
costs no points stands beside it, in `notes`: a list of the same pairs, `code` and `detail`. What
stood out in a whole notebook is a list of flags in the notebook's own data, each with the cell that
it is about: for the instructor and, as a sentence, for the learner.
"""

import re
from dataclasses import dataclass
from typing import Any

from nbformat.notebooknode import NotebookNode

from nbjudge.ids import OWN_FOLDER as OWN_FOLDER
from nbjudge.ids import has_unseen

#: The key under which the engine keeps its own data in the metadata of a notebook or a cell.
KEY = "nbjudge"


@dataclass(frozen=True)
class Reason:
    """One reason code.

    sentence: for the feedback and the summary; `mark` fills in its `{…}` fields.
    costs: whether points can be lost by it.
    """

    code: str
    sentence: str
    costs: bool = True


def _attempt(code: str, sentence: str) -> Reason:
    return Reason(code, f"{sentence} That alone costs no points.", costs=False)


_ALL = (
    # Running the cells (execute.py).
    Reason(
        "timeout",
        "This cell was stopped: it ran for longer than {seconds:g} seconds. "
        "Look for a loop that never ends.",
    ),
    Reason(
        "timeout_total",
        "This cell was not run: the cells before it used up the {seconds:g} seconds "
        "that the whole notebook has.",
    ),
    Reason(
        "memory",
        "This cell asked for more memory than grading allows ({megabytes:g} MB).",
    ),
    Reason(
        "kernel_died",
        "This cell ended Python itself ({how}). Its points are lost; the other cells were "
        "graded in a fresh kernel.",
    ),
    Reason(
        "kernel_silent",
        "After this cell Python gave no more answers. What it did is lost; the other cells were "
        "graded in a fresh kernel.",
    ),
    Reason(
        "output_limit",
        "This cell printed or displayed more than {megabytes:g} MB. The rest was cut; "
        "that alone costs no points.",
        costs=False,
    ),
    Reason(
        "outputs_limit",
        "The cells of this notebook printed or displayed more than {megabytes:g} MB together. The "
        "rest was cut; that alone costs no points.",
        costs=False,
    ),
    Reason(
        "output_flood",
        "This cell was stopped: it went on sending output far beyond {megabytes:g} MB.",
    ),
    Reason(
        "input",
        "This cell asks for input(), and nobody answers while a notebook is graded.",
    ),
    Reason(
        "disk",
        "This cell wrote more to disk than grading allows ({megabytes:g} MB).",
    ),
    Reason(
        "processes",
        "This cell started more processes or threads than grading allows.",
    ),
    # Testing what the cells defined (judge.py).
    Reason(
        "no_answer",
        "The test got no answer from your code's process: it had ended, or it sent more than is "
        "accepted.",
    ),
    Reason(
        "late_answer",
        "The test was given up: your code did not answer within {seconds:g} seconds. "
        "Look for a loop that never ends.",
    ),
    Reason(
        "answer_too_large",
        "Your code returned far more than the test asks for: {what}.",
    ),
    Reason(
        "malformed_answer",
        "What your code's process sent to the test is no answer.",
    ),
    Reason(
        "test_stopped",
        "The test of this cell was stopped: with what your code returned, it went on beyond "
        "{seconds:g} seconds or its memory.",
    ),
    # Tests that the judge cannot check from outside (judged.py).
    Reason(
        "unprotected",
        "This test ran in your notebook's own process, after everything else, because it cannot "
        "be checked from outside. That alone costs no points.",
        costs=False,
    ),
    Reason(
        "unchecked",
        "The grader could not check this test from outside ({why}). It has no score until a "
        "teacher has looked at it.",
        costs=False,
    ),
    Reason(
        "by_hand",
        "This test is graded by a teacher. It has no score until then ({why}).",
        costs=False,
    ),
    # What was tried (attempts.py): blocked or without effect, and no points are lost by it.
    _attempt(
        "blocked_read",
        "This cell tried to read what grading does not give it: {what}.",
    ),
    _attempt(
        "blocked_write",
        "This cell tried to write where grading does not allow it: {what}.",
    ),
    _attempt(
        "blocked_network",
        "This cell tried to reach the network, and grading has none: {what}.",
    ),
    _attempt(
        "blocked_signal",
        "This cell sent a signal to another process than its own: {what}.",
    ),
    _attempt(
        "started_process",
        "This cell started another process, which ended with your notebook: {what}.",
    ),
    _attempt(
        "thread_goes_on",
        "A thread that this cell started went on after it, and ended with your notebook.",
    ),
    _attempt(
        "native_code",
        "This cell called into the system past Python. No lesson needs that: {what}.",
    ),
    _attempt(
        "looked_inside",
        "This cell searched Python's own memory or call stack. Nothing of the tests is there.",
    ),
    _attempt(
        "shell_hooked",
        "This cell changed how the notebook runs cells ({what}). Tests do not run there.",
    ),
    _attempt(
        "patched",
        "This cell replaced parts of libraries ({what}). Tests use parts of their own.",
    ),
    _attempt(
        "lying_answer",
        "Your code answered a test with a class of its own ({what}), which says itself what it is "
        "equal to. Only the data in it counts.",
    ),
    _attempt(
        "wrote_answers",
        "This cell wrote to the file of quiz answers. Your answers count as you handed them in.",
    ),
    _attempt(
        "script",
        "This cell shows a script or a page with one. Scripts are left out.",
    ),
)

#: Flags of a hand-in without a notebook that can be read.
NOT_HANDED_IN = ("unreadable", "missing_notebook")

#: What stands out in a file or a notebook; `{what}` is the cell, the file or the detail.
_STOOD_OUT = {
    "unreadable": "Your notebook could not be read ({what}), so nothing in it could be graded. "
    "Please hand it in again.",
    "missing_notebook": "There was no notebook {what} in what you handed in, so nothing could be "
    "graded. Please hand in the notebook itself, whose name ends in .ipynb.",
    "renamed": "Your notebook was handed in as {what}; it was graded all the same.",
    "chosen": "There were several notebooks of this lesson. This one was graded: {what}.",
    "encoding": "Your notebook is not saved as UTF-8 ({what}). It was read as far as possible.",
    "extra_notebooks": "These notebooks were handed in too and were not graded: {what}.",
    "files_skipped": "Some of the files that you handed in were left out: {what}.",
    "timestamp": "The time of handing in could not be read, so none is recorded.",
    "answers": "A file or record of quiz answers could not be read and was left out ({what}).",
    "missing": "The cell of {what} was not in your notebook, so it counts as not solved.",
    "duplicate": "There were several copies of the cell of {what}. The last one above its tests "
    "counts (the first one below them if there is none above); the others were run in their "
    "place.",
    "recovered": "The cell of {what} had lost its grading information. It was recognised by its "
    "content and graded.",
    "merged": "The cell of {what} was not in your notebook. Its solution stood in another cell of "
    "the lesson, and was graded.",
    "tampered": "The cell {what} is not yours to change. The course's own version was used in its "
    "place.",
    "relabelled": "Type, points or lock of the cell {what} had been changed. The course's own "
    "count.",
    "restored": "The cell {what} was not in your notebook. The course's own version was put back.",
    "older_release": "Your notebook is of an earlier release of the lesson ({what}). It was graded "
    "by today's tests, and what has changed since is not held against you.",
    "new_exercise": "The lesson had no cell {what} yet when you got it, so it counts as not "
    "solved until you hand in again. Ask your teacher if that is not possible.",
    "other_lesson": "What you handed in is a notebook of another lesson ({what}). Please hand in "
    "the one that was asked for.",
    "syntax": "A cell could not be read, so nothing in it counts ({what}).",
    "not_installed": "Your code imports what is not installed where it is graded ({what}); what "
    "needs it fails.",
    "forbidden": "Your solution uses what the exercise asks you to write yourself ({what}). A "
    "teacher reads it; that alone costs no points.",
    "moved": "Cells of the lesson stood in another order. They were graded in the lesson's order.",
    "too_large": "A cell was left out because it is larger than {what}.",
    "copied": "There were several copies of the cell {what}. The course's own version counts, "
    "once.",
    "retagged": "Tags of the cell {what} had been changed. The course's own count.",
    "forged": "Your notebook brought a grade of its own along ({what}). It does not count.",
    "large_outputs": "Your notebook held outputs of more than {what}. Saved outputs are not used.",
    "language": "Your notebook names another language ({what}) than the lesson's. It was run in "
    "the lesson's own.",
    "old_format": "Your notebook is in an older format ({what}). It was graded all the same.",
    "unknown_cells": "Cells of an unknown kind ({what}) were taken as text, or left out.",
    "control_characters": "Your notebook holds characters that are not shown, or that turn the "
    "direction of text ({what}). A reader may see something else than Python does.",
    "script_in_text": "A text cell holds a script. It is shown as text, and not run.",
    "cut_in_page": "Your notebook is larger than a page can show ({what}). All of it was run and "
    "graded; the page shows the beginning of each such cell or output.",
    "shadowing": "Files of yours have names of Python's or of the course's own ({what}). They are "
    "your files like any others.",
}

REASONS = {reason.code: reason for reason in _ALL} | {
    code: Reason(code, sentence, costs=False) for code, sentence in _STOOD_OUT.items()
}


def own(holder: NotebookNode) -> NotebookNode:
    """Return the engine's own data in the metadata of a notebook or a cell, made if missing."""
    found: NotebookNode = holder.metadata.setdefault(KEY, NotebookNode())
    return found


#: How a test cell is checked: by the judge, in the learner's own process, or by a teacher.
OUTSIDE, INSIDE, MANUAL = "outside", "inside", "manual"
MODES = (OUTSIDE, INSIDE, MANUAL)


def forced_mode(cell: NotebookNode) -> str | None:
    """Return the mode that a teacher's tag on a test cell asks for, or None."""
    tags = cell.metadata.get("tags", [])
    return next((mode for mode in MODES if f"judge-{mode}" in tags), None)


def by_hand(nb: NotebookNode) -> dict[str, str]:
    """Return the test cells of a notebook that a teacher has to grade: grade_id → the sentence."""
    found: dict[str, str] = own(nb).setdefault("by_hand", NotebookNode())
    return found


def as_text(value: str, limit: int = 1_000) -> str:
    """Return text of a submission or of a file's name as it may stand in any page, log or table.

    One line, and nothing in it that HTML, Markdown, MathJax or a terminal takes for its own: each
    such character is a `?`. An underscore stays, since it is in most names of Python's.
    """
    value = value if len(value) <= limit else value[: limit - 1] + "…"
    return _ACTIVE.sub("?", "".join("?" if has_unseen(c) else c for c in value))


#: What begins markup, a formula, a link or an entity.
_ACTIVE = re.compile(r"[<>&$\\`*\[\]|~#^\"]|:(?=//)")


def sentence(code: str, **fields: object) -> str:
    """Return the sentence of a code, its fields filled in; `KeyError` where one is missing.

    Every word of a submission that a flag or a reason tells goes through here, as text.
    """
    plain = {key: as_text(f) if isinstance(f, str) else f for key, f in fields.items()}
    return REASONS[code].sentence.format(**plain)


def mark(cell: NotebookNode, code: str, **fields: object) -> None:
    """Write reason `code` into `cell`'s metadata; the first reason of a cell stands.

    Raises KeyError if there is no such code, or if a sentence needs a field that is not given.
    """
    about, detail = own(cell), sentence(code, **fields)
    about.setdefault("reason", code)
    if about["reason"] == code:
        about["detail"] = detail


def note(cell: NotebookNode, code: str, **fields: object) -> None:
    """Add `code`, which costs no points, to the notes of `cell`: each code once.

    Raises KeyError as `mark`.
    """
    notes = own(cell).setdefault("notes", [])
    detail = sentence(code, **fields)
    if code not in {entry["code"] for entry in notes}:
        notes.append(NotebookNode(code=code, detail=detail))


@dataclass(frozen=True)
class Flag:
    """One reason code with the grade_id it is about ("" for the whole notebook) and a detail."""

    code: str
    cell: str = ""
    detail: str = ""

    @property
    def sentence(self) -> str:
        """The sentence for the learner: plain text, never markup from the submission."""
        return sentence(self.code, what=self.detail or self.cell)


def shown(name: str, limit: int = 60) -> str:
    """Return text of a learner's as it may stand in a sentence: `as_text`, and short."""
    return as_text(name, limit)


def record(nb: NotebookNode, flags: list[Flag]) -> None:
    """Add flags to those that the notebook carries, each once."""
    carried = own(nb).setdefault("flags", [])
    for flag in flags:
        entry = NotebookNode(code=flag.code, cell=flag.cell, sentence=flag.sentence)
        if entry not in carried:
            carried.append(entry)


def all_flags(nb: NotebookNode | dict[str, Any]) -> list[dict[str, str]]:
    """Return the flags that a notebook carries: dicts with `code`, `cell` and `sentence`.

    The execution adds the reasons of the cells to those of the rebuild.
    """
    found: list[dict[str, str]] = nb["metadata"].get(KEY, {}).get("flags", [])
    return found


def nothing_handed_in(nb: NotebookNode) -> str:
    """Return the sentence that says why nothing of a notebook can be run; "" where something can.

    Then all that is in it is the course's, and what it would do says nothing about the learner.
    """
    said = (flag["sentence"] for flag in all_flags(nb) if flag["code"] in NOT_HANDED_IN)
    return next(said, "")
