"""How much disk an installation takes, counted from the packages that are installed here."""

from __future__ import annotations

from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def installed(name: str, extra: str = "") -> int:
    """Return the bytes of a distribution's files and of all that it needs, each counted once.

    What is not installed here (a requirement for another platform) counts nothing. Raises
    `importlib.metadata.PackageNotFoundError` for a `name` that is not installed.
    """
    metadata.distribution(name)
    total, seen, waiting = 0, set(), [(name, extra)]
    while waiting:
        wanted, its_extra = waiting.pop()
        key = (canonicalize_name(wanted), its_extra)
        if key in seen:
            continue
        try:
            distribution = metadata.distribution(wanted)
        except metadata.PackageNotFoundError:
            continue
        if key[0] not in {other for other, _ in seen}:
            for file in distribution.files or ():
                path = distribution.locate_file(file)
                total += path.stat().st_size if path.is_file() else 0
        seen.add(key)
        for line in distribution.requires or ():
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": its_extra}):
                waiting += [(needed.name, part) for part in (needed.extras or {""})]
    return total
