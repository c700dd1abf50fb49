"""Fetch a small public model from a model hub, for the cells that are marked optional."""

from __future__ import annotations

import os
import shutil
import urllib.request
from pathlib import Path

HUB = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
FILES = ("config.json", "tokenizer.json", "model.safetensors")


def fetch(name: str, folder: Path | None = None, timeout: float = 20) -> Path:
    """Return a folder with the files of the model `name` (owner/model), downloaded once.

    `folder` is where models are kept; `timeout` is in seconds of silence. Raises OSError, saying
    what could not be reached, and leaves no half of a file behind.
    """
    kept = folder or Path.home() / ".cache" / "llm-memory"
    place = kept / name.replace("/", "--")
    place.mkdir(parents=True, exist_ok=True)
    for file in FILES:
        if (place / file).is_file():
            continue
        half = place / f"{file}.part"
        try:
            address = f"{HUB}/{name}/resolve/main/{file}"
            with urllib.request.urlopen(address, timeout=timeout) as source, half.open("wb") as to:
                shutil.copyfileobj(source, to)
            half.replace(place / file)
        except OSError as error:
            half.unlink(missing_ok=True)
            raise OSError(f"{file} of {name} cannot be had from {HUB} ({error})") from None
    return place
