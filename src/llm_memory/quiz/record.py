"""The record of a learner's answers: its form, its file, and its place in the notebook.

A record looks the same in the file and in the metadata of an output::

    {"schema": 1, "answers": {"attention": {
        "choice": "relevant", "first": "recent", "tries": 2,
        "time": "2026-03-01T09:30:00.000+00:00"}}}

Whoever hands in a file can write anything into it. Reading therefore looks only for what a
record may hold, copies it, and reports the rest as problems; it never raises on content.
"""

import json
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypedDict

from llm_memory.quiz.bank import BANK

FILE_NAME = "quiz_answers.json"
METADATA_KEY = "llm_memory"
SCHEMA = 1

MAX_FILE_BYTES = 1_000_000
MAX_NOTEBOOK_BYTES = 50_000_000
MAX_TRIES = 1_000_000
MAX_PROBLEMS = 20
_EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)


class Answer(TypedDict):
    """One quiz's answer: ids of options, number of choices made, time of the last one (UTC)."""

    choice: str
    first: str
    tries: int
    time: str


Answers = dict[str, Answer]


def now() -> str:
    """The present time as records write it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def record_of(answers: Mapping[str, Answer]) -> dict[str, Any]:
    """The record that holds these answers, as plain JSON data."""
    return {"schema": SCHEMA, "answers": {name: dict(answer) for name, answer in answers.items()}}


def choose(previous: Answer | None, option_id: str) -> Answer:
    """The answer after choosing an option: first answer and number of tries carried on."""
    time = now()
    if previous is None:
        return Answer(choice=option_id, first=option_id, tries=1, time=time)
    if _time_of(previous) >= datetime.fromisoformat(
        time
    ):  # a clock that was set back must not lose it
        later = _time_of(previous) + timedelta(milliseconds=1)
        time = later.isoformat(timespec="milliseconds")
    return Answer(
        choice=option_id,
        first=previous["first"],
        tries=min(previous["tries"] + 1, MAX_TRIES),
        time=time,
    )


def merge(a: Mapping[str, Answer], b: Mapping[str, Answer]) -> Answers:
    """Both sets of answers in one; where both answer a quiz, the later time counts (a tie: a)."""
    merged = dict(a)
    for name, answer in b.items():
        if name not in merged or _time_of(answer) > _time_of(merged[name]):
            merged[name] = answer
    return merged


def read_answers(path: str | os.PathLike) -> tuple[Answers, list[str]]:
    """Read an answers file that anybody may have written.

    Returns
    -------
    answers
        The valid answers; empty if the file is missing.
    problems
        One sentence for each thing that was wrong, at most ``MAX_PROBLEMS``; empty if the file
        is missing or in order.
    """
    try:
        data = _read_json(path, MAX_FILE_BYTES)
    except FileNotFoundError:
        return {}, []
    except (OSError, ValueError, RecursionError) as error:
        return {}, [f"{Path(path).name}: {_reason(error)}"]
    answers, problems = parse(data)
    return answers, [f"{Path(path).name}: {problem}" for problem in problems]


def read_notebook(path: str | os.PathLike) -> tuple[Answers, list[str]]:
    """Read the answers that a saved notebook carries. Returns as :func:`read_answers` does."""
    try:
        notebook = _read_json(path, MAX_NOTEBOOK_BYTES)
    except FileNotFoundError:
        return {}, []
    except (OSError, ValueError, RecursionError) as error:
        return {}, [f"{Path(path).name}: {_reason(error)}"]
    return answers_in_notebook(notebook)


def answers_in_notebook(notebook: Any) -> tuple[Answers, list[str]]:
    """The answers in the metadata of a notebook's outputs; the later of several counts.

    ``notebook`` is a notebook as a dict (``nbformat``'s ``NotebookNode`` is one). Returns as
    :func:`read_answers` does.
    """
    answers: Answers = {}
    problems: list[str] = []
    for number, record in _records_in(notebook):
        found, wrong = parse(record)
        answers = merge(answers, found)
        problems += [f"cell {number}: {problem}" for problem in wrong]
        if len(problems) > MAX_PROBLEMS:
            break
    return answers, _limited(problems)


def parse(data: Any) -> tuple[Answers, list[str]]:
    """The valid answers of a decoded record, and what was wrong with the rest of it."""
    if not isinstance(data, dict):
        return {}, ["is not a record of quiz answers"]
    schema = data.get("schema")
    if type(schema) is not int or schema != SCHEMA:
        return {}, [f"has schema {_short(schema)}, and this version reads {SCHEMA}"]
    given = data.get("answers")
    if not isinstance(given, dict):
        return {}, ["holds no answers where they should be"]
    answers: Answers = {}
    problems = []
    for name in BANK:  # the bank's names and not the record's: a record may hold a million
        if name in given:
            wrong = _problem_of(name, given[name])
            if wrong:
                problems.append(f"the answer to {name!r} {wrong}")
            else:
                answers[name] = _copy(given[name])
    unknown = len(given) - len(answers) - len(problems)
    if unknown:
        example = next(name for name in given if name not in BANK)
        problems.append(f"holds {unknown} unknown quizzes, {_short(example)} among them")
    return answers, _limited(problems)


def write_answers(path: str | os.PathLike, answers: Mapping[str, Answer]) -> None:
    """Write an answers file in one step: a reader sees the old file or the new, never a half.

    Raises
    ------
    OSError
        The folder cannot be written to, or the disk is full. The old file is as it was.
    """
    path = Path(path)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(record_of(answers), file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp's 0600 would keep a collecting instructor out
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def set_aside(path: str | os.PathLike) -> Path:
    """Move a file to a free name beside it, and return that name. Nothing is overwritten."""
    path = Path(path)
    number = 1
    while True:
        target = path.with_name(f"{path.stem}.set-aside-{number}{path.suffix}")
        if not os.path.lexists(target):
            os.rename(path, target)
            return target
        number += 1


def _read_json(path: str | os.PathLike, limit: int) -> Any:
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    descriptor = os.open(path, flags)  # neither follows a link nor waits at a pipe
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("is not an ordinary file")
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"is larger than {limit:,} bytes")
    return json.loads(content.decode("utf-8-sig"))


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "is nested too deeply to be read"
    if isinstance(error, OSError):
        return f"cannot be read ({error.strerror})"
    if isinstance(error, json.JSONDecodeError):
        return f"is not JSON ({error.msg}, line {error.lineno})"
    if isinstance(error, UnicodeDecodeError):
        return "is not UTF-8 text"
    return str(error)[:200]


def _records_in(notebook: Any) -> Iterator[tuple[int, Any]]:
    for number, cell in enumerate(_list(notebook, "cells"), start=1):
        for output in _list(cell, "outputs"):
            metadata = output.get("metadata") if isinstance(output, dict) else None
            if isinstance(metadata, dict) and METADATA_KEY in metadata:
                yield number, metadata[METADATA_KEY]


def _list(holder: Any, key: str) -> list:
    value = holder.get(key) if isinstance(holder, dict) else None
    return value if isinstance(value, list) else []


def _problem_of(name: str, answer: Any) -> str | None:
    if not isinstance(answer, dict):
        return "is not a record of an answer"
    ids = {option.id for option in BANK[name].options}
    for key in ("choice", "first"):
        value = answer.get(key)
        if not isinstance(value, str) or value not in ids:
            return f"has {_short(value)} as {key}, which is none of its options"
    tries = answer.get("tries")
    if type(tries) is not int or not 1 <= tries <= MAX_TRIES:
        return "has a number of tries that cannot be"
    time = answer.get("time")
    if not isinstance(time, str) or _parse_time(time) is None:
        return f"has {_short(time)} as its time"
    return None


def _copy(answer: Mapping[str, Any]) -> Answer:
    return Answer(
        choice=str(answer["choice"]),
        first=str(answer["first"]),
        tries=int(answer["tries"]),
        time=str(answer["time"]),
    )


def _time_of(answer: Answer) -> datetime:
    return _parse_time(answer["time"]) or _EARLIEST


def _parse_time(text: str) -> datetime | None:
    if len(text) > 40:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    if time.utcoffset() != timedelta(0) or not _EARLIEST <= time < datetime(9000, 1, 1, tzinfo=UTC):
        return None
    return time


def _short(value: Any) -> str:
    if isinstance(value, str):
        return ascii(value[:40])
    if value is None or isinstance(value, bool | float):
        return str(value)
    if isinstance(value, int):
        return str(value) if abs(value) < 10**12 else "a huge number"
    return f"a {type(value).__name__}"


def _limited(problems: list[str]) -> list[str]:
    if len(problems) <= MAX_PROBLEMS:
        return problems
    return [*problems[: MAX_PROBLEMS - 1], "and more problems of this kind"]
