"""Grading: what `nbgrader autograde` and Formgrader do with a submission of this course."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

from traitlets.config import Config

__all__ = ["configure"]


def configure(c: Config) -> None:
    """Set all that grading needs in nbgrader's configuration; for `nbgrader_config.py`.

    Everything is a setting of nbgrader's but six, which have their names in nbgrader's code and
    are replaced there: the converter that it runs and what passes over files
    (`nbjudge.classes.converter`), what makes a
    gradebook's database engine (`nbjudge.classes.engines`), the converter for feedback
    (`nbjudge.plugins.feedback`), what fills Formgrader's pages (`nbjudge.plugins.formgrader`), and
    the end of `zip_collect` (`nbjudge.plugins.platforms`).
    """
    from nbjudge.consoles import speak_every_name
    from nbjudge.early import once_imported

    speak_every_name()
    # nbgrader has been imported when it loads a configuration. A command that only wants to know
    # the settings has not, and importing it takes longer than all that such a command does.
    once_imported("nbgrader", _replace_parts)
    _put_own_commands_on_path()
    nbgrader, nbconvert = "nbgrader.preprocessors", "nbconvert.preprocessors"

    c.GenerateAssignment.preprocessors = [
        f"{nbgrader}.IncludeHeaderFooter",
        f"{nbgrader}.InstantiateTests",
        f"{nbgrader}.LockCells",
        f"{nbgrader}.ClearSolutions",
        "nbjudge.steps.clear.ClearOutput",
        f"{nbgrader}.CheckCellMetadata",
        f"{nbgrader}.ComputeChecksums",
        "nbjudge.steps.cells.SaveCells",
        f"{nbgrader}.ClearHiddenTests",
        f"{nbgrader}.ClearMarkScheme",
        f"{nbgrader}.ComputeChecksums",
        f"{nbgrader}.CheckCellMetadata",
    ]

    # The rebuild gives every cell the lesson's own metadata, every test its own source, and the
    # notebook its kernel: nbgrader's steps that see to that would find nothing.
    c.Autograde.sanitize_preprocessors = [
        "nbjudge.intake.rebuild.Rebuild",
        f"{nbgrader}.ClearOutput",
    ]
    # All of these run where the notebook is run. The gradebook is written by the process that owns
    # it, from what `FindGrades` and those behind it find, late penalties included.
    c.Autograde.autograde_preprocessors = [
        "nbjudge.run.judged.JudgedExecute",
        f"{nbgrader}.IgnorePattern",
        f"{nbconvert}.ClearMetadataPreprocessor",
        "nbjudge.steps.clear.DropWidgetState",
        "nbjudge.steps.outputs.SafeOutputs",
        f"{nbgrader}.LimitOutput",
        "nbjudge.steps.recorded.ScoreRecorded",
        "nbjudge.steps.grades.FindGrades",
        "nbjudge.steps.manual.LeaveToTeacher",
        "nbjudge.steps.pages.FitPages",
        "nbjudge.steps.flags.SaveFlags",
    ]
    # Of wall-clock time, which a busy machine stretches: nbgrader's 30 seconds cost honest work.
    c.Execute.timeout = 60
    c.GenerateFeedback.exporter_class = "nbjudge.plugins.pages.FeedbackExporter"
    # Once at the end, not after each of the steps below.
    c.FeedbackExporter.optimistic_validation = True
    c.GenerateFeedback.preprocessors = [
        "nbjudge.steps.feedback.ReadGrades",
        "nbjudge.steps.feedback.WithoutHiddenTests",
        "nbjudge.plugins.pages.KeptHeader",
    ]

    c.ExchangeFactory.collect = "nbjudge.plugins.collect.Collect"
    c.ExchangeFactory.release_assignment = "nbjudge.plugins.release.ReleaseAssignment"
    c.ExchangeFactory.release_feedback = "nbjudge.plugins.feedback.ReleaseFeedback"
    c.ZipCollectApp.extractor_plugin = "nbjudge.plugins.archives.SafeExtractor"
    c.ZipCollectApp.collector_plugin = "nbjudge.plugins.platforms.PlatformCollector"
    c.ExportApp.plugin_class = "nbjudge.plugins.export.SafeCsvExport"


def _replace_parts() -> None:
    """Put the engine's parts in the places of nbgrader's that have no setting."""
    from sqlalchemy.exc import SAWarning

    from nbjudge import disk, guard
    from nbjudge.classes.converter import install
    from nbjudge.consoles import give_ipython_a_folder
    from nbjudge.plugins import feedback, formgrader, platforms

    # Where Jupyter's own configuration is not read, what fails after this line is refused, too.
    guard.arm()
    disk.speak()
    give_ipython_a_folder()
    install()
    feedback.install()
    formgrader.install()
    platforms.install()
    # nbgrader 0.9.6 makes rows in an order that newer versions of SQLAlchemy remark on.
    warnings.filterwarnings("ignore", "Object of type", SAWarning)


def _put_own_commands_on_path() -> None:
    """Nbgrader calls `alembic` by its bare name, which an environment not activated lacks."""
    here = str(Path(sys.executable).parent)
    path = os.environ.get("PATH", os.defpath).split(os.pathsep)
    if here not in path:
        os.environ["PATH"] = os.pathsep.join([here, *path])
