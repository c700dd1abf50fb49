"""The lessons as learners read them."""

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
