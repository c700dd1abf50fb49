"""What can be done to the files of a submission: names, kinds, sizes and contents."""

from __future__ import annotations

import json
import os
import shutil
import socket

from nbformat.v4 import new_code_cell

from tests.hostile.classroom import HIDDEN, LESSON, WRONG, Classroom, answers, cell_of
from tests.hostile.corpus import ALL, DOUBLE, TESTS, Hand, case

_ANSWERS = "quiz_answers.json"


def _rewrite(hand: Hand, content: bytes) -> None:
    hand.path.write_bytes(content)


@case(flags={"renamed"}, says="handed in as attention (1).ipynb")
def renamed_by_a_browser(hand: Hand) -> None:
    hand.path.rename(hand.folder / "attention (1).ipynb")


@case(flags={"renamed"}, says="it was graded all the same")
def renamed_altogether(hand: Hand) -> None:
    hand.path.rename(hand.folder / "host (1).ipynb")


@case(flags={"renamed", "extra_notebooks"}, says="were not graded: notes.ipynb")
def renamed_beside_another(hand: Hand) -> None:
    hand.path.rename(hand.folder / "Attention-Copy2.ipynb")
    (hand.folder / "notes.ipynb").write_text("{}")


@case(flags={"extra_notebooks"}, says="attention (1).ipynb")
def an_old_copy_beside_it(hand: Hand) -> None:
    (hand.folder / "attention (1).ipynb").write_text("[]")


@case(flags={"renamed", "chosen", "extra_notebooks"}, says="exercises begun; not a.ipynb with")
def two_unknown_notebooks(hand: Hand) -> None:
    hand.path.rename(hand.folder / "a.ipynb")
    shutil.copy(hand.folder / "a.ipynb", hand.folder / "b.ipynb")


@case(lost=ALL, flags={"missing_notebook"}, says="no notebook attention.ipynb")
def an_empty_folder(hand: Hand) -> None:
    shutil.rmtree(hand.folder)
    hand.folder.mkdir()


@case(lost=ALL, flags={"unreadable"}, says="where a folder belongs")
def a_file_for_a_folder(hand: Hand) -> None:
    shutil.rmtree(hand.folder)
    hand.folder.write_text("not a folder")


@case(lost=TESTS, flags={"unreadable"}, says="it is empty")
def empty_file(hand: Hand) -> None:
    _rewrite(hand, b"")


@case(lost=TESTS, flags={"unreadable"}, says="it is a zip archive that cannot be unpacked")
def not_json(hand: Hand) -> None:
    _rewrite(hand, b"PK\x03\x04\xff\xfe\x00not json")


@case(lost=TESTS, flags={"unreadable"}, says="it is not JSON: it breaks off")
def cut_short(hand: Hand) -> None:
    hand.write()
    _rewrite(hand, hand.path.read_bytes()[:-200])


@case(lost=TESTS, flags={"unreadable"}, says="but not a notebook")
def a_list(hand: Hand) -> None:
    _rewrite(hand, b"[]")


@case(lost=TESTS, flags={"unreadable"}, says="nested too deep")
def nested_too_deep(hand: Hand) -> None:
    _rewrite(hand, b'{"cells": ' + b"[" * 100_000 + b"]" * 100_000 + b"}")


@case(lost=TESTS, flags={"unreadable"}, says="larger than 32,000 kB")
def huge(hand: Hand) -> None:
    _rewrite(hand, b" " * 40_000_000)


@case(flags={"large_outputs"}, says="Saved outputs are not used")
def outputs_of_megabytes(hand: Hand) -> None:
    text = "x" * 20_000_000
    cell_of(hand.notebook, "double").outputs = [
        {"output_type": "stream", "name": "stdout", "text": text}
    ]
    hand.write()


@case(flags={"old_format"}, says="an older format (3)")
def nbformat_3(hand: Hand) -> None:
    cells = [
        {
            "cell_type": cell.cell_type,
            "metadata": cell.metadata,
            "input" if cell.cell_type == "code" else "source": cell.source.splitlines(True),
            **({"outputs": [], "language": "python", "collapsed": False}
               if cell.cell_type == "code" else {}),
        }
        for cell in hand.notebook.cells
    ]  # fmt: skip
    old = {"nbformat": 3, "nbformat_minor": 0, "metadata": {}, "worksheets": [{"cells": cells}]}
    _rewrite(hand, json.dumps(old).encode())


@case()
def utf_8_with_a_mark(hand: Hand) -> None:
    """Not flagged: some editors write it."""
    hand.write()
    _rewrite(hand, b"\xef\xbb\xbf" + hand.path.read_bytes())


@case(lost=TESTS, flags={"unreadable"}, says="link to another file")
def notebook_links_to_the_source(hand: Hand) -> None:
    hand.path.unlink()
    hand.path.symlink_to(hand.room.folder / "source" / LESSON / f"{LESSON}.ipynb")


@case(lost=ALL, flags={"unreadable"}, says="it is a link where a folder belongs")
def folder_links_to_the_source(hand: Hand) -> None:
    shutil.rmtree(hand.folder)
    hand.folder.symlink_to(hand.room.folder / "source" / LESSON)


def _nothing_taken_along(room: Classroom, student: str) -> None:
    graded = room.folder / "autograded" / student / LESSON
    names = {path.name for path in graded.rglob("*")}
    assert names <= {"attention.ipynb", "quiz_answers.json", "timestamp.txt", "notes.txt"}, names
    assert HIDDEN not in (graded / "notes.txt").read_text()


@case(flags={"files_skipped", "extra_notebooks"}, says="to nowhere, to the gradebook.db")
def files_link_to_the_instructor(hand: Hand) -> object:
    source = hand.room.folder / "source"
    (hand.folder / "to the gradebook.db").symlink_to(hand.room.folder / "gradebook.db")
    (hand.folder / "to the source").symlink_to(source)
    (hand.folder / "to the source.ipynb").symlink_to(source / LESSON / f"{LESSON}.ipynb")
    (hand.folder / "to itself").symlink_to("to itself")
    (hand.folder / "to nowhere").symlink_to("nowhere")
    (hand.folder / "notes.txt").write_text("plain")
    return _nothing_taken_along


@case(flags={"files_skipped"}, says="left out: pipe, socket")
def pipes_and_sockets(hand: Hand) -> None:
    os.mkfifo(hand.folder / "pipe")
    here = os.getcwd()
    os.chdir(hand.folder)  # the name of a socket is short, the path to a test's folder is not
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("socket")
    finally:
        os.chdir(here)


@case(lost=TESTS, flags={"unreadable"}, says="it is not a file")
def notebook_is_a_pipe(hand: Hand) -> None:
    hand.path.unlink()
    os.mkfifo(hand.path)


@case(lost=TESTS, flags={"unreadable", "files_skipped"}, says="it is not a file")
def notebook_is_a_folder(hand: Hand) -> None:
    hand.path.unlink()
    hand.path.mkdir()
    (hand.path / "inside").write_text("x")


@case(flags={"files_skipped"}, says="left out")
def names_of_all_kinds(hand: Hand) -> None:
    for name in (b"new\nline", b"bell\x07", b"\x1b[31mred", b"\xff\xfe"):
        with open(os.fsencode(hand.folder) + b"/" + name, "w", encoding="utf-8") as file:
            file.write("x")
    for name in ("ünï 漢字 🧠.txt", "<img src=x onerror=alert(1)>.txt", "-rf", "{}", "%s"):
        (hand.folder / name).write_text("x")


@case(flags={"files_skipped"}, says="left out")
def files_of_megabytes(hand: Hand) -> None:
    with open(hand.folder / "huge.bin", "wb") as file:
        file.truncate(500_000_000)


@case(flags={"files_skipped"}, says="and 495 more")
def files_without_end(hand: Hand) -> None:
    for number in range(1_498):
        (hand.folder / f"file-{number:04}").write_text("x")


@case(flags={"files_skipped"}, says="left out")
def folders_without_end(hand: Hand) -> None:
    deep = hand.folder.joinpath(*["deep"] * 40)
    deep.mkdir(parents=True)
    (deep / "file").write_text("x")


@case(flags={"shadowing"}, says="have names of Python's or of the course's own")
def files_that_shadow_modules(hand: Hand) -> None:
    for name in ("numpy", "random", "json", "tempfile", "ipykernel", "llm_memory", "sitecustomize"):
        (hand.folder / f"{name}.py").write_text("raise SystemExit('shadowed')")
    (hand.folder / "nbgrader_config.py").write_text("raise SystemExit('shadowed')")
    (hand.folder / "gradebook.db").write_text("x")


@case()
def a_helper_file(hand: Hand) -> None:
    """Not flagged: learners may bring files along."""
    (hand.folder / "helper_of_mine.py").write_text("def twice(x):\n    return 2 * x\n")
    cell = cell_of(hand.notebook, "double")
    cell.source = "from helper_of_mine import twice\n\ndef double(x):\n    return twice(x)"
    hand.write()


@case()
def files_where_grading_writes(hand: Hand) -> None:
    """Not flagged: names like others; grading writes elsewhere."""
    (hand.folder / f"{LESSON}_files").write_text("x")
    (hand.folder / f"{LESSON}.html").write_text("x")
    (hand.folder / "feedback").write_text("x")


@case(flags={"timestamp"}, says="time of handing in could not be read")
def time_is_no_time(hand: Hand) -> None:
    (hand.folder / "timestamp.txt").write_bytes(b"\xff\x00 yesterday")


@case(flags={"files_skipped"}, says="left out: timestamp.txt")
def time_links_to_the_gradebook(hand: Hand) -> None:
    (hand.folder / "timestamp.txt").unlink()
    (hand.folder / "timestamp.txt").symlink_to(hand.room.folder / "gradebook.db")


@case()
def no_time(hand: Hand) -> None:
    """Not flagged: what comes by mail has none."""
    (hand.folder / "timestamp.txt").unlink()


@case(lost={"quiz_attention"}, flags={"answers"}, says="could not be read")
def answers_are_no_json(hand: Hand) -> None:
    (hand.folder / _ANSWERS).write_bytes(b"\xff\xfe{")


@case(lost={"quiz_attention"}, flags={"answers"}, says="could not be read")
def answers_are_a_list(hand: Hand) -> None:
    (hand.folder / _ANSWERS).write_text("[[]]")


@case(lost={"quiz_attention"}, flags={"answers"}, says="nested too deep")
def answers_nested_too_deep(hand: Hand) -> None:
    (hand.folder / _ANSWERS).write_text('{"answers":' + "[" * 100_000)


@case(lost={"quiz_attention"}, flags={"answers"}, says="larger than")
def answers_of_megabytes(hand: Hand) -> None:
    (hand.folder / _ANSWERS).write_text(" " * 9_000_000 + json.dumps(answers("relevant")))


@case(lost={"quiz_attention"}, flags={"answers"}, says="could not be read")
def answers_of_other_types(hand: Hand) -> None:
    record = answers("relevant")
    record["answers"]["attention"].update(choice={"relevant": 1}, tries=-1, time=10**300)
    (hand.folder / _ANSWERS).write_text(json.dumps(record))


@case(lost={"quiz_attention"}, flags={"answers"}, says="could not be read")
def answers_to_other_quizzes(hand: Hand) -> None:
    record = answers("relevant")["answers"]["attention"]
    many = {f"quiz <b>{n}</b>": record for n in range(2_000)}
    (hand.folder / _ANSWERS).write_text(json.dumps({"schema": 1, "answers": many}))


@case(lost={"quiz_attention"}, flags={"answers"}, says="could not be read")
def answer_claims_points(hand: Hand) -> None:
    record = answers("relevant")
    record["answers"]["attention"]["choice"] = "correct"
    record["score"] = 1000
    (hand.folder / _ANSWERS).write_text(json.dumps(record))


@case(lost={"quiz_attention"}, says="First answer")
def right_first_wrong_last(hand: Hand) -> None:
    """Not flagged: the answer that stands at the end counts."""
    (hand.folder / _ANSWERS).write_text(json.dumps(answers(WRONG, first="relevant")))


@case(lost={"quiz_attention"}, flags={"files_skipped"}, says="left out: quiz_answers.json")
def answers_link_to_a_file(hand: Hand) -> None:
    (hand.folder / "mine").write_text(json.dumps(answers("relevant")))
    (hand.folder / _ANSWERS).unlink()
    (hand.folder / _ANSWERS).symlink_to("mine")


@case(student="ünï cödé 漢字 {y} (z) & co")
def student_of_all_characters(hand: Hand) -> None:
    """Not flagged: the names of folders come from user names; a class may have any."""


@case(student="bell\x07 and \x1b[31m")
def student_of_control_characters(hand: Hand) -> None:
    """Not flagged, as above."""


@case(lost=DOUBLE)
def wrong_but_honest(hand: Hand) -> None:
    """Not flagged: its tests say what is wrong."""
    cell_of(hand.notebook, "double").source = "def double(x):\n    return x"
    hand.notebook.cells.append(new_code_cell("1 / 0"))
    hand.write()
