"""What a learner sees of a quiz: the question, the radio buttons, and what became of the answer."""

import html
import re
from collections.abc import Mapping
from string import ascii_uppercase
from typing import Any

import ipywidgets as widgets
from IPython.display import display

from llm_memory.quiz.bank import BANK, Quiz, find
from llm_memory.quiz.ledger import Ledger, ledger_here
from llm_memory.quiz.record import FILE_NAME, METADATA_KEY, Answer, record_of

_VIEW = "application/vnd.jupyter.widget-view+json"
_GREEN, _RED, _BLUE = "#2e7d32", "#c62828", "#1565c0"

# Says nothing that could become stale: after a page reload this output is no longer updated.
_KEPT_TEXT = (
    f"Choices are kept at once, in {FILE_NAME} and here in the notebook. "
    "After reloading the page or restarting the kernel, run this cell again."
)
_KEPT = {
    "text/plain": _KEPT_TEXT,
    "text/html": f'<div style="opacity: 0.75; font-size: 90%">{_KEPT_TEXT}</div>',
}
# Without a kernel nothing here can be rewritten; ipywidgets marks with a class what lost its own.
_LOST = (
    "<style>.llm-memory-lost {display: none}"
    ".jupyter-widgets-disconnected .llm-memory-lost {display: block}"
    ".jupyter-widgets-disconnected .llm-memory-kept {display: none}</style>"
    '<div class="llm-memory-lost" role="alert">'
    "<b>⚠️ The kernel was restarted. What you choose here is not kept: run this cell again.</b>"
    "</div>"
)


def quiz(name: str) -> None:
    """Show a quiz, answer each choice at once, and keep the answer.

    Three outputs, because each has its own life: the question (text that is there without a
    kernel), the radio buttons with the feedback, and the record of the answer, which the
    notebook carries in that output's metadata. The record must not share an output with the
    buttons: rewriting that would draw them again, and the keyboard would lose its place.

    Parameters
    ----------
    name
        A quiz of the bank, such as ``"attention"``.

    Raises
    ------
    UnknownQuizError
        There is no such quiz; the message lists those there are.
    """
    item = find(name)
    ledger = ledger_here()
    notes = ledger.load()
    display(_question(item), raw=True)

    radio = widgets.RadioButtons(
        options=[(letter, option.id) for letter, option in _lettered(item)],
        index=_chosen_index(item, ledger.get(name)),
        description="Your answer:",
        style={"description_width": "initial"},
        layout={"width": "max-content"},
    )
    feedback = widgets.HTML(_feedback(item, ledger.get(name), notes), layout={"width": "100%"})
    # The padding leaves room for the ring around the button that has the keyboard.
    lost = widgets.HTML(_LOST, layout={"width": "100%"})
    _show(widgets.VBox([radio, feedback, lost], layout={"padding": "0 0 4px 4px"}))
    record = display(_KEPT, metadata=_metadata(ledger, [name]), raw=True, display_id=True)

    def on_choice(change: Mapping[str, Any]) -> None:
        if change["new"] is None:
            return
        notes = ledger.choose(name, change["new"])
        feedback.value = _feedback(item, ledger.get(name), notes)
        if record is not None:  # there is no handle outside IPython
            record.update(_KEPT, metadata=_metadata(ledger, [name]), raw=True)

    radio.observe(on_choice, names="value")


def hand_in(topic: str) -> None:
    """Write all answers of a lesson into the notebook once more, and say what is still open.

    After the page was reloaded, an answer still reaches the file but no longer the output of its
    quiz. This cell's own output is new, so it carries them all.

    Raises
    ------
    ValueError
        There is no lesson of this name; the message lists those there are.
    """
    topics = sorted({item.topic for item in BANK.values()})
    if topic not in topics:
        raise ValueError(f"There is no lesson {topic!r}. The lessons are: {', '.join(topics)}.")
    ledger = ledger_here()
    notes = ledger.load()
    lines = [_warning(note) for note in notes]
    for kind, label in (("quiz", "Quiz questions"), ("guess", "Guesses (no points)")):
        items = [item for item in BANK.values() if item.topic == topic and item.kind == kind]
        open_items = [item for item in items if ledger.get(item.name) is None]
        lines.append(f"{label}: {len(items) - len(open_items)} of {len(items)} answered.")
        lines += [f"⬜ Still open: {item.question}" for item in open_items]
    lines.append("💾 Now save the notebook (Ctrl+S, or ⌘S), then hand it in.")
    names = [item.name for item in BANK.values() if item.topic == topic]
    display(
        {"text/plain": "\n".join(lines), "text/html": _rows(lines)},
        metadata=_metadata(ledger, names),
        raw=True,
    )


def _lettered(item: Quiz):
    return zip(ascii_uppercase, item.options, strict=False)


def _chosen_index(item: Quiz, answer: Answer | None) -> int | None:
    ids = [option.id for option in item.options]
    return ids.index(answer["choice"]) if answer else None


def _letter(item: Quiz, option_id: str) -> str:
    return next(letter for letter, option in _lettered(item) if option.id == option_id)


def _question(item: Quiz) -> dict[str, str]:
    title = f"{item.heading}: {item.question}"
    options = [(letter, option.text) for letter, option in _lettered(item)]
    rows = "".join(
        # JupyterLab's labels (`jupyter/labels`) name the radio buttons by these.
        f'<div class="llm-memory-option" style="margin: 0.3em 0 0.3em 1em">'
        f"<b>{letter}.</b> {marked(text)}</div>"
        for letter, text in options
    )
    return {
        "text/plain": "\n".join([title, *(f"  {letter}. {text}" for letter, text in options)]),
        "text/html": f'<div><p class="llm-memory-question"><b>{marked(title)}</b></p>{rows}</div>',
    }


def _feedback(item: Quiz, answer: Answer | None, notes: list[str]) -> str:
    """HTML of what follows the buttons: the answer's feedback, and whatever must be told."""
    if answer is None:
        lines = ["No answer yet. Choose with the mouse, or with Tab and the space bar."]
        return _rows(lines + [_warning(note) for note in notes])
    option = item.option(answer["choice"])
    colour = _BLUE if not item.graded else _GREEN if option.correct else _RED
    tries = answer["tries"]
    counted = "1 choice so far" if tries == 1 else f"{tries} choices so far"
    return (
        '<div role="status" class="llm-memory-kept" '
        f'style="border-left: 4px solid {colour}; padding: 0.3em 0.8em; '
        'max-width: 46em; white-space: normal; line-height: 1.5">'
        f"<div>{_letter(item, option.id)}. {marked(item.feedback(option.id))}</div>"
        f"{_rows([f'💾 Kept ({counted}).', *map(_warning, notes)])}</div>"
    )


def _metadata(ledger: Ledger, names: list[str]) -> dict[str, Any]:
    """Metadata of an output that carries the record of these quizzes."""
    answers = {name: answer for name in names if (answer := ledger.get(name))}
    return {METADATA_KEY: record_of(answers)}


def _warning(note: str) -> str:
    return f"⚠️ {note}"


def _rows(lines: list[str]) -> str:
    return "".join(f"<div>{html.escape(line)}</div>" for line in lines)


def _show(widget: widgets.Widget) -> None:
    """Display a widget with a text in its place that makes sense to whoever has no kernel."""
    display(
        {
            "text/plain": "(Run this cell to choose an answer.)",
            _VIEW: {"version_major": 2, "version_minor": 0, "model_id": widget.model_id},
        },
        raw=True,
    )


def marked(text: str) -> str:
    """Escaped HTML of a bank text, with its ``**bold**`` and `` `code` ``."""
    escaped = html.escape(text, quote=False)
    escaped = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", escaped)
    return re.sub(r"`(.+?)`", r"<code>\1</code>", escaped)
