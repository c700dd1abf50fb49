"""`python -m llm_memory.training`: train the model that ships with the course."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import torch

from llm_memory.training.loop import Recipe, train


def show(done: int, total: int, figures: dict) -> None:
    """Print one line of progress: a bar, then the figures."""
    filled = round(20 * done / total)
    bar = "#" * filled + "." * (20 - filled)
    print(f"[{bar}] " + "  ".join(f"{name} {value}" for name, value in figures.items()), flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Train one seed after another until one succeeds."""
    parser = argparse.ArgumentParser(prog="python -m llm_memory.training", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the trained models")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    for seed in options.seeds:
        if train(replace(Recipe(), seed=seed), options.out / f"seed-{seed}", show):
            return 0
        print(f"seed {seed}: recall did not come, giving up", flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
