"""Tests of nbgrader's own of `nbgrader autograde`, with the engine switched on."""

import pytest
from nbgrader.tests.apps import test_nbgrader_autograde as nbgraders

from .differences import DELIBERATE, SHORT

pytestmark = pytest.mark.slow


def test_the_tables_name_tests_that_exist():
    there = {name for name in vars(nbgraders.TestNbGraderAutograde) if name.startswith("test_")}
    assert set(DELIBERATE) <= there
    assert there >= SHORT


class TestWithTheEngine(nbgraders.TestNbGraderAutograde):
    """All of them. That it is the engine that runs, its deliberate differences prove."""
