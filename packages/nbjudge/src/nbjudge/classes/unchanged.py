"""Whether all is as the last run left it: then what that run said is said again.

Most runs find nothing to do. To find that out as a run that grades does, nbgrader and SQLAlchemy
have to be imported, the gradebook asked, and the summary of the class made anew: seconds, for an
answer that is known. So a run that left nothing undone keeps a digest of everything that its answer
came of, with the answer. A later run makes the digests again, without nbgrader, and where each is
the same it repeats the answer; where one is not, or cannot be made, it goes the long way.

What counts: the configuration, the assignment's source, every hand-in, the gradebook's file, the
record of what was graded and how tests are checked, which graded notebooks are there, the report's
page, and the code of the engine and of the course's own packages.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from glob import escape, glob
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from traitlets.config import Config
from traitlets.config.loader import LazyConfigValue

from nbjudge import graders, guard
from nbjudge.ids import OWN_FOLDER
from nbjudge.intake import digests

#: Version of the stored form.
_FORM = 1
#: What the command line says, in the place of a configuration file.
_ASKED = {"assignment_id", "student_id"}
#: Of a course's settings, those that name code which takes part in a summary.
_NAMING = ("recorder", "exercise_of", "shared")


class Unknown(Exception):
    """Something that counts cannot be told, so nothing can be said of the whole."""


@dataclass(frozen=True)
class Places:
    """Where a course has what counts, as its configuration says.

    hand_ins, graded: what stands before and behind a learner's id in the paths of these folders.
    ignore: patterns of names that do not count.
    """

    assignment: str
    root: str
    source: str
    gradebook: str
    hand_ins: tuple[str, str]
    graded: tuple[str, str]
    notebooks: tuple[str, ...]
    ignore: tuple[str, ...]


@dataclass
class Said:
    """What a run said in the end: lines for the log, a summary for the terminal, a report's page.

    summary: as `nbjudge.classes.said` has it. report: the page's path, with its digest.
    """

    students: int
    lines: list[str]
    summary: dict[str, Any] | None = None
    report: tuple[str, str] | None = None


@dataclass
class Before:
    """What a run has read, as it was when the run began."""

    configuration: str
    code: str
    source: str

    @classmethod
    def at(cls, places: Places, config: Config) -> Before | None:
        """Look. None where this run's configuration is not what the files say, or cannot be told.

        config: this run's own; what it asks for on its command line does not count.
        """
        try:
            written = guard.load(places.root)
            if not _as_written(config, written):
                return None
            return cls(_configuration(written), _code(written), _source(places))
        except (Exception, SystemExit):
            return None


@dataclass
class Standing:
    """What a run that came to its end has left, and what it said."""

    places: Places
    before: Before
    hand_ins: dict[str, str]
    left: dict[str, str]
    said: Said = field(default_factory=lambda: Said(0, []))

    @classmethod
    def of(cls, places: Places, before: Before, hand_ins: Mapping[str, str]) -> Standing | None:
        """Look at what a run has left, before it says anything of it; None if that cannot be told.

        hand_ins: the digests of all by learner, as the run read them.
        """
        try:
            return cls(places, before, dict(hand_ins), _left(places, hand_ins))
        except (OSError, Unknown):
            return None

    def keep(self, said: Said) -> None:
        """Keep what was said of it, unless something has changed meanwhile."""
        self.said = said
        with contextlib.suppress(OSError, Unknown):
            if _left(self.places, self.hand_ins) != self.left:
                return
            kept = {"form": _FORM, **asdict(self)}
            graders.folder(self.places.root, OWN_FOLDER, "reported")
            path = _path(self.places.root, self.places.assignment)
            text = json.dumps(kept)
            if not path.is_file() or path.read_text(encoding="utf-8") != text:
                graders.write(path, text, self.places.root)


def look(
    root: str | os.PathLike[str], assignment: str, config: Config | None = None
) -> Said | None:
    """Return what the last run said of an assignment if nothing has changed since; else None.

    config: this run's own, where it has one, which must be what the files say.
    """
    try:
        kept = json.loads(_path(os.fspath(root), assignment).read_bytes())
        if kept.pop("form") != _FORM:
            return None
        places = Places(**{name: _fixed(value) for name, value in kept["places"].items()})
        if places.assignment != assignment or not os.path.samefile(places.root, root):
            return None
        written = guard.load(root)
        if config is not None and not _as_written(config, written):
            return None
        before = Before(**kept["before"])
        if before != Before(_configuration(written), _code(written), _source(places)):
            return None
        hand_ins = {name: _hand_in(places, name) for name in handed_in(places)}
        if hand_ins != kept["hand_ins"] or _left(places, hand_ins) != kept["left"]:
            return None
        said = Said(**kept["said"])
        if said.report and _file(said.report[0]) != said.report[1]:
            return None
        return said
    except (Exception, SystemExit):
        # Whatever it is: the long way finds it, too, and names it.
        return None


def report(path: Path) -> tuple[str, str]:
    """Return a report's page as `Said` has it."""
    return str(path), _file(path)


def _path(root: str, assignment: str) -> Path:
    return Path(root, OWN_FOLDER, "reported", f"{assignment}-standing.json")


def _fixed(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


# What counts ------------------------------------------------------------------------------------


def _as_written(config: Config, written: Config) -> bool:
    """Whether a converter has the configuration that is written, and nothing else."""
    expected = deepcopy(written)
    expected.Exporter.default_preprocessors = []  # as every converter of nbgrader's sets
    return _settings(config) == _settings(expected)


def _settings(config: Config) -> dict[str, Any]:
    """Return a configuration as plain data, without what a command line asks for."""
    found = {
        section: {
            name: _plain(value)
            for name, value in traits.items()
            if section != "CourseDirectory" or name not in _ASKED
        }
        for section, traits in config.items()
    }
    return {section: traits for section, traits in found.items() if traits}


def _plain(value: Any) -> Any:
    """Return a setting as plain data. Raises `Unknown` where it is no such thing."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, LazyConfigValue):
        return ["lazy", _plain(value.to_dict())]
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(map(_plain, value), key=repr)
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}"
    raise Unknown(f"a setting is a {type(value).__name__}")


def _configuration(config: Config) -> str:
    """Return the digest of a configuration and of whoever reads it."""
    versions = {}
    for name in ("nbjudge", "nbgrader", "sqlalchemy"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError as error:
            raise Unknown(f"{name} is not installed") from error
    asked = {name: os.environ.get(name) for name in ("JUPYTER_NO_CONFIG", "JUPYTER_CONFIG_PATH")}
    return digests.of_data([_settings(config), versions, sys.version, asked])


def _code(config: Config) -> str:
    """Return the digest of what decides, by Python's own rule, whether code has changed."""
    names = {"nbjudge"}
    settings = config.get("NbJudge", {})
    for key in _NAMING:
        value = settings.get(key, ())
        if isinstance(value, LazyConfigValue):
            raise Unknown(f"c.NbJudge.{key} is not set in one place")
        named = [value] if isinstance(value, str) else value
        names |= {name.partition(":")[0].partition(".")[0] for name in named if name}
    return digests.of_data([[name, list(_files_of(name))] for name in sorted(names)])


def _files_of(package: str) -> Iterator[list[Any]]:
    """Yield path, size and time of change of each file of a package."""
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise Unknown(f"there is no {package}")
    places = spec.submodule_search_locations or [spec.origin or ""]
    for place in places:
        if not os.path.isdir(place):
            about = os.stat(place)
            yield [place, about.st_size, about.st_mtime_ns]
            continue
        for folder, folders, names in os.walk(place):
            folders[:] = sorted(name for name in folders if name != "__pycache__")
            for name in sorted(names):
                about = os.stat(os.path.join(folder, name))
                yield [folder, name, about.st_size, about.st_mtime_ns]


def _source(places: Places) -> str:
    return digests.of_folder(places.source, places.ignore)


def handed_in(places: Places) -> list[str]:
    """Return who has handed in, in no order."""
    before, behind = places.hand_ins
    found = glob(escape(before) + "*" + escape(behind))
    return [path[len(before) : len(path) - len(behind)] for path in found]


def _hand_in(places: Places, student: str) -> str:
    before, behind = places.hand_ins
    return digests.of_folder(before + student + behind, places.ignore)


def _left(places: Places, students: Iterable[str]) -> dict[str, str]:
    """Return the digests of what a run leaves behind."""
    own = Path(places.root, OWN_FOLDER)
    before, behind = places.graded
    graded = [
        [student, name, os.path.isfile(os.path.join(before + student + behind, f"{name}.ipynb"))]
        for student in sorted(students)
        for name in places.notebooks
    ]
    return {
        "gradebook": _gradebook(places.gradebook),
        "record": _file(own / "graded" / f"{places.assignment}.jsonl"),
        "modes": _file(own / f"{places.assignment}.json"),
        "graded": digests.of_data(graded),
    }


def _gradebook(path: str) -> str:
    for behind in ("-journal", "-wal"):
        with contextlib.suppress(FileNotFoundError):
            if os.stat(path + behind).st_size:
                raise Unknown("somebody is writing the gradebook")
    return _file(path)


def _file(path: str | os.PathLike[str]) -> str:
    """Return the digest of a file of the course's own; "" where there is none."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return ""
