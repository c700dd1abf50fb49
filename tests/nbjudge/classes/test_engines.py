"""Gradebooks of one file share an engine, and lose nothing by it."""

import re
import shutil
import threading

import pytest
from nbgrader.api import Gradebook
from nbjudge.classes import engines

from tests.commands import new_gradebook


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """A new gradebook."""
    return new_gradebook(tmp_path_factory.mktemp("empty") / "gradebook.db")


@pytest.fixture
def path(empty, tmp_path, monkeypatch):
    """A new gradebook, opened as in grading."""
    monkeypatch.setattr("nbgrader.api.create_engine", engines.engine_of)
    engines._kept.cache_clear()
    return shutil.copy(empty, tmp_path)


def test_one_file_has_one_engine_which_knows_its_statements(path, caplog):
    caplog.set_level("INFO", "sqlalchemy.engine")
    url = f"sqlite:///{path}"

    def add(student):
        with Gradebook(url) as gradebook:
            gradebook.add_student(student)
            assert gradebook.find_student(student).id == student
            return gradebook.engine

    engine = add("ada")
    assert "[generated in" in caplog.text
    caplog.clear()
    assert add("ben") is engine
    assert "[cached since" in caplog.text
    assert not re.search(r"\[(generated in|caching disabled)", caplog.text)
    with Gradebook(url) as gradebook, Gradebook(url) as within:
        assert {s.id for s in gradebook.students} == {s.id for s in within.students}
    with Gradebook(f"{url}?timeout=1") as patient:
        assert patient.engine is not engine


def test_databases_in_memory_are_their_own():
    for url in ("sqlite://", "sqlite:///:memory:"):
        first, second = engines.engine_of(url), engines.engine_of(url)
        for engine in (first, second):
            with engine.begin() as connection:
                connection.exec_driver_sql("CREATE TABLE t (x)")
            with engine.begin() as connection:
                connection.exec_driver_sql("SELECT x FROM t")


def test_a_file_that_was_replaced_is_read_and_written_anew(path, empty, tmp_path):
    url = f"sqlite:///{path}"
    with Gradebook(url) as opened:
        opened.add_student("ada")
        (tmp_path / "gradebook.db").rename(tmp_path / "old.db")
        shutil.copy(empty, path)
        with Gradebook(url) as new:
            assert not new.students
            new.add_student("ben")
    with Gradebook(url) as new:
        assert [student.id for student in new.students] == ["ben"]


def test_threads_may_use_it_at_once(path):
    url = f"sqlite:///{path}?timeout=60"
    troubles = []

    def write(name):
        try:
            for number in range(5):
                with Gradebook(url) as gradebook:
                    gradebook.add_student(f"{name}-{number}")
        except Exception as error:
            troubles.append(error)

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not troubles
    with Gradebook(url) as gradebook:
        assert len(gradebook.students) == 20
