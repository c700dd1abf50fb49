"""Whether a gradebook is one that this nbgrader can use, found out before it is opened.

nbgrader opens a gradebook of any version, adds the tables that it misses, and fails at the first
row of another form, in the midst of a class.
"""

from __future__ import annotations

import functools
from pathlib import Path

import nbgrader
from alembic.script import ScriptDirectory
from alembic.util import CommandError
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
    """Return the version that a gradebook is of, "" if it has none, None if it is empty."""
    engine = create_engine(db_url, poolclass=NullPool)
    with engine.connect() as connection:
        tables = inspect(connection).get_table_names()
        if not tables:
            return None
        if _TABLE not in tables:
            return ""
        return connection.execute(text(f"SELECT version_num FROM {_TABLE}")).scalar() or ""


@functools.cache
def _scripts() -> ScriptDirectory:
    return ScriptDirectory(str(Path(nbgrader.__file__).with_name("alembic")))


@functools.cache
def _head() -> str | None:
    return _scripts().get_current_head()


def _known(revision: str) -> bool:
    try:
        return _scripts().get_revision(revision) is not None
    except CommandError:
        return False
