"""Train the model that ships with the course: one folder a seed, with a curve of loss and recall.

    python -m course_tools.training --out models --seeds 3 4 5     # about half an hour a seed
    python -m course_tools.training --out models --continue-from folder   # only polish that model
    python -m course_tools.training.abilities models/seed-3        # measure, write its model card

To ship a model, copy its folder's files over `src/llm_memory/data/` and the new lines of
`tries.json` into `tools/course_tools/training/tries.json`, then measure the shipped folder.
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from course_tools.training.loop import Recipe, polish, train


def draw_curve(history: list[dict], path: Path) -> None:
    """Draw loss and what was recalled by tokens seen, as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    left = figure.subplots()
    right = left.twinx()
    tokens = [row["tokens"] / 1e6 for row in history]
    left.plot(tokens, [row["loss"] for row in history], "k-", label="loss, weighted")
    for name, style in (("recall", "C0--"), ("simple", "C1:"), ("induction", "C2-.")):
        right.plot(tokens, [row[name] for row in history], style, label=name)
    left.set(xlabel="million tokens", ylabel="loss")
    right.set(ylabel="share right", ylim=(0, 1.02))
    figure.legend(loc="outside upper center", ncols=4)
    figure.savefig(path, dpi=120)


def main(arguments: list[str] | None = None) -> int:
    """Train every seed that is asked for; return 0 if one of them learned to recall."""
    parser = argparse.ArgumentParser(
        prog="python -m course_tools.training",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the trained models")
    parser.add_argument("--seeds", type=int, nargs="+", default=[3])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--until-recall", action="store_true", help="stop once facts are recalled, to compare seeds"
    )
    parser.add_argument(
        "--continue-from", type=Path, help="polish the model in this folder, train no other"
    )
    options = parser.parse_args(arguments)
    if start := options.continue_from:
        training = json.loads((start / "training.json").read_text(encoding="utf-8"))
        options.seeds = [training["recipe"]["seed"]]
    torch.set_num_threads(options.threads)
    recipe = replace(Recipe(), stop_at=0.95) if options.until_recall else Recipe()
    tries = []
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        for seed in options.seeds:
            task = progress.add_task(f"seed {seed}", total=None)

            def show(done: int, total: int, figures: dict, task=task) -> None:
                progress.update(task, completed=done, total=total)
                progress.print("  ".join(f"{name} {value}" for name, value in figures.items()))

            folder = options.out / f"seed-{seed}"
            if start:
                history = polish(start, folder, show)
            else:
                history = train(replace(recipe, seed=seed), folder, show)
            draw_curve(history, folder / "curve.png")
            last = history[-1]
            tries.append(
                {
                    "seed": seed,
                    "recipe": "as above",
                    "million tokens": round(last["tokens"] / 1e6, 1),
                    "recall": last["recall"],
                    "learned": "yes" if last["recall"] > 0.9 else "no",
                }
            )
    text = json.dumps(tries, indent=1) + "\n"
    (options.out / "tries.json").write_text(text, encoding="utf-8")
    return 0 if any(one["learned"] == "yes" for one in tries) else 1


if __name__ == "__main__":
    sys.exit(main())
