"""nbgrader's commands, run as an instructor runs them."""

import os
import subprocess
import sys
from pathlib import Path


def nbgrader(folder: Path, *arguments: str, code: int | None = 0, **env: str) -> str:
    """Run an nbgrader command in a course, and return what it printed; `code` None: any exit."""
    done = subprocess.run(
        [sys.executable, "-m", "nbgrader", *arguments],
        cwd=folder,
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=500,
    )
    printed = done.stdout + done.stderr
    assert code is None or done.returncode == code, printed
    return printed
