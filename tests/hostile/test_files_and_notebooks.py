"""Grade what can be done to files and notebooks, as one class."""

import pytest

from tests.hostile import files, notebooks  # noqa: F401 - they register their cases
from tests.hostile.classroom import Classroom
from tests.hostile.corpus import Graded, cases_of

pytestmark = pytest.mark.slow

CASES = cases_of("files", "notebooks")


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    return Graded(Classroom(tmp_path_factory.mktemp("hostile") / "course"), CASES.values())


def test_every_other_submission_is_graded_and_untouched(graded):
    graded.check_others()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_outcome(graded, case):
    graded.check(case)
