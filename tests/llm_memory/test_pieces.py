"""Byte-pair pieces: joined most frequent first, and never anything lost."""

from llm_memory.data import held_out
from llm_memory.pieces import cut, learn_merges


def test_the_most_frequent_pair_is_joined_first():
    # "lo" stands 4 times, "ow" 3 times, "we" once: counts weigh words by how often they stand.
    merges = learn_merges("low low low lower lot", 2)
    assert merges == [("l", "o"), ("lo", "w")]
    assert cut("lower slow", merges) == ["low", "e", "r", "s", "low"]


def test_ties_are_broken_by_the_alphabet_and_learning_stops_when_all_is_joined():
    assert learn_merges("ba ab", 9) == [("a", "b"), ("b", "a")]
    assert learn_merges("", 5) == []


def test_a_pair_of_equal_pieces_is_joined_from_the_left_without_overlap():
    merges = learn_merges("aaa", 1)
    assert cut("aaaaa", merges) == ["aa", "aa", "a"]


def test_more_merges_never_need_more_pieces_and_keep_every_character():
    text = held_out()[0]
    sentence = "the student finished the homework , they felt relieved ."
    merges = learn_merges(text, 300)
    counts = []
    for n in (0, 5, 50, 300):
        pieces = cut(sentence, merges[:n])
        assert "".join(pieces) == sentence.replace(" ", "")
        counts.append(len(pieces))
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > 2 * counts[-1]
