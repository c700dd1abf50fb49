"""nbgrader's commands, run as an instructor runs them, each in a process of its own.

The processes are forked from one that has nbgrader imported, which is most of what starting a
command takes. What runs in them is nbgrader's entry point, with the arguments, the folder and the
environment of the command.
"""

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from nbgrader.api import Gradebook
from nbgrader.apps.nbgraderapp import main
from nbjudge.configure import _put_own_commands_on_path

SECONDS = 500  # a limit for the stuck

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["nbgrader.apps.nbgraderapp", "nbjudge.classes.many"])


def nbgrader(folder: Path, *arguments: str, code: int | None = 0, **env: str) -> str:
    """Run an nbgrader command in a course, and return what it printed; `code` None: any exit."""
    return run(main, folder, *arguments, code=code, **env)


def run(
    command: Callable[[], None], folder: Path, *arguments: str, code: int | None = 0, **env: str
) -> str:
    """Run an entry point in a process of its own, and return what it printed.

    command: a function of a module that is imported by name; it finds `arguments` in `sys.argv`.
    """
    with tempfile.TemporaryDirectory(prefix="command-") as temporary:
        output = Path(temporary, "output")
        output.touch()
        process = _processes.Process(
            target=_be, args=(command, folder, arguments, dict(os.environ) | env, output)
        )
        process.start()
        process.join(SECONDS)
        ended = process.exitcode is not None
        process.kill()
        process.join()
        printed = output.read_text(encoding="utf-8", errors="replace")
    assert ended, f"still running after {SECONDS} seconds:\n{printed}"
    assert code is None or process.exitcode == code, printed
    return printed


def _be(
    command: Callable[[], None], folder: Path, arguments: tuple, env: dict[str, str], output: Path
) -> None:
    """Become the command: its folder, environment and arguments, its output in a file."""
    os.environ.clear()
    os.environ.update(env)
    os.chdir(folder)
    sys.argv[1:] = arguments
    with output.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    command()


def new_gradebook(path: Path) -> Path:
    """Make an empty gradebook, by another command that nbgrader runs, which takes its time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", "/bin")
        _put_own_commands_on_path()
        Gradebook(f"sqlite:///{path}").close()
    return path
