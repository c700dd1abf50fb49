"""Objects by name, as a course's settings name them."""

from __future__ import annotations

import importlib
from typing import Any


def load(name: str) -> Any:
    """Return the object that 'module:name' names.

    Raises `ImportError` that names the setting's text where there is none.
    """
    module, _, attribute = name.partition(":")
    try:
        found = importlib.import_module(module)
        for part in filter(None, attribute.split(".")):
            found = getattr(found, part)
        return found
    except Exception as error:
        raise ImportError(f"{name!r} of the course's settings (c.NbJudge): {error}") from error
