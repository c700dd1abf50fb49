"""`python -m llm_memory.workspace`: lay the released lessons out in `work/`, losing nothing."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path

from llm_memory import known

RECORD = ".released.json"


def lay_out(release: Path, work: Path) -> list[str]:
    """Copy each released lesson to `work` if it is not there yet; return what was done.

    A learner's file is never overwritten: a newer release arrives beside it, under a name that
    says so. `work/.released.json` remembers which release each learner started from.
    Raises `FileNotFoundError` where nothing was released.
    """
    notebooks = sorted(release.glob("*/*.ipynb"))
    if not notebooks:
        raise FileNotFoundError(f"no lesson in {release}: run `make build` first")
    work.mkdir(exist_ok=True)
    try:
        record = json.loads((work / RECORD).read_text(encoding="utf-8"))
        seen = {str(name): list(hashes) for name, hashes in record.items()}
    except (FileNotFoundError, ValueError, AttributeError, TypeError):
        seen = {}
    done = []
    for source in notebooks:
        name = source.relative_to(release)
        digest = hashlib.sha256(source.read_bytes()).hexdigest()
        target = work / name
        known = seen.setdefault(name.as_posix(), [])
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            done.append(f"{target}: new")
        elif digest not in known and target.read_bytes() != source.read_bytes():
            beside = target.with_name(f"{target.stem} (new release {digest[:8]}).ipynb")
            if not beside.exists():
                shutil.copyfile(source, beside)
            done.append(f"{beside}: a newer release, beside your own file, which stays as it is")
        if digest not in known:
            known.append(digest)
    (work / RECORD).write_text(json.dumps(seen, indent=1), encoding="utf-8")
    return done


def main() -> int:
    """Lay the lessons of the clone in the current folder out; return the exit code."""
    try:
        for line in lay_out(Path("release"), Path("work")):
            print(line)
        if not known.is_here("smollm2"):
            print(f"For the lessons' optional sections, a real language model: {known.offer()}")
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
