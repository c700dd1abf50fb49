"""One database engine for each gradebook in a process.

nbgrader opens the gradebook nine times for each submission, each time with an engine of its own,
and an engine is what remembers how SQLAlchemy's statements are written in SQL: working that out
anew was more than a quarter of what autograding itself computed.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import nbgrader.api
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

from nbjudge import graders


def install() -> None:
    """Let every `nbgrader.api.Gradebook` of this process take its engine from here."""
    nbgrader.api.create_engine = engine_of


def engine_of(url: str, **options: Any) -> Engine:
    """Return the engine of a database, always the same one; of one in memory a new one.

    url, options: as for `sqlalchemy.create_engine`. The engine holds no connection between two
    transactions, so a file that was deleted or replaced meanwhile is not written to, and a server
    is not left with connections that nobody uses.
    """
    address = make_url(url)
    if address.get_backend_name() == "sqlite" and address.database in (None, "", ":memory:"):
        return create_engine(url, **options)
    return _kept(url, **options)


@functools.lru_cache(maxsize=8)
def _kept(url: str, **options: Any) -> Engine:
    engine = create_engine(url, poolclass=NullPool, **options)
    address = make_url(url)
    if address.get_backend_name() == "sqlite" and address.database:
        path = Path(address.database)

        def make(*_: Any) -> None:
            """Make a new file as the course's folder allows: other graders write it, too."""
            if path.parent.is_dir() and not path.exists():
                with graders.together(path.parent):
                    path.touch()

        event.listen(engine, "do_connect", make)
    return engine
