"""How far a command is: lines in the log, with an estimate, and none for what is quick."""

import logging

from nbjudge.progress import SECONDS, Progress


def test_a_long_command_says_how_far_it_is(caplog):
    now = [0.0]
    with caplog.at_level(logging.INFO):
        progress = Progress("Feedback", 11, logging.getLogger("test"), lambda: now[0])
        progress.skip()
        for _ in range(10):
            now[0] += 4.0
            progress.step()
    assert [record.getMessage() for record in caplog.records] == [
        "Feedback: 2 of 10, about 32 s left",
        "Feedback: 4 of 10, about 24 s left",
        "Feedback: 6 of 10, about 16 s left",
        "Feedback: 8 of 10, about 8 s left",
    ]
    caplog.clear()
    now[0] = 0.0
    with caplog.at_level(logging.INFO):
        progress = Progress("Feedback", 100, logging.getLogger("test"), lambda: now[0])
        now[0] += SECONDS * 60
        progress.step()
    assert caplog.messages == ["Feedback: 1 of 100, about 495 min left"]


def test_a_quick_command_says_nothing(caplog):
    with caplog.at_level(logging.INFO):
        progress = Progress("Grades", 3, logging.getLogger("test"), lambda: 0.0)
        for _ in range(3):
            progress.step()
    assert caplog.messages == []
