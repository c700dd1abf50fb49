"""The shipped file can do what its card says, and the card says what was measured."""

import hashlib
import json
from pathlib import Path

import pytest
import torch

from llm_memory.model import SHIPPED, load_model
from llm_memory.training import abilities
from llm_memory.training.corpus import Corpus, Token, is_held_out
from llm_memory.training.loop import Recipe, new_model, train

torch.set_num_threads(1)
CASES = 60


@pytest.fixture(scope="module")
def shipped():
    return load_model()


@pytest.fixture(scope="module")
def figures():
    return json.loads((SHIPPED / "abilities.json").read_text(encoding="utf-8"))


def test_understands_they_on_pairs_that_training_never_joined(shipped):
    right = abilities.coreference(*shipped, CASES)
    for kind in ("simple", "distractor", "gap", "object"):
        assert right[kind] >= 0.95, right


def test_the_seed_sentence_is_answered_by_a_head_that_looks_at_the_student(shipped):
    assert is_held_out("student", "finished the exam")
    seen = abilities.seed_sentence(*shipped, 20)
    assert next(iter(seen["next"])) == "relieved"
    assert next(iter(seen["next_teacher"])) == "proud"
    assert next(iter(seen["next_failed"])) == "nervous"
    assert seen["they_to_student"] > 0.8
    assert seen["relieved_if_student_hidden"] < seen["next"]["relieved"] / 2


@pytest.mark.filterwarnings("ignore:The text is longer")
def test_recalls_one_of_several_facts_inside_the_window_and_not_past_it(shipped):
    window = shipped[0].config.window
    inside = [window // 4, window // 2, 3 * window // 4]
    recall = abilities.recall(*shipped, CASES, [*inside, window, 2 * window])
    for row in recall["by_length"].values():
        assert min(row[str(length)] for length in inside) >= 0.95, row
        # It fades where the window ends: the card has the figures of many more cases.
        assert row[str(window)] > 0.85 > 0.3 > row[str(2 * window)], row
    assert min(recall["by_kind"].values()) >= 0.95


@pytest.mark.filterwarnings("ignore:The text is longer")
def test_loss_falls_inside_the_window_and_rises_past_it(shipped):
    model, tokenizer = shipped
    window = model.config.window
    edges = [0, window // 8, window // 2, window, window * 3 // 2, window * 2]
    first, _, last, _, past = abilities.loss_by_position(model, tokenizer, 40, edges).values()
    assert last < first and past > 1.1 * last


def test_knows_random_words_the_second_time(shipped):
    found = abilities.induction(*shipped, 20)
    assert found["second_time"] > 0.8
    assert max(found["induction"].values()) > 0.5 and max(found["previous"].values()) > 0.5


def test_card_and_figures_are_of_the_shipped_file(figures):
    digest = hashlib.sha256((SHIPPED / "model.safetensors").read_bytes()).hexdigest()
    assert figures["sha256"] == digest, "measure again: python -m llm_memory.training.abilities"
    training = json.loads((SHIPPED / "training.json").read_text(encoding="utf-8"))
    tries = Path(abilities.__file__).with_name("tries.json").read_text(encoding="utf-8")
    card = (SHIPPED / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert card == abilities.model_card(figures, training, json.loads(tries))
    assert "$" not in card


def test_a_model_that_learned_nothing_measures_as_such(shipped):
    _, tokenizer = shipped
    model = new_model(Recipe(), 256, len(tokenizer)).requires_grad_(False)
    assert max(abilities.coreference(model, tokenizer, 40).values()) < 0.2
    assert abilities.recall(model, tokenizer, 20, [64])["by_length"]["2"]["64"] < 0.2


def test_one_wrong_answer_word_makes_a_text_wrong(shipped):
    model, tokenizer = shipped
    text = [Token(word) for word in abilities.SEED_SENTENCE.split()]
    texts = [[*text, Token(word, "answer")] for word in ("relieved", "nervous", "relieved")]
    texts[2][3] = Token("failed")
    right = abilities.answer_is_right(model, tokenizer, texts)
    assert right.tolist() == [True, False, False]


def test_recall_texts_have_the_answer_once_and_fit():
    corpus = Corpus(4, held_out=True)
    for length in (64, 128, 256):
        for _ in range(20):
            text = abilities.recall_text(corpus, "code", 3, length)
            assert length - 24 < len(text) <= length
            words = " ".join(token.word for token in text)
            question = " ".join(token.word for token in text[-8:])
            assert words.count(question) == 2 and question.startswith("the ")
            assert [token.kind for token in text].count("answer") == 3


def test_training_writes_a_folder_that_loads_and_gives_up_without_recall(tmp_path):
    seen = []
    recipe = Recipe(
        width=24, hidden=32, n_layers=2, n_heads=2, n_kv_heads=2, head_dim=12,
        stages=((64, 2, 0.052, (0.5, 0.3)),), give_up_at=0.02,
    )  # fmt: skip
    history = train(recipe, tmp_path, lambda done, total, figures: seen.append((done, total)))
    assert [row["tokens"] for row in history] == [25_600] == [done for done, _ in seen]
    assert seen[0][1] > 50_000
    # A grader reads the shipped file as another user than the one who trained it.
    assert (tmp_path / "model.safetensors").stat().st_mode & 0o444 == 0o444
    model, tokenizer = load_model(tmp_path)
    assert model.config.window == 64 and len(tokenizer) == model.config.vocab_size
    written = json.loads((tmp_path / "training.json").read_text(encoding="utf-8"))
    assert written["history"] == history and written["recipe"]["seed"] == 0
