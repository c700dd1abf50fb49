"""The shipped file can do what its card says, and the card says what was measured."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from course_tools.training import abilities
from course_tools.training.corpus import Corpus, Token, is_held_out
from course_tools.training.loop import Recipe, new_model, polish, tokens_in, train

from llm_memory.model import SHIPPED, load_model

pytestmark = pytest.mark.slow

torch.set_num_threads(1)
CASES = 60
TINY = {"width": 24, "hidden": 32, "n_layers": 2, "n_heads": 2, "n_kv_heads": 2, "head_dim": 12}


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
        # Up to its very end: the card has the figures of many more cases.
        assert row[str(window)] >= 0.95 > 0.3 > row[str(2 * window)], row
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
    assert figures["sha256"] == digest, "measure again: python -m course_tools.training.abilities"
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
    recipe = Recipe(**TINY, stages=((64, 2, 0.052, (0.5, 0.3)),), give_up_at=0.02)
    history = train(recipe, tmp_path, lambda done, total, figures: seen.append((done, total)))
    assert [row["tokens"] for row in history] == [25_600] == [done for done, _ in seen]
    assert seen[0][1] > 50_000
    # A grader reads the shipped file as another user than the one who trained it.
    assert (tmp_path / "model.safetensors").stat().st_mode & 0o444 == 0o444
    model, tokenizer = load_model(tmp_path)
    assert model.config.window == 64 and len(tokenizer) == model.config.vocab_size
    written = json.loads((tmp_path / "training.json").read_text(encoding="utf-8"))
    assert written["history"] == history and written["recipe"]["seed"] == 0


def test_the_polish_goes_on_once_from_the_saved_file_at_its_own_rate(tmp_path):
    recipe = Recipe(
        **TINY,
        stages=((64, 2, 0.001, (0.5, 0.3)),),
        polish=((64, 2, 0.002, (0.2, 0.2, 0.5)),),
        polish_rate=0.0,
        weight_decay=0.0,
    )
    seen = []
    history = train(recipe, tmp_path / "still", lambda done, total, _: seen.append((done, total)))
    assert [row["tokens"] for row in history] == [1_024, 3_072]
    assert seen == [(1_024, 3_072), (3_072, 3_072)]
    # At a rate of nothing the polish leaves the file as it was before.
    unpolished = replace(recipe, polish=())
    train(unpolished, tmp_path / "before", lambda *_: None)
    saved = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("still", "before")]
    assert saved[0] == saved[1]
    # The same from a folder that was trained without it.
    written = tmp_path / "before" / "training.json"
    training = json.loads(written.read_text(encoding="utf-8"))
    training["recipe"] |= {"polish": recipe.polish, "polish_rate": 1e-3}
    written.write_text(json.dumps(training), encoding="utf-8")
    polish(tmp_path / "before", tmp_path / "after", lambda *_: None)
    assert (tmp_path / "after" / "model.safetensors").read_bytes() != saved[1]
    with pytest.raises(ValueError, match="has been polished"):
        polish(tmp_path / "after", tmp_path / "twice", lambda *_: None)
    assert not (tmp_path / "twice").exists()


def test_nothing_is_polished_past_its_window(tmp_path):
    recipe = Recipe(**TINY, stages=((64, 2, 0.001, (0.5, 0.3)),))
    with pytest.raises(ValueError, match="Texts of 256 tokens: the window is 64"):
        train(recipe, tmp_path, lambda *_: None)


def test_shipped_weights_were_polished_as_their_recipe_says():
    training = json.loads((SHIPPED / "training.json").read_text(encoding="utf-8"))
    recipe, read = training["recipe"], training["history"][-1]["tokens"]
    assert read == tokens_in(recipe["stages"]) + tokens_in(recipe["polish"])
    assert max(length for length, *_ in (*recipe["stages"], *recipe["polish"])) == 256
