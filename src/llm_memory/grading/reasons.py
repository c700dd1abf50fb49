"""Why a cell lost points to something other than its own test: codes and sentences.

A reason stands in a cell's metadata, `cell.metadata["llm_memory"]["reason"]` (the code) and
`["detail"]` (the sentence for the student), where the feedback and the summary find it.
"""

from dataclasses import dataclass

from nbformat.notebooknode import NotebookNode


@dataclass(frozen=True)
class Reason:
    """One reason code.

    student: a sentence for the feedback; instructor: a phrase for the flag in the summary.
    Both may hold `{…}` fields, which `mark` fills in.
    """

    code: str
    student: str
    instructor: str


_ALL = (
    # Running the cells (execute.py).
    Reason(
        "timeout",
        "This cell was stopped: it ran for longer than {seconds:g} seconds. "
        "Look for a loop that never ends.",
        "stopped after {seconds:g} seconds",
    ),
    Reason(
        "timeout_total",
        "This cell was not run: the cells before it used up the {seconds:g} seconds "
        "that the whole notebook has.",
        "not run, the notebook's {seconds:g} seconds were used up",
    ),
    Reason(
        "memory",
        "This cell asked for more memory than grading allows ({megabytes:g} MB).",
        "asked for more than {megabytes:g} MB of memory",
    ),
    Reason(
        "kernel_died",
        "This cell ended Python itself ({how}). Its points are lost; the other cells were "
        "graded in a fresh kernel.",
        "ended the kernel ({how})",
    ),
    Reason(
        "output_limit",
        "This cell printed or displayed more than {megabytes:g} MB. The rest was cut; "
        "that alone costs no points.",
        "output cut at {megabytes:g} MB",
    ),
    Reason(
        "output_flood",
        "This cell was stopped: it went on sending output far beyond {megabytes:g} MB.",
        "stopped for flooding the output",
    ),
    Reason(
        "input",
        "This cell asks for input(), and nobody answers while a notebook is graded.",
        "asked for input()",
    ),
    Reason(
        "disk",
        "This cell wrote more to disk than grading allows ({megabytes:g} MB).",
        "wrote more than {megabytes:g} MB to disk",
    ),
    Reason(
        "processes",
        "This cell started more processes or threads than grading allows.",
        "started too many processes",
    ),
    # Testing what the cells defined (judge.py).
    Reason(
        "no_answer",
        "The test got no answer from your code's process: it had ended, or it sent more than is "
        "accepted.",
        "no answer to the test",
    ),
    Reason(
        "late_answer",
        "The test was given up: your code did not answer within {seconds:g} seconds. "
        "Look for a loop that never ends.",
        "no answer to the test within {seconds:g} seconds",
    ),
    Reason(
        "answer_too_large",
        "Your code returned far more than the test asks for: {what}.",
        "an answer that is too large: {what}",
    ),
    Reason(
        "malformed_answer",
        "What your code's process sent to the test is no answer.",
        "a malformed answer to the test: {what}",
    ),
    Reason(
        "test_stopped",
        "The test of this cell was stopped: with what your code returned, it went on beyond "
        "{seconds:g} seconds or its memory.",
        "the test went on beyond {seconds:g} seconds or its memory",
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
        note["detail"] = reason.student.format(**fields)
        note["flag"] = reason.instructor.format(**fields)
