"""What is to be done once a module is imported, which takes too long to import for it.

`nbjudge_guard.pth` of this distribution calls `watch` when Python starts, and only with
`JUPYTER_NO_CONFIG` set: Jupyter's own configuration, which arms the guard, is not read then, and a
course's file that is not even Python is to be refused all the same.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Callable, Sequence

__all__ = ["once_imported", "watch"]

#: What every command that grades imports, before it begins.
_CONVERTERS = "nbgrader.converters"


def watch() -> None:
    """Arm the guard once nbgrader's converters are imported. What fails then ends the import."""
    once_imported(_CONVERTERS, _arm)


def once_imported(module: str, do: Callable[[], None]) -> None:
    """Call `do` as soon as a module is imported; now, if it is. What it raises ends the import."""
    waiting = [(found.module, found.do) for found in sys.meta_path if isinstance(found, _Finder)]
    if module in sys.modules:
        do()
    elif (module, do) not in waiting:
        sys.meta_path.insert(0, _Finder(module, do))


def _arm() -> None:
    from nbjudge.guard import arm

    arm()


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, module: str, do: Callable[[], None]):
        self.module, self.do = module, do

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != self.module:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self.do)
        return spec


class _Loader(importlib.abc.Loader):
    """Loads a module as ever, and does what is to be done then."""

    def __init__(self, loader: importlib.abc.Loader, do: Callable[[], None]):
        self._loader, self._do = loader, do

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: types.ModuleType) -> None:
        self._loader.exec_module(module)
        self._do()
