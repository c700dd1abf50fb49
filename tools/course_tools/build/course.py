"""The course's folders, its lessons in their order, and the address of its repository."""

from __future__ import annotations

import tomllib
from pathlib import Path

LESSONS = ("attention", "context_window", "kv_cache")


def root() -> Path:
    """Return the course's root: the clone that this package is installed from.

    Raises `FileNotFoundError` where the package is not installed from a clone (`pip install -e`).
    """
    folder = Path(__file__).resolve().parents[3]
    if not (folder / "pyproject.toml").is_file() or not (folder / "notebooks").is_dir():
        raise FileNotFoundError(
            f"{folder} is not a clone of the course: run `make lab` or `pip install -e .` in one"
        )
    return folder


def repository(folder: Path) -> str:
    """Return the public repository's address, the one setting in `pyproject.toml`."""
    with open(folder / "pyproject.toml", "rb") as file:
        return tomllib.load(file)["project"]["urls"]["Repository"].rstrip("/")


def badges(folder: Path, lesson: str) -> str:
    """Return the Markdown of a lesson's Binder and Colab badges.

    Binder and Colab take a repository on GitHub by owner and name.
    """
    owner_and_name = "/".join(repository(folder).split("/")[-2:])
    notebook = f"release/{lesson}/{lesson}.ipynb"
    binder = f"https://mybinder.org/v2/gh/{owner_and_name}/HEAD?urlpath=lab/tree/{notebook}"
    colab = f"https://colab.research.google.com/github/{owner_and_name}/blob/main/{notebook}"
    return (
        f"[![Launch on Binder](https://mybinder.org/badge_logo.svg)]({binder}) "
        f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({colab})"
    )
