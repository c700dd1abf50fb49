"""What the attention lesson says about the shipped model is so; new weights must keep it true."""

import re

import nbformat
import pytest
import torch
from course_tools.build import course as clone

from llm_memory.model import attention_weights, load_model

pytestmark = pytest.mark.lesson("attention")

SENTENCE = "When the student finished the exam, they felt relieved."
STORY = "When the {} {}, they felt"


@pytest.fixture(scope="module")
def reader():
    """The model and its tokenizer, and the sentence's tokens and weights."""
    model, tokenizer = load_model()
    return (
        model,
        tokenizer,
        tokenizer.tokens(SENTENCE),
        attention_weights(model, tokenizer.encode(SENTENCE)),
    )


def chances(reader, text, hide=()):
    model, tokenizer, *_ = reader
    with torch.no_grad():
        shares = model(tokenizer.encode(text), hide=hide)[0, -1].softmax(dim=-1)
    return dict(zip(tokenizer.words, shares.tolist(), strict=True))


def best(shares):
    return max(shares, key=shares.get)


def strongest(reader, query, key):
    *_, words, looks = reader
    at = looks[:, :, words.index(query), words.index(key)]
    return divmod(int(at.argmax()), at.shape[1]), float(at.max())


def test_a_head_takes_they_to_the_student(reader):
    assert strongest(reader, "they", "student")[1] > 0.8


def test_different_heads_take_felt_to_who_and_to_what_happened(reader):
    who, at_student = strongest(reader, "felt", "student")
    what, at_exam = strongest(reader, "felt", "exam")
    assert who != what
    assert at_student > 0.5
    assert at_exam > 0.4


def test_the_comma_predicts_they(reader):
    assert best(chances(reader, "When the student finished the exam,")) == "they"


def test_role_and_event_both_decide(reader):
    said = {
        (role, event): best(chances(reader, STORY.format(role, f"{event} the exam")))
        for role in ("student", "teacher")
        for event in ("finished", "failed")
    }
    assert said["student", "finished"] == "relieved"
    assert said["student", "failed"] == "nervous"
    assert len(set(said.values())) == 4


def test_hiding_the_student_takes_the_answer_away_and_leaves_glad_words(reader):
    *_, words, _ = reader
    story = STORY.format("student", "finished the exam")
    assert chances(reader, story)["relieved"] > 0.9
    hidden = chances(reader, story, hide=[words.index("student")])
    assert hidden["relieved"] < 0.2
    glad = {best(chances(reader, STORY.format(role, "won the race"))) for role in ROLES}
    sad = {best(chances(reader, STORY.format(role, "lost the race"))) for role in ROLES}
    assert sum(hidden[word] for word in glad) > 5 * sum(hidden[word] for word in sad)


def test_the_answer_rests_on_who_and_on_what_happened(reader):
    *_, words, looks = reader
    story = STORY.format("student", "finished the exam")
    left = [
        chances(reader, story, hide=[place])["relieved"] for place in range(words.index("they") + 1)
    ]
    student, finished = words.index("student"), words.index("finished")
    lowest = sorted(range(len(left)), key=left.__getitem__)[:3]
    assert set(lowest) == {student, finished, finished + 1}
    # The word after "finished" carries it: a head of the first layer looks one token back.
    assert float(looks[0, :, finished + 1, finished].max()) > 0.9


def test_a_dragon_is_unknown(reader):
    _, tokenizer, *_ = reader
    assert tokenizer.tokens("the dragon") == ["the", "<unk>"]


ROLES = ("teacher", "pilot", "nurse", "king", "child", "cook", "writer", "judge")


def test_they_comes_without_the_student_and_relieved_does_not(reader):
    opening = "when the student finished the exam ,"
    assert chances(reader, opening, hide=[2])["they"] > 0.99
    story = opening + " they felt"
    assert chances(reader, story)["relieved"] > 0.9 > 0.2 > chances(reader, story, [2])["relieved"]


@pytest.fixture(scope="module")
def said():
    """All text of the executed lesson's outputs, the pictures' words among it."""
    path = clone.root() / "source" / "attention" / "attention.ipynb"
    outputs = [
        output
        for cell in nbformat.read(path, as_version=4).cells
        for output in cell.get("outputs", [])
    ]
    return "\n".join(o.get("text") or o.get("data", {}).get("text/plain", "") for o in outputs)


def test_the_twenty_lines_are_the_model(said):
    assert "the same logits: True" in said


def test_heads_that_recall_are_found_and_proved(said):
    assert re.search(r"one token back +layer 0, head 1: 0\.9", said)
    induction = re.findall(r"after its first time +layer 1, head (\d): 0\.9", said)
    assert induction == ["0", "1", "3"]
    bars = re.search(r"Bars\. recall of the red code: (.*)\.", said)[1]
    shares = {name: float(share) for name, share in re.findall(r"([^,]+) (\d\.\d+),?\s?", bars)}
    assert shares["all heads on"] == 1
    assert max(shares["0.0 off"], shares["0.1 off"], shares["all three off"]) < 0.2
    assert min(shares[name] for name in ("1.0 off", "1.1 off", "1.3 off", "layer 2 off")) > 0.9
