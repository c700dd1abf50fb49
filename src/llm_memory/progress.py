"""What a learner has done in a lesson so far, and what is still open."""

from __future__ import annotations

from html import escape

from llm_memory.check import OPEN, lessons, results
from llm_memory.quiz import BANK, score
from llm_memory.quiz.ledger import ledger_here

SIGNS = {"right": "✔", "wrong": "✘", "open": "○"}


def rows(lesson: str) -> list[tuple[str, str, float, str]]:
    """Return (name, state, points, note) of each exercise and quiz, in the lesson's order.

    State is `right`, `wrong` or `open`. An exercise's state is what its visible check said since
    the kernel started; its points are given by hidden tests when the work is graded. `ValueError`
    names the lessons there are.
    """
    known = lessons()
    if lesson not in known:
        raise ValueError(f"no lesson {lesson!r}; there are: {', '.join(sorted(known))}")
    found = []
    for name, stored in known[lesson]["exercises"].items():
        said = results.get(name)
        state = "right" if said is True else "open" if said in (None, OPEN) else "wrong"
        note = "" if state == "right" else "run its check" if said is None else str(said)
        found.append((name, state, stored["points"], note.split("\n")[0]))
    ledger = ledger_here()
    ledger.load()
    for name, points in known[lesson]["quizzes"].items():
        answer = ledger.get(name)
        graded = BANK[name].graded
        if answer is None:
            found.append((f"quiz {name}", "open", points, "not answered"))
        elif graded:
            state = "right" if score(name, answer) == 1 else "wrong"
            found.append((f"quiz {name}", state, points, ""))
        else:
            found.append((f"quiz {name}", "right", points, "guessed, no points"))
    return found


def progress(lesson: str) -> None:
    """Show what is right, what is not yet, and what is still open in `lesson`."""
    from IPython.display import display

    table = rows(lesson)
    total = sum(points for _, _, points, _ in table)
    earned = sum(points for _, state, points, _ in table if state == "right")
    still = [name for name, state, _, _ in table if state != "right"]
    head = f"{earned:g} of {total:g} points, if the hidden tests agree. "
    head += f"Still open: {', '.join(still)}." if still else "Nothing is open."
    lines = [
        f"{SIGNS[state]} {name} ({points:g}) {state}{': ' + note if note else ''}"
        for name, state, points, note in table
    ]
    body = "".join(
        f"<tr><td>{SIGNS[state]} {state}</td><td><code>{escape(name)}</code></td>"
        f"<td>{points:g}</td><td>{escape(note)}</td></tr>"
        for name, state, points, note in table
    )
    html = (
        f"<p><b>{escape(head)}</b></p><table><thead><tr><th>state</th><th>what</th>"
        f"<th>points</th><th>note</th></tr></thead><tbody>{body}</tbody></table>"
    )
    display({"text/plain": "\n".join([head, *lines]), "text/html": html}, raw=True)
