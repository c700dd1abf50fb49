"""Settings of a whole process that anybody's code may change: their names, and what sets them."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

#: Each setting, with the functions that set it.
SET_BY = {
    "folder": ("chdir",),
    "recursion limit": ("setrecursionlimit",),
    "digits of an int": ("set_int_max_str_digits",),
    "warnings": ("simplefilter", "filterwarnings", "resetwarnings"),
    "locale": ("setlocale",),
    "decimals": ("setcontext", "getcontext"),
    "NumPy's errors": ("seterr",),
    "NumPy's printing": ("set_printoptions",),
    "torch's dtype": ("set_default_dtype", "set_default_tensor_type"),
    "torch's device": ("set_default_device",),
    "torch's algorithms": ("use_deterministic_algorithms",),
    "torch's anomalies": ("set_detect_anomaly",),
    "torch's gradients": ("set_grad_enabled",),
    "torch's precision": ("set_float32_matmul_precision",),
}
_LATER = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.With, ast.AsyncWith)


def set_by(trees: Iterable[ast.AST]) -> list[str]:
    """Return the settings that these modules make for good when they run.

    What a function or a `with` sets holds for as long as that, and is none of them.
    """
    called = {name for tree in trees for name in _called(tree)}
    return [name for name, functions in SET_BY.items() if called.intersection(functions)]


def _called(tree: ast.AST) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, _LATER):
            continue
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func).rpartition(".")[2]
        yield from _called(node)
