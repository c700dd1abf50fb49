"""What a submission's code wrote: packed in the box, bounded, and laid out as no danger."""

import os
import socket
import struct
import threading

import pytest
from nbjudge.intake.folder import lay_out
from nbjudge.server import written


def taken(folder, before, most_files=10, most_bytes=1000):
    """Return what the two ends of the line bring out of `folder`."""
    ours, theirs = socket.socketpair()

    def serve():
        with theirs:
            written.serve(theirs, str(folder), before)

    serving = threading.Thread(target=serve)
    serving.start()
    with ours:
        found = written.request(ours, most_files, most_bytes, 10)
    serving.join()
    return found


def sent(data, most_files=10, most_bytes=1000):
    """Return what the reader makes of bytes that a hostile packer sends."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(data)
        theirs.shutdown(socket.SHUT_WR)
        return written.request(ours, most_files, most_bytes, 10)


def test_new_and_changed_files_come_out_and_no_others(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "given.csv").write_text("a,b")
    (tmp_path / "changed.txt").write_text("before")
    before = written.state_of(str(tmp_path))
    (tmp_path / "data" / "new.csv").write_text("1,2")
    (tmp_path / "changed.txt").write_text("after!")
    os.utime(tmp_path / "changed.txt", (0, 0))  # no time that a program can set is believed
    assert taken(tmp_path, before) == {"data/new.csv": b"1,2", "changed.txt": b"after!"}


def test_links_pipes_and_sockets_stay_inside(tmp_path):
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "folder").symlink_to("/etc")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "plain").write_text("x")
    assert taken(tmp_path, {}) == {"plain": b"x"}


def test_numbers_and_bytes_are_bounded(tmp_path):
    for number in range(5):
        (tmp_path / f"{number}").write_text("x" * 10)
    (tmp_path / "0").write_text("x" * 5000)
    assert sorted(taken(tmp_path, {}, most_files=2)) == ["1", "2"]
    assert sorted(taken(tmp_path, {}, most_bytes=25)) == ["1", "2"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\0",
        struct.pack("!IQ", 1 << 31, 1),
        struct.pack("!IQ", 1, 1 << 62) + b"a",
        struct.pack("!IQ", 1, 100) + b"a" + b"too few",
        struct.pack("!IQ", 1, 1) + b"\xff" + b"x",
    ],
    ids=["nothing", "cut", "long name", "huge", "cut data", "no text"],
)
def test_what_is_no_file_is_left_out_with_all_that_follows(data):
    good = struct.pack("!IQ", 1, 2) + b"a" + b"hi"
    assert sent(good + data) == {"a": b"hi"}


def test_the_reader_counts_for_itself():
    one = struct.pack("!IQ", 1, 400)
    data = b"".join(one + bytes([97 + number]) + b"x" * 400 for number in range(20))
    assert sorted(sent(data)) == ["a", "b"]
    assert sorted(sent(data, most_files=3, most_bytes=10**6)) == ["a", "b", "c"]


def test_nothing_is_written_where_it_must_not_be(tmp_path):
    graded = tmp_path / "autograded"
    graded.mkdir()
    (graded / "ps1.ipynb").write_text("the graded one")
    (graded / "data.csv").write_text("the course's")
    (graded / "old.txt").write_text("from an earlier run")
    (graded / "old.txt").chmod(0o444)
    bad = [
        *("../out.txt", "/etc/cron.d/x", "a/../../out.txt", "", "a//b", "line\nbreak", "."),
        *("ps1.ipynb", "Other.IPYNB", "x.ipynb/y", "data.csv", "data.csv/below", "timestamp.txt"),
        *("nbgrader_config.py", "sub/gradebook.db", "/".join("abcdefghijkl"), "old.txt/below"),
    ]
    good = ["new.txt", "old.txt", "sub/folder/new.txt"]
    files = dict.fromkeys([*bad, *good, "__pycache__/x.pyc"], b"the code's")
    left_out = lay_out(files, graded, {"data.csv"}, ["__pycache__"])
    assert sorted(left_out) == sorted(bad)
    there = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    laid = {f"autograded/{name}" for name in good}
    assert there == {"autograded/ps1.ipynb", "autograded/data.csv"} | laid
    assert (graded / "ps1.ipynb").read_text() == "the graded one"
    assert (graded / "data.csv").read_text() == "the course's"
    assert (graded / "old.txt").read_text() == "the code's"
