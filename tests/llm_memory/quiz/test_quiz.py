"""The quiz: its bank, the records of answers (whoever wrote them), the score, and what is shown."""

import hashlib
import json
import os
from collections import Counter

import ipywidgets
import nbformat
import pytest
from course_tools.build import course
from nbformat.v4 import new_code_cell, new_notebook, new_output

from llm_memory.quiz import (
    BANK,
    UnknownQuizError,
    answers_in_notebook,
    hand_in,
    ledger,
    merge,
    quiz,
    read_answers,
    score,
    widget,
)
from llm_memory.quiz.ledger import Ledger
from llm_memory.quiz.record import (
    FILE_NAME,
    MAX_FILE_BYTES,
    MAX_PROBLEMS,
    choose,
    record_of,
    set_aside,
    write_answers,
)

pytestmark = pytest.mark.lesson(*course.LESSONS)

KINDS = ("quiz", "guess")


def answer(choice="relevant", first="recent", tries=2, time="2026-03-01T09:30:00.000+00:00"):
    return {"choice": choice, "first": first, "tries": tries, "time": time}


def record(**answers):
    return {"schema": 1, "answers": answers}


def notebook_with(*records):
    """A notebook in which each record is carried by an output of a cell of its own."""
    cells = [
        new_code_cell("quiz()", outputs=[new_output("display_data", metadata={"llm_memory": r})])
        for r in records
    ]
    return new_notebook(cells=cells)


# --- the bank ------------------------------------------------------------------------------------


@pytest.mark.parametrize("item", BANK.values(), ids=BANK.keys())
def test_each_quiz_has_one_right_option_and_feedback_for_each(item):
    assert sum(option.correct for option in item.options) == 1
    assert len(item.options) >= 3
    assert len({option.id for option in item.options}) == len(item.options)
    assert len({option.text for option in item.options}) == len(item.options)
    assert len({option.feedback for option in item.options}) == len(item.options)
    for option in item.options:
        assert option.feedback.endswith((".", "?"))
        assert item.feedback(option.id).endswith(option.feedback)


def test_right_and_wrong_differ_in_words_and_a_guess_gives_no_verdict():
    for item in BANK.values():
        assert (item.right != item.wrong) == item.graded


def test_each_lesson_has_three_quizzes_or_more_and_three_guesses():
    counts = Counter((item.topic, item.kind) for item in BANK.values())
    for topic in ("attention", "context_window", "kv_cache", "serving"):
        assert counts[topic, "quiz"] >= 3
        assert counts[topic, "guess"] == 3


def test_names_stay_apart_as_grade_ids():
    assert len({item.grade_id for item in BANK.values()}) == len(BANK)
    assert BANK["kv_cache-contents"].grade_id == "quiz_kv_cache_contents"


@pytest.mark.parametrize("kind", KINDS)
def test_neither_place_nor_length_gives_the_right_option_away(kind):
    items = [item for item in BANK.values() if item.kind == kind]
    places, ranks = Counter(), Counter()
    for item in items:
        right = next(option for option in item.options if option.correct)
        places[item.options.index(right)] += 1
        ranks[sorted(item.options, key=lambda option: len(option.text)).index(right)] += 1
    for counts in (places, ranks):
        assert set(counts) == {0, 1, 2}
        assert max(counts.values()) <= len(items) / 2


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("attention", "d55b8dfc499033fa"),
        ("context_window", "dc9357563236ddc6"),
        ("kv_cache", "66c488ac6eb69051"),
    ],
)
def test_the_quizzes_that_the_course_began_with_keep_their_words(name, digest):
    item = BANK[name]
    words = [f"{item.heading}: {item.question}", *(option.text for option in item.options)]
    words += [[option.correct for option in item.options].index(True), item.right, item.wrong]
    text = json.dumps(words, ensure_ascii=False)
    assert hashlib.sha256(text.encode()).hexdigest().startswith(digest)


# --- records -------------------------------------------------------------------------------------


def test_choosing_keeps_the_first_answer_and_counts():
    first = choose(None, "recent")
    second = choose(first, "relevant")
    third = choose(second, "recent")
    assert (first["first"], first["tries"]) == ("recent", 1)
    assert (second["choice"], second["first"], second["tries"]) == ("relevant", "recent", 2)
    assert (third["choice"], third["tries"]) == ("recent", 3)
    assert first["time"] < second["time"] < third["time"]


def test_a_choice_after_the_clock_was_set_back_still_is_the_later_one():
    before = answer(time="2100-01-01T00:00:00.000+00:00")
    after = choose(before, "recent")
    assert merge({"attention": before}, {"attention": after})["attention"] == after


def test_merge_takes_the_later_answer_of_each_quiz():
    early = answer(time="2026-03-01T09:30:00.000+00:00")
    late = answer("recent", time="2026-03-01T09:30:00.001+00:00")
    other = answer("pair", "pair")
    assert merge({"attention": early}, {"attention": late}) == {"attention": late}
    assert merge({"attention": late}, {"attention": early}) == {"attention": late}
    both = merge({"attention": early}, {"kv_cache-contents": other})
    assert both == {"attention": early, "kv_cache-contents": other}
    same_time = early | {"choice": "operations"}
    assert merge({"attention": early}, {"attention": same_time}) == {"attention": early}


def test_what_is_written_is_read(tmp_path):
    answers = {"attention": answer()}
    write_answers(tmp_path / FILE_NAME, answers)
    assert read_answers(tmp_path / FILE_NAME) == (answers, [])
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / FILE_NAME
    write_answers(path, {"attention": answer()})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_answers(path, {})
    assert read_answers(path)[0] == {"attention": answer()}
    assert [entry.name for entry in tmp_path.iterdir()] == [FILE_NAME]


def test_a_missing_file_is_no_problem(tmp_path):
    assert read_answers(tmp_path / FILE_NAME) == ({}, [])


BROKEN_FILES = {
    "empty": b"",
    "half": b'{"schema": 1, "answers": {"attention"',
    "not text": b"\xff\xfe\x00",
    "not json": b"my notes on attention",
    "deep": b"[" * 100_000,
    "deep in an object": b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
    "endless digits": b'{"schema": ' + b"9" * 10_000 + b"}",
    "NaN": b'{"schema": NaN, "answers": {}}',
    "infinity": b'{"schema": 1, "answers": {"attention": {"tries": Infinity}}}',
    "too large": b'{"schema": 1, "answers": {}}' + b" " * MAX_FILE_BYTES,
    "a list": b"[]",
    "a string": b'"schema"',
    "another schema": b'{"schema": 2, "answers": {}}',
    "schema true": b'{"schema": true, "answers": {}}',
    "schema 1.0": b'{"schema": 1.0, "answers": {}}',
    "no answers": b'{"schema": 1}',
    "answers a list": b'{"schema": 1, "answers": []}',
    "somebody else's": b'{"name": "package", "version": "1.0.0"}',
}


@pytest.mark.parametrize("content", BROKEN_FILES.values(), ids=BROKEN_FILES.keys())
def test_a_broken_file_gives_no_answers_and_says_why(tmp_path, content):
    path = tmp_path / FILE_NAME
    path.write_bytes(content)
    answers, problems = read_answers(path)
    assert answers == {}
    assert len(problems) == 1 and problems[0].startswith(f"{FILE_NAME}: ")
    assert len(problems[0]) < 300
    assert path.read_bytes() == content


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_is_not_an_ordinary_file_is_not_read(tmp_path, kind):
    path = tmp_path / FILE_NAME
    if kind == "link":
        write_answers(tmp_path / "elsewhere.json", {"attention": answer()})
        path.symlink_to(tmp_path / "elsewhere.json")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    answers, problems = read_answers(path)
    assert answers == {}
    assert len(problems) == 1
    if kind == "pipe":
        assert "not an ordinary file" in problems[0]


BAD_ANSWERS = {
    "none": None,
    "a string": "relevant",
    "a list": ["relevant"],
    "no fields": {},
    "a letter for an id": answer("B"),
    "another quiz's option": answer("reuse"),
    "a list for an id": answer(["relevant"]),
    "no first": {key: value for key, value in answer().items() if key != "first"},
    "foreign first": answer(first="x" * 1_000_000),
    "no tries": answer(tries=0),
    "true tries": answer(tries=True),
    "half a try": answer(tries=1.5),
    "tries NaN": answer(tries=float("nan")),
    "huge tries": answer(tries=10**5_000),
    "no time": answer(time=None),
    "a number for a time": answer(time=1e300),
    "words for a time": answer(time="yesterday"),
    "no zone": answer(time="2026-03-01T09:30:00"),
    "another zone": answer(time="2026-03-01T09:30:00-12:00"),
    "the end of time, elsewhere": answer(time="9999-12-31T23:59:59-12:00"),
    "before there was a course": answer(time="0001-01-01T00:00:00+00:00"),
    "the last moment": answer(time="9999-12-31T23:59:59+00:00"),
    "a long time": answer(time=f"2026-03-01T09:30:00.{'0' * 1_000_000}+00:00"),
}


@pytest.mark.parametrize("bad", BAD_ANSWERS.values(), ids=BAD_ANSWERS.keys())
def test_a_bad_answer_is_left_out_and_the_good_one_beside_it_stays(bad):
    good = answer("pair", "pair", 1)
    given = notebook_with({})
    given.cells[0].outputs[0].metadata = {
        "llm_memory": record(**{"attention": bad, "kv_cache-contents": good})
    }
    answers, problems = answers_in_notebook(given)
    assert answers == {"kv_cache-contents": good}
    assert len(problems) == 1 and "'attention'" in problems[0]
    assert len(problems[0]) < 200


def test_unknown_quizzes_and_extra_fields_are_left_out(tmp_path):
    given = record(attention=answer() | {"score": 100}, **{f"quiz {i}": {} for i in range(5_000)})
    path = tmp_path / FILE_NAME
    path.write_text(json.dumps(given))
    answers, problems = read_answers(path)
    assert answers == {"attention": answer()}
    assert problems == [f"{FILE_NAME}: holds 5000 unknown quizzes, 'quiz 0' among them"]


def test_of_several_records_in_a_notebook_the_latest_counts():
    early = answer("operations", time="2026-03-01T08:00:00.000+00:00")
    late = answer()
    given = notebook_with(record(attention=late), record(attention=early), {"schema": 7})
    answers, problems = answers_in_notebook(given)
    assert answers == {"attention": late}
    assert problems == ["cell 3: has schema 7, and this version reads 1"]


def test_a_saved_notebook_is_read_as_it_stands_on_disk(tmp_path):
    nbformat.write(notebook_with(record(attention=answer())), tmp_path / "lesson.ipynb")
    on_disk = nbformat.read(tmp_path / "lesson.ipynb", as_version=4)
    assert answers_in_notebook(on_disk) == ({"attention": answer()}, [])


@pytest.mark.parametrize(
    "notebook",
    [
        None,
        [],
        "cells",
        {},
        {"cells": None},
        {"cells": {"outputs": []}},
        {"cells": [None, 3, "cell", [], {"outputs": 5}, {"outputs": [None, "x", {}]}]},
        {"cells": [{"outputs": [{"metadata": None}, {"metadata": []}, {"metadata": {"a": 1}}]}]},
    ],
)
def test_a_notebook_of_any_shape_can_be_asked(notebook):
    assert answers_in_notebook(notebook) == ({}, [])


@pytest.mark.parametrize(
    "schema",
    [10**5_000, float("nan"), [], {"a": 1}, "1", None],
    ids=["digits", "nan", "list", "dict", "text", "none"],
)
def test_a_schema_of_any_type_is_named_shortly(schema):
    answers, problems = answers_in_notebook(notebook_with({"schema": schema, "answers": {}}))
    assert answers == {}
    assert len(problems) == 1 and len(problems[0]) < 80


def test_a_thousand_bad_records_are_not_a_thousand_messages():
    _, problems = answers_in_notebook(notebook_with(*[{"schema": "x" * 1_000}] * 1_000))
    assert len(problems) == MAX_PROBLEMS


# --- the score -----------------------------------------------------------------------------------


def test_the_answer_that_stands_counts_or_the_first_if_so_decided():
    assert score("attention", answer("relevant", first="recent")) == 1.0
    assert score("attention", answer("relevant", first="recent"), count="first") == 0.0
    assert score("attention", answer("recent", first="relevant")) == 0.0
    assert score("attention", answer("recent", first="relevant"), count="first") == 1.0
    assert score("attention", None) == 0.0


@pytest.mark.parametrize("item", BANK.values(), ids=BANK.keys())
def test_exactly_the_right_option_scores(item):
    scores = {o.id: score(item.name, answer(o.id, o.id, 1)) for o in item.options}
    assert scores == {option.id: float(option.correct) for option in item.options}


def test_a_score_asked_wrongly_says_so():
    with pytest.raises(UnknownQuizError, match="Did you mean 'attention'"):
        score("atention", None)
    with pytest.raises(ValueError, match="not 'best'"):
        score("attention", None, count="best")


# --- a learner's session -------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory of a new session."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    monkeypatch.setattr(ledger, "_ledgers", {})
    return tmp_path


def test_a_new_session_finds_the_answers(folder):
    Ledger(folder).choose("attention", "recent")
    later = Ledger(folder)
    assert later.load() == []
    assert later.get("attention")["choice"] == "recent"
    later.choose("attention", "relevant")
    stored, _ = read_answers(folder / FILE_NAME)
    assert stored["attention"]["first"] == "recent"
    assert stored["attention"]["tries"] == 2


def test_nothing_is_written_before_the_first_choice(folder):
    assert Ledger(folder).load() == []
    assert list(folder.iterdir()) == []


def test_answers_of_other_sessions_are_kept(folder):
    one, two = Ledger(folder), Ledger(folder)
    one.load(), two.load()
    one.choose("attention", "relevant")
    two.choose("kv_cache", "reuse")
    assert set(read_answers(folder / FILE_NAME)[0]) == {"attention", "kv_cache"}


def test_a_broken_file_is_set_aside_and_the_quiz_works(folder):
    path = folder / FILE_NAME
    for number, content in enumerate([b"{broken", b"[broken too]"], start=1):
        path.write_bytes(content)
        notes = Ledger(folder).load()
        kept = folder / f"quiz_answers.set-aside-{number}.json"
        assert kept.read_bytes() == content
        assert len(notes) == 1 and kept.name in notes[0] and "Nothing was deleted" in notes[0]
    session = Ledger(folder)
    assert session.choose("attention", "relevant") == []
    assert read_answers(path)[0]["attention"]["choice"] == "relevant"


def test_what_is_valid_in_a_file_that_is_set_aside_is_taken_over(folder):
    path = folder / FILE_NAME
    content = json.dumps(record(attention=answer(), **{"from next year": answer()}))
    path.write_text(content)
    notes = Ledger(folder).load()
    assert "1 valid answer" in notes[0]
    assert (folder / "quiz_answers.set-aside-1.json").read_text() == content
    assert read_answers(path) == ({"attention": answer()}, [])


def test_setting_aside_overwrites_nothing(tmp_path):
    (tmp_path / "quiz_answers.set-aside-1.json").symlink_to(tmp_path / "nowhere")
    (tmp_path / FILE_NAME).write_text("x")
    assert set_aside(tmp_path / FILE_NAME).name == "quiz_answers.set-aside-2.json"


def test_a_read_only_folder_is_said_and_the_session_goes_on(folder, monkeypatch):
    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkstemp", refused)  # as root, no folder is read-only
    session = Ledger(folder)
    notes = session.choose("attention", "recent")
    assert len(notes) == 1 and "Permission denied" in notes[0] and "this notebook" in notes[0]
    session.choose("attention", "relevant")
    assert session.get("attention")["tries"] == 2
    assert list(folder.iterdir()) == []


def test_a_lost_file_comes_back_from_the_saved_notebook(folder, monkeypatch):
    nbformat.write(notebook_with(record(attention=answer())), folder / "lesson.ipynb")
    monkeypatch.setenv("JPY_SESSION_NAME", "somewhere/lesson.ipynb")
    session = Ledger(folder)
    session.load()
    assert session.get("attention") == answer()
    assert read_answers(folder / FILE_NAME)[0] == {"attention": answer()}


def test_the_later_of_file_and_saved_notebook_counts(folder, monkeypatch):
    nbformat.write(notebook_with(record(attention=answer())), folder / "lesson.ipynb")
    monkeypatch.setenv("JPY_SESSION_NAME", "lesson.ipynb")
    later = answer("recent", tries=3, time="2026-03-02T00:00:00.000+00:00")
    write_answers(folder / FILE_NAME, {"attention": later})
    session = Ledger(folder)
    session.load()
    assert session.get("attention") == later


def test_answers_outlive_a_notebook_saved_while_its_outputs_were_cleared(folder, monkeypatch):
    nbformat.write(notebook_with(record(attention=answer())), folder / "lesson.ipynb")
    monkeypatch.setenv("JPY_SESSION_NAME", "lesson.ipynb")
    monkeypatch.setattr(ledger, "write_answers", lambda *_: None)  # no file to fall back on
    session = Ledger(folder)
    session.load()
    nbformat.write(notebook_with(), folder / "lesson.ipynb")
    session.load()
    assert session.get("attention") == answer()


# --- what is shown -------------------------------------------------------------------------------


class Shown:
    """The outputs of a cell, as (data, metadata); an update replaces its output."""

    def __init__(self):
        self.outputs = []
        self.updates = 0

    def display(self, data, metadata=None, raw=False, display_id=False):
        assert raw
        self.outputs.append((data, metadata or {}))
        return Handle(self, len(self.outputs) - 1) if display_id else None

    @property
    def box(self):
        views = [d[widget._VIEW] for d, _ in self.outputs if widget._VIEW in d]
        return ipywidgets.widget_serialization["from_json"](
            f"IPY_MODEL_{views[-1]['model_id']}", None
        )

    @property
    def radio(self):
        return self.box.children[0]

    @property
    def feedback(self):
        return self.box.children[1].value


class Handle:
    """What ``display(…, display_id=True)`` returns."""

    def __init__(self, shown, index):
        self.shown, self.index = shown, index

    def update(self, data, metadata=None, raw=False):
        assert raw
        self.shown.outputs[self.index] = (data, metadata)
        self.shown.updates += 1


@pytest.fixture
def shown(folder, monkeypatch):
    shown = Shown()
    monkeypatch.setattr(widget, "display", shown.display)
    return shown


@pytest.mark.parametrize("name", BANK)
def test_a_quiz_reads_without_a_kernel_and_nothing_is_chosen(shown, name):
    quiz(name)
    question, buttons, kept = shown.outputs
    for option in BANK[name].options:
        assert option.text in question[0]["text/plain"]
    assert BANK[name].question in question[0]["text/plain"]
    assert "<b>A.</b>" in question[0]["text/html"]
    assert "Run this cell" in buttons[0]["text/plain"]
    assert shown.radio.index is None
    assert [label for label, _ in shown.radio.options] == ["A", "B", "C"]
    assert kept[1] == {"llm_memory": record()}


@pytest.mark.parametrize("name", BANK)
def test_each_choice_hears_its_own_feedback_and_is_recorded_twice(shown, folder, name):
    quiz(name)
    for tries, option in enumerate(BANK[name].options, start=1):
        shown.radio.value = option.id
        assert widget.marked(BANK[name].feedback(option.id)) in shown.feedback
        stored, _ = read_answers(folder / FILE_NAME)
        assert (stored[name]["choice"], stored[name]["tries"]) == (option.id, tries)
        assert shown.outputs[2][1] == {"llm_memory": record_of(stored)}
        assert shown.updates == tries
    assert len(shown.outputs) == 3, "an output more would push the buttons about"


def test_running_the_cell_again_restores_the_choice(shown):
    quiz("attention")
    shown.radio.value = "relevant"
    kept = shown.outputs[2]
    quiz("attention")
    assert shown.radio.value == "relevant"
    assert "Great job!" in shown.feedback
    assert shown.outputs[5] == kept
    shown.radio.value = "recent"
    assert shown.outputs[5][1]["llm_memory"]["answers"]["attention"]["tries"] == 2


def test_a_broken_file_is_told_to_the_learner(shown, folder):
    (folder / FILE_NAME).write_text("my notes")
    quiz("attention")
    assert "quiz_answers.set-aside-1.json" in shown.feedback
    shown.radio.value = "relevant"
    assert read_answers(folder / FILE_NAME)[0]["attention"]["choice"] == "relevant"


def test_the_notebook_keeps_the_record_where_the_folder_is_read_only(shown, folder, monkeypatch):
    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkstemp", refused)
    quiz("attention")
    shown.radio.value = "relevant"
    assert "cannot be written to" in shown.feedback and "Great job!" in shown.feedback
    assert shown.outputs[2][1]["llm_memory"]["answers"]["attention"]["choice"] == "relevant"


def test_an_unknown_quiz_lists_those_there_are(shown):
    with pytest.raises(UnknownQuizError) as caught:
        quiz("kv-cache")
    assert "Did you mean 'kv_cache'?" in str(caught.value)
    assert all(name in str(caught.value) for name in BANK)
    with pytest.raises(UnknownQuizError):
        quiz(["attention"])


def test_the_last_cell_carries_all_answers_and_names_what_is_open(shown):
    quiz("attention")
    shown.radio.value = "relevant"
    quiz("guess-shuffle")
    shown.radio.value = "mean"
    quiz("kv_cache")
    shown.radio.value = "reuse"
    hand_in("attention")
    data, metadata = shown.outputs[-1]
    assert set(metadata["llm_memory"]["answers"]) == {"attention", "guess-shuffle"}
    assert "Quiz questions: 1 of 3 answered." in data["text/plain"]
    assert "Guesses (no points): 1 of 3 answered." in data["text/plain"]
    assert f"Still open: {BANK['attention-scale'].question}" in data["text/plain"]
    assert BANK["attention"].question not in data["text/plain"]


def test_handing_in_an_unknown_lesson_lists_those_there_are(shown):
    with pytest.raises(ValueError, match="attention, context_window, kv_cache"):
        hand_in("atention")
