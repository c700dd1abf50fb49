"""Arms the guard where Jupyter's own configuration is not read: with `JUPYTER_NO_CONFIG` set.

`nbjudge_guard.pth` of this distribution calls `watch` when Python starts, and only with that
variable: a course's file that is not even Python is refused then, too. Nothing is imported until
nbgrader's converters are.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Sequence

__all__ = ["watch"]

#: What every command that grades imports, before it begins.
_CONVERTERS = "nbgrader.converters"


def watch() -> None:
    """Arm the guard once nbgrader's converters are imported. What fails then ends the import."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != _CONVERTERS:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(importlib.abc.Loader):
    """Loads the converters as ever, and arms the guard."""

    def __init__(self, loader: importlib.abc.Loader):
        self._loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: types.ModuleType) -> None:
        self._loader.exec_module(module)
        from nbjudge.guard import arm

        arm()
