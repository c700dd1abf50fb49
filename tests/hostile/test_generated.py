"""Generated submissions in one class beside honest ones, the same in every run."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from nbjudge.run.provisioner import can_fork

from tests.hostile.classroom import Classroom
from tests.hostile.generator import from_json, submissions, unreadable
from tests.hostile.invariants import SETTINGS, check_class

#: Submissions of any kind, such as cannot be read (which cost little), and the seed of the class.
COUNT, UNREADABLE, SEED = 60, 140, 14
#: What `make fuzz` found once, shrunk.
FOUND = sorted(Path(__file__).with_name("found").glob("*.json"))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not can_fork(), reason="kernels cannot be forked on this platform"),
]


def generated(count, number, strategy=None):
    """Return the first submissions of the grammar, or of a part of it, for a seed."""
    found = []

    @seed(number)
    @settings(
        max_examples=count, database=None, phases=[Phase.generate], deadline=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(submissions() if strategy is None else strategy)
    def draw(mutations):
        found.append(mutations)

    draw()
    return found


@pytest.mark.timeout(1200)
def test_a_class_of_generated_submissions(tmp_path):
    handed_in = [from_json(path.read_text(encoding="utf-8")) for path in FOUND]
    handed_in += generated(COUNT, SEED) + generated(UNREADABLE, SEED, unreadable())
    assert len(handed_in) >= 200
    check_class(Classroom(tmp_path / "in" / "course", SETTINGS), handed_in)
