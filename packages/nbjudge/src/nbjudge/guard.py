"""No grade without the engine: refuses where a course's configuration is not whole.

nbgrader logs an exception in `nbgrader_config.py` and goes on with its own defaults: submissions
then run unsandboxed, as the grader, and hidden tests stand in the feedback. This module is armed
from the environment's configuration (`jupyter/nbgrader_config.py` of this distribution), which
loads whatever becomes of the course's. Before a converter starts it loads the course's
configuration once more and compares: a file that fails, or a part of the engine that is missing
from what nbgrader would run, ends the command.
"""

from __future__ import annotations

import difflib
import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_core.paths import jupyter_config_path
from traitlets.config import Config
from traitlets.config.loader import JSONFileConfigLoader, PyFileConfigLoader
from traitlets.utils.importstring import import_item

from nbjudge import disk, graders
from nbjudge.ids import OWN_FOLDER

if TYPE_CHECKING:  # what is imported before nbgrader is (`classes.unchanged`) reads files here, too
    from nbgrader.converters.base import BaseConverter
    from nbgrader.coursedir import CourseDirectory

__all__ = ["arm", "files", "load", "missing_parts", "refusal"]

CONFIG_FILE = "nbgrader_config.py"
#: Jupyter reads the other kind, too, and lets it win.
_CONFIG_FILES = (CONFIG_FILE, "nbgrader_config.json")

#: What nbgrader must be told to run, for each of its converters: trait → names that it holds.
PARTS: dict[str, dict[str, tuple[str, ...]]] = {
    "Autograde": {
        "sanitize_preprocessors": ("nbjudge.intake.rebuild.Rebuild",),
        "autograde_preprocessors": (
            "nbjudge.run.judged.JudgedExecute",
            "nbjudge.steps.outputs.SafeOutputs",
            "nbjudge.steps.grades.FindGrades",
            "nbjudge.steps.manual.LeaveToTeacher",
            "nbjudge.steps.flags.SaveFlags",
        ),
    },
    "GenerateFeedback": {"preprocessors": ("nbjudge.steps.feedback.WithoutHiddenTests",)},
    "GenerateAssignment": {"preprocessors": ("nbjudge.steps.clear.ClearOutput",)},
}

_armed: set[type[BaseConverter]] = set()


def arm() -> None:
    """Let nbgrader's converters refuse to start where the engine is wanted and not whole."""
    from nbgrader.converters.autograde import Autograde
    from nbgrader.converters.generate_assignment import GenerateAssignment
    from nbgrader.converters.generate_feedback import GenerateFeedback

    for kind in (Autograde, GenerateFeedback, GenerateAssignment):
        if kind not in _armed:
            _armed.add(kind)
            kind.start = _guarded(kind, kind.start)
    loader: Any = PyFileConfigLoader
    if not hasattr(loader._read_file_as_dict, "__wrapped__"):
        loader._read_file_as_dict = _without_silent_end(loader._read_file_as_dict)


def _without_silent_end(read: Any) -> Any:
    """Let a configuration that calls `exit()` say so: the command would end as if all were well."""

    @functools.wraps(read)
    def reading(self: PyFileConfigLoader) -> None:
        try:
            read(self)
        except SystemExit as error:
            if error.code:
                raise
            raise SystemExit(
                f"{self.full_filename} ends the command by itself (exit), so nothing was done. "
                "Take that out of it, then run the same command again."
            ) from error

    return reading


def _guarded(kind: type[BaseConverter], start: Any) -> Any:
    from nbgrader.converters.base import NbGraderException

    @functools.wraps(start)
    def guarded(self: BaseConverter) -> None:
        problem = refusal(self.coursedir, self.config, kind.__name__)
        if problem:
            self.log.error(problem)
            raise NbGraderException(problem)
        self.log.addFilter(disk.shorten)
        with graders.together(self.coursedir.root):
            try:
                start(self)
            except PermissionError as error:
                message = graders.may_not(error.filename or "it", self.coursedir.root)
                self.log.error(message)
                raise NbGraderException(message) from error

    return guarded


def refusal(course: CourseDirectory, config: Config, converter: str = "Autograde") -> str | None:
    """Return why `converter` must not run with `config`, with the remedy; None if it may.

    Files that nbgrader reads (Jupyter's, the current folder's, the course's) are loaded once
    more: nbgrader leaves out one that raises, with a line in the log.
    """
    wanted = Path(course.root, OWN_FOLDER).is_dir()
    for path in files(course.root):
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
            if _arms(text):
                continue
            wanted = wanted or "nbjudge" in text
            loaded = _loaded(path)
        except (Exception, SystemExit) as error:
            return (
                f"{path} could not be loaded, so nothing was done: {_said(error, path)}. Without "
                "it nbgrader would run submissions unprotected. Mend the file, then run the same "
                "command again."
            )
        if unknown := _unknown_setting(loaded):
            return f"{path} sets {unknown}: nothing was done. Mend it, then run the command again."
        wanted = wanted or not missing_parts(loaded, converter)
    missing = missing_parts(config, converter) if wanted else []
    if not missing:
        return None
    return (
        f"The course uses nbjudge, and its configuration lacks {', '.join(missing)}: nothing was "
        f"done. `configure(c)` of nbjudge must be reached in {CONFIG_FILE}, and settings after it "
        "must keep its parts. A server that was running (Formgrader) has to be started again."
    )


def missing_parts(config: Config, converter: str = "Autograde") -> list[str]:
    """Return the settings of `converter` that do not hold the engine's parts, by name.

    A part that is switched off is missing, and so is one that no longer comes after what it needs:
    a score that is saved before the tests ran would be full.
    """
    missing = []
    for trait, names in PARTS[converter].items():
        held = config.get(converter, {}).get(trait, ())
        if isinstance(held, (str, type)):
            held = [held]
        found = [_name(part) for part in held] if isinstance(held, (list, tuple)) else []
        missing += [f"{converter}.{trait}: {name}" for name in names if name not in found]
        there = [name for name in found if name in names]
        if there != [name for name in names if name in there]:
            missing.append(f"{converter}.{trait}: the order {', '.join(names)}")
        missing += [
            f"{name.rpartition('.')[2]}, which {off}.enabled switches off"
            for name in there
            if (off := _switched_off(config, name))
        ]
    return missing


def _unknown_setting(config: Config) -> str | None:
    """Return the first setting of the engine's that there is none of, with what it may be."""
    names = {name for traits in PARTS.values() for held in traits.values() for name in held}
    for name in sorted({*names, "nbjudge.settings.NbJudge"}):
        section = name.rpartition(".")[2]
        if section not in config:
            continue
        known = import_item(name).class_trait_names(config=True)
        for unknown in sorted(set(config[section]) - set(known)):
            close = difflib.get_close_matches(unknown, known, 1)
            meant = f" (did you mean {close[0]}?)" if close else ""
            return f"c.{section}.{unknown}, which is no setting{meant}"
    return None


def _switched_off(config: Config, name: str) -> str | None:
    """Return which class's setting disables a part: its own, or one that it is made from."""
    if not any("enabled" in section for section in config.values() if isinstance(section, dict)):
        return None  # nothing is, and importing the part takes longer than all of this
    for kind in import_item(name).__mro__:
        section = config.get(kind.__name__, {})
        if "enabled" in section:  # the first that speaks of it has the last word
            return None if section["enabled"] else kind.__name__
    return None


def _name(part: Any) -> str:
    if isinstance(part, type):
        return f"{part.__module__}.{part.__qualname__}"
    return str(part)


def load(root: str | os.PathLike[str]) -> Config:
    """Return what the files of `files` set, the later ones winning, as nbgrader would have it.

    Raises whatever a file that cannot be loaded raises.
    """
    found = Config()
    for path in files(root):
        if not _arms(path.read_text(encoding="utf-8", errors="replace")):
            found.merge(_loaded(path))
    return found


def _arms(text: str) -> bool:
    """Whether a configuration file is the one that arms this module."""
    return "nbjudge.guard" in text


def _loaded(path: Path) -> Config:
    kind = JSONFileConfigLoader if path.suffix == ".json" else PyFileConfigLoader
    return kind(path.name, path=str(path.parent)).load_config()


def files(root: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield the configuration files that nbgrader reads for a course, in its order."""
    seen = set()
    for folder in (*reversed(jupyter_config_path()), os.getcwd(), root):
        for name in _CONFIG_FILES:
            path = Path(folder, name).absolute()
            if path not in seen and os.path.lexists(path):
                seen.add(path)
                yield path


def _said(error: BaseException, path: Path) -> str:
    """Return an exception with the line of `path` that it came from."""
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: {type(error).__name__}: {error.msg}"
    line, trace = 0, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    where = f"line {line}: " if line else ""
    return f"{where}{type(error).__name__}: {error}"
