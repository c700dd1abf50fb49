"""Keep what was converted from a GGUF file in the user's cache folder.

A GGUF file is converted once, to float32 in Hugging Face's format, which loads memory-mapped: the
system reads what is used, and two kernels share it. The folder's name has the file's SHA-256, so a
changed file is another model. A folder appears under its name only when it is whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from pathlib import Path

from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from llm_memory.checkpoint import LlamaConfig, read_checkpoint
from llm_memory.gguf_file import read_gguf
from llm_memory.known import KNOWN, PLACE, converted_folder, hub_folder, offer, packaged
from llm_memory.tokenizer import BPETokenizer, WordTokenizer, load_tokenizer

Model = tuple[LlamaConfig, dict[str, Tensor], WordTokenizer | BPETokenizer, Path]


def read_model(path: str | Path) -> Model:
    """Return (config, tensors, tokenizer, where they are) of a known name, a GGUF file, a folder.

    Raises FileNotFoundError for what is not there, saying what to type, and ValueError for what is
    broken or cannot be loaded.
    """
    if path in KNOWN:
        return _by_name(str(path))
    if Path(path).suffix.lower() == ".gguf":
        return _kept(Path(path))
    return _in_folder(Path(path))


def _by_name(name: str) -> Model:
    known = KNOWN[name]
    kept = converted_folder(known.file, known.sha256)
    file = packaged(known)
    if kept.is_dir():
        try:
            return _in_folder(kept)
        except (FileNotFoundError, ValueError):
            if file is None:
                raise
    if file is not None:
        return _kept(file, known.sha256)
    from_hub = hub_folder(known.hub)
    if (from_hub / "config.json").is_file():
        return _in_folder(from_hub)
    raise FileNotFoundError(
        f"The model {name} is not on this computer. To get it, type in a terminal:\n"
        f"  {offer(name)}\n"
        "The lessons show recorded figures without it."
    )


def _in_folder(folder: Path) -> Model:
    config, tensors = read_checkpoint(folder)
    return config, tensors, load_tokenizer(folder), folder


def _kept(file: Path, sha256: str | None = None) -> Model:
    """Load a GGUF file through its converted folder; where none can be kept, from memory."""
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file}")
    with file.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if sha256 not in (None, found):
        raise ValueError(
            f"{file} is not the file that it should be (SHA-256 {found[:12]}…, not "
            f"{sha256[:12]}…): remove its package and install it again"
        )
    folder = converted_folder(file.name, found)
    try:
        return _in_folder(folder)
    except (FileNotFoundError, ValueError):
        pass  # not converted yet, or broken since
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f"{folder.name}.lock")):
            try:
                return _in_folder(folder)  # another process was faster
            except (FileNotFoundError, ValueError):
                _convert(file, folder)
        return _in_folder(folder)
    except OSError as error:
        warnings.warn(
            f"The converted model cannot be kept in {folder.parent} ({error}): it is converted in "
            f"memory, and again the next time. To keep it, set {PLACE} to a folder that you can "
            "write to, with room for it.",
            stacklevel=4,
        )
        config, tensors, tokenizer = read_gguf(file)
        return config, tensors, BPETokenizer(tokenizer), file


def _convert(file: Path, folder: Path) -> None:
    """Write a model folder from a GGUF file: under another name first, then in one step.

    Raises OSError where the disk does not take it, and leaves nothing of it behind.
    """
    config, tensors, tokenizer = read_gguf(file)
    needed = sum(tensor.nbytes for tensor in tensors.values())
    free = shutil.disk_usage(folder.parent).free
    if free < needed:
        raise OSError(f"{needed / 1e6:,.0f} MB are needed, {free / 1e6:,.0f} MB are free")
    half = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(half, ignore_errors=True)  # of a process that was killed: we hold the lock
    try:
        half.mkdir()
        (half / "config.json").write_text(json.dumps(config.to_hf(), indent=1), encoding="utf-8")
        tokenizer.save(str(half / "tokenizer.json"))
        save_file(tensors, half / "model.safetensors", metadata={"format": "pt"})
        for path in half.iterdir():
            with path.open("rb+") as written:
                os.fsync(written.fileno())
        shutil.rmtree(folder, ignore_errors=True)
        half.replace(folder)
    except SafetensorError as error:
        raise OSError(str(error)) from None
    finally:
        shutil.rmtree(half, ignore_errors=True)
