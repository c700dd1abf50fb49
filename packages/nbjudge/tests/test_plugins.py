"""nbgrader's own commands in a course that uses the engine: what comes in and what goes out."""

import csv
import errno
import io
import json
import logging
import os
import pwd
import shutil
import stat
import tarfile
import zipfile
from pathlib import Path

import nbformat
import pytest
from nbformat import v4
from nbgrader.api import Gradebook
from nbgrader.coursedir import CourseDirectory
from nbgrader.exchange import ExchangeError
from nbgrader.utils import notebook_hash
from nbjudge.classes.converter import ClassAutograde
from nbjudge.ids import is_id
from nbjudge.plugins.archives import SafeExtractor
from nbjudge.plugins.export import neutral
from nbjudge.plugins.feedback import Feedback, ReleaseFeedback
from nbjudge.plugins.release import ReleaseAssignment
from traitlets.config import Config

from tests.commands import nbgrader

pytestmark = pytest.mark.slow

CONFIG = """
from nbjudge import configure
c = get_config()
c.CourseDirectory.root = {root!r}
c.CourseDirectory.course_id = "tiny-course"
c.Exchange.root = {root!r} + "/exchange"
configure(c)
c.NbJudge.recorder = "course_tools.grading:quizzes"
"""
ME = pwd.getpwuid(os.geteuid()).pw_name


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """Return a course with one released assignment of one cell."""
    folder = tmp_path_factory.mktemp("plugins") / "course"
    (folder / "source/tiny").mkdir(parents=True)
    (folder / "exchange").mkdir(mode=0o777)
    (folder / "exchange").chmod(0o777)
    (folder / "nbgrader_config.py").write_text(CONFIG.format(root=str(folder)))
    cell = v4.new_code_cell("### BEGIN SOLUTION\nx = 1\n### END SOLUTION")
    cell.metadata["nbgrader"] = {
        "grade": True, "grade_id": "x", "locked": False, "points": 1,
        "schema_version": 3, "solution": True, "task": False,
    }  # fmt: skip
    nb = v4.new_notebook(cells=[cell])
    nb.metadata["kernelspec"] = {"name": "python3", "display_name": "", "language": "python"}
    nbformat.write(nb, folder / "source/tiny/tiny.ipynb")
    nbgrader(folder, "generate_assignment", "tiny")
    nbgrader(folder, "release_assignment", "tiny")
    return folder


@pytest.fixture
def clean(course):
    """Return the course with nothing handed in."""
    for name in ("downloaded", "submitted", "autograded", "feedback"):
        shutil.rmtree(course / name, ignore_errors=True)
    for page in (course / "exchange/tiny-course/feedback").glob("*.html"):
        page.unlink()
    inbound = course / "exchange/tiny-course/inbound"
    for path in inbound.iterdir():
        path.unlink() if path.is_symlink() else shutil.rmtree(path)
    return course


def handed_in(course: Path, student: str, time: str, text: str) -> Path:
    """Put a folder into the exchange as a learner's account can."""
    folder = course / f"exchange/tiny-course/inbound/{student}+tiny+2026-01-{time} 10:00:00 UTC"
    folder.mkdir()
    (folder / "tiny.ipynb").write_text(text)
    return folder


def test_collect_refuses_links_and_goes_on(clean, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("the instructor's")
    folder = handed_in(clean, ME, "01", "mine")
    (folder / "soft.txt").symlink_to(secret)
    (folder / "folder").symlink_to(tmp_path)
    os.link(secret, folder / "hard.txt")
    os.mkfifo(folder / "pipe")
    handed_in(clean, ME, "03", "later").rename(tmp_path / "moved")
    (folder.parent / f"{ME}+tiny+2026-01-03 10:00:00 UTC").symlink_to(tmp_path / "moved")
    printed = nbgrader(clean, "collect", "tiny")
    taken = clean / "submitted" / ME / "tiny"
    assert sorted(path.name for path in taken.iterdir()) == ["tiny.ipynb"]
    assert (taken / "tiny.ipynb").read_text() == "mine"
    for name in ("soft.txt", "folder", "hard.txt", "pipe", "01-03"):
        assert name in printed


def test_collect_takes_a_name_from_its_owner_only(clean):
    handed_in(clean, "somebody-else", "01", "not theirs")
    handed_in(clean, "*", "01", "no name")
    handed_in(clean, ME, "01", "mine")
    printed = nbgrader(clean, "collect", "tiny")
    assert os.listdir(clean / "submitted") == [ME]
    assert "it names somebody-else and belongs to" in printed
    handed_in(clean, ME, "02", "newer")
    nbgrader(clean, "collect", "tiny", "--update")
    assert (clean / "submitted" / ME / "tiny/tiny.ipynb").read_text() == "newer"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_collect_takes_no_file_of_a_foreign_owner(clean):
    other = pwd.getpwnam("nobody")
    folder = handed_in(clean, ME, "02", "mine")
    (folder / "theirs.txt").write_text("not mine")
    os.chown(folder / "theirs.txt", other.pw_uid, other.pw_gid)
    stolen = handed_in(clean, ME, "09", "forged")
    os.chown(stolen, other.pw_uid, other.pw_gid)
    assert "theirs.txt" in nbgrader(clean, "collect", "tiny")
    taken = clean / "submitted" / ME / "tiny"
    assert {path.name: path.read_text() for path in taken.iterdir()} == {"tiny.ipynb": "mine"}


def archive(course: Path, name: str, files: list[tuple[str, str]]) -> Path:
    """Put a zip with these names and contents, in this order, where a platform's is put."""
    path = course / "downloaded/tiny/archive" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for inside, content in files:
            file.writestr(inside, content)
    return path


def collected(course: Path) -> dict[str, dict[str, str]]:
    """Return what lies in `submitted/`, by student."""
    return {
        folder.name: {path.name: path.read_text() for path in (folder / "tiny").iterdir()}
        for folder in (course / "submitted").glob("*")
    }


def listed(course: Path) -> list[dict[str, str]]:
    """Return the table of what became of each file."""
    with (course / "downloaded/tiny/collected.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_zip_collect_takes_canvas_and_moodle(clean):
    archive(clean, "canvas.zip", [
        ("lovelaceada_12_400_tiny.ipynb", "first"),
        ("lovelaceada_LATE_12_456_tiny-2.ipynb", "third"),
        ("lovelaceada_12_455_tiny-1.ipynb", "second"),
        ("lovelaceada_LATE_12_456_quiz_answers (1).json", "{}"),
        ("lovelaceada_12_456_essay.pdf", "?"),
        ("smithkim_7_500_tiny.ipynb", "one Kim"),
        ("smithkim_8_501_tiny.ipynb", "other Kim"),
        ("__MACOSX/._lovelaceada_12_455_tiny-9.ipynb", "clutter"),
    ])  # fmt: skip
    archive(clean, "moodle.zip", [
        ("Łukasz Żak_31_assignsubmission_file_/tiny.ipynb", "Ł"),
        ("山田 太郎_32_assignsubmission_file_/tiny.ipynb", "山"),
        ("فاطمه می\u200cر_33_assignsubmission_file/tiny (1).ipynb", "ف"),
        ("Flat Out_34_assignsubmission_file_tiny.ipynb", "flat"),
    ])  # fmt: skip
    printed = nbgrader(clean, "zip_collect", "tiny")
    assert collected(clean) == {
        "lovelaceada": {"tiny.ipynb": "third", "quiz_answers (1).json": "{}"},
        "smithkim_7": {"tiny.ipynb": "one Kim"},
        "smithkim_8": {"tiny.ipynb": "other Kim"},
        "Łukasz Żak": {"tiny.ipynb": "Ł"},
        "山田 太郎": {"tiny.ipynb": "山"},
        "فاطمه می\u200cر": {"tiny (1).ipynb": "ف"},
        "Flat Out": {"tiny.ipynb": "flat"},
    }
    rows = {row["file"]: row for row in listed(clean)}
    third = rows["canvas/lovelaceada_LATE_12_456_tiny-2.ipynb"]
    assert (third["late"], third["resubmission"], third["reason"]) == ("LATE", "2", "")
    assert "newer" in rows["canvas/lovelaceada_12_400_tiny.ipynb"]["reason"]
    assert "neither a notebook" in rows["canvas/lovelaceada_12_456_essay.pdf"]["reason"]
    assert "lovelaceada_12_456_essay.pdf" in printed


def test_zip_collect_takes_the_platforms_other_names(clean):
    """Names with underscores, anonymous work, a group before a name, notebooks under any suffix."""
    work = json.dumps({"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
    archive(clean, "canvas.zip", [
        ("van_dyckanna_12_400_tiny.ipynb", "anna"),
        ("anon_Ab3xY_401_tiny.ipynb", "anonymous"),
        ("LATE_anon_Qz9aa_402_tiny-1.ipynb", "late"),
        ("müllerjörg_14_403_tiny.ipynb.download", "jörg"),
        ("noakim_15_404_tiny.txt", work),
        ("noakim_15_405_notes.txt", "no notebook"),
    ])  # fmt: skip
    archive(clean, "moodle.zip", [
        ("Group A-Ada Lovelace_31_assignsubmission_file/tiny.ipynb", "ada"),
        ("Participant_32_assignsubmission_file/tiny.ipynb", "blind"),
    ])  # fmt: skip
    with Gradebook(f"sqlite:///{clean}/gradebook.db", "tiny-course") as gradebook:
        gradebook.update_or_create_student("al", first_name="Ada", last_name="Lovelace")
    nbgrader(clean, "zip_collect", "tiny")
    assert collected(clean) == {
        "van_dyckanna": {"tiny.ipynb": "anna"},
        "anon_Ab3xY": {"tiny.ipynb": "anonymous"},
        "anon_Qz9aa": {"tiny.ipynb": "late"},
        "müllerjörg": {"tiny.ipynb.download": "jörg"},
        "noakim": {"tiny.txt": work},
        "al": {"tiny.ipynb": "ada"},
        "Participant": {"tiny.ipynb": "blind"},
    }
    late = {row["student_id"]: row["late"] for row in listed(clean)}
    assert (late["anon_Qz9aa"], late["anon_Ab3xY"]) == ("LATE", "")


def test_zip_collect_takes_plain_folders(clean):
    archive(clean, "class.zip", [
        ("class/ada/tiny.ipynb", "ada"),
        ("/".join(("class", "bob", "work", "tiny", "tiny.ipynb")), "bob"),
        ("class/bob/quiz_answers.json", "{}"),
        ("class/cy/other.ipynb", "cy"),
    ])  # fmt: skip
    archive(clean, "dora.zip", [("tiny/tiny.ipynb", "dora")])
    for name in ("eve.ipynb", "tiny_finn.ipynb", "tiny.ipynb"):
        (clean / "downloaded/tiny/archive" / name).write_text(name)
    nbgrader(clean, "zip_collect", "tiny")
    assert collected(clean) == {
        "ada": {"tiny.ipynb": "ada"},
        "bob": {"tiny.ipynb": "bob", "quiz_answers.json": "{}"},
        "cy": {"other.ipynb": "cy"},
        "dora": {"tiny.ipynb": "dora"},
        "eve": {"eve.ipynb": "eve.ipynb"},
        "finn": {"tiny.ipynb": "tiny_finn.ipynb"},
    }
    assert [row["file"] for row in listed(clean) if row["reason"]] == ["tiny.ipynb"]
    assert (clean / "downloaded/tiny/extracted/tiny.ipynb").is_file()


def test_zip_collect_takes_the_names_of_more_platforms(clean):
    archive(clean, "blackboard.zip", [
        ("Tiny_ada_attempt_2026-11-20-11-12-01_tiny.ipynb", "first"),
        ("Tiny_ada_attempt_2026-11-21-09-00-00_tiny.ipynb", "second"),
        ("Tiny_ada_attempt_2026-11-21-09-00-00.txt", "what Blackboard says of it"),
    ])  # fmt: skip
    archive(clean, "brightspace.zip", [
        ("12-90 - Bob Ross - Nov 20, 2026 1112 AM - tiny.ipynb", "first"),
        ("12-91 - Bob Ross - Nov 20, 2026 112 PM - tiny.ipynb", "second"),
        ("13-92 - Cy Doe - Nov 20, 2026 112 PM/tiny.ipynb", "cy"),
        ("index.html", "?"),
    ])  # fmt: skip
    archive(clean, "ilias.zip", [
        ("Tiny/Abgaben/Doe_Dora_dora_3/20261120101201_tiny.ipynb", "dora"),
        ("Tiny/Abgaben/Ross_Eve_eve_4/20261120101201_tiny.ipynb", "eve"),
    ])  # fmt: skip
    archive(clean, "teams.zip", [
        ("Submitted files/Flo/Tiny/Version 1/tiny.ipynb", "first"),
        ("Submitted files/Flo/Tiny/Version 10/tiny.ipynb", "tenth"),
        ("Submitted files/Flo/Tiny/Version 2/tiny.ipynb", "second"),
        ("Submitted files/Guy/Tiny/Version 1/tiny.ipynb", "guy"),
    ])  # fmt: skip
    archive(clean, "own.zip", [
        ("hal/tiny.ipynb", "hal"),
        ("hal/.ipynb_checkpoints/tiny-checkpoint.ipynb", "older"),
        ("ida/.ipynb_checkpoints/tiny-checkpoint.ipynb", "all that there is"),
    ])  # fmt: skip
    with Gradebook(f"sqlite:///{clean}/gradebook.db", "tiny-course") as gradebook:
        gradebook.update_or_create_student("bob", first_name="Bob", last_name="Ross")
    nbgrader(clean, "zip_collect", "tiny")
    assert collected(clean) == {
        "ada": {"tiny.ipynb": "second"},
        "bob": {"tiny.ipynb": "second"},
        "Cy Doe": {"tiny.ipynb": "cy"},
        "Doe_Dora_dora_3": {"20261120101201_tiny.ipynb": "dora"},
        "Ross_Eve_eve_4": {"20261120101201_tiny.ipynb": "eve"},
        "Flo": {"tiny.ipynb": "tenth"},
        "Guy": {"tiny.ipynb": "guy"},
        "hal": {"tiny.ipynb": "hal"},
        "ida": {"tiny-checkpoint.ipynb": "all that there is"},
    }


def test_zip_collect_knows_people_from_folders_of_one_name(clean):
    archive(clean, "class.zip", [
        ("class/ada/my things/tiny/tiny.ipynb", "ada"),
        ("class/bob/my things/tiny/tiny.ipynb", "bob"),
    ])  # fmt: skip
    archive(clean, "one.zip", [("class/cy/notebooks/tiny/tiny.ipynb", "cy")])
    archive(clean, "deep.zip", [("class/group 1/dora/things/tiny/tiny.ipynb", "?")])
    archive(clean, "enrolled.zip", [("term/class/group/eve/things/tiny/tiny.ipynb", "eve")])
    with Gradebook(f"sqlite:///{clean}/gradebook.db", "tiny-course") as gradebook:
        gradebook.update_or_create_student("eve")
    printed = nbgrader(clean, "zip_collect", "tiny")
    assert collected(clean) == {name: {"tiny.ipynb": name} for name in ("ada", "bob", "cy", "eve")}
    assert "any of its folders may name the learner: class, group 1, dora, things" in printed


def test_feedback_of_a_renamed_notebook_is_where_its_learner_looks(clean):
    def hand_in(student, *names):
        for step in ("submitted", "feedback"):
            (clean / step / student / "tiny").mkdir(parents=True)
        for name in names:
            path = clean / "submitted" / student / "tiny" / name
            path.parent.mkdir(exist_ok=True)
            path.touch()
        (clean / "feedback" / student / "tiny/tiny.html").write_text(student)
        (clean / "feedback" / student / "tiny/submission_secret.txt").write_text(student)

    hand_in("ada", "tiny (1).ipynb")
    hand_in("bob", "work/tiny.ipynb")
    printed = nbgrader(clean, "release_feedback", "tiny")
    place = clean / "exchange/tiny-course/feedback"
    found = notebook_hash(secret="ada", notebook_id="tiny (1)")
    assert (place / f"{found}.html").read_text() == "ada"
    assert "bob cannot fetch" in printed and "ada cannot" not in printed


def test_zip_collect_goes_on_after_hostile_archives(clean):
    honest = ("honest_1_2_tiny.ipynb", "honest")
    path = archive(clean, "a.zip", [
        ("../../../escaped_1_2_tiny.ipynb", "out"),
        ("/absolute_1_2_tiny.ipynb", "out"),
        ("bomb_1_2_tiny.ipynb", "0" * 120_000_000),
        honest,
        ("HONEST_1_2_tiny.ipynb", "another"),
        ("nested_3_4_tiny.zip", "no zip"),
        ("[ab]_3_4_tiny.ipynb", "pattern"),
    ])  # fmt: skip
    link = zipfile.ZipInfo("link_1_2_tiny.ipynb")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(link, "/etc/passwd")
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr(honest[0], "the same name")
    (path.parent / "broken.zip").write_bytes(b"PK\x03\x04 no zip")
    with tarfile.open(path.parent / "tar.tar.gz", "w:gz") as file:
        for name, kind in (("soft", tarfile.SYMTYPE), ("hard", tarfile.LNKTYPE)):
            member = tarfile.TarInfo(f"{name}_1_2_tiny.ipynb")
            member.type, member.linkname = kind, "/etc/passwd"
            file.addfile(member)
        member = tarfile.TarInfo("tarred_1_2_tiny.ipynb")
        member.size = 6
        file.addfile(member, io.BytesIO(b"tarred"))
    printed = nbgrader(clean, "zip_collect", "tiny")
    assert collected(clean) == {
        "honest": {"tiny.ipynb": "honest", "tiny (2).ipynb": "the same name"},
        "HONEST": {"tiny.ipynb": "another"},
        "tarred": {"tiny.ipynb": "tarred"},
    }
    for name in ("escaped", "absolute", "bomb", "link", "soft", "hard", "broken.zip", "[ab]"):
        assert name in printed
    assert not list(clean.parent.rglob("escaped*"))


def test_zip_collect_fails_where_nobody_was_collected(clean):
    nothing = nbgrader(clean, "zip_collect", "tiny", code=None)
    assert "Nobody was collected" in nothing
    archive(clean, "a.zip", [("notes.txt", "?")])
    nbgrader(clean, "zip_collect", "tiny", "--force", code=1)


def test_zip_collect_keeps_what_was_collected_before(clean):
    archive(clean, "a.zip", [("ada_1_2_tiny.ipynb", "old")])
    nbgrader(clean, "zip_collect", "tiny")
    shutil.rmtree(clean / "downloaded/tiny/extracted")
    archive(clean, "a.zip", [("ada_1_3_tiny-1.ipynb", "new"), ("bob_2_4_tiny.ipynb", "bob")])
    assert "--force" in nbgrader(clean, "zip_collect", "tiny")
    assert collected(clean) == {"ada": {"tiny.ipynb": "old"}, "bob": {"tiny.ipynb": "bob"}}
    nbgrader(clean, "zip_collect", "tiny", "--force")
    assert collected(clean)["ada"] == {"tiny.ipynb": "new"}


def test_feedback_reaches_each_by_name(clean):
    with Gradebook(f"sqlite:///{clean}/gradebook.db", "tiny-course") as gradebook:
        for student in ("a", "b", "mailed", "[ab]"):
            folder = clean / "autograded" / student / "tiny"
            folder.mkdir(parents=True)
            shutil.copy(clean / "release/tiny/tiny.ipynb", folder)
            if student != "mailed":
                (folder / "submission_secret.txt").write_text(f"secret of {student}")
            gradebook.update_or_create_student(student)
            gradebook.update_or_create_submission("tiny", student)
    printed = nbgrader(clean, "generate_feedback", "tiny")
    assert "[ab]" in printed
    assert sorted(os.listdir(clean / "feedback")) == ["a", "b", "mailed"]
    (clean / "feedback/[ab]/tiny").mkdir(parents=True)
    printed = nbgrader(clean, "release_feedback", "tiny")
    assert "mailed cannot fetch" in printed
    assert len(list((clean / "exchange/tiny-course/feedback").iterdir())) == 2


def test_export_is_data_to_a_spreadsheet(clean):
    names = {"comma,id": "=1+1", "-5": "@SUM(1)", '"quoted"': "+cmd|' /C calc'!A0", "=2": "-3"}
    with Gradebook(f"sqlite:///{clean}/gradebook.db", "tiny-course") as gradebook:
        for student, name in names.items():
            gradebook.update_or_create_student(student, last_name=name, first_name="two\nlines")
    nbgrader(clean, "export", "--to", "table.csv")
    with (clean / "table.csv").open(newline="", encoding="utf-8") as file:
        rows = {row["student_id"]: row for row in csv.DictReader(file)}
    assert rows["comma,id"]["last_name"] == "'=1+1"
    assert rows["-5"]["last_name"] == "'@SUM(1)"
    assert rows['"quoted"']["last_name"].startswith("'+cmd")
    assert rows["'=2"]["last_name"] == "-3"
    assert all(row["first_name"] == "two\nlines" and row["max_score"] == "1.0"
               for name, row in rows.items() if name.strip("'") in names)  # fmt: skip


def test_an_archive_of_too_many_files_ends_at_its_bound(tmp_path):
    (tmp_path / "in").mkdir()
    with zipfile.ZipFile(tmp_path / "in/a.zip", "w") as file:
        for number in range(20):
            file.writestr(f"../{number}" if number % 2 else f"{number}.ipynb", "")
    extractor = SafeExtractor(max_files=10)
    extractor.extract(str(tmp_path / "in"), str(tmp_path / "out"))
    assert len(list((tmp_path / "out/a").iterdir())) == 5
    assert [why for what, why in extractor.left_out if what == "a.zip"]


@pytest.mark.parametrize("value", [-1.5, 0, "-1.5", "+3", "1e-3", "plain", "a=b"])
def test_neutral_leaves_numbers_and_plain_text(value):
    assert neutral(value) == value


@pytest.mark.parametrize("name", ["ada", "Łukasz Żak", "山田 太郎", "a+b@c.org", "o'neil", "<b>"])
def test_names_that_are_ids(name):
    assert is_id(name)


@pytest.mark.parametrize(
    "name",
    [
        *("", " ", "a ", ".", "..", ".a", "a/b", "a\\b", "*", "a?", "[ab]", "a\nb", "a\0"),
        *("a\u202eb", "a\udcff", "x" * 151),
    ],
)
def test_names_that_are_no_ids(name):
    assert not is_id(name)


def test_a_folder_that_stands_for_many_is_graded_neither_alone_nor_at_all(tmp_path, caplog):
    for name in ("*", "a?", "ada", "[ab]"):
        (tmp_path / "submitted" / name / "tiny").mkdir(parents=True)
    course = CourseDirectory(root=str(tmp_path), assignment_id="tiny")
    everyone = ClassAutograde(coursedir=course)
    everyone.log = logging.getLogger("nbgrader")
    assert everyone._students("tiny") == ["[ab]", "ada"]
    assert "it stands for many names" in caplog.text
    course.student_id = "[ab]"  # Formgrader's button asks for one by name
    assert everyone._students("tiny") == ["[ab]"]


def test_what_code_wrote_while_it_was_graded_is_not_in_the_feedback(tmp_path):
    """A function may write down what a hidden test calls it with."""
    handed_in = {"mine.txt": "mine", "log.txt": "", "in/deep.txt": "deep", "timestamp.txt": "now"}
    graded = {**handed_in, "course.txt": "course", "log.txt": "424242", "page.html": "424242"}
    graded["in/424242.txt"] = "x"
    places = {"submitted/ada": handed_in, "source/.": {"course.txt": "course"}}
    for place, files in {**places, "autograded/ada": graded}.items():
        for name, text in files.items():
            path = tmp_path / place / "tiny" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    course = CourseDirectory(root=str(tmp_path), assignment_id="tiny")
    Feedback(coursedir=course).init_assignment("tiny", "ada")
    shown = tmp_path / "feedback/ada/tiny"
    left = {str(path.relative_to(shown)) for path in shown.rglob("*") if path.is_file()}
    assert left == {"mine.txt", "in/deep.txt", "timestamp.txt", "course.txt"}
    assert (tmp_path / "autograded/ada/tiny/page.html").is_file()


def in_exchange(kind, folder, **traits):
    """Return a part of the exchange for a course in a folder, which has one."""
    config = Config()
    config.CourseDirectory.root = str(folder)
    config.CourseDirectory.course_id = "tiny-course"
    config.CourseDirectory.assignment_id = "tiny"
    config.Exchange.root = str(folder / "exchange")
    (folder / "exchange").mkdir(exist_ok=True)
    return kind(coursedir=CourseDirectory(config=config), config=config, **traits)


def full(source, target):
    """Write half of a file, as a disk that becomes full does."""
    Path(target).write_text("half")
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_release_into_a_full_exchange_leaves_the_old_one(tmp_path, monkeypatch):
    given = tmp_path / "release/tiny/tiny.ipynb"
    given.parent.mkdir(parents=True)
    given.write_text("old")
    release = in_exchange(ReleaseAssignment, tmp_path, force=True).start
    release()
    there = tmp_path / "exchange/tiny-course/outbound/tiny"
    given.write_text("new")

    def half(self, source, target, log=None):
        os.mkdir(target)
        full(source, os.path.join(target, "tiny.ipynb"))

    with monkeypatch.context() as patch:
        patch.setattr(ReleaseAssignment, "do_copy", half)
        with pytest.raises(ExchangeError, match=r"nothing was changed: No space left"):
            release()
    assert (there / "tiny.ipynb").read_text() == "old"
    assert os.listdir(there.parent) == ["tiny"]
    release()
    assert (there / "tiny.ipynb").read_text() == "new"


def test_feedback_that_the_exchange_refuses_is_named_at_the_end(tmp_path, monkeypatch):
    for student in ("ada", "bob"):
        folder = tmp_path / "feedback" / student / "tiny"
        folder.mkdir(parents=True)
        (folder / "tiny.html").write_text(student)
        (folder / "submission_secret.txt").write_text(student)
    copy = shutil.copy

    def one_fails(source, target):
        return full(source, target) if "ada" in str(source) else copy(source, target)

    monkeypatch.setattr(shutil, "copy", one_fails)
    with pytest.raises(ExchangeError, match="Not released: ada"):
        in_exchange(ReleaseFeedback, tmp_path).start()
    pages = [path.read_text() for path in (tmp_path / "exchange/tiny-course/feedback").iterdir()]
    assert pages == ["bob"]
