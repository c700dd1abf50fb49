"""The training text: seeded, within its vocabulary, and without the pairs that are held out."""

from itertools import product

from course_tools.training.corpus import (
    SLOT,
    Corpus,
    events,
    grammar,
    is_held_out,
    vocabulary,
)

from llm_memory.data import held_out
from llm_memory.model import SHIPPED


def pairs_in(text: str) -> set[tuple[str, str]]:
    """Read (role, event) pairs off a text by words alone, apart from how the corpus makes them."""
    found = set()
    for role in grammar()["roles"]:
        for event, _ in events():
            if f"the {role} {event} " in text:
                found.add((role, event))
        for deed, _ in events("deeds"):
            if f" {deed} the {role} " in text:
                found.add((role, deed))
    return found


def test_the_same_seed_gives_the_same_text_and_another_seed_another():
    first, again, other = (Corpus(seed).text(400) for seed in (5, 5, 6))
    assert first == again != other


def test_held_out_pairs_never_occur_in_training_text():
    corpus = Corpus(11)
    text = " ".join(
        " ".join(token.word for token in corpus.document(300, shares))
        for shares in [(0.0, 1.0), (0.0, 0.0, 1.0)]
        for _ in range(300)
    )
    seen = pairs_in(text)
    assert len(seen) > 800  # nearly all of what is allowed
    assert not [pair for pair in seen if is_held_out(*pair)]


def test_held_out_text_has_held_out_pairs_only():
    seen = pairs_in(" ".join(held_out()))
    assert len(seen) > 80
    assert all(is_held_out(*pair) for pair in seen)


def test_the_seed_sentence_is_held_out_but_its_parts_are_not():
    assert is_held_out("student", "finished the exam")
    roles = list(grammar()["roles"])
    every = [event for event, _ in events()]
    kept = [(r, e) for r, e in product(roles, every) if is_held_out(r, e)]
    assert 0.1 < len(kept) / (len(roles) * len(every)) < 0.2
    for kind in ("events", "deeds"):
        names = [name for name, _ in events(kind)]
        assert all(any(not is_held_out(role, name) for name in names) for role in roles)
        assert all(any(not is_held_out(role, name) for role in roles) for name in names)


def test_the_shipped_vocabulary_is_the_grammars_and_covers_every_document():
    words = (SHIPPED / "vocabulary.txt").read_text(encoding="utf-8").split()
    assert words == vocabulary()
    known = set(words)
    corpus = Corpus(21)
    for shares in [(1.0, 0.0), (0.0, 1.0), (0.0, 0.0), (0.0, 0.0, 1.0)]:
        for _ in range(60):
            assert {token.word for token in corpus.document(300, shares)} <= known
    assert set(" ".join(held_out()).split()) <= known


def test_a_feeling_needs_both_the_role_and_the_event():
    feelings = [word for good, bad, _ in grammar()["roles"].values() for word in (good, bad)]
    assert len(feelings) == len(set(feelings))
    reactions = [reaction for *_, reaction in grammar()["roles"].values()]
    assert len(reactions) == len(set(reactions))


def test_answers_are_what_was_said_before():
    for seed in range(30):
        known: set[str] = set()
        corpus = Corpus(seed)
        for kind in grammar()["facts"]:
            first, again = corpus.fact(kind, known)
            assert [token.word for token in first] == [token.word for token in again]
            assert {token.kind for token in first} == {"text", "news"}
            assert {token.kind for token in again} == {"text", "answer"}


def test_no_fact_changes_within_a_document():
    for seed in range(40):
        text = Corpus(seed).text(600)
        for colour in grammar()["words"]["colour"]:
            key = f"the {colour} code is "
            codes = {part[:5] for part in text.split(key)[1:] if len(part) > 6}
            assert len(codes) <= 1


def test_far_documents_ask_at_their_end_for_the_facts_of_their_beginning():
    corpus, length, asked = Corpus(8), 257, 0
    for _ in range(60):
        words = [token.word for token in corpus.document(length, (0.0, 0.0, 1.0))]
        first = " ".join(words[: words.index(".") + 1])
        sentences = " ".join(words).split(" . ")[:-1]  # the last one may be cut
        known = {sentence for sentence in sentences if sentences.count(sentence) > 1}
        places = [i for i in range(length) if " ".join(words[i:]).startswith(first)]
        assert places[0] == 0
        asked += any(place > length - 60 for place in places)
        assert not known or sentences[-1] in known
        assert not any(60 < place < length - 60 for place in places)
    assert asked > 20


def test_facts_run_out_without_harm():
    corpus, known = Corpus(1), set()
    facts = [corpus.fact("code", known) for _ in range(200)]
    assert sum(fact is not None for fact in facts) == len(grammar()["words"]["colour"])


def test_numbered_slots_agree_and_differ():
    corpus = Corpus(2)
    for _ in range(50):
        words = [t.word for t in corpus.fill("{food1} {food2} {food1} {food3}", "answer")]
        assert words[0] == words[2] and len(set(words)) == 3


def test_every_slot_of_the_grammar_can_be_filled():
    rules = grammar()
    given = {"role", "event", "deed", "other", "feeling", "reaction", "other_reaction"}
    known = given | set(rules["words"]) | {"name", "word", "filler"}
    templates = [*rules["facts"].values(), *rules["beyond"].values()]
    for group in (*rules["coreference"].values(), *rules["sentences"].values()):
        templates += group
    assert {slot for text in templates for slot, _ in SLOT.findall(text)} <= known


def test_shipped_held_out_documents_are_longer_than_twice_the_window():
    documents = held_out()
    assert len(documents) == 40
    assert all(len(document.split()) > 2 * 256 for document in documents)
