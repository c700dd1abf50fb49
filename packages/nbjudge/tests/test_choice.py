"""Which file of a hand-in is the lesson's notebook, and what of it can be read."""

import gzip
import io
import json
import os
import shutil
import tarfile
import zipfile

import nbformat
import pytest
from nbjudge.intake import folder as intake
from nbjudge.intake.choice import Content
from nbjudge.intake.notebook import MAX_NOTEBOOK, Unreadable, load, read_notebook, slim

from packages.nbjudge.tests.semester import lesson

pytestmark = pytest.mark.slow

CONTENT = Content(
    frozenset({"double", "test_double", "square", "test_square"}),
    {"double": frozenset({"def double(x):"}), "square": frozenset({"def square(x):"})},
    {"double": "double", "square": "square"},
)


def notebook(**answers):
    """Return the lesson with these exercises written."""
    found = lesson()
    for cell in found.cells:
        name = cell.metadata.get("nbgrader", {}).get("grade_id")
        if name in CONTENT.stubs:
            cell.source = f"def {name}(x):" + (
                f"\n    return {answers[name]}" if name in answers else ""
            )
    return found


SOLVED = notebook(double="2*x", square="x*x")
HALF, STUB = notebook(double="2*x"), notebook()
SCRATCH = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("print(1)")])


@pytest.fixture
def take(tmp_path):
    def take(files, lessons=("small",), asked=None, contents=None):
        """Take a hand-in of these files; return the flags and what was taken as each notebook."""
        submitted, staged = tmp_path / "submitted", tmp_path / "staged"
        for name, content in files.items():
            path = submitted / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, dict):
                path.write_text(json.dumps(content))
            else:
                path.write_bytes(content)
        known = contents or dict.fromkeys(lessons, CONTENT)
        flags = intake.take_in(submitted, staged, list(asked or lessons), set(), [], known)
        return flags, staged

    return take


def zipped(tmp_path, files):
    path = tmp_path / "made.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, json.dumps(content))
    return path.read_bytes()


@pytest.mark.parametrize(
    "files",
    [
        {"work/small/small.ipynb": SOLVED},
        {"small.ipynb.txt": SOLVED},
        {"small.ipynb.json": SOLVED},
        {"small.json": SOLVED},
        {"SMALL.IPYNB": SOLVED},
        {"Copy of small.ipynb": SOLVED},
        {"doe_jane_small.ipynb": SOLVED, "Untitled.ipynb": SCRATCH},
        {"homework 3.ipynb": SOLVED, "Untitled1.ipynb": SCRATCH},
        {"small.ipynb": STUB, "small-Copy1.ipynb": SOLVED},
        {"small.ipynb": STUB, "old/small.ipynb": STUB, "new/small.ipynb": SOLVED},
        {"small (2).ipynb": notebook(double="0", square="0"), "small (10).ipynb": SOLVED},
        {"small v2.ipynb": notebook(double="0", square="0"), "small v11.ipynb": SOLVED},
        {"small.ipynb": SOLVED, "small-Copy1.ipynb": notebook(double="0", square="0")},
        {"small.ipynb": HALF, "small (1).ipynb": SOLVED},
        {"small.ipynb": SCRATCH, "work/anything.ipynb.txt": SOLVED},
        {"small": SOLVED},
        {"small.txt": SOLVED},
        {"small.ipynb.download": SOLVED},
        {"small.ipynb (1)": SOLVED},
        {"small.ipynb.html": SOLVED, "Untitled.ipynb": SCRATCH},
        {"small.ipynb.bak": SOLVED, "small.ipynb": STUB},
        {".ipynb_checkpoints/small-checkpoint.ipynb": SOLVED},
        {".small.ipynb": SOLVED, "small.ipynb": STUB},
    ],
)
def test_the_right_one_is_taken(take, files):
    flags, staged = take(files)
    assert json.loads((staged / "small.ipynb").read_text()) == json.loads(json.dumps(SOLVED))
    codes = [flag.code for flag in flags["small"]]
    right = next(name for name, content in files.items() if content is SOLVED)
    assert ("renamed" in codes) == (right != "small.ipynb")


def test_a_checkpoint_beside_work_is_passed_over(take):
    flags, staged = take({"small.ipynb": HALF, ".ipynb_checkpoints/small-checkpoint.ipynb": SOLVED})
    assert json.loads((staged / "small.ipynb").read_text()) == json.loads(json.dumps(HALF))
    assert flags["small"] == []


def test_the_choice_is_said(take):
    flags, _ = take({"small.ipynb": HALF, "small (1).ipynb": SOLVED})
    said = {flag.code: flag.sentence for flag in flags["small"]}
    assert "small (1).ipynb, with 2 of 2 exercises begun; not small.ipynb with 1" in said["chosen"]


def test_a_notebook_in_a_zip_counts_with_what_lies_there(take, tmp_path):
    inside = zipped(tmp_path, {"work/small.ipynb": SOLVED, "__MACOSX/small.ipynb": HALF})
    flags, staged = take({"hand in.zip": inside})
    assert (
        json.loads((staged / "small.ipynb").read_text())["cells"]
        == json.loads(json.dumps(SOLVED))["cells"]
    )
    assert "hand in.zip!work/small.ipynb" in "".join(flag.sentence for flag in flags["small"])


def tarred(files, mode):
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode=mode) as archive:
        for name, content in files.items():
            about = tarfile.TarInfo(name)
            about.size = len(content)
            archive.addfile(about, io.BytesIO(content))
    return held.getvalue()


def test_a_notebook_in_any_archive_counts(take, tmp_path):
    work = json.dumps(SOLVED).encode()
    packed = {
        "small.tar.gz": tarred({"w/small.ipynb": work}, "w:gz"),
        "small.tar": tarred({"small.ipynb": work}, "w"),
        "small.tar.xz": tarred({"small.ipynb": work}, "w:xz"),
        "small.ipynb.gz": gzip.compress(work),
        "small.ipynb": zipped(tmp_path, {"small.ipynb": SOLVED}),  # a zip by another name
        "twice.zip": _zip({"inner.zip": zipped(tmp_path, {"small.ipynb": SOLVED})}),
    }
    for number, (name, data) in enumerate(packed.items()):
        flags, staged = take({f"{number}/{name}": data, f"{number}/none.txt": b"?"})
        assert json.loads((staged / "small.ipynb").read_text())["cells"], name
        assert "renamed" in [flag.code for flag in flags["small"]], name
        shutil.rmtree(staged)
        shutil.rmtree(tmp_path / "submitted")


def _zip(files):
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return held.getvalue()


def test_a_packed_bomb_is_not_unpacked(take):
    bomb = gzip.compress(b"{" + b" " * (MAX_NOTEBOOK + 10), 9)
    flags, _ = take({"small.ipynb.gz": bomb, "deep.zip": _zip({"a.zip": _zip({"b.zip": b"PK"})})})
    assert [flag.code for flag in flags["small"]] == ["missing_notebook"]


def test_what_is_no_notebook_is_not_looked_for_in_every_file(take):
    flags, _ = take({"data.json": b'{"metadata": 1}', "a.bin": b"{\0\xff", "small.ipynb": SOLVED})
    assert [flag.code for flag in flags["small"]] == []


@pytest.mark.parametrize("data", [b"PK\x03\x04 none", b"", b"PK" * 5000])
def test_a_zip_that_is_none_is_named(take, data):
    flags, staged = take({"small.zip": data})
    assert [flag.code for flag in flags["small"]] == ["missing_notebook"]
    assert "small.zip" in flags["small"][0].sentence
    assert not (staged / "small.ipynb").exists()


def test_what_was_there_is_named_when_nothing_fits(take):
    flags, _ = take({"essay.pdf": b"%PDF", "data.csv": b"1,2"})
    assert "(there were: data.csv, essay.pdf)" in flags["small"][0].sentence


def test_another_notebook_of_the_lesson_is_never_graded_as_this_one(take):
    extra = Content(frozenset({"more", "test_more"}), {"more": frozenset()}, {})
    flags, staged = take(
        {"small.ipynb": SOLVED}, asked=["extra"], contents={"small": CONTENT, "extra": extra}
    )
    assert [flag.code for flag in flags["extra"]] == ["missing_notebook"]
    assert not (staged / "extra.ipynb").exists()


def test_files_beside_a_notebook_in_a_folder_are_beside_it(take):
    _, staged = take({"work/small.ipynb": SOLVED, "work/data.csv": b"1,2"})
    assert (staged / "data.csv").read_bytes() == b"1,2"


def test_one_byte_of_another_encoding_is_read_and_said(tmp_path):
    path = tmp_path / "small.ipynb"
    data = json.dumps(SOLVED, ensure_ascii=False).replace("A small lesson", "Le caf\u00e9 \u017d")
    path.write_bytes(data.encode("utf-8").replace("\u00e9".encode(), b"\xe9"))
    found = read_notebook(path)
    assert found.cells[0].source == "# Le caf\u00e9 \u017d"
    assert [(flag.code, "0xe9" in flag.sentence) for flag in found.flags] == [("encoding", True)]


@pytest.mark.parametrize("start", [b"\0", b"\0\0\0", b"{\0", b"\xff\xfe", b"\xff\xfe\0\0"])
def test_zeros_at_the_start_make_no_other_encoding(start):
    with pytest.raises(Unreadable, match="it is not JSON"):
        load(start + b'{"cells": []}')


_TEXT = json.dumps(SOLVED, indent=1)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (_TEXT[: _TEXT.index("square(x)") + 3], "it breaks off in line"),
        (_TEXT[: _TEXT.index("cells") + 8], "it breaks off at its end"),
        (_TEXT.replace("{\n", "{\n<<<<<<< HEAD\n", 1), "conflict of versions is marked in line 2"),
        (_TEXT + "}", "something is wrong in line"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of Git LFS"),
        ("<!DOCTYPE html><title>Sign in</title>", "it is a web page"),
        ("Rar!\x1a\x07", "it is a RAR archive"),
    ],
)
def test_what_is_no_json_is_called_what_it_is(data, why):
    with pytest.raises(Unreadable, match=why):
        load(data.encode())


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_other_encodings_of_unicode_are_read(encoding):
    text = json.dumps(STUB, ensure_ascii=False)
    assert load(text.encode(encoding)) == (json.loads(text), "")


def outputs(kind):
    line = '12345 [brackets] {braces} \\"quotes\\"\n'
    if kind == "lines":
        return [{"output_type": "stream", "name": "stdout", "text": [line] * (MAX_NOTEBOOK // 30)}]
    if kind == "many":
        one = {"output_type": "stream", "name": "stdout", "text": line * 4000}
        return [one] * (MAX_NOTEBOOK // 140_000)
    if kind == "many small":
        one = {"output_type": "stream", "name": "stdout", "text": line * 25}
        return [one] * (MAX_NOTEBOOK // 900)
    return [
        {"output_type": "display_data", "metadata": {}, "data": {"image/png": "A" * MAX_NOTEBOOK}}
    ]


@pytest.mark.parametrize("kind", ["lines", "picture", "many"])
def test_a_large_notebook_that_is_all_outputs_is_read_without_them(tmp_path, kind):
    large = json.loads(json.dumps(SOLVED))
    small = {"output_type": "display_data", "metadata": {"kept": [1]}, "data": {"text/plain": "a"}}
    large["cells"][1]["outputs"] = [small, *outputs(kind), small]
    large["cells"][3]["source"] = 'x = """ "outputs": [ {"""'
    path = tmp_path / "large.ipynb"
    path.write_text(json.dumps(large))
    data, slimmed = slim(path)
    assert slimmed and len(data) < 200_000
    large["cells"][1]["outputs"] = [small, small]
    assert json.loads(data) == large


def test_large_state_of_sliders_and_pictures_in_texts_are_left_out_too(tmp_path):
    large = json.loads(json.dumps(SOLVED))
    states = {str(n): {"state": {"value": "x" * 1000}} for n in range(MAX_NOTEBOOK // 1000)}
    large["metadata"]["widgets"] = {"application/vnd.jupyter.widget-state+json": states}
    large["cells"][0]["attachments"] = {"a.png": {"image/png": "A" * MAX_NOTEBOOK}}
    path = tmp_path / "large.ipynb"
    path.write_text(json.dumps(large))
    data, slimmed = slim(path)
    large["metadata"]["widgets"], large["cells"][0]["attachments"] = {}, {}
    assert slimmed and json.loads(data) == large


def test_zeros_behind_the_end_are_no_part_of_it():
    assert load(b'{"cells": []}\n\0\0\0') == ({"cells": []}, "")


def test_a_large_notebook_of_anything_else_is_refused(tmp_path):
    large = json.loads(json.dumps(SOLVED))
    large["cells"][1]["source"] = "x" * MAX_NOTEBOOK
    path = tmp_path / "large.ipynb"
    path.write_text(json.dumps(large))
    with pytest.raises(Unreadable, match="even without outputs"):
        slim(path)


@pytest.mark.parametrize("kind", ["folder", "pipe", "link"])
def test_what_only_has_the_name_of_a_notebook_is_said_to_be_none(tmp_path, kind):
    path = tmp_path / "submitted/small.ipynb"
    path.parent.mkdir()
    if kind == "folder":
        path.mkdir()
        (path / "inside").write_text("x")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(tmp_path / "elsewhere.ipynb")
    flags = intake.copy_in(
        tmp_path / "submitted", tmp_path / "staged", ["small"], set(), [], {"small": CONTENT}
    )
    said = {flag.code: flag.sentence for flag in flags["small"]}
    assert "it is " in said["unreadable"]
    assert not (tmp_path / "staged/small.ipynb").is_file()
