"""Train the small model: short sequences first, answers weighted, an early stop if recall fails.

The recipe is a curriculum because recall of one fact among competing ones is learned in a jump or
not at all: short, dense documents bring the jump early, longer ones then stretch its distance. Few
of them ask across the whole window, so a last short part, the polish, has many that do.
"""

import json
import math
import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from course_tools.training.abilities import quick_look
from course_tools.training.corpus import Corpus, vocabulary
from llm_memory.checkpoint import LlamaConfig
from llm_memory.model import Llama, load_model
from llm_memory.tokenizer import UNKNOWN, WordTokenizer

Stages = tuple[tuple[int, int, float, tuple[float, ...]], ...]
WEIGHT = {"text": 1.0, "answer": 3.0, "news": 0.25}  # what cannot be known is mostly noise


@dataclass(frozen=True)
class Recipe:
    """What `train` does. Lengths and counts are in tokens."""

    seed: int = 0
    width: int = 96
    hidden: int = 256
    n_layers: int = 4
    n_heads: int = 4
    n_kv_heads: int = 2
    head_dim: int = 24
    # Sequence length, rows a step, millions, shares of kinds of document (`Corpus.document`).
    stages: Stages = (
        (64, 8, 0.6, (0.50, 0.20)),
        (64, 16, 1.5, (0.60, 0.35)),
        (128, 16, 2.5, (0.50, 0.45)),
        (256, 8, 4.0, (0.50, 0.45)),
    )
    polish: Stages = ((256, 8, 0.6, (0.25, 0.25, 0.4)),)
    learning_rate: float = 2e-3
    polish_rate: float = 5e-4
    warm_up: int = 150
    weight_decay: float = 0.05
    embedding_std: float = 0.15
    give_up_at: float = 4.0  # millions; recall must be above give_up_below by then
    give_up_below: float = 0.6
    stop_at: float = 2.0  # stop when recall is above this (2.0: never), to count who learns it
    unknown_rate: float = 0.004  # so that <unk> means "some word"


def new_model(recipe: Recipe, window: int, vocab_size: int) -> Llama:
    """Return a model with random weights: embeddings wide, projections back small."""
    torch.manual_seed(recipe.seed)
    config = LlamaConfig(
        vocab_size=vocab_size,
        width=recipe.width,
        hidden=recipe.hidden,
        n_layers=recipe.n_layers,
        n_heads=recipe.n_heads,
        n_kv_heads=recipe.n_kv_heads,
        head_dim=recipe.head_dim,
        window=window,
    )
    model = Llama(config)
    for name, parameter in model.named_parameters():
        if name.endswith("embed_tokens.weight"):
            torch.nn.init.normal_(parameter, std=recipe.embedding_std)
        elif parameter.dim() == 2:
            back = name.endswith(("o_proj.weight", "down_proj.weight"))
            std = parameter.shape[1] ** -0.5
            torch.nn.init.normal_(
                parameter, std=std / math.sqrt(2 * recipe.n_layers) if back else std
            )
    look_back(model)
    return model


@torch.no_grad()
def look_back(model: Llama) -> None:
    """Start the heads of the first layer as heads that look 1, 2, 3 and 4 tokens back.

    Recall needs such heads before anything else; left to chance they took millions of tokens, or
    did not come. All embeddings get one direction in common; it adds the same to every logit, so
    it says nothing. The queries and keys of these heads see mostly that direction, turned as RoPE
    turns. So their product is largest so many tokens back. Training changes them freely.
    """
    config = model.config
    common = torch.randn(config.width)
    common /= common.norm()
    model.model["embed_tokens"].weight += common
    half = config.head_dim // 2
    speeds = config.rope_theta ** (-torch.arange(3).double() / half)  # the fastest three pairs
    attention = model.layers[0].self_attn
    turns = [("q", head, -head) for head in range(config.n_heads)]
    turns += [("k", head, 1) for head in range(config.n_kv_heads)]
    for matrix, head, turn in turns:
        rows = torch.zeros(config.head_dim)
        rows[:3] = (turn * speeds).cos()
        rows[half : half + 3] = (turn * speeds).sin()
        part = slice(head * config.head_dim, (head + 1) * config.head_dim)
        weight = getattr(attention, f"{matrix}_proj").weight
        weight[part] = 0.2 * weight[part] + torch.outer(rows, common)


def fast_rope(length: int, head_dim: int, base: float):
    """The rotation with its angles computed once, (x, positions, base) -> x turned."""
    speeds = base ** (-torch.arange(head_dim // 2).double() / (head_dim // 2))
    angles = torch.outer(torch.arange(length).double(), speeds)
    cosine, sine = angles.cos().float().repeat(1, 2), angles.sin().float().repeat(1, 2)

    def turn(x: Tensor, positions: Tensor, base: float) -> Tensor:
        real, imaginary = x.chunk(2, dim=-1)
        return x * cosine + torch.cat([-imaginary, real], dim=-1) * sine

    return turn


class Muon(torch.optim.Optimizer):
    """Momentum, made orthogonal, for the matrices inside the layers (Jordan et al. 2024).

    In float32: `torch.optim.Muon` works in bfloat16, which an ordinary CPU only emulates.
    """

    def __init__(self, matrices: list[Tensor], lr: float, weight_decay: float) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": 0.95, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:
        """Move every matrix by its lr, scaled so that AdamW's learning rates fit (2502.16982)."""
        for group in self.param_groups:
            for matrix in group["params"]:
                moment = self.state[matrix].setdefault("moment", torch.zeros_like(matrix))
                moment.lerp_(matrix.grad, 1 - group["momentum"])
                update = orthogonal(matrix.grad.lerp(moment, group["momentum"]))
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.add_(update, alpha=-0.2 * group["lr"] * max(matrix.shape) ** 0.5)


def orthogonal(matrix: Tensor) -> Tensor:
    """Move the singular values of a matrix near 1 by five Newton-Schulz steps."""
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.T if tall else x


class Batches:
    """Random training batches: ids (rows, length + 1) and weights (rows, length)."""

    def __init__(self, seed: int, words: list[str], unknown_rate: float) -> None:
        self.corpus = Corpus(seed)
        self.random = random.Random(seed + 1)
        self.ids = {word: i for i, word in enumerate(words)}
        self.unknown_rate = unknown_rate

    def next(self, rows: int, length: int, shares: tuple[float, ...]) -> tuple[Tensor, Tensor]:
        """Return one batch; half of the rows begin in the middle of a sentence."""
        ids = np.empty((rows, length + 1), dtype=np.int64)
        weights = np.empty((rows, length + 1), dtype=np.float32)
        for row in range(rows):
            skip = self.random.choice([0, self.random.randint(1, 16)])
            tokens = self.corpus.document(length + 1 + skip, shares)[skip:]
            ids[row] = [self.ids[token.word] for token in tokens]
            weights[row] = [WEIGHT[token.kind] for token in tokens]
        lost = np.random.default_rng(self.random.getrandbits(32)).random(ids.shape)
        lost = lost < self.unknown_rate
        ids[lost], weights[lost] = self.ids[UNKNOWN], 0.0
        return torch.from_numpy(ids), torch.from_numpy(weights[:, 1:])


def save(folder: Path, model: Llama, words: list[str], history: dict) -> None:
    """Write a model folder: float16 weights, config.json, vocabulary.txt, training.json."""
    folder.mkdir(parents=True, exist_ok=True)
    half = {
        name: tensor.detach().half().contiguous() for name, tensor in model.state_dict().items()
    }
    save_file(half, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)  # safetensors writes for its owner alone
    for name, content in (("config", model.config.to_hf()), ("training", history)):
        (folder / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    (folder / "vocabulary.txt").write_text("\n".join(words) + "\n", encoding="utf-8")


def tokens_in(stages: Stages) -> int:
    """Return how many tokens the steps of these stages read."""
    return sum(round(m * 1e6 / (length * rows)) * length * rows for length, rows, m, _ in stages)


def train(recipe: Recipe, folder: Path, progress: Callable[[int, int, dict], None]) -> list[dict]:
    """Train one model into `folder`, and return the history of its figures.

    Every 200 steps the folder is written, so that it can be used while training goes on, and
    `progress(tokens, total, figures)` is called. Stops early if recall has not come in time, and
    is polished if it has.
    """
    words = vocabulary()
    model = new_model(recipe, max(length for length, *_ in recipe.stages), len(words))
    history: list[dict] = []
    batches = Batches(recipe.seed + 1000, words, recipe.unknown_rate)
    ended = fit(
        model, recipe, recipe.stages, recipe.learning_rate, batches, folder, history, progress
    )
    return polish(folder, folder, progress) if ended and recipe.polish else history


def polish(start: Path, folder: Path, progress: Callable[[int, int, dict], None]) -> list[dict]:
    """Go on from the saved weights in `start` through `Recipe.polish`, into `folder`.

    The optimizers are new and the learning rate is its own: this begins from the float16 file and
    needs nothing else, so that a model that was shipped without it can have it later. Returns the
    whole history. Raises ValueError if the model has been polished.
    """
    written = json.loads((start / "training.json").read_text(encoding="utf-8"))
    recipe, history = Recipe(**written["recipe"]), written["history"]
    if history[-1]["tokens"] > tokens_in(recipe.stages):
        raise ValueError(f"The model in {start} has been polished: start from one that has not.")
    model = load_model(start)[0].requires_grad_(True)
    batches = Batches(recipe.seed + 2_000_000, vocabulary(), recipe.unknown_rate)
    fit(model, recipe, recipe.polish, recipe.polish_rate, batches, folder, history, progress)
    return history


def fit(
    model: Llama,
    recipe: Recipe,
    stages: Stages,
    learning_rate: float,
    batches: Batches,
    folder: Path,
    history: list[dict],
    progress: Callable[[int, int, dict], None],
) -> bool:
    """Train `model` through `stages` on one cosine; return whether it came to their end.

    Adds to `history`, and writes the folder whenever it does. Raises ValueError for texts longer
    than the model's window.
    """
    if (longest := max(length for length, *_ in stages)) > model.config.window:
        raise ValueError(f"Texts of {longest} tokens: the window is {model.config.window}.")
    words = vocabulary()
    tokenizer = WordTokenizer(words)
    inner = [p for p in model.layers.parameters() if p.dim() == 2]
    other = [p for p in model.parameters() if not any(p is q for q in inner)]
    optimizers = [
        Muon(inner, learning_rate, recipe.weight_decay),
        torch.optim.AdamW(other, learning_rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
    ]
    steps = [
        (length, rows, shares)
        for length, rows, millions, shares in stages
        for _ in range(round(millions * 1e6 / (length * rows)))
    ]
    before = history[-1] if history else {"tokens": 0, "seconds": 0}
    done, total, losses = 0, tokens_in(stages), []
    began = time.time()
    for step, (length, rows, shares) in enumerate(steps):
        if step == 0 or steps[step - 1][0] != length:
            rope = fast_rope(length, recipe.head_dim, model.config.rope_theta)
        rate = min(1.0, (step + 1) / recipe.warm_up) * (
            0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * done / total))
        )
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * rate
        ids, weights = batches.next(rows, length, shares)
        logits = model(ids[:, :-1], rope=rope)
        each = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        loss = (each * weights.flatten()).sum() / weights.sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        done += length * rows
        losses.append(loss.item())
        if step % 200 == 199 or step == len(steps) - 1:
            figures = {
                "tokens": before["tokens"] + done,
                "length": length,
                "loss": round(float(np.mean(losses)), 4),
                **quick_look(model, tokenizer),
                "seconds": before["seconds"] + round(time.time() - began),
            }
            history.append(figures)
            losses.clear()
            whole = tokens_in(recipe.stages) + tokens_in(recipe.polish)
            progress(figures["tokens"], whole, figures)
            save(folder, model, words, {"recipe": asdict(recipe), "history": history})
            too_late = (
                figures["tokens"] > recipe.give_up_at * 1e6
                and figures["recall"] < recipe.give_up_below
            )
            if too_late or figures["recall"] > recipe.stop_at:
                return False
    return True
