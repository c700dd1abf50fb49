"""Rotary positions (RoPE, arXiv 2104.09864), and how checkpoints stretch them to longer texts.

Each pair of numbers in a query or key turns at a speed of its own, in radians a token. A model that
reads longer texts than it was first trained on turns some pairs more slowly; `rope_scaling` in its
`config.json` says how (`rope_parameters` as transformers 5 writes it). Each `rope_type` is a class
here, with the fields of https://huggingface.co/docs/transformers/internal/rope_utils, and its
numbers are those of that library. Shapes: L tokens, D head size, D/2 pairs.
"""

import math
from dataclasses import MISSING, asdict, dataclass, fields

import torch
from torch import Tensor


def rotate(x: Tensor, positions: Tensor, base: float = 10_000.0, scale: float = 1.0) -> Tensor:
    """Turn each query or key by angles that grow with its position.

    Numbers i and i + D/2 of x (B, heads, L, D) are the real and the imaginary part of one complex
    number (Hugging Face's layout); a product with a number of length 1 turns it. `positions` (L,)
    is divided by `scale` first (position interpolation, arXiv 2306.15595). Returns x's shape.
    """
    return turn_by(x, cos_sin(positions, inv_freq(x.shape[-1] // 2, base), scale))


def inv_freq(half: int, base: float) -> Tensor:
    """Radians a token for each of `half` pairs, the fastest (1) first: (D/2,), float64."""
    return float(base) ** (-torch.arange(half).double() / half)


def cos_sin(positions: Tensor, inv_freq: Tensor, scale: float = 1.0, length: float = 1.0) -> Tensor:
    """Cosine and sine of each angle as one complex number, `length` long.

    `positions` (…, L) and `inv_freq` (D/2,) give (…, L, D/2).
    """
    angles = (positions.double()[..., None] / scale * inv_freq.to(positions.device)).float()
    return torch.polar(torch.full_like(angles, length), angles)


turns = cos_sin  # its name in lessons that were released


def turn_by(x: Tensor, numbers: Tensor) -> Tensor:
    """Turn x (B, heads, L, D) by `cos_sin(...)`, which every head of every layer can share."""
    half = x.shape[-1] // 2
    pairs = torch.complex(x[..., :half].float(), x[..., half:].float())
    turned = pairs * numbers
    return torch.cat([turned.real, turned.imag], dim=-1).to(x.dtype)


@dataclass(frozen=True)
class Scaling:
    """How a model's RoPE differs from the plain one; this class itself changes nothing."""

    @property
    def length(self) -> float:
        """By how much queries and keys become longer as they are turned."""
        return 1.0

    def inv_freq(self, half: int, base: float, n_tokens: int) -> Tensor:
        """Radians a token for each of `half` pairs, (D/2,), in a text of `n_tokens` so far."""
        return inv_freq(half, base)

    def window(self, trained: int) -> int:
        """The tokens that the model reads, where config.json says `trained`."""
        return trained

    def to_hf(self) -> dict:
        """What stands for it in a `config.json`."""
        given = {field: value for field, value in asdict(self).items() if value is not None}
        return {"rope_type": self.name, **given}

    @property
    def name(self) -> str:
        """The `rope_type` of a `config.json`."""
        return next(name for name, kind in KINDS.items() if kind is type(self))


@dataclass(frozen=True)
class Linear(Scaling):
    """Position interpolation (arXiv 2306.15595): every pair turns `factor` times more slowly."""

    factor: float

    def inv_freq(self, half: int, base: float, n_tokens: int) -> Tensor:
        """As `Scaling.inv_freq`."""
        return inv_freq(half, base) / self.factor


@dataclass(frozen=True)
class Dynamic(Scaling):
    """A base that grows with the text, past the trained window (dynamic NTK, arXiv 2309.00071).

    Keys in a cache stay as they were turned, so past that window a cache changes the result a
    little, here as in transformers.
    """

    factor: float
    original_max_position_embeddings: float

    def inv_freq(self, half: int, base: float, n_tokens: int) -> Tensor:
        """As `Scaling.inv_freq`."""
        times = max(1.0, n_tokens / self.original_max_position_embeddings)
        grown = self.factor * times - (self.factor - 1)
        return inv_freq(half, base * grown ** (half / (half - 1)))


@dataclass(frozen=True)
class Llama3(Scaling):
    """Llama 3.1: `factor` times more slowly where a turn is long beside the first trained window.

    A pair that turns fewer than `low_freq_factor` times in that window is slowed, one that turns
    more than `high_freq_factor` times is left alone, and between the two it goes over smoothly.
    """

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_position_embeddings: float

    def __post_init__(self) -> None:
        if self.high_freq_factor <= self.low_freq_factor:
            raise ValueError("config.json: RoPE's high_freq_factor must be above low_freq_factor")

    def inv_freq(self, half: int, base: float, n_tokens: int) -> Tensor:
        """As `Scaling.inv_freq`."""
        plain = inv_freq(half, base)
        rounds = plain * self.original_max_position_embeddings / (2 * math.pi)
        low, high = self.low_freq_factor, self.high_freq_factor
        kept = ((rounds - low) / (high - low)).clamp(0, 1)
        return kept * plain + (1 - kept) * plain / self.factor


@dataclass(frozen=True)
class Yarn(Scaling):
    """YaRN (arXiv 2309.00071): slow pairs are slowed by `factor`, and scores become sharper.

    `beta_fast` and `beta_slow` are turns in the first trained window: the pairs that make so many
    are the ends of a straight passage from left alone to slowed, by pair number. `truncate` moves
    the ends to whole pairs. `attention_factor` lengthens queries and keys.
    """

    factor: float
    original_max_position_embeddings: float
    attention_factor: float | None = None
    mscale: float | None = None
    mscale_all_dim: float | None = None
    beta_fast: float = 32
    beta_slow: float = 1
    truncate: bool = True

    @property
    def length(self) -> float:
        """As `Scaling.length`: given, or from the logarithm of `factor` as the paper has it."""
        if self.attention_factor is not None:
            return self.attention_factor
        logarithm = 0.1 * math.log(max(self.factor, 1.0))
        if self.mscale and self.mscale_all_dim:
            return (self.mscale * logarithm + 1) / (self.mscale_all_dim * logarithm + 1)
        return logarithm + 1

    def inv_freq(self, half: int, base: float, n_tokens: int) -> Tensor:
        """As `Scaling.inv_freq`."""

        def pair_of(rounds: float) -> float:
            in_one_turn = self.original_max_position_embeddings / (2 * math.pi * rounds)
            return half * math.log(in_one_turn) / math.log(base)

        start, end = pair_of(self.beta_fast), pair_of(self.beta_slow)
        if self.truncate:
            start, end = math.floor(start), math.ceil(end)
        start, end = max(start, 0), min(end, 2 * half - 1)
        plain = inv_freq(half, base)
        slowed = ((torch.arange(half) - start) / ((end - start) or 0.001)).clamp(0, 1)
        return (1 - slowed) * plain + slowed * plain / self.factor

    def window(self, trained: int) -> int:
        """As `Scaling.window`: Qwen2.5's config gives the window without the scaling."""
        return max(trained, int(self.original_max_position_embeddings * self.factor))


@dataclass(frozen=True)
class Listed(Scaling):
    """Each pair is slowed by a factor of its own, as GGUF files of Llama 3.1 list them.

    No `rope_type` of transformers: it stands only in what this code converted itself.
    """

    factors: tuple[float, ...]

    def inv_freq(self, half: int, base: float, n_tokens: int) -> Tensor:
        """As `Scaling.inv_freq`. Raises ValueError where pairs and factors are not as many."""
        if len(self.factors) != half:
            raise ValueError(f"{len(self.factors)} factors of RoPE for {half} pairs")
        return inv_freq(half, base) / torch.tensor(self.factors, dtype=torch.float64)


PLAIN = Scaling()
KINDS = {
    "default": Scaling,
    "linear": Linear,
    "dynamic": Dynamic,
    "llama3": Llama3,
    "yarn": Yarn,
    "listed": Listed,
}


def read_rope(raw: dict) -> tuple[float, Scaling]:
    """Return (base, scaling) from the contents of a Hugging Face `config.json`, old style or new.

    Raises ValueError for a type that is not in `KINDS`, and for a field that is missing or wrong.
    """
    rope = raw.get("rope_scaling") or raw.get("rope_parameters") or {}
    if not isinstance(rope, dict) or any(isinstance(value, dict) for value in rope.values()):
        raise ValueError("config.json must give one set of RoPE numbers, the same for all layers")
    name = rope.get("rope_type") or rope.get("type") or "default"
    if name not in KINDS:
        raise ValueError(
            f"config.json asks for rope_type {name!r}, which this code does not implement: "
            f"it has {', '.join(KINDS)}"
        )
    trained = raw.get("max_position_embeddings")
    key = "original_max_position_embeddings"
    first = raw.get(key) or rope.get(key) or trained
    found = {**rope, key: trained if name == "dynamic" else first}
    if name == "yarn" and trained:
        found["factor"] = rope.get("factor") or trained / first
    given = {}
    for field in fields(KINDS[name]):
        value = found.get(field.name)
        if value is None and field.default is MISSING:
            raise ValueError(f"config.json: RoPE of type {name!r} lacks {field.name}")
        if field.name == "factors":
            value = tuple(value) if isinstance(value, list | tuple) else (value,)
        parts = value if isinstance(value, tuple) else (value,)
        if value is not None and field.name != "truncate" and not all(map(_positive, parts)):
            raise ValueError(f"config.json: RoPE's {field.name} must be above 0, not {value!r}")
        if value is not None:
            given[field.name] = value
    base = rope.get("rope_theta") or raw.get("rope_theta") or 10_000.0
    return float(base), KINDS[name](**given)


def _positive(value: object) -> bool:
    return isinstance(value, int | float) and 0 < value < math.inf
