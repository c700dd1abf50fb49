"""Words in, ids out, and back; what the vocabulary lacks stays visible."""

import pytest

from llm_memory.model import SHIPPED
from llm_memory.tokenizer import UNKNOWN, BPETokenizer, WordTokenizer, load_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(SHIPPED)


def test_seed_sentence_is_words_and_signs(tokenizer):
    text = "When the student finished the exam, they felt relieved."
    assert tokenizer.tokens(text) == [
        "when", "the", "student", "finished", "the", "exam", ",", "they", "felt", "relieved", "."
    ]  # fmt: skip
    assert tokenizer.decode(tokenizer.encode(text)) == text.lower()


def test_every_word_of_the_vocabulary_survives_the_round_trip(tokenizer):
    every = list(range(len(tokenizer)))
    assert tokenizer.encode(tokenizer.decode(every)) == every
    assert tokenizer.encode(" ".join(tokenizer.words)) == every


def test_numbers_are_read_digit_by_digit(tokenizer):
    assert tokenizer.tokens("code 472!") == ["code", "4", "7", "2", "!"]


@pytest.mark.parametrize("word", ["zebra", "naïve", "東京", "€", "snake_case", "🙂"])
def test_unknown_words_are_visible(tokenizer, word):
    tokens = tokenizer.tokens(f"the {word} code")
    assert tokens[0] == "the" and tokens[-1] == "code"
    assert tokens[1:-1] and set(tokens[1:-1]) == {UNKNOWN}
    assert UNKNOWN in tokenizer.decode(tokenizer.encode(word))


def test_a_written_out_unk_is_one_token(tokenizer):
    assert tokenizer.tokens("the <unk> code") == ["the", UNKNOWN, "code"]


@pytest.mark.parametrize("text", ["", "   ", "\n\t"])
def test_empty_text_says_what_to_do(tokenizer, text):
    with pytest.raises(ValueError, match="empty: give at least one word"):
        tokenizer.encode(text)


def test_a_vocabulary_must_be_a_set_with_unk():
    for words in (["a", "b"], [UNKNOWN, "a", "a"]):
        with pytest.raises(ValueError, match="vocabulary"):
            WordTokenizer(words)


def test_a_folder_without_tokenizer_and_a_missing_package_are_named(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"tokenizer\.json"):
        load_tokenizer(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "tokenizers", None)
    with pytest.raises(ImportError, match=r"llm-memory\[checkpoints\]"):
        BPETokenizer.from_file(tmp_path / "tokenizer.json")
