"""What a command needs of whoever started it: a console for every name, a home for IPython."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile


def speak_every_name() -> None:
    """Let the console show what its encoding lacks as an escape, and not end the command."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def give_ipython_a_folder() -> None:
    """Lend IPython a temporary folder where it can have none in the user's home."""
    usual = os.path.expanduser("~/.ipython")
    if "IPYTHONDIR" not in os.environ and os.path.isdir(usual) and os.access(usual, os.W_OK):
        return  # importing IPython to ask it takes longer than many a command
    from IPython.paths import get_ipython_dir

    try:
        get_ipython_dir()
    except OSError:
        lent = tempfile.mkdtemp(prefix="ipython-")
        os.environ["IPYTHONDIR"] = lent
        atexit.register(shutil.rmtree, lent, ignore_errors=True)
