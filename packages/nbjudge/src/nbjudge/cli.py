"""The command `nbjudge`, for what nbgrader has no command for."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from nbjudge.ids import printable

if TYPE_CHECKING:  # it takes longer to import than to find out that nothing is new
    from nbgrader.apps import AutogradeApp


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
    status = commands.add_parser(
        "status",
        help="where an assignment stands, and what to run next",
        description=_status.__doc__,
    )
    status.add_argument("assignment")
    status.set_defaults(run=_status)
    export = commands.add_parser(
        "export",
        help="grades and feedback for a learning platform",
        description="Write an assignment's grades as the CSV that the platform's gradebook "
        "imports, or its feedback as the zip that the platform's bulk upload takes.",
    )
    export.add_argument("assignment")
    export.add_argument("--to", required=True, choices=("canvas", "moodle"))
    export.add_argument(
        "--roster", type=Path, help="the platform's own export, whose learners and columns are kept"
    )
    export.add_argument("--column", default="", help="the name of the assignment's column there")
    export.add_argument("--exercises", action="store_true", help="a column for each exercise, too")
    export.add_argument("--feedback", action="store_true", help="the feedback, not the grades")
    export.add_argument("--output", type=Path, help="default: ASSIGNMENT-PLATFORM.csv, or .zip")
    export.set_defaults(run=_export)
    roster = commands.add_parser(
        "roster",
        help="learners out of nbgrader's, Canvas' or Moodle's list",
        description="Put the learners of a CSV into the gradebook: nbgrader's own form, Canvas' "
        "gradebook export, or Moodle's list of participants or grades. Nobody is taken out.",
    )
    roster.add_argument("file", type=Path)
    roster.add_argument(
        "--id", default="", metavar="COLUMN", help="the column with the learners' ids"
    )
    roster.set_defaults(run=_roster)
    similar = commands.add_parser(
        "similar",
        help="pairs of hand-ins that are the same but for names and layout",
        description="Name pairs of graded hand-ins that share a shape of code that few have: a "
        "hint to read both, never points.",
    )
    similar.add_argument("assignment")
    similar.set_defaults(run=_similar)
    extend = commands.add_parser(
        "extend",
        help="give a learner more time for an assignment",
        description="Give a learner more time; it replaces what was given before, and without a "
        "time it takes that back.",
    )
    extend.add_argument("assignment")
    extend.add_argument("student")
    extend.add_argument("--days", type=_positive, default=0)
    extend.add_argument("--hours", type=_positive, default=0)
    extend.set_defaults(run=_extend)
    gradescope = commands.add_parser(
        "gradescope",
        help="an assignment as an autograder of Gradescope's",
        description="Write the zip that Gradescope takes as an autograder of an assignment.",
    )
    gradescope.add_argument("assignment")
    gradescope.add_argument(
        "--include",
        action="append",
        default=[],
        metavar="PATH",
        help="what the course's configuration and notebooks import; a folder with a "
        "pyproject.toml is installed there, with extras that are named behind it: PATH[EXTRA]",
    )
    gradescope.add_argument("--output", type=Path, help="default: ASSIGNMENT-gradescope.zip")
    gradescope.set_defaults(run=_gradescope)
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
    folder = course_root()
    if folder is None:
        print("No nbgrader_config.py here or above: go to the course's folder.", file=sys.stderr)
        return 1
    os.chdir(folder)
    return 0 if _said_again(options, folder) else _grade_class(options, folder)


def _said_again(options: argparse.Namespace, folder: Path) -> bool:
    """Say what the last run said, where nothing has changed since; whether it could be said."""
    from nbjudge.classes import unchanged

    if options.student != "*" or options.force or options.verbose:
        return False
    if options.timeout or options.memory:
        return False
    said = unchanged.look(folder, options.assignment)
    if said is None or said.summary is None or said.report is None:
        return False
    from rich.console import Console

    from nbjudge.classes.said import Shown, show

    console = Console(stderr=False)
    show(Shown(**said.summary), console)
    console.print(_WITH_PICTURES.format(said.report[0]), soft_wrap=True)
    return True


def _grade_class(options: argparse.Namespace, folder: Path) -> int:
    from nbgrader.api import MissingEntry
    from nbgrader.converters.base import NbGraderException
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
    from sqlalchemy.exc import OperationalError

    from nbjudge import guard, settings
    from nbjudge.classes import unchanged
    from nbjudge.classes.class_run import ClassRun
    from nbjudge.classes.points import grades_of
    from nbjudge.classes.report import for_terminal, write_html
    from nbjudge.classes.said import show
    from nbjudge.classes.summary import summarize
    from nbjudge.outcomes import similarity

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
        auto_refresh=False,  # which takes a thread, and a process with one cannot be forked
    )
    problem = None
    with progress:
        task = progress.add_task(f"grading {options.assignment}", total=None)

        def on_progress(done: int, total: int, student: str) -> None:
            progress.update(task, completed=done, total=total, refresh=True)

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
        shown = for_terminal(summary)
        show(shown, console)
        grades = grades_of(course.coursedir, options.assignment)
        found = similarity.last(
            course.coursedir, options.assignment, course.log, anew=run.graded > 0
        )
        summary.similar = [(p.one, p.other, ", ".join(p.exercises)) for p in found]
        page = write_html(summary, folder, grades)
        console.print(_WITH_PICTURES.format(page), soft_wrap=True)
        if run.standing is not None and not problem:
            said = replace(run.standing.said, summary=asdict(shown), report=unchanged.report(page))
            run.standing.keep(said)
    if problem:
        print(problem, file=sys.stderr)
    return 1 if problem else 0


#: Where the report's page is.
_WITH_PICTURES = "The same with pictures: {}"


def _status(options: argparse.Namespace) -> int:
    """Say what came in, what is graded, flagged and waiting, and what to run next."""
    from rich.console import Console

    from nbjudge.outcomes import status

    course = _course(options.assignment)
    if course is None:
        return 1
    found = status.look(course.coursedir, options.assignment, course.log)
    status.to_terminal(found, Console())
    return 0


def _export(options: argparse.Namespace) -> int:
    """Write grades or feedback for a platform, and say who was left out."""
    from nbgrader.api import MissingEntry

    from nbjudge.outcomes import platform_grades

    here = Path.cwd()
    course = _course(options.assignment)
    if course is None:
        return 1
    suffix = "-feedback.zip" if options.feedback else ".csv"
    # A path that is given is meant from where the command was given.
    default = Path.cwd() / f"{options.assignment}-{options.to}{suffix}"
    target = here / options.output if options.output else default
    try:
        if options.feedback:
            done = platform_grades.write_feedback(course.coursedir, options.assignment, target)
        else:
            done = platform_grades.write_grades(
                course.coursedir,
                options.assignment,
                options.to,
                target,
                roster=here / options.roster if options.roster else None,
                column=options.column,
                exercises=options.exercises,
            )
    except platform_grades.RosterError as error:
        print(error, file=sys.stderr)
        return 1
    except MissingEntry:
        print(f"Nothing of {options.assignment} was graded yet.", file=sys.stderr)
        return 1
    print(f"{done.learners} learners in {target}")
    for what, who in (
        ("Graded, but not in the roster", done.not_in_roster),
        ("Not graded, or without feedback", done.not_graded),
        ("Several lines or learners of one name", done.twice),
    ):
        if who:
            print(f"{what}: {', '.join(map(printable, who))}", file=sys.stderr)
    if done.worth:
        print(
            f"The assignment is worth {done.worth}: set its points on the platform to the "
            "lesson's before you import.",
            file=sys.stderr,
        )
    return 1 if done.not_in_roster or done.twice or done.worth else 0


def _roster(options: argparse.Namespace) -> int:
    """Take the learners in, and say whose line was left out."""
    from nbjudge.outcomes import platform_grades, roster

    path = Path.cwd() / options.file
    course = _course("")
    if course is None:
        return 1
    try:
        taken = roster.take(course.coursedir, path, options.id)
    except platform_grades.RosterError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{len(taken.new)} new learners, {len(taken.known)} known ones ({taken.format}'s form)")
    if taken.unused:
        print(f"Columns that were not used: {', '.join(map(printable, taken.unused))}")
    for who, why in taken.left_out:
        print(f"Left out: {printable(who)}, because {printable(why)}.", file=sys.stderr)
    return 1 if taken.left_out else 0


def _similar(options: argparse.Namespace) -> int:
    """Print the pairs, most exercises first."""
    from nbjudge.outcomes import similarity

    course = _course(options.assignment)
    if course is None:
        return 1
    found = similarity.look(course.coursedir, options.assignment, course.log)
    for pair in found:
        names = f"{printable(pair.one)} and {printable(pair.other)}"
        print(f"{names}: {', '.join(map(printable, pair.exercises))}")
    if not found:
        print("No two graded hand-ins are the same in what few have.")
    return 0


def _extend(options: argparse.Namespace) -> int:
    """Record the extension; a submission that is not there yet gets it, too."""
    from nbgrader.api import Gradebook, MissingEntry

    from nbjudge.classes import extensions

    course = _course(options.assignment)
    if course is None:
        return 1
    name, student = options.assignment, options.student
    with Gradebook(course.coursedir.db_url, course.coursedir.course_id) as gradebook:
        try:
            assignment = gradebook.find_assignment(name)
            gradebook.find_student(student)
        except MissingEntry as error:
            print(f"{error} Run `nbgrader db student list` to see who is known.", file=sys.stderr)
            return 1
        if assignment.duedate is None:
            print(
                f"{name} has no due date: `nbgrader db assignment add {name} --duedate=…` sets it.",
                file=sys.stderr,
            )
            return 1
        more = timedelta(days=options.days, hours=options.hours)
        try:
            submission = gradebook.find_submission(name, student)
        except MissingEntry:
            submission = None
        try:
            # What was graded has it in the gradebook, and nothing is left of the promise.
            extensions.promise(course.coursedir, name, student, timedelta() if submission else more)
        except (ValueError, OSError) as error:
            print(f"Nothing was changed: {error}", file=sys.stderr)
            return 1
        print(f"{student} has until {assignment.duedate + more} UTC.")
        if submission is not None:
            gradebook.grant_extension(name, student, days=options.days, hours=options.hours)
            print(f"To work out a penalty again, grade with --student {student} --force.")
    return 0


def _gradescope(options: argparse.Namespace) -> int:
    """Write the zip, and say where."""
    from nbjudge.outcomes import gradescope

    here = Path.cwd()
    course = _course(options.assignment)
    if course is None:
        return 1
    target = here / (options.output or f"{options.assignment}-gradescope.zip")
    try:
        gradescope.build(course.coursedir, options.assignment, target, options.include)
    except gradescope.NotReady as error:
        print(error, file=sys.stderr)
        return 1
    print(f"Upload {target} to Gradescope as the assignment's autograder.")
    return 0


def _course(assignment: str) -> AutogradeApp | None:
    """Return nbgrader's application in the course's folder; None, said, where there is none."""
    folder = course_root()
    if folder is None:
        print("No nbgrader_config.py here or above: go to the course's folder.", file=sys.stderr)
        return None
    os.chdir(folder)
    from nbgrader.apps import AutogradeApp

    from nbjudge import guard, settings

    app = AutogradeApp()
    app.initialize([f"--assignment={assignment}"] if assignment else [])
    app.log.setLevel(logging.WARNING)
    refused = guard.refusal(app.coursedir, app.config)
    if not refused and assignment:
        from nbjudge.classes import converter

        refused = converter.unknown(app.coursedir, assignment)
    if refused:
        print(refused, file=sys.stderr)
        return None
    settings.apply(app.config)
    return app


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
    from nbgrader.apps import AutogradeApp

    app = AutogradeApp()
    app.initialize(arguments)
    app.log.setLevel(logging.INFO if options.verbose else logging.WARNING)
    return app


def _verify(given: argparse.Namespace) -> int:
    from nbgrader.apps.baseapp import NbGrader

    from nbjudge import guard
    from nbjudge.classes import calibration

    app = NbGrader()
    app.initialize([], root=str(given.course.resolve()))
    problem = guard.refusal(app.coursedir, app.config)
    if problem:
        print(problem, file=sys.stderr)
        return 1
    return calibration.verify(app.coursedir, given.assignment, app.config)
