"""Build the tokenizer of a GGUF file from its own tokens, with the `tokenizers` library.

A GGUF file holds the tokens, their types, and either merges (byte-level BPE, as GPT-2's) or scores
(SentencePiece, as Llama 2's). How a text is cut into words first, it only names; the patterns here
are those of the models' own `tokenizer.json`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# Token types of GGUF, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
UNKNOWN, CONTROL, USER_DEFINED, BYTE = 2, 3, 4, 6
CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
WORDS = (
    CONTRACTIONS + r"|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3 = ("llama-bpe", "llama3", "llama-v3")
QWEN2 = ("qwen2", "deepseek-r1-qwen")
SINGLE_DIGITS = ("smollm", "starcoder", "refact", "command-r", "codeshell")
GPT2 = ("gpt-2", "gpt2")
SPACE = "▁"


def build_tokenizer(fields: dict) -> Tokenizer:
    """Return the tokenizer that the `tokenizer.ggml.*` fields of a GGUF file describe.

    Raises ValueError for a kind of tokenizer that this code does not know, and for fields that
    are missing or do not belong together.
    """
    from tokenizers import AddedToken, processors

    kind = fields.get("tokenizer.ggml.model")
    kinds = {"gpt2": _byte_level, "llama": _sentence_piece}
    if kind not in kinds:
        raise ValueError(f"its tokenizer is of the kind {kind!r}; this code builds gpt2 and llama")
    tokens = fields.get("tokenizer.ggml.tokens") or []
    types = fields.get("tokenizer.ggml.token_type") or [1] * len(tokens)
    ids = {token: i for i, token in enumerate(tokens)}
    if not tokens or len(types) != len(tokens) or len(ids) != len(tokens):
        raise ValueError("its list of tokens is missing, or not as long as the list of their types")
    built = kinds[kind](fields, tokens, ids)
    built.add_special_tokens(
        [
            AddedToken(token, special=True, normalized=False)
            for token, type_ in zip(tokens, types, strict=True)
            if type_ in (CONTROL, UNKNOWN)
        ]
    )
    built.add_tokens(
        [
            AddedToken(token, special=False, normalized=False)
            for token, type_ in zip(tokens, types, strict=True)
            if type_ == USER_DEFINED
        ]
    )
    llama3 = fields.get("tokenizer.ggml.pre") in LLAMA3
    if fields.get("tokenizer.ggml.add_bos_token", kind == "llama" or llama3):
        begin = fields.get("tokenizer.ggml.bos_token_id")
        if begin is None or not 0 <= begin < len(tokens):
            raise ValueError("it asks for a start token and names none of its tokens")
        built.post_processor = processors.Sequence(
            ([built.post_processor] if built.post_processor else [])
            + [
                processors.TemplateProcessing(
                    single=f"{tokens[begin]} $A", special_tokens=[(tokens[begin], begin)]
                )
            ]
        )
    return built


def _byte_level(fields: dict, tokens: list[str], ids: dict[str, int]) -> Tokenizer:
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    cut = fields.get("tokenizer.ggml.pre")
    merges = [tuple(merge.split(" ", 1)) for merge in fields.get("tokenizer.ggml.merges") or []]
    lacking = [m for m in merges if len(m) != 2 or not {*m, "".join(m)} <= ids.keys()]
    if lacking:
        raise ValueError(f"it merges {' and '.join(lacking[0])!r}, which are none of its tokens")
    bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    words = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    if cut in SINGLE_DIGITS:
        steps = [pre_tokenizers.Digits(individual_digits=True), words]
    elif cut in LLAMA3 + QWEN2:
        digits = r"\p{N}{1,3}" if cut in LLAMA3 else r"\p{N}"
        pattern = Regex(WORDS.format(digits=digits))
        steps = [pre_tokenizers.Split(pattern, behavior="isolated"), bytes_only]
    elif cut in GPT2:
        steps = [words]
    else:
        raise ValueError(
            f"it cuts a text into words in a way ({cut!r}) that this code does not know: it has "
            + ", ".join(SINGLE_DIGITS + LLAMA3 + QWEN2 + GPT2)
        )
    built = Tokenizer(models.BPE(ids, merges, ignore_merges=cut in LLAMA3))
    if cut in QWEN2:
        built.normalizer = normalizers.NFC()
    built.pre_tokenizer = pre_tokenizers.Sequence(steps)
    built.decoder = decoders.ByteLevel()
    return built


def _sentence_piece(fields: dict, tokens: list[str], ids: dict[str, int]) -> Tokenizer:
    from tokenizers import Tokenizer, decoders, models, normalizers

    scores = fields.get("tokenizer.ggml.scores") or []
    types = fields.get("tokenizer.ggml.token_type") or []
    if len(scores) != len(tokens) or len(types) != len(tokens):
        raise ValueError("its tokens have no scores, or not as many as there are tokens")
    # SentencePiece joins the two neighbours that make the piece with the best score.
    found = []
    for token, i in ids.items():
        if types[i] in (CONTROL, UNKNOWN, BYTE):
            continue
        for cut in range(1, len(token)):
            left, right = token[:cut], token[cut:]
            if left in ids and right in ids:
                found.append((-scores[i], ids[left], ids[right], (left, right)))
    merges = [pair for *_, pair in sorted(found)]
    unknown = next((tokens[i] for i, type_ in enumerate(types) if type_ == UNKNOWN), None)
    built = Tokenizer(
        models.BPE(ids, merges, unk_token=unknown, fuse_unk=True, byte_fallback=BYTE in types)
    )
    prefix = fields.get("tokenizer.ggml.add_space_prefix", True)
    spaces = [normalizers.Prepend(SPACE)] if prefix else []
    built.normalizer = normalizers.Sequence([*spaces, normalizers.Replace(" ", SPACE)])
    strip = [decoders.Strip(" ", 1, 0)] if prefix else []
    built.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    return built
