"""The command `nbjudge`, for what nbgrader has no command for."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from nbgrader.apps.baseapp import NbGrader

from nbjudge import guard


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; exits with its status."""
    parser = argparse.ArgumentParser(prog="nbjudge", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser(
        "verify",
        help="find out how each test cell of an assignment can be checked",
        description="Grade the solved source and the released stub of an assignment by the judge "
        "and as nbgrader would, print how each test cell will be checked, and keep it.",
    )
    command.add_argument("assignment", nargs="+")
    command.add_argument("--course", type=Path, default=Path(), help="the course's folder")
    command.set_defaults(run=_verify)
    given = parser.parse_args(arguments)
    sys.exit(given.run(given))


def _verify(given: argparse.Namespace) -> int:
    from nbjudge.classes import calibration

    app = NbGrader()
    app.initialize([], root=str(given.course.resolve()))
    problem = guard.refusal(app.coursedir, app.config)
    if problem:
        print(problem, file=sys.stderr)
        return 1
    return calibration.verify(app.coursedir, given.assignment, app.config)
