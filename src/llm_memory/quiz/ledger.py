"""The learner's answers while a notebook runs: in memory, in the file, in the saved notebook."""

import os
from pathlib import Path

from llm_memory.quiz.record import (
    FILE_NAME,
    Answer,
    Answers,
    choose,
    merge,
    read_answers,
    read_notebook,
    set_aside,
    write_answers,
)


class Ledger:
    """The answers of one folder, written through to its file at every choice.

    Three places may know an answer: this session (a folder may be read-only), the answers file,
    and the notebook as it was last saved (the file does not come back from Colab). Of each quiz
    the latest answer counts. The saved notebook can be found only where the server names it in
    ``JPY_SESSION_NAME`` (Jupyter Server 2 does, Colab does not), and is read once a session:
    running all cells clears their outputs, and an automatic save may then store that.
    """

    def __init__(self, folder: Path):
        self.path = folder / FILE_NAME
        self.answers: Answers = {}
        self._notebook_read = False

    def load(self) -> list[str]:
        """Take in what file and saved notebook know, and return what the learner must be told.

        A file that is not in order is moved aside, never deleted; the answers in it that are
        valid are taken over.
        """
        notes = []
        stored, problems = read_answers(self.path)
        if problems:
            notes.append(self._set_aside(problems, len(stored)))
        self.answers = merge(self.answers, stored)
        if not self._notebook_read:
            self._notebook_read = True
            notebook = saved_notebook(self.path.parent)
            if notebook:
                self.answers = merge(self.answers, read_notebook(notebook)[0])
        if self.answers != stored or (problems and self.answers):
            notes += self._write()
        return notes

    def choose(self, name: str, option_id: str) -> list[str]:
        """Record a choice at once, and return what the learner must be told."""
        notes = self.load()  # another notebook may have written to the file meanwhile
        self.answers[name] = choose(self.answers.get(name), option_id)
        return [*dict.fromkeys(notes + self._write())]

    def get(self, name: str) -> Answer | None:
        """The answer to a quiz, None if there is none yet."""
        return self.answers.get(name)

    def _write(self) -> list[str]:
        try:
            write_answers(self.path, self.answers)
        except OSError as error:
            return [
                f"This folder cannot be written to ({error.strerror}), so {FILE_NAME} does not "
                "have your answers. They are in this notebook: save it, and hand it in."
            ]
        return []

    def _set_aside(self, problems: list[str], kept: int) -> str:
        trouble = "; ".join(problems[:3])
        try:
            name = set_aside(self.path).name
        except OSError as error:
            return f"{trouble}. It cannot be moved aside ({error.strerror})."
        taken = f" The {kept} valid answer(s) in it were taken over." if kept else ""
        return f"{trouble}. Nothing was deleted: the file is now called {name}.{taken}"


def saved_notebook(folder: Path) -> Path | None:
    """The notebook that this kernel belongs to, if the server names one that is in the folder."""
    name = Path(os.environ.get("JPY_SESSION_NAME", "")).name
    path = folder / name
    return path if path.suffix == ".ipynb" and path.is_file() else None


_ledgers: dict[Path, Ledger] = {}


def ledger_here() -> Ledger:
    """The ledger of the working directory, the same one for the whole session."""
    folder = Path.cwd()
    return _ledgers.setdefault(folder, Ledger(folder))
