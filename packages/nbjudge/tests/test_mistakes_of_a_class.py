"""The mistakes that a course's check names: counted by learners, in the summary of a class."""

import json

import pytest
from nbjudge.classes.summary import Summary, _read_graded
from nbjudge.codes import KEY


@pytest.fixture
def graded(tmp_path):
    def write(name, *cells):
        path = tmp_path / name
        own = [{"metadata": {KEY: {"mistakes": list(mistakes)}}} for mistakes in cells]
        path.write_text(json.dumps({"metadata": {}, "cells": [*own, {"metadata": {}}]}), "utf-8")
        return path

    return write


def test_a_mistake_counts_learners_and_not_the_cells_that_show_it(graded):
    summary = Summary("heads", 10)
    _read_graded(summary, "ada", graded("a.ipynb", ["tiled"], ["tiled", "unscaled"]))
    _read_graded(summary, "ada", graded("b.ipynb", ["tiled"]))
    _read_graded(summary, "bo", graded("c.ipynb", ["tiled"], []))
    assert summary.mistakes.most_common() == [("tiled", 2), ("unscaled", 1)]
