"""What an exercise forbids: named in its statement, found in whatever way it is called."""

import json

import pytest
from course_tools.build import course
from course_tools.forbidden import FORBIDDEN
from nbformat.v4 import new_code_cell
from nbjudge.intake.forbidden import on_exercises

ROOT = course.root()
GIVEN = new_code_cell(
    "import numpy as np\nimport torch\nimport torch.nn.functional as F\n"
    "from llm_memory.model import attend\nfrom llm_memory.streaming import ModelCache"
)


def used(exercise, source, *helpers):
    """Return what of a learner's solution is flagged."""
    cell = new_code_cell(source, metadata={"nbgrader": {"grade_id": exercise, "solution": True}})
    theirs = [cell, *map(new_code_cell, helpers)]
    found = on_exercises([GIVEN, *theirs], theirs, FORBIDDEN)
    assert all((flag.code, flag.cell) == ("forbidden", exercise) for flag in found)
    return ", ".join(flag.detail for flag in found)


@pytest.mark.parametrize(
    "source, name",
    [
        ("def softmax(x, axis=-1):\n    return torch.softmax(x, axis)", "torch.softmax"),
        ("def softmax(x, axis=-1):\n    return x.softmax(axis)", "softmax"),
        ("def softmax(x, axis=-1):\n    return torch_softmax(x)", "torch_softmax"),
        ("softmax = F.softmax", "torch.nn.functional.softmax"),
        ("from torch import softmax as s\ndef softmax(x):\n    return s(x)", "torch.softmax"),
        ("import scipy.special as p\ndef softmax(x):\n    return p.softmax(x)", "softmax"),
        ("def softmax(x):\n    return getattr(torch, 'soft' + 'max')(x)", "torch.softmax"),
        ("def softmax(x):\n    return vars(torch)['softmax'](x)", "torch.softmax"),
        ("def softmax(x):\n    return torch.__dict__['softmax'](x)", "torch.softmax"),
        ("def softmax(x):\n    return __import__('torch').softmax(x)", "torch.softmax"),
        ("def softmax(x, f=torch.nn.Softmax(-1)):\n    return f(x)", "torch.nn.Softmax"),
        ("def softmax(x):\n    import torch as t\n    return t.special.softmax(x)", "softmax"),
        ("try:\n    softmax = torch.softmax\nexcept NameError:\n    pass", "torch.softmax"),
    ],
)
def test_a_finished_softmax_is_found(source, name):
    assert name in used("softmax", source)


@pytest.mark.parametrize(
    "exercise, source, name",
    [
        ("grouped_query_attention", "return attend(q, k, v, m)[0]", "llm_memory.model.attend"),
        ("attend_in_blocks", "return F.scaled_dot_product_attention(q, k, v)", "attention"),
        ("KVCache", "self.held = ModelCache()", "llm_memory.streaming.ModelCache"),
    ],
)
def test_the_packages_own_and_the_frameworks_are_found(exercise, source, name):
    assert name in used(exercise, f"def f(q, k, v, m, self=None):\n    {source}")


def test_a_helper_in_another_cell_counts_as_part_of_it():
    solution = "def softmax(x, axis=-1):\n    return mine(x)"
    assert used("softmax", solution, "def mine(x):\n    return F.softmax(x, -1)")
    assert used("softmax", solution, "mine = other", "other = torch.softmax")
    assert not used("softmax", solution, "def unused(x):\n    return F.softmax(x, -1)")


@pytest.mark.parametrize(
    "source",
    [
        "def softmax(x, axis=-1):\n    # torch.softmax\n    e = np.exp(x)\n    return e / e.sum()",
        "def softmax(x):\n    'As torch.softmax.'\n    return np.exp(x)\n"
        "print(torch.softmax(x, -1))\nassert torch.allclose(softmax(x), x.softmax(-1))",
        "def softmax(x):\n    return helper(x, name='softmax')",
        "def softmax(x):\n    return x @",
        "",
    ],
)
def test_honest_work_is_not_flagged(source):
    assert used("softmax", source) == ""


@pytest.mark.parametrize("lesson", course.LESSONS)
def test_statements_say_what_is_not_allowed_and_solutions_do_without(lesson):
    text = (ROOT / "notebooks" / f"{lesson}.md").read_text("utf-8")
    notebook = json.loads((ROOT / "source" / lesson / f"{lesson}.ipynb").read_text("utf-8"))
    cells = [
        new_code_cell("".join(cell["source"]), metadata=cell["metadata"])
        for cell in notebook["cells"]
        if cell["cell_type"] == "code"
    ]
    theirs = [cell for cell in cells if cell.metadata.get("nbgrader", {}).get("solution")]
    assert on_exercises(cells, theirs, FORBIDDEN) == []
    for exercise in FORBIDDEN:
        statement = text.partition(f"· `{exercise}` (")[2].partition("```{code-cell}")[0]
        assert not statement or "not allowed here" in statement, exercise


def test_every_exercise_with_a_rule_is_one():
    texts = [(ROOT / "notebooks" / f"{name}.md").read_text("utf-8") for name in course.LESSONS]
    assert all(any(f"· `{exercise}` (" in text for text in texts) for exercise in FORBIDDEN)
