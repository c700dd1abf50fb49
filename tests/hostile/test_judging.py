"""Grade what a submission can try against the judge, as one class."""

import pytest
from nbjudge.run.provisioner import can_fork

from tests.hostile import judging
from tests.hostile.classroom import Classroom
from tests.hostile.corpus import Graded, cases_of

CASES = cases_of("judging")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not can_fork(), reason="kernels cannot be forked on this platform"),
]


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile") / "course"
    return Graded(Classroom(folder, judging.SETTINGS), CASES.values())


def test_every_other_submission_is_graded_and_untouched(graded):
    graded.check_others()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_outcome(graded, case):
    graded.check(case)
