"""The lessons as learners read them."""

import re

import nbformat
import pytest
from course_tools.build import course as clone

from tests.submissions import ROOT

LESSONS = [name for name in clone.LESSONS if (ROOT / "release" / name).is_dir()]


@pytest.mark.parametrize("lesson", LESSONS)
def test_every_picture_has_a_text(lesson):
    source = nbformat.read(ROOT / "source" / lesson / f"{lesson}.ipynb", as_version=4)
    for cell in source.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                words = "".join(data.get("text/plain", ""))
                assert words and not words.startswith("<"), f"{cell.id}: a picture without words"


def _read(lesson):
    return (ROOT / "notebooks" / f"{lesson}.md").read_text(encoding="utf-8")


def _headings(text):
    return re.findall(
        r"^#{1,4} (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE
    )


@pytest.mark.parametrize("lesson", LESSONS)
def test_every_link_within_a_lesson_leads_to_a_heading_by_plain_signs(lesson):
    """Jupyter makes a heading's address of its words; signs beyond ASCII get lost on the way."""
    text = _read(lesson)
    places = {heading.replace(" ", "-") for heading in _headings(text)}
    for target in re.findall(r"\]\(#([^)]+)\)", text):
        assert target in places, f"{lesson}: no heading for the link #{target}"
        assert target.isascii(), f"{lesson}: the link #{target} does not scroll in JupyterLab"


@pytest.mark.parametrize("lesson", LESSONS)
def test_every_source_that_is_listed_is_used(lesson):
    body, sources = _read(lesson).split("\n## Sources\n")
    first_lines = [line for line in sources.splitlines() if line.startswith("- ")]
    for line in first_lines:
        links = re.findall(r"\]\((https?://[^)]+)\)", line)
        if links and "further reading" not in line:
            assert any(link.rstrip("/") in body for link in links), f"{lesson}: unused: {line}"
