"""Why a cell lost points to something other than its own test, and what it tried in vain.

A reason stands in a cell's metadata, `cell.metadata["llm_memory"]["reason"]` (the code) and
`["detail"]` (the sentence for the student), where the feedback and the summary find it. What costs
no points stands beside it, in `["notes"]`: a list of the same pairs, `code` and `detail`.
"""

from dataclasses import dataclass

from nbformat.notebooknode import NotebookNode


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
        "output_limit",
        "This cell printed or displayed more than {megabytes:g} MB. The rest was cut; "
        "that alone costs no points.",
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
        "This cell tried to reach the network, which there is none of in grading: {what}.",
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
        "This cell called into the system past Python, which no lesson needs: {what}.",
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

REASONS = {reason.code: reason for reason in _ALL}


def mark(cell: NotebookNode, code: str, **fields: object) -> None:
    """Write reason `code` into `cell`'s metadata; the first reason of a cell stands.

    Raises KeyError if there is no such code, or if a sentence needs a field that is not given.
    """
    reason = REASONS[code]
    note = cell.metadata.setdefault("llm_memory", NotebookNode())
    note.setdefault("reason", code)
    if note["reason"] == code:
        note["detail"] = reason.sentence.format(**fields)


def note(cell: NotebookNode, code: str, **fields: object) -> None:
    """Add `code`, which costs no points, to the notes of `cell`: each code once.

    Raises KeyError as `mark`.
    """
    about = cell.metadata.setdefault("llm_memory", NotebookNode())
    notes = about.setdefault("notes", [])
    detail = REASONS[code].sentence.format(**fields)
    if code not in {entry["code"] for entry in notes}:
        notes.append(NotebookNode(code=code, detail=detail))
