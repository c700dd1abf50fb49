"""A class's life: a release that is mended, hand-ins of the old one, a fresh clone."""

import copy
import getpass
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import zipfile

import nbformat
import pytest
from nbgrader.api import Gradebook
from nbgrader.apps.api import NbGraderAPI
from nbgrader.coursedir import CourseDirectory
from nbgrader.utils import notebook_hash
from nbjudge import cli
from nbjudge.classes.one_at_a_time import grading
from nbjudge.outcomes.gradescope import build

from packages.nbjudge.tests.semester import Semester, exercise, lesson
from tests.commands import run

pytestmark = pytest.mark.slow

FULL = {"test_double": 2, "test_square": 2}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a course whose lesson was released, with nothing handed in."""
    semester = Semester(tmp_path_factory.mktemp("semester") / "course")
    semester.run("generate_assignment", "small")
    return semester


@pytest.fixture
def semester(made, tmp_path):
    return made.copy(tmp_path / "course")


def test_a_fresh_clone_is_ready_by_the_first_command(semester):
    (semester.folder / "gradebook.db").unlink()
    release = semester.folder / "release/small/small.ipynb"
    # As it was committed: by hand, with what nbgrader would write otherwise.
    release.write_text(release.read_text() + "\n\n")
    before = release.read_bytes(), release.stat().st_mtime_ns
    printed = semester.run("generate_assignment", "small")
    assert "stays as it is" in printed and "--force" in printed
    assert (release.read_bytes(), release.stat().st_mtime_ns) == before
    semester.hand_in("ada", semester.solved(double="x + x", square="x ** 2"))
    semester.run("autograde", "small")
    assert semester.scores() == {"ada": FULL}
    assert semester.codes("ada") == []


def test_grading_fills_a_gradebook_that_lacks_the_assignment(semester):
    (semester.folder / "gradebook.db").unlink()
    release = semester.folder / "release/small/small.ipynb"
    before = release.read_bytes()
    semester.hand_in("ada", semester.solved(double="x + x"))
    printed = semester.run("autograde", "small")
    assert "filled from source/" in printed
    assert semester.scores() == {"ada": {"test_double": 2, "test_square": 0}}
    assert release.read_bytes() == before


def test_a_release_that_fails_leaves_the_old_one(semester):
    release = semester.folder / "release/small/small.ipynb"
    before = release.read_bytes()
    broken = lesson()
    broken.cells[1].source = "def double(x):\n    ### BEGIN SOLUTION\n    return 2 * x"
    semester.write(broken)
    printed = semester.run("generate_assignment", "small", "--force", code=1)
    assert "There was an error processing assignment" in printed
    assert release.read_bytes() == before
    assert sorted(path.name for path in (semester.folder / "release").iterdir()) == ["small"]


@pytest.mark.parametrize(
    "command",
    [
        ("status", "smal"),
        ("similar", "smal"),
        ("export", "smal", "--to", "canvas"),
        ("extend", "smal", "ada", "--days", "1"),
    ],
)
def test_an_assignment_that_there_is_not_is_called_that(semester, command):
    printed = own(semester.folder, *command, code=1)
    assert printed == "There is no assignment 'smal'. There are: small.\n"


def test_a_release_that_stays_while_its_source_has_new_cells_is_no_success(semester):
    more = lesson()
    more.cells += exercise("triple", "3 * x", 6, 9)
    semester.write(more)
    printed = semester.run("generate_assignment", "small", code=1)
    assert "triple" in printed.splitlines()[-1]
    assert "`nbgrader generate_assignment small --force`" in printed.splitlines()[-1]


def mended(semester):
    """Correct a visible test, reword the beginning, and add an exercise, after the hand-ins."""
    new = lesson()
    new.cells[0].source = "# A small lesson, reworded"
    new.cells[4].source = new.cells[4].source.replace("square(2) == 4", "square(4) == 16")
    new.cells[4].metadata.nbgrader.points = 3
    new.cells += exercise("triple", "3 * x", 6, 9)
    semester.write(new)
    return semester.run("generate_assignment", "small", "--force")


def test_a_lesson_that_was_mended_after_hand_ins_is_graded_anew(semester):
    before = semester.solved(double="x + x", square="x ** 2")
    semester.hand_in("ada", before)
    cheat = copy.deepcopy(before)
    cheat.cells[4].source = "pass"
    semester.hand_in("ben", cheat)
    semester.run("autograde", "small")
    assert semester.scores()["ada"] == FULL
    with Gradebook(f"sqlite:///{semester.folder / 'gradebook.db'}") as gradebook:
        grade = gradebook.find_grade("test_double", "small", "small", "ada")
        grade.manual_score, grade.extra_credit = 1, 0.5
        gradebook.find_comment("double", "small", "small", "ada").manual_comment = "Well done"
        gradebook.db.commit()

    printed = mended(semester)
    assert "2 submissions have to be graded again" in printed
    again = semester.run("autograde", "small")
    assert "Grading ada again: the lesson or its tests have changed" in again
    assert semester.scores()["ada"] == {"test_double": 1.5, "test_square": 3, "test_triple": 0}
    found = semester.codes("ada")
    assert found == ["older_release", "new_exercise triple"]
    assert "tampered test_square" in semester.codes("ben")
    assert "tampered test_double" not in semester.codes("ben")
    graded = nbformat.read(semester.folder / "autograded/ada/small/small.ipynb", as_version=4)
    assert "reworded" in "".join(cell.source for cell in graded.cells)
    with Gradebook(f"sqlite:///{semester.folder / 'gradebook.db'}") as gradebook:
        comment = gradebook.find_comment("double", "small", "small", "ada")
        assert comment.manual_comment == "Well done"

    # Formgrader's table of a notebook's submissions has them under "Needs manual grade?".
    api = NbGraderAPI(CourseDirectory(root=str(semester.folder)))
    listed = api.get_notebook_submissions("small", "small")
    assert {row["student"]: row["needs_manual_grade"] for row in listed} == {
        "ada": True, "ben": False,
    }  # fmt: skip

    # Who hands in the new release has nothing that stands out.
    semester.hand_in("cem", semester.solved(double="2*x", square="x*x", triple="3*x"))
    semester.run("autograde", "small", "--student=cem")
    assert sum(semester.scores()["cem"].values()) == 7
    assert semester.codes("cem") == []


def test_what_a_teacher_gave_for_a_cell_that_goes_is_kept(semester):
    semester.hand_in("ada", semester.solved(double="x + x", square="x ** 2"))
    semester.run("autograde", "small")
    with Gradebook(f"sqlite:///{semester.folder / 'gradebook.db'}") as gradebook:
        gradebook.find_grade("test_square", "small", "small", "ada").manual_score = 1.5
        gradebook.find_comment("square", "small", "small", "ada").manual_comment = "By hand"
        gradebook.db.commit()
    new = lesson()
    new.cells = [new.cells[0], *exercise("twice", "2 * x", 4, 6), *new.cells[3:3]]
    semester.write(new)
    printed = semester.run("generate_assignment", "small", "--force")
    kept = (semester.folder / ".nbjudge/taken-out.jsonl").read_text()
    assert "taken-out.jsonl" in printed
    assert '"manual_score": 1.5' in kept and "By hand" in kept
    semester.run("autograde", "small", "--force")
    assert semester.scores()["ada"] == {"test_twice": 0}
    assert "older_release" in semester.codes("ada")


def test_right_work_that_cannot_run_here_says_why(semester):
    newer = semester.solved(double="x + x", square="x * x")
    newer.metadata["language_info"] = {"name": "python", "version": "3.99.1"}
    newer.cells[1].source = "type Number = int\ndef double[T](x: T) -> T:\n    return x + x"
    newer.cells[3].source = "import not_there_at_all\nimport json\ndef square(x):\n    return x * x"
    newer.cells.insert(
        1, nbformat.v4.new_code_cell("try:\n    import nor_this\nexcept ImportError:\n    pass")
    )
    semester.hand_in("ada", newer)
    semester.run("autograde", "small")
    said = {code: (cell, sentence) for code, cell, sentence in semester.flags("ada")}
    assert said["syntax"][0] == "double" and "written with Python 3.99.1" in said["syntax"][1]
    assert said["not_installed"][0] == "square"
    assert "not_there_at_all" in said["not_installed"][1]
    assert "nor_this" not in str(said)


def test_a_notebook_of_another_lesson_is_called_that(semester):
    other = lesson()
    other.cells = [other.cells[0], *exercise("triple", "3 * x", 6, 9)]
    semester.write(other, "other")
    semester.hand_in("ada", other)
    semester.hand_in("ben", semester.solved(double="x + x", square="x * x"), "work/Mine (2).ipynb")
    semester.run("autograde", "small")
    assert [code for code, _, _ in semester.flags("ada")] == ["other_lesson"]
    assert "(other)" in semester.flags("ada")[0][2]
    assert semester.scores() == {"ada": dict.fromkeys(FULL, 0), "ben": FULL}
    assert semester.codes("ben") == ["renamed"]


def test_a_second_run_waits_and_says_for_whom(semester):
    semester.hand_in("ada", semester.solved(double="x + x", square="x * x"))
    command = [sys.executable, "-m", "nbgrader", "autograde", "small"]
    course = CourseDirectory(root=str(semester.folder))
    with grading(course, "small", logging.getLogger()):
        second = subprocess.Popen(
            command, cwd=semester.folder, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        waits = next(line for line in second.stderr if "Waiting" in line)
        assert f"(process {os.getpid()} on " in waits and "is grading small since" in waits
        assert not (semester.folder / "autograded").exists()
    second.communicate()
    assert second.returncode == 0
    assert semester.scores() == {"ada": FULL}


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_every_name_can_be_said_on_any_console(encoding):
    say = "from nbjudge.consoles import speak_every_name as s; s(); print('\\u0141ukasz')"
    env = {**os.environ, "PYTHONIOENCODING": encoding}
    assert subprocess.check_output([sys.executable, "-c", say], env=env).strip() == rb"\u0141ukasz"


HARD_PLACE = """
c.CourseDirectory.directory_structure = "{assignment_id}/{nbgrader_step}/{student_id}"
import os
import re
import shutil
os.umask(0o077)
"""


def test_whatever_the_course_lies_in_and_whoever_runs_it(tmp_path):
    folder = tmp_path / "course [2026] what?"
    semester = Semester(folder, HARD_PLACE)
    (folder / "small").mkdir()
    shutil.move(folder / "source/small", folder / "small/source")
    place = {"HOME": "/proc"}
    semester.run("generate_assignment", "small", **place)
    work = nbformat.read(folder / "small/release/small.ipynb", as_version=4)
    work.cells[1].source = "def double(x):\n    return 2 * x"
    work.cells[3].source = "def square(x):\n    raise ValueError('| *no* <b>')"
    for student in ("ada", "Łukasz"):
        (folder / "small/submitted" / student).mkdir(parents=True)
        nbformat.write(work, folder / "small/submitted" / student / "the small one.ipynb")
    printed = semester.run("autograde", "small", **place)
    assert "ada: 2 of 4; renamed" in printed
    assert semester.scores() == {
        name: {"test_double": 2, "test_square": 0} for name in ("ada", "Łukasz")
    }
    semester.run("generate_feedback", "small", **place)
    assert [path.name for path in (folder / "small/feedback/ada").iterdir()] == ["small.html"]
    page = (folder / "small/feedback/Łukasz/small.html").read_text()
    assert page.index("2 of 2") < page.index("What stood out")
    assert page.index("0 of 2") < page.index("&lt;b&gt;") < page.index("What stood out")


def test_an_autograder_for_gradescope_grades_as_here(semester, tmp_path):
    """Laid out as Gradescope documents it: source, submission, results under one root."""
    course = CourseDirectory(root=str(semester.folder))
    build(course, "small", tmp_path / "autograder.zip")
    for place in (semester.folder / "lib", semester.folder):
        place.mkdir(exist_ok=True)
        (place / "pyproject.toml").write_text("")
    build(course, "small", tmp_path / "with.zip", ["lib[extra]", "pyproject.toml[lab]"])
    with zipfile.ZipFile(tmp_path / "with.zip") as archive:
        own = "-e '/autograder/source/course/lib[extra]' -e '/autograder/source/course[lab]'\n"
        assert own in archive.read("setup.sh").decode()
        assert {"course/lib/pyproject.toml", "course/pyproject.toml"} <= set(archive.namelist())
    root = tmp_path / "autograder"
    with zipfile.ZipFile(tmp_path / "autograder.zip") as archive:
        assert "course/gradebook.db" not in archive.namelist()
        assert archive.getinfo("setup.sh").external_attr >> 16 == 0o755
        archive.extractall(root / "source")
    config = root / "source/course/nbgrader_config.py"
    config.write_text(config.read_text().replace(str(semester.folder), str(config.parent)))
    (root / "submission").mkdir()
    (root / "results").mkdir()
    shutil.copy(root / "source/run_autograder", root)

    def grade(notebook):
        (root / "submission/mine.ipynb").write_text(notebook)
        env = {**os.environ, "AUTOGRADER": str(root), "AUTOGRADER_PYTHON": sys.executable}
        done = subprocess.run(
            ["bash", root / "run_autograder"], env=env, capture_output=True, text=True
        )
        found = root / "results/results.json"
        return done, json.loads(found.read_text()) if found.exists() else None

    work = semester.solved(double="x + x", square="1 / 0")
    done, found = grade(json.dumps(work))
    assert done.returncode == 0, done.stderr
    tests = {test["name"]: test for test in found["tests"]}
    # Gradescope hides the total from learners where a test is hidden.
    assert {test["visibility"] for test in found["tests"]} == {"visible"}
    assert (found["score"], found["stdout_visibility"]) == (2, "hidden")
    assert (tests["test_double"]["score"], tests["test_double"]["max_score"]) == (2, 2)
    assert tests["test_square"]["score"] == 0
    assert "division by zero" in tests["test_square"]["output"]
    assert "mine.ipynb" in found["output"]
    shutil.rmtree(root / "source/course/source")
    done, found = grade(json.dumps(work))
    assert done.returncode == 1 and found is None, "what was not graded has no score"


def test_the_semester_command_by_command(semester):
    """As docs/instructors.md has it, in its order."""
    folder, me = semester.folder, getpass.getuser()

    def own(*arguments, code=0):
        return run(cli.main, folder, *arguments, code=code)

    (folder / "gradebook.db").unlink()
    semester.run("generate_assignment", "small")
    semester.run("release_assignment", "small")
    assert "nbgrader collect small --update" in own("status", "small")
    inbound = folder / "exchange/small/inbound"

    def submit(time, notebook):
        place = inbound / f"{me}+small+2026-01-{time} 10:00:00 UTC"
        place.mkdir()
        (place / "small (1).ipynb").write_text(json.dumps(notebook))
        (place / "timestamp.txt").write_text(f"2026-01-{time} 10:00:00 UTC")
        (place / "submission_secret.txt").write_text("secret")

    submit("05", semester.solved(double="x + x"))
    semester.run("collect", "small", "--update")
    archive = folder / "downloaded/small/archive/canvas.zip"
    archive.parent.mkdir(parents=True)
    with zipfile.ZipFile(archive, "w") as file:
        work = json.dumps(semester.solved(double="2 * x", square="x * x"))
        file.writestr("lovelaceada_LATE_12_456_small-2.ipynb", work)
        file.writestr("__MACOSX/._lovelaceada_LATE_12_456_small-2.ipynb", "?")
        file.writestr("readme.txt", "?")
    assert "Marked as late by the platform: lovelaceada" in semester.run("zip_collect", "small")

    own("grade", "small", "--workers", "1")
    assert semester.scores() == {"lovelaceada": FULL, me: {"test_double": 2, "test_square": 0}}
    submit("06", semester.solved(double="x + x", square="x * x"))
    semester.run("collect", "small", "--update")
    assert "waiting because other files were handed in: 1" in own("status", "small")
    printed = own("grade", "small", "--workers", "1")
    assert semester.scores()[me] == FULL and "lovelaceada again" not in printed
    assert "lovelaceada" in (folder / "reports/small.html").read_text()

    assert "Next: nbgrader generate_feedback small" in own("status", "small")
    semester.run("generate_feedback", "small")
    printed = semester.run("release_feedback", "small")
    assert "lovelaceada cannot fetch" in printed
    found = notebook_hash(secret="secret", notebook_id="small (1)")
    assert (folder / f"exchange/small/feedback/{found}.html").is_file()
    assert "Nothing is left to do" in own("status", "small")
    semester.run("export")
    assert "lovelaceada" in (folder / "grades.csv").read_text()
    own("export", "small", "--to", "canvas", "--exercises")
    assert "lovelaceada" in (folder / "small-canvas.csv").read_text("utf-8-sig")
    own("export", "small", "--to", "canvas", "--feedback")
    with zipfile.ZipFile(folder / "small-canvas-feedback.zip") as file:
        assert file.namelist() == ["lovelaceada_LATE_12_456_small-2.html"]


LATE = """
from nbgrader.plugins import LateSubmissionPlugin


class AnHour(LateSubmissionPlugin):
    def late_submission_penalty(self, student_id, score, total_seconds_late):
        return total_seconds_late / 3600


c.AssignLatePenalties.plugin_class = AnHour
"""


def own(folder, *arguments, code=0):
    """Run the engine's own command."""
    return run(cli.main, folder, *arguments, code=code)


def penalties(semester):
    with Gradebook(f"sqlite:///{semester.folder / 'gradebook.db'}") as gradebook:
        return {
            submission.student.id: submission.late_submission_penalty
            for submission in gradebook.assignment_submissions("small")
        }


def test_due_dates_extensions_and_late_penalties(semester):
    folder = semester.folder
    with (folder / "nbgrader_config.py").open("a") as file:
        file.write(LATE)
    (folder / "roster.csv").write_text("id,first_name\nada,Ada\nben,Ben\ncem,Cem\n")
    semester.run("db", "student", "import", "roster.csv")
    assert "has no due date" in own(folder, "extend", "small", "ada", "--days", "1", code=1)
    semester.run("db", "assignment", "add", "small", "--duedate=2026-01-05 10:00:00 UTC")
    for student in ("ada", "ben", "cem"):
        place = semester.hand_in(student, semester.solved(double="x + x", square="x * x"))
        (place / "timestamp.txt").write_text("2026-01-05 11:30:00 UTC")
    assert "nobody" in own(folder, "extend", "small", "nobody", "--days", "1", code=1)
    # Before anything of hers was graded, which is when learners ask.
    said = own(folder, "extend", "small", "ada", "--days", "1")
    assert "ada has until 2026-01-06 10:00:00 UTC" in said
    own(folder, "extend", "small", "cem", "--days", "3")
    own(folder, "extend", "small", "cem")
    semester.run("autograde", "small")
    assert semester.scores() == dict.fromkeys(("ada", "ben", "cem"), FULL)
    assert penalties(semester) == {"ada": 0, "ben": 1.5, "cem": 1.5}
    assert "late" in own(folder, "status", "small")

    own(folder, "extend", "small", "ben", "--hours", "1")
    semester.run("autograde", "small", "--student=ben", "--force")
    own(folder, "extend", "small", "ada")
    semester.run("autograde", "small", "--student=ada", "--force")
    assert penalties(semester) == {"ada": 1.5, "ben": 0.5, "cem": 1.5}
    own(folder, "export", "small", "--to", "moodle")
    assert "2.5" in (folder / "small-moodle.csv").read_text("utf-8-sig")

    (folder / ".nbjudge/extensions.json").write_text("{")
    assert "Mend it" in own(folder, "extend", "small", "ada", "--days", "1", code=1)
    assert "Mend it" in semester.run("autograde", "small", "--force", code=1)


CANVAS_EXPORT = (
    "Student,ID,SIS User ID,SIS Login ID,Section,small (81),Current Score\r\n"
    "    Points Possible,,,,,4,(read only)\r\n"
    '"Lovelace, Ada",12,s1,al815,"Maths, 1",,\r\n'
    '"Żak, Łukasz",13,s2,lz999,"Maths, 1",,\r\n'
    '"Late, Comer",14,s3,cl001,"Maths, 1",,\r\n'
    '"Student, Test",99,,1f3,"Maths, 1",,\r\n'
)


def test_a_platforms_roster_its_hand_ins_and_grades_back(semester):
    folder = semester.folder
    (folder / "canvas.csv").write_text(CANVAS_EXPORT, encoding="utf-8-sig", newline="")
    said = own(folder, "roster", "canvas.csv")
    assert "3 new learners, 0 known ones (Canvas's form)" in said and "Current Score" in said
    work = json.dumps(semester.solved(double="2 * x", square="x * x"))
    archive = folder / "downloaded/small/archive/canvas.zip"
    archive.parent.mkdir(parents=True)
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("lovelaceada_12_456_small.ipynb", work)
        file.writestr("zaklukasz_LATE_13_457_small-1.ipynb", work)
        file.writestr("guestwho_77_458_small.ipynb", work)
    semester.run("zip_collect", "small")
    semester.run("autograde", "small")
    assert sorted(semester.scores()) == ["al815", "guestwho", "lz999"]
    assert "missing" in own(folder, "status", "small")
    roster = ("--to", "canvas", "--roster", "canvas.csv")
    printed = own(folder, "export", "small", *roster, code=1)
    assert "not in the roster: guestwho" in printed
    back = (folder / "small-canvas.csv").read_text("utf-8-sig").splitlines()
    assert back[0] == "Student,ID,SIS User ID,SIS Login ID,Section,small (81)"
    assert '"Lovelace, Ada",12,s1,al815,"Maths, 1",4.0' in back
    assert '"Late, Comer",14,s3,cl001,"Maths, 1",' in back

    # Once more, with somebody who joined late and somebody whose id cannot be one.
    more = CANVAS_EXPORT + '"New, Nora",15,s4,nn002,A,,\r\n"Odd, O",16,s5,a/b,A,,\r\n'
    (folder / "canvas.csv").write_text(more, newline="")
    said = own(folder, "roster", "canvas.csv", code=1)
    assert "1 new learners, 3 known ones" in said and "line 8 (a/b)" in said
    with Gradebook(f"sqlite:///{folder / 'gradebook.db'}") as gradebook:
        nora = gradebook.find_student("nn002")
        assert (nora.first_name, nora.last_name, nora.lms_user_id) == ("Nora", "New", "15")
    semester.hand_in("nn002", json.loads(work))
    semester.run("autograde", "small")
    assert semester.scores()["nn002"] == FULL
    own(folder, "export", "small", *roster, code=1)
    assert '"New, Nora",15,s4,nn002,A,4.0' in (folder / "small-canvas.csv").read_text("utf-8-sig")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_a_roster_of_moodles_whoever_wrote_it(semester, encoding):
    folder = semester.folder
    text = "First name;Last name;Email address;ID number\nZoé;Müller;z@x.org;7\nBo;Ek;;8\n"
    (folder / "moodle.csv").write_bytes(text.encode(encoding))
    printed = own(folder, "roster", "moodle.csv", code=1)
    assert "1 new learners" in printed and "nothing under 'Email address'" in printed
    own(folder, "roster", "moodle.csv", "--id", "ID number")
    with Gradebook(f"sqlite:///{folder / 'gradebook.db'}") as gradebook:
        assert sorted(s.id for s in gradebook.students) == ["7", "8", "z@x.org"]
        assert gradebook.find_student("z@x.org").last_name == "Müller"
    assert "no column 'Nick'" in own(folder, "roster", "moodle.csv", "--id", "Nick", code=1)
    (folder / "other.csv").write_text("Vorname,Nachname\nA,B\n")
    assert "no roster that is known" in own(folder, "roster", "other.csv", code=1)
    assert "cannot be read" in own(folder, "roster", "nowhere.csv", code=1)


def test_a_course_that_moved_goes_on(semester, tmp_path):
    semester.hand_in("ada", semester.solved(double="x + x"))
    semester.run("autograde", "small")
    moved = semester.copy(tmp_path / "another place")
    shutil.rmtree(semester.folder)
    assert "All 1 of small are graded already" in moved.run("autograde", "small")
    moved.hand_in("ada", moved.solved(double="x + x", square="x * x"))
    assert "other files were handed in" in moved.run("autograde", "small")
    assert moved.scores() == {"ada": FULL}
    assert moved.codes("ada") == []
    moved.run("generate_feedback", "small")
    assert (moved.folder / "feedback/ada/small/small.html").is_file()


def test_the_report_says_what_changed_and_who_needs_a_look(semester):
    folder = semester.folder
    semester.run("db", "assignment", "add", "small", "--duedate=2026-01-05 10:00:00 UTC")
    same = "(x if x else 0) * (2 if x > 0 or x <= 0 else 3) + (0 if x else 0) + sum([0, 0, 0])"
    place = semester.hand_in("ada", semester.solved(double=same))
    (place / "timestamp.txt").write_text("2026-01-06 11:30:00 UTC")
    semester.hand_in("ben", semester.solved(double=same))
    own(folder, "grade", "small", "--workers", "1")
    page = (folder / "reports/small.html").read_text()
    assert "Changed since" not in page
    assert "1 d 1 h 30 min" in page
    assert re.search(
        r"the same but for.*<td>ada</td><td>ben</td><td>double</td>", page, re.I | re.S
    )
    semester.hand_in("ada", semester.solved(double="x + x", square="x * x"))
    with Gradebook(f"sqlite:///{folder / 'gradebook.db'}") as gradebook:
        gradebook.find_grade("test_square", "small", "small", "ben").needs_manual_grade = True
        gradebook.db.commit()
    for _ in range(2):  # a run with nothing to do says the same once more
        printed = own(folder, "grade", "small", "--workers", "1")
        assert re.search(r"manual look\s+ben", printed)
        page = (folder / "reports/small.html").read_text()
        assert "<td>ada</td><td>2</td><td>4</td>" in page.partition("Changed since")[2]
        assert "but for names" not in page
