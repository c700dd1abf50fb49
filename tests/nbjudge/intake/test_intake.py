"""A submission that is being written while it is read: read again, never graded as broken."""

import json
from dataclasses import replace

import pytest
from nbjudge.intake import folder as intake


@pytest.fixture
def places(tmp_path):
    submitted = tmp_path / "submitted"
    submitted.mkdir()
    return submitted, tmp_path / "staged"


def take_in(places):
    submitted, staged = places
    return intake.take_in(submitted, staged, ["attention"], set(), [])


def codes(flags):
    return [flag.code for flag in flags["attention"]]


NOTEBOOK = json.dumps({"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


def test_a_half_written_notebook_is_read_again(places, monkeypatch):
    path = places[0] / "attention.ipynb"
    path.write_text(NOTEBOOK[:20])
    monkeypatch.setattr(intake.time, "sleep", lambda _: path.write_text(NOTEBOOK))
    assert codes(take_in(places)) == []
    assert (places[1] / "attention.ipynb").read_text() == NOTEBOOK


def test_a_broken_notebook_that_stays_as_it_is_is_taken_as_it_is(places, monkeypatch):
    (places[0] / "attention.ipynb").write_text(NOTEBOOK[:20])
    monkeypatch.setattr(intake.time, "sleep", lambda _: None)
    take_in(places)
    assert (places[1] / "attention.ipynb").read_text() == NOTEBOOK[:20]


def test_one_that_never_settles_is_left_for_later(places, monkeypatch):
    path = places[0] / "attention.ipynb"
    path.write_text("{")
    monkeypatch.setattr(intake.time, "sleep", lambda _: path.write_text(path.read_text() + " "))
    with pytest.raises(intake.BeingWritten, match="is being written to"):
        take_in(places)
    assert not places[1].exists(), "nothing half read is left"


def test_a_broken_one_that_is_as_it_was_when_the_run_began_is_not_waited_for(places, monkeypatch):
    (places[0] / "attention.ipynb").write_text(NOTEBOOK[:20])
    began = replace(intake.look(places[0]), when=-1e9)
    monkeypatch.setattr(intake.time, "sleep", lambda _: pytest.fail("it was waited for"))
    submitted, staged = places
    intake.take_in(submitted, staged, ["attention"], set(), [], earlier=began)
    assert (staged / "attention.ipynb").read_text() == NOTEBOOK[:20]


def test_one_that_has_changed_since_the_run_began_is_read_again(places, monkeypatch):
    path = places[0] / "attention.ipynb"
    path.write_text(NOTEBOOK[:10])
    began = replace(intake.look(places[0]), when=-1e9)
    path.write_text(NOTEBOOK[:20])
    monkeypatch.setattr(intake.time, "sleep", lambda _: path.write_text(NOTEBOOK))
    submitted, staged = places
    flags = intake.take_in(submitted, staged, ["attention"], set(), [], earlier=began)
    assert codes(flags) == []
