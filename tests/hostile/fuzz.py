"""`make fuzz`: generated classes without end; what breaks an invariant is shrunk and kept.

A class that fails is shrunk by Hypothesis to the smallest that does. It is written to
`tests/hostile/found/`, where `make test` grades it ever after.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
import time
import traceback
from pathlib import Path

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky

from tests.hostile.classroom import Classroom
from tests.hostile.generator import as_json, submissions
from tests.hostile.invariants import SETTINGS, check_class

FOUND = Path(__file__).with_name("found")


def fuzz(number: int, classes: int, size: int) -> None:
    """Grade classes of up to `size` submissions; raises what the smallest bad one does."""
    last: list = []

    @seed(number)
    @settings(
        max_examples=classes, database=None, deadline=None,
        suppress_health_check=list(HealthCheck), print_blob=False,
    )  # fmt: skip
    @given(st.lists(submissions(), min_size=1, max_size=size))
    def hold(handed_in: list) -> None:
        last[:] = handed_in
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
            check_class(Classroom(Path(folder, "in", "course"), SETTINGS), handed_in)

    try:
        hold()
    except Flaky:
        # A busy machine, on which an honest call had to wait for its turn: nothing to keep.
        print("Not kept, for it did not happen again:", flush=True)
        traceback.print_exc(limit=-1)
    except BaseException:
        # Hypothesis runs the smallest example once more at the end.
        FOUND.mkdir(exist_ok=True)
        for mutations in last:
            text = as_json(mutations)
            name = hashlib.sha256(text.encode()).hexdigest()[:12]
            (FOUND / f"{name}.json").write_text(text, encoding="utf-8")
            print(f"Kept in {FOUND / name}.json:\n{text}", flush=True)
        raise


def main() -> None:
    """Go on until somebody stops it or something is found."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seed", type=int, default=int(time.time()))
    options.add_argument("--size", type=int, default=12, help="submissions of a class, at most")
    given_options = options.parse_args()
    number = given_options.seed
    while True:
        print(f"seed {number}", flush=True)
        fuzz(number, 20, given_options.size)
        number += 1


if __name__ == "__main__":
    main()
