"""The shipped model's files, and held-out text: documents that training never saw."""

from pathlib import Path


def held_out() -> list[str]:
    """Return held-out documents, each longer than twice the window, one string each.

    Words are separated by spaces. `held_out.txt` has one document a line; it was made from seeds
    that training does not use, and with pairs of role and event that training never joined.
    """
    path = Path(__file__).parent / "held_out.txt"
    return path.read_text(encoding="utf-8").splitlines()
