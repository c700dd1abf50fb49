"""Modules, classes and functions that both sides have: they travel as a name.

What the judge names, the learner's process believes. The other way round a name is a claim: the
judge looks it up among what is installed and gets *its own* object, so `isinstance` and
`dtype == np.int64` hold and a patched `np.allclose` stays with the learner. But a claim may not
choose what a test runs here: `decode = pickle.loads` would run a learner's bytes. So

- classes are taken anywhere, of a few libraries whose classes are data or harmless to make;
- a module or function is taken only where the learner's *name* for it is its own name or the usual
  one (`np`), so that it is what the test's author meant, and never one that reads files, starts
  programs or runs code: those stay in the learner's process and are asked there.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
import types
from typing import Any

from nbjudge.wire.course import is_shared

#: Usual names of modules.
ALIASES = {
    "np": "numpy", "pd": "pandas", "sp": "sympy", "sy": "sympy", "sym": "sympy", "nx": "networkx",
    "sns": "seaborn", "mpl": "matplotlib", "la": "numpy.linalg", "LA": "numpy.linalg",
    "npt": "numpy.testing", "nn": "torch.nn", "F": "torch.nn.functional", "tf": "tensorflow",
    "stats": "scipy.stats", "sm": "statsmodels.api", "xr": "xarray", "dt": "datetime",
}  # fmt: skip
#: Names that everyone reads as one module: a learner's class of that name is a trap.
FIXED = {"np": "numpy", "numpy": "numpy", "pd": "pandas", "pandas": "pandas"}
#: Modules that stay in the learner's process: what they do concerns its files, its state, its
#: figures, or is code. Also modules that do something when they are imported.
_THERE = {
    "os", "posix", "nt", "sys", "subprocess", "pickle", "_pickle", "marshal", "shelve", "dbm",
    "ctypes", "importlib", "imp", "runpy", "code", "codeop", "builtins", "signal", "shutil",
    "multiprocessing", "threading", "concurrent", "socket", "ssl", "http", "urllib",
    "ftplib", "smtplib", "pty", "tempfile", "glob", "fileinput", "sqlite3", "webbrowser", "site",
    "antigravity", "this", "turtle", "turtledemo", "tkinter", "idlelib", "test", "lib2to3",
    "random", "time", "gc", "atexit", "faulthandler", "pdb", "bdb", "trace", "cProfile", "profile",
    "dill", "cloudpickle", "joblib", "requests", "yaml", "pip", "setuptools", "pkg_resources",
    "nbgrader", "nbjudge", "IPython", "ipykernel", "jupyter_client", "zmq", "pytest",
    "_pytest", "__main__", "resource", "inspect", "dis", "sitecustomize",
}  # fmt: skip
#: Libraries whose functions are taken, and classes that a claim may bring anywhere.
_FUNCTIONS = {"math", "cmath", "operator", "statistics", "itertools", "copy", "numpy", "torch"}
_CLASSES = DATA_LIBRARIES = {
    "collections", "decimal", "fractions", "datetime", "numbers", "uuid", "enum", "numpy", "abc",
    "pandas", "sympy", "torch", "matplotlib", "itertools", "zoneinfo", "networkx", "string",
    "dataclasses", "random", "scipy",
}  # fmt: skip
#: Parts of those libraries, and names, that a claim does not bring.
_RISKY = re.compile(
    r"load|save|file|open|eval|exec|import|compile|mem|txt|hub|jit|package|attrgetter|method"
    r"|script|utils|distributed|multiprocessing|lib\.|ctypes|f2py|distutils|sympify|parse|io\b",
    re.IGNORECASE,
)
_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_BUILTIN_CLASSES = DATA_LIBRARIES = {
    name for name, kind in vars(__import__("builtins")).items() if isinstance(kind, type)
} - {"type", "super", "classmethod", "staticmethod", "property"}
_TYPES = {name: kind for name, kind in vars(types).items() if isinstance(kind, type)}


def name_of(value: Any) -> tuple[str, str] | None:
    """Return (module, name in it) of an importable thing, or None for another object."""
    if isinstance(value, types.ModuleType):
        return value.__name__, ""
    if not callable(value):
        return None
    if isinstance(value, type):
        for known, kind in _TYPES.items():
            if kind is value:
                return "types", known
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    module = getattr(value, "__module__", None)
    if module is None and type(value).__module__ == "numpy":
        module = "numpy"
    if not isinstance(name, str) or not isinstance(module, str) or module == "__main__":
        return None
    try:
        return (module, name) if find(module, name, loaded=True) is value else None
    except (ImportError, AttributeError):
        return None


def find(module: str, name: str, *, loaded: bool = False) -> Any:
    """Return what `name` is in `module`; with `loaded`, only of modules that are imported."""
    value: Any = sys.modules.get(module)
    if value is None:
        if loaded:
            raise ImportError(module)
        value = importlib.import_module(module)
    for part in name.split(".") if name else []:
        value = getattr(value, part)
    return value


def means(alias: str, module: str, name: str) -> bool:
    """Whether a test that says `alias` speaks of this thing."""
    if name:
        return alias == name.rpartition(".")[2]
    return alias in (module, module.rpartition(".")[2]) or ALIASES.get(alias) == module


def claimed(module: Any, name: Any, alias: str | None, course: frozenset[str]) -> Any:
    """Return the judge's own object of a claim, or None where the claim is not taken.

    `alias` is the name that a test used for it, where it used one; `course` has the names of the
    course's own modules.
    """
    if not isinstance(module, str) or not isinstance(name, str) or len(module + name) > 200:
        return None
    if not _NAME.fullmatch(module) or (name and not _NAME.fullmatch(name)):
        return None
    if module == "types" and name in _TYPES:
        return _TYPES[name]
    if module == "builtins":
        return vars(__import__("builtins"))[name] if name in _BUILTIN_CLASSES else None
    top = module.partition(".")[0]
    named = alias is not None and means(alias, module, name)
    if top not in course and (top in _THERE - {"random"} or is_shared(top) or _RISKY.search(name)):
        return None
    if top not in course and not _is_installed(top):
        return None
    if top not in sys.modules and not named:
        return None
    if top == "matplotlib" and "pyplot" in module:
        return None
    try:
        value = find(module, name, loaded=not named)
    except Exception:  # it is not there, or does not import here
        return None
    if isinstance(value, type):
        return value if named or top in _CLASSES else None
    if top in _THERE or is_shared(top):
        return None
    if isinstance(value, types.ModuleType):
        return value if named and not name else None
    return value if named and (top in _FUNCTIONS or top in course) and callable(value) else None


def _is_installed(top: str) -> bool:
    if top in sys.stdlib_module_names:
        return True
    module = sys.modules.get(top)
    origin = getattr(module, "__file__", None)
    if module is None:
        try:
            found = importlib.util.find_spec(top)
        except (ImportError, ValueError):
            return False
        origin = found.origin if found else None
    return isinstance(origin, str) and ("site-packages" in origin or "dist-packages" in origin)
