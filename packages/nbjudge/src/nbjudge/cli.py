"""The command `nbjudge`, for what nbgrader has no command for."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from nbgrader.apps import AutogradeApp
from nbgrader.apps.baseapp import NbGrader

from nbjudge import guard


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; exits with its status."""
    parser = argparse.ArgumentParser(prog="nbjudge", description=__doc__)
    add_commands(parser.add_subparsers(required=True, metavar="COMMAND"))
    given = parser.parse_args(arguments)
    sys.exit(given.run(given))


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this command's own to `commands`: a course's command has them, too."""
    grade = commands.add_parser("grade", help="grade all submissions of an assignment")
    grade.add_argument("assignment")
    grade.add_argument("--student", default="*", help="only this learner's (default: all)")
    grade.add_argument("--force", action="store_true", help="also what is graded already")
    grade.add_argument(
        "--workers", type=_positive, help="processes that execute (default: one a core)"
    )
    grade.add_argument("--timeout", type=_positive, help="seconds that one cell may take")
    grade.add_argument("--memory", type=_positive, help="megabytes that one submission may take")
    grade.add_argument(
        "--scheduler", default="", metavar="ADDRESS", help="execute on a Dask cluster's workers"
    )
    grade.add_argument("--verbose", action="store_true", help="show nbgrader's log, too")
    grade.set_defaults(run=_grade)
    verify = commands.add_parser(
        "verify",
        help="find out how each test cell of an assignment can be checked",
        description="Grade the solved source and the released stub of an assignment by the judge "
        "and as nbgrader would, print how each test cell will be checked, and keep it.",
    )
    verify.add_argument("assignment", nargs="+")
    verify.add_argument("--course", type=Path, default=Path(), help="the course's folder")
    verify.set_defaults(run=_verify)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is below 1")
    return number


def _grade(options: argparse.Namespace) -> int:
    from nbgrader.api import MissingEntry
    from nbgrader.converters.base import NbGraderException
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
    from sqlalchemy.exc import OperationalError

    from nbjudge import settings
    from nbjudge.classes.class_run import ClassRun
    from nbjudge.classes.report import to_terminal, write_html
    from nbjudge.classes.summary import summarize

    folder = course_root()
    if folder is None:
        print("No nbgrader_config.py here or above: go to the course's folder.", file=sys.stderr)
        return 1
    os.chdir(folder)
    console = Console(stderr=False)
    course = load_course(options)
    refused = guard.refusal(course.coursedir, course.config)
    if refused:
        print(refused, file=sys.stderr)
        return 1
    progress = Progress(
        "{task.description}",
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
    )
    problem = None
    with progress:
        task = progress.add_task(f"grading {options.assignment}", total=None)

        def on_progress(done: int, total: int, student: str) -> None:
            progress.update(task, completed=done, total=total)

        run = ClassRun(coursedir=course.coursedir, parent=course, on_progress=on_progress)
        if options.workers:
            run.workers = options.workers
        run.scheduler = options.scheduler or run.scheduler
        try:
            run.start()
        except NbGraderException as error:
            problem = str(error)
        except KeyboardInterrupt:
            problem = "Stopped at once. Run the same command again to go on."
    try:
        settings.apply(course.config)
        summary = summarize(course.coursedir, options.assignment)
    except (MissingEntry, OperationalError):
        summary = None
    if summary is not None and summary.scores:
        to_terminal(summary, console)
        console.print(f"The same with pictures: {write_html(summary, folder)}", soft_wrap=True)
    if problem:
        print(problem, file=sys.stderr)
    return 1 if problem else 0


def course_root() -> Path | None:
    """Return the nearest folder, here or above, that has an `nbgrader_config.py`."""
    here = Path.cwd()
    found = (path for path in (here, *here.parents) if (path / "nbgrader_config.py").is_file())
    return next(found, None)


def load_course(options: argparse.Namespace) -> AutogradeApp:
    """Return nbgrader's application as `nbgrader autograde` would have it, configured."""
    arguments = [f"--assignment={options.assignment}", f"--student={options.student}"]
    if options.force:
        arguments.append("--force")
    if options.timeout:
        arguments.append(f"--JudgedExecute.timeout={options.timeout}")
    if options.memory:
        arguments.append(f"--SandboxProvisioner.memory_limit={options.memory * 2**20}")
    app = AutogradeApp()
    app.initialize(arguments)
    app.log.setLevel(logging.INFO if options.verbose else logging.WARNING)
    return app


def _verify(given: argparse.Namespace) -> int:
    from nbjudge.classes import calibration

    app = NbGrader()
    app.initialize([], root=str(given.course.resolve()))
    problem = guard.refusal(app.coursedir, app.config)
    if problem:
        print(problem, file=sys.stderr)
        return 1
    return calibration.verify(app.coursedir, given.assignment, app.config)
