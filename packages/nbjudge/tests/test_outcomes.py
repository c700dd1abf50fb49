"""What becomes of grades: where a class stands, and the files that platforms import."""

import base64
import csv
import hashlib
import json
import logging
import re
import shutil
import zipfile

import pytest
from nbgrader.api import Gradebook
from nbgrader.coursedir import CourseDirectory
from nbjudge import settings
from nbjudge.classes.points import grades_of
from nbjudge.classes.report import to_html
from nbjudge.classes.summary import Summary
from nbjudge.configure import _put_own_commands_on_path
from nbjudge.outcomes import similarity
from nbjudge.outcomes.platform_grades import (
    RosterError,
    read_roster,
    write_feedback,
    write_grades,
)
from nbjudge.outcomes.similarity import Pair, pairs, shape
from nbjudge.outcomes.status import Status
from traitlets.config import Config


@pytest.fixture(scope="module")
def gradebook_file(tmp_path_factory):
    """Return a gradebook with grades of three learners in two exercises."""
    _put_own_commands_on_path()
    folder = tmp_path_factory.mktemp("gradebook")
    found = CourseDirectory(root=str(folder))
    with Gradebook(found.db_url) as gradebook:
        gradebook.add_assignment("small")
        gradebook.add_notebook("small", "small")
        for name, points in (("test_double", 2), ("test_square", 3)):
            gradebook.add_grade_cell(name, "small", "small", max_score=points, cell_type="code")
        for student, about, scores in (
            ("ada", {"first_name": "Ada", "last_name": "Lovelace", "email": "ada@x.org"}, (2, 3)),
            ("=kim", {"first_name": "Kim", "last_name": "Łuczak"}, (1, 0)),
            ("bob", {"first_name": "Bob", "last_name": "Noone", "lms_user_id": "77"}, (0, 3)),
        ):
            gradebook.add_student(student, **about)
            submission = gradebook.add_submission("small", student)
            for grade in submission.notebooks[0].grades:
                grade.auto_score = scores[grade.name == "test_square"]
            if student == "bob":
                submission.notebooks[0].late_submission_penalty = 1
            gradebook.db.commit()
    return folder / "gradebook.db"


@pytest.fixture
def course(tmp_path, gradebook_file):
    """Return a course of its own with that gradebook."""
    settings.apply(Config())
    shutil.copy(gradebook_file, tmp_path)
    return CourseDirectory(root=str(tmp_path))


def table(path):
    """Return a written file's lines, as the platform reads them."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


def test_canvas_without_a_roster_has_its_columns_and_points(course, tmp_path):
    target = tmp_path / "out.csv"
    done = write_grades(course, "small", "canvas", target, exercises=True)
    first = target.read_bytes().partition(b"\r\n")[0].decode("utf-8-sig")
    assert first == (
        "Student,ID,SIS User ID,SIS Login ID,Section,small,small: test_double,small: test_square"
    )
    points, kim, ada, bob = table(target)
    assert (points["Student"], points["small"], points["small: test_square"]) == (
        "Points Possible", "5.0", "3.0",
    )  # fmt: skip
    assert (ada["Student"], ada["SIS Login ID"], ada["small"]) == ("Lovelace, Ada", "ada", "5.0")
    assert kim["SIS Login ID"] == "'=kim"  # no formula for a spreadsheet
    assert (bob["ID"], bob["small"], bob["small: test_square"]) == ("77", "2.0", "3.0")
    assert done.learners == 3


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_canvas_roster_comes_back_with_grades_in_its_own_column(
    course, tmp_path, separator, encoding
):
    lines = [
        ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", "Small (812)", "Other (1)"],
        ["    Points Possible", "", "", "", "", "5", "10"],
        ['"Lovelace, Ada"', "12", "s1", "ADA", "A", "", "7"],
        ["Bob Noone", "77", "s2", "bnoone", "A", "1", "8"],
        ['"Student, Test"', "9", "", "1f3", "A", "", ""],
    ]
    roster = write(tmp_path / "roster.csv", "\n".join(map(separator.join, lines)), encoding)
    done = write_grades(course, "small", "canvas", tmp_path / "out.csv", roster=roster)
    found = table(tmp_path / "out.csv")
    assert list(found[0]) == [*lines[0][:5], "Small (812)"]
    assert [row["Small (812)"] for row in found[:3]] == ["5.0", "5.0", "2.0"]
    assert found[3]["Small (812)"] == ""
    assert done.not_in_roster == ["=kim"] and len(done.not_graded) == 1


def test_canvas_other_columns_and_lines_stay_as_its_import_wants_them(course, tmp_path):
    """By Canvas' own importer: up to Section in this order, no mark before LastName."""
    roster = write(
        tmp_path / "roster.csv",
        "LastName,FirstName,ID,SIS User ID,SIS Login ID,Integration ID,Root Account,Section,"
        "small (812),Final Score\n"
        ",,,,,,,,Manual Posting,(read only)\n"
        "    Points Possible,,,,,,,,20,\n"
        "Lovelace,Ada,12,s1,ADA,i,school.edu,A,,90\n",
    )
    done = write_grades(course, "small", "canvas", tmp_path / "out.csv", roster=roster)
    written = (tmp_path / "out.csv").read_bytes().decode().splitlines()
    assert written == [
        "LastName,FirstName,ID,SIS User ID,SIS Login ID,Integration ID,Root Account,Section,"
        "small (812)",
        "Points Possible,,,,,,,,20",
        "Lovelace,Ada,12,s1,ADA,i,school.edu,A,5.0",
    ]
    assert done.worth == "20 points there, 5 here"


def test_moodles_offline_worksheet_comes_back_with_its_grades(course, tmp_path):
    head = (
        "Identifier,Full name,Email address,Status,Grade,Maximum grade,Grade can be changed,"
        "Last modified (submission),Last modified (grade),Feedback comments"
    )
    roster = write(
        tmp_path / "worksheet.csv",
        f"{head}\nParticipant 77,Bob Noone,,Submitted for grading,,5.00,Yes,"
        '"Friday, 6 November 2026, 10:00 AM",-,\n',
        "utf-8-sig",
    )
    done = write_grades(course, "small", "moodle", tmp_path / "out.csv", roster=roster)
    (row,) = table(tmp_path / "out.csv")
    assert list(row) == head.split(",")
    assert (row["Grade"], row["Last modified (grade)"], done.worth) == ("2.0", "-", "")


def test_a_moodle_roster_keeps_all_its_columns(course, tmp_path):
    roster = write(
        tmp_path / "roster.csv",
        "Identifier,Full name,Email address,Grade\n"
        "Participant 77,Somebody Else,else@x.org,\n"
        "Participant 5,Kim Łuczak,,\n"
        "Participant 6,x,Ada@X.org,\n",
    )
    done = write_grades(
        course, "small", "moodle", tmp_path / "out.csv", roster=roster, column="Grade"
    )
    assert list(table(tmp_path / "out.csv")[0]) == [
        "Identifier", "Full name", "Email address", "Grade",
    ]  # fmt: skip
    assert [row["Grade"] for row in table(tmp_path / "out.csv")] == ["2.0", "1.0", "5.0"]
    assert done.not_in_roster == []


@pytest.mark.parametrize(
    "text, words",
    [
        ("Name;Points\nAda;1\n", "none of the columns"),
        ("Student,ID,ID\nAda,1,2\n", "two columns of one name"),
        ("Student,ID\n", "no line of a learner"),
        ("", "no line of a learner"),
        ('Student,ID\n"Ada,1\n', "no CSV"),
    ],
)
def test_a_roster_that_cannot_be_used_is_named(course, tmp_path, text, words):
    roster = write(tmp_path / "roster.csv", text)
    with pytest.raises(RosterError, match=words) as raised:
        write_grades(course, "small", "canvas", tmp_path / "out.csv", roster=roster)
    assert "roster.csv" in str(raised.value)
    assert not (tmp_path / "out.csv").exists()


def test_a_roster_of_windows_is_read(tmp_path):
    assert read_roster(write(tmp_path / "r.csv", "Student;ID\r\nZoé;1\r\n", "cp1252")) == [
        {"Student": "Zoé", "ID": "1"}
    ]


def test_feedback_goes_back_under_the_names_of_the_download(course, tmp_path):
    place = tmp_path / "downloaded/small"
    place.mkdir(parents=True)
    head = "file,student_id,number,late,resubmission,collected_as,reason\n"
    write(
        place / "collected.csv",
        head
        + "canvas/lovelaceada_LATE_12_456_small-2.ipynb,ada,12,LATE,2,small.ipynb,\n"
        + "canvas/lovelaceada_12_400_small.ipynb,ada,12,,,,a newer one was handed in\n"
        + "m/Bob Noone_77_assignsubmission_file_/small.ipynb,bob,77,,,small.ipynb,\n"
        + "m/Bob Noone_77_assignsubmission_file_/quiz_answers.json,bob,77,,,quiz_answers.json,\n"
        + "m/Cy_8_assignsubmission_file_/small.ipynb,cy,8,,,small.ipynb,\n",
    )
    for student in ("ada", "bob"):
        page = tmp_path / "feedback" / student / "small/small.html"
        page.parent.mkdir(parents=True)
        page.write_text(student)
    done = write_feedback(course, "small", tmp_path / "back.zip")
    with zipfile.ZipFile(tmp_path / "back.zip") as archive:
        assert {name: archive.read(name).decode() for name in archive.namelist()} == {
            "lovelaceada_LATE_12_456_small-2.html": "ada",
            "Bob Noone_77_assignsubmission_file_/small.html": "bob",
        }
    assert (done.learners, done.not_graded) == (2, ["cy"])


def test_feedback_needs_the_platforms_names(course, tmp_path):
    with pytest.raises(RosterError, match="zip_collect"):
        write_feedback(course, "small", tmp_path / "back.zip")


@pytest.mark.parametrize(
    "about, command",
    [
        ({}, "generate_assignment"),
        ({"released": True}, "collect small --update"),
        ({"released": True, "handed_in": ["a"], "waiting": {"a": None}}, "autograde"),
        ({"released": True, "handed_in": ["a"], "by_hand": ["a"]}, "formgrade"),
        ({"released": True, "handed_in": ["a"], "no_feedback": ["a"]}, "generate_feedback"),
        ({"released": True, "handed_in": ["a"], "old_feedback": ["a"]}, "--force"),
    ],
)
def test_the_status_names_what_to_run_next(about, command):
    assert command in Status("small", **about).next()


def test_nothing_is_left_to_do():
    assert Status("small", released=True, handed_in=["a"]).next() == ""


FIRST = """
def f(x, y):
    # what a loop does
    total = 0
    for value in x:
        if value > y:
            total += value * 2
        else:
            total -= np.sum(value)
    return total / len(x)
"""
RENAMED = """def f(a, b):
    "Another explanation."

    s = 0
    for v in a:
        if v > b: s += v * 2
        else:
            s -= np.sum(v)  # a comment
    return s / len(a)"""


@pytest.mark.parametrize(
    "other, same",
    [
        (RENAMED, True),
        (RENAMED.replace("* 2", "* 3"), False),
        (RENAMED.replace("len(a)", "len(b)"), False),
        (RENAMED.replace("np.sum", "np.mean"), False),
        (RENAMED.replace("> b", "< b"), False),
    ],
)
def test_a_shape_is_what_names_and_layout_do_not_change(other, same):
    assert (shape(FIRST) == shape(other)) is same
    assert shape(FIRST)


def test_what_says_nothing_has_no_shape():
    assert shape("def f(x):\n    return x") == shape("def f(:") == shape("") == ""


def test_only_what_few_share_makes_a_pair():
    shapes = {f"s{n}": {"easy": "usual", "hard": f"own {n}"} for n in range(30)}
    shapes["s1"]["hard"] = shapes["s7"]["hard"] = "copied"
    shapes["s3"]["easy"] = shapes["s3"]["hard"] = ""
    assert pairs(shapes) == [Pair("s1", "s7", ("hard",))]


def test_points_are_by_learner_and_exercise(course):
    found = grades_of(course, "small")
    assert found.scores == {"=kim": 1, "ada": 5, "bob": 2}
    assert found.exercises["test_double"] == {"ada": 2, "=kim": 1, "bob": 0}
    assert found.maxima == {"test_double": 2, "test_square": 3}
    found.exercises["test_double"] = dict.fromkeys(found.scores, 1.0)
    assert found.discrimination("test_double") is None


def test_the_report_lists_every_learner_and_runs_only_its_own_script(course):
    summary = Summary("small", 5.0, scores={"ada": 5.0, "=kim": 1.0, "bob": 2.0})
    summary.flags = [("bob", "renamed", "", "<script>alert(1)</script>")]
    summary.graded_at = {"ada": "graded here/small/[ada]"}  # another structure of the course
    page = to_html(summary, grades_of(course, "small"))
    assert 'href="../graded%20here/small/%5Bada%5D/"' in page
    rows = re.findall(r'<tr><th scope="row">(.*?)</tr>', page)
    assert [re.sub("<[^>]+>", " ", row).split() for row in rows] == [
        ["=kim", "1", "1", "0"], ["ada", "5", "2", "3"], ["bob", "2", "0", "3", "renamed"],
    ]  # fmt: skip
    assert 'href="../autograded/%3Dkim/small/"' in page
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page


def test_only_notebooks_that_are_new_are_taken_apart_again(tmp_path, monkeypatch):
    course = CourseDirectory(config=Config(CourseDirectory={"root": str(tmp_path)}))
    log = logging.getLogger("test")

    def hand_in(student, code):
        folder = tmp_path / "autograded" / student / "ps1"
        folder.mkdir(parents=True, exist_ok=True)
        about = {"nbgrader": {"solution": True, "grade_id": "work"}}
        cell = {"cell_type": "code", "metadata": about, "source": code}
        (folder / "ps1.ipynb").write_text(json.dumps({"cells": [cell]}))

    def pairs_found():
        read.clear()
        return [(p.one, p.other) for p in similarity.last(course, "ps1", log, anew=True)]

    read = []
    original = similarity._cells
    monkeypatch.setattr(similarity, "_cells", lambda text: read.append(text) or original(text))
    for student, step in (("ada", 1), ("bob", 1), ("eve", 2)):
        hand_in(
            student,
            f"def f(x):\n    y = x + {step}\n    return [y * z + x for z in range(x) if z][:y]",
        )
    assert pairs_found() == [("ada", "bob")] and len(read) == 2  # two are the same, byte for byte
    assert pairs_found() == [("ada", "bob")] and not read
    hand_in("bob", "pass")
    assert pairs_found() == [] and len(read) == 1
    monkeypatch.setattr(similarity, "_shaped_by", lambda: ["another engine"])
    assert pairs_found() == [] and len(read) == 3
    path = tmp_path / ".nbjudge" / "reported" / "ps1-similar.json"
    path.write_text("[]")  # as an earlier engine kept it
    assert similarity.last(course, "ps1", log, anew=False) == []
