"""From text to token ids and back: whole words for the shipped model, BPE for other folders."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer

UNKNOWN = "<unk>"
# A word, one digit, or one other sign; <unk> written out stays one token.
PIECE = re.compile(r"<unk>|[^\W\d_]+|\d|[^\w\s]|_")
SPACE_BEFORE_SIGN = re.compile(r" (?=[.,:;?!])")


class WordTokenizer:
    """One token per lower-case word, digit or sign of a fixed list. Others become `<unk>`."""

    def __init__(self, words: list[str]) -> None:
        self.words = list(words)
        self.ids = {word: i for i, word in enumerate(self.words)}
        if len(self.ids) != len(self.words) or UNKNOWN not in self.ids:
            raise ValueError(f"a vocabulary lists each word once, and {UNKNOWN} among them")

    def __len__(self) -> int:
        """Return the number of words."""
        return len(self.words)

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a text. Raises ValueError if there is nothing in it."""
        pieces = PIECE.findall(text.lower())
        if not pieces:
            raise ValueError(
                "the text is empty: give at least one word, the model has no start sign"
            )
        unknown = self.ids[UNKNOWN]
        return [self.ids.get(piece, unknown) for piece in pieces]

    def decode(self, ids: list[int]) -> str:
        """Return the text of token ids, with a space between words and none before a sign."""
        return SPACE_BEFORE_SIGN.sub("", " ".join(self.words[int(i)] for i in ids))

    def tokens(self, text: str) -> list[str]:
        """Return the tokens of a text as the model sees them, `<unk>` included."""
        return [self.words[i] for i in self.encode(text)]


class BPETokenizer:
    """The tokenizer of a downloaded model, from its `tokenizer.json`. Same methods as above."""

    def __init__(self, inner: Tokenizer) -> None:
        self.inner = inner
        # Left in the file by whoever trained the model; both would change the text.
        self.inner.no_truncation()
        self.inner.no_padding()

    @classmethod
    def from_file(cls, path: Path) -> BPETokenizer:
        """Read a `tokenizer.json`; ValueError if it is broken, ImportError without `tokenizers`."""
        try:
            from tokenizers import Tokenizer
        except ImportError:
            raise ImportError(
                "tokenizer.json needs one more package: pip install 'llm-memory[checkpoints]'"
            ) from None
        try:
            return cls(Tokenizer.from_file(str(path)))
        except Exception as error:  # tokenizers raises bare Exception for a broken file
            raise ValueError(f"{path} is no tokenizer file ({error}): copy it again") from None

    def __len__(self) -> int:
        """Return the number of tokens."""
        return self.inner.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a text. Raises ValueError if there is nothing in it."""
        ids = self.inner.encode(text).ids if text else []
        if not ids:
            raise ValueError("the text is empty: give at least one word")
        return ids

    def encode_as_text(self, text: str) -> list[int]:
        """Return the token ids of a text in which nothing is a special token, whatever it spells.

        What a person typed is encoded so: it must not end a turn or begin one in another's name.
        No start token is put before it, and an empty text has no tokens.
        """
        self.inner.encode_special_tokens = True
        try:
            return self.inner.encode(text, add_special_tokens=False).ids
        finally:
            self.inner.encode_special_tokens = False

    def decode(self, ids: list[int]) -> str:
        """Return the text of token ids."""
        return self.inner.decode([int(i) for i in ids], skip_special_tokens=False)

    def tokens(self, text: str) -> list[str]:
        """Return the tokens of a text, each as its own piece of text."""
        return [self.decode([i]) for i in self.encode(text)]


def load_tokenizer(folder: Path) -> WordTokenizer | BPETokenizer:
    """Load the tokenizer of a model folder: `vocabulary.txt` (ours) or `tokenizer.json`."""
    words = folder / "vocabulary.txt"
    if words.is_file():
        return WordTokenizer(words.read_text(encoding="utf-8").splitlines())
    if (folder / "tokenizer.json").is_file():
        return BPETokenizer.from_file(folder / "tokenizer.json")
    raise FileNotFoundError(f"{folder} has no tokenizer.json: copy it from where the weights are")
