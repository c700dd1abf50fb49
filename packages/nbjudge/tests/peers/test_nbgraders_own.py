"""Tests of nbgrader's own of `nbgrader autograde`, with the engine switched on."""

from nbgrader.apps import autogradeapp
from nbgrader.tests.apps import test_nbgrader_autograde as nbgraders
from nbjudge.classes.converter import ClassAutograde

from .differences import DELIBERATE, SHORT


def test_the_tables_name_tests_that_exist():
    there = {name for name in vars(nbgraders.TestNbGraderAutograde) if name.startswith("test_")}
    assert set(DELIBERATE) <= there
    assert there >= SHORT


class TestWithTheEngine(nbgraders.TestNbGraderAutograde):
    """nbgrader's tests, each of which must have been run by the engine's converter."""

    def teardown_method(self):
        """See to it that no test passed because the engine was not there."""
        assert autogradeapp.Autograde is ClassAutograde
