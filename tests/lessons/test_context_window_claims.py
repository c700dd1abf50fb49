"""What the context window lesson says of the shipped model is what its executed cells show."""

import re

import nbformat
import pytest
from course_tools.build import course

pytestmark = pytest.mark.lesson("context_window")

SOURCE = course.root() / "source" / "context_window" / "context_window.ipynb"


@pytest.fixture(scope="module")
def said():
    """All text of the executed lesson's outputs, the pictures' words among it."""
    lines = []
    for cell in nbformat.read(SOURCE, as_version=4).cells:
        for output in cell.get("outputs", []):
            lines.append(output.get("text") or output.get("data", {}).get("text/plain", ""))
    return "\n".join(lines)


def curve(text):
    pairs = re.findall(r"(\d\.\d\d) at (\d+)", text)
    return {int(place): float(value) for value, place in pairs}


def test_the_code_is_lost_like_falling_off_a_cliff(said):
    words = re.search(
        r"recall is at least (\S+)\. With its digits cut off it is at most (\S+)\.", said
    )
    assert float(words[1]) >= 0.9
    assert float(words[2]) <= 0.1
    rows = re.findall(r"red (.*), blue (.*) → it writes (.*)", said)
    assert len(rows) == 6
    assert all(written == blue for _, blue, written in rows)


def test_loss_past_the_window_interpolation_and_the_larger_base(said):
    found = re.findall(r"(\S.*\S) +inside the window (\S+), far past it (\S+)", said)
    inside = {name: float(a) for name, a, _ in found}
    outside = {name: float(b) for name, _, b in found}
    assert outside["plain"] > 1.2 * inside["plain"]
    assert inside["interpolated"] > 2 * inside["plain"]
    assert inside["NTK-scaled base"] < 1.05 * inside["plain"]
    assert inside["NTK-scaled base"] < outside["NTK-scaled base"] < outside["plain"]


def test_recall_by_distance_inside_and_past_the_window(said):
    text = re.search(r"Recall by distance, trained window (\d+)\. (.*)", said)
    window, (plain, scaled) = int(text[1]), map(curve, text[2].split("NTK-scaled base:"))
    inside = [share for distance, share in plain.items() if distance < window]
    past = {distance: share for distance, share in plain.items() if distance > window}
    assert min(inside) >= 0.9 > 0.8 > max(past.values())
    assert past[min(past)] <= 0.1 < max(past.values())
    assert all(share < 0.5 for distance, share in past.items() if distance > 1.5 * window)
    assert past[max(past)] < 0.25
    assert all(scaled[d] >= plain[d] + 0.2 for d in past)
    assert all(scaled[d] == 1 for d in past if d < 1.5 * window)
    assert scaled[max(scaled)] < 0.9


def test_a_sliding_window_loses_the_code_where_it_ends(said):
    found = re.findall(r"first digit +(\d+) tokens back: recall (\S+)", said)
    assert len(found) == 7
    for distance, share in found:
        assert float(share) >= 0.9 if int(distance) < 64 else float(share) <= 0.1


def test_stretching_by_parts_keeps_the_inside_and_helps_far_past_it(said):
    found = re.findall(r"(\S.*\S) +inside (\d\S+), far past (\S+)", said)
    inside = {name: float(a) for name, a, _ in found}
    outside = {name: float(b) for name, _, b in found}
    assert inside["by parts"] <= inside["plain"] + 0.02
    assert outside["by parts"] < outside["NTK-scaled base"]


def test_only_facts_that_are_too_far_from_the_question_are_lost(said):
    grid = re.search(r"Recall by depth and length, trained window (\d+): (.*)\.", said)
    window = int(grid[1])
    for row in grid[2].split("; "):
        depth = float(re.search(r"depth (\S+):", row)[1])
        for length, share in curve(row).items():
            inside = length * (1 - depth) < window
            assert share >= 0.9 if inside else share <= 0.6


def test_two_hops_need_the_step_between(said):
    assert 0.3 <= float(re.search(r"at once +right in (\S+)", said)[1]) <= 0.7
    assert float(re.search(r"step by step +right in (\S+)", said)[1]) >= 0.95
