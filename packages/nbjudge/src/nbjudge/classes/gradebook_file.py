"""Whether a gradebook is one that this nbgrader can use, found out before it is opened.

nbgrader opens a gradebook of any version, adds the tables that it misses, and fails at the first
row of another form, in the midst of a class.
"""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import nbgrader
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import NullPool

_TABLE = "alembic_version"


def problem(db_url: str) -> str | None:
    """Return why the gradebook at a URL cannot be used, with the remedy; None if it can.

    Nothing is written, and a gradebook that is not there yet is no problem.
    """
    url = make_url(db_url)
    sqlite = url.get_backend_name() == "sqlite"
    name = url.database if sqlite else url.render_as_string(hide_password=True)
    if sqlite and not (url.database and Path(url.database).is_file()):
        return None
    try:
        found = _revision(db_url)
    except DatabaseError as error:
        return (
            f"The gradebook {name} cannot be used ({error.orig}). If Formgrader or another run "
            "has it open, close that; if the file is damaged, put a copy of it in its place."
        )
    if found is None or found == _head():
        return None
    if found and not _known(found):
        return (
            f"The gradebook {name} is of another version of nbgrader ({found!r}, which nbgrader "
            f"{nbgrader.__version__} does not know). Nothing was graded or changed. Grade with the "
            "version of nbgrader that made it, or put back the copy from before the upgrade."
        )
    return (
        f"The gradebook {name} is of an older version of nbgrader ({found or 'without a number'}). "
        "Nothing was graded or changed. Make a copy of it, run `nbgrader db upgrade`, then run the "
        "same command again."
    )


def _revision(db_url: str) -> str | None:
    """Return a gradebook's version; "" if it has none, None if it is empty."""
    engine = create_engine(db_url, poolclass=NullPool)
    with engine.connect() as connection:
        tables = inspect(connection).get_table_names()
        if not tables:
            return None
        if _TABLE not in tables:
            return ""
        return connection.execute(text(f"SELECT version_num FROM {_TABLE}")).scalar() or ""


@functools.cache
def _revisions() -> dict[str, str | None]:
    """Return the versions of gradebooks that this nbgrader knows, each with the one before it.

    They stand in two lines of each of nbgrader's scripts for Alembic. Alembic itself would say so,
    too, but importing it takes a third of a run that finds nothing to do.
    """
    folder = Path(nbgrader.__file__).with_name("alembic") / "versions"
    known = {}
    for path in folder.glob("*.py"):
        values: dict[str, str | None] = {}
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            match node:
                case ast.Assign(
                    targets=[ast.Name(id=name)], value=ast.Constant(value=str() | None as value)
                ):
                    values[name] = value
        if values.get("revision"):
            known[str(values["revision"])] = values.get("down_revision")
    return known


def _head() -> str | None:
    known = _revisions()
    return next((one for one in known if one not in known.values()), None)


def _known(revision: str) -> bool:
    return revision in _revisions()
