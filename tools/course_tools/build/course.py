"""The course's folders, its lessons in their order, and the address of its repository."""

from __future__ import annotations

import tomllib
from pathlib import Path

LESSONS = ("attention", "context_window", "kv_cache", "serving")


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


def version(folder: Path) -> str:
    """Return the course's version, the one setting in `pyproject.toml`."""
    with open(folder / "pyproject.toml", "rb") as file:
        return tomllib.load(file)["project"]["version"]


def owner_and_name(address: str) -> str:
    """Return what Binder and Colab know a repository on GitHub by."""
    return "/".join(address.rstrip("/").split("/")[-2:])


def binder(address: str, lesson: str, ref: str | None = None) -> str:
    """Return where Binder opens a released lesson; `ref` is a tag, the newest commit without."""
    at = f"https://mybinder.org/v2/gh/{owner_and_name(address)}/{ref or 'HEAD'}"
    return f"{at}?urlpath=lab/tree/release/{lesson}/{lesson}.ipynb"


def colab(address: str, lesson: str, ref: str | None = None) -> str:
    """Return where Colab opens a released lesson; `ref` is a tag, the branch `main` without."""
    at = f"https://colab.research.google.com/github/{owner_and_name(address)}/blob/{ref or 'main'}"
    return f"{at}/release/{lesson}/{lesson}.ipynb"


def badges(address: str, lesson: str, ref: str | None = None) -> str:
    """Return the Markdown of a lesson's Binder and Colab badges."""
    return (
        "[![Launch on Binder](https://mybinder.org/badge_logo.svg)]"
        f"({binder(address, lesson, ref)}) "
        "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
        f"({colab(address, lesson, ref)})"
    )
