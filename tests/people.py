"""Several people on one machine: separate system users, without a change to the machine's own.

Each command runs in a mount namespace of its own, in which `/etc/passwd` and `/etc/group` are the
test's, and the interpreter and this clone can be read by everybody, wherever they lie. Only root
can make such a namespace.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 300  # a limit for the stuck
FIRST_ID = 61_000
#: What everybody reads: the interpreter, the environment, and this clone.
SHARED = [Path(sys.base_prefix), Path(sys.prefix).resolve(), ROOT]


def why_not() -> str:
    """Return why this machine cannot have several people; "" where it can."""
    if not sys.platform.startswith("linux"):
        return "separate system users need Linux"
    if os.geteuid() != 0:
        return "only root can become several system users: run the tests as root for this one"
    if missing := [name for name in ("unshare", "setpriv", "mount") if not shutil.which(name)]:
        return f"{', '.join(missing)} of util-linux is missing"
    tried = subprocess.run(
        ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True
    )
    return "" if tried.returncode == 0 else "this container lets root make no mount namespace"


needs_people = pytest.mark.skipif(bool(why_not()), reason=why_not() or "there are several people")


class People:
    """Users of a machine, with homes of mode 700, and groups of several of them.

    groups: name → members. Each user has a group of their own, too.
    """

    def __init__(self, names: list[str], groups: dict[str, list[str]] | None = None):
        # Not in pytest's folder, which nobody else may enter.
        self.folder = Path(tempfile.mkdtemp(prefix="people-"))
        self.folder.chmod(0o755)
        self.ids = {name: FIRST_ID + number for number, name in enumerate(names)}
        self.groups = {
            name: (FIRST_ID + 500 + number, members)
            for number, (name, members) in enumerate((groups or {}).items())
        }
        passwd, group = Path("/etc/passwd").read_text(), Path("/etc/group").read_text()
        for name, number in self.ids.items():
            home = self.home(name)
            home.mkdir(parents=True)
            os.chown(home, number, number)
            home.chmod(0o700)
            passwd += f"{name}:x:{number}:{number}::{home}:/bin/sh\n"
            group += f"{name}:x:{number}:\n"
        for name, (number, members) in self.groups.items():
            group += f"{name}:x:{number}:{','.join(members)}\n"
        (self.folder / "passwd").write_text(passwd)
        (self.folder / "group").write_text(group)

    def home(self, name: str) -> Path:
        """Return a user's home."""
        return self.folder / "home" / name

    def give(self, folder: Path, owner: str, group: str, mode: int) -> None:
        """Give all of a folder to an owner and a group. mode: of folders; files lack the x."""
        for path in (folder, *folder.rglob("*")):
            os.chown(path, self.ids[owner], self.groups[group][0])
            path.chmod(mode if path.is_dir() else mode & 0o666)

    def command(self, name: str, *command: str | Path, umask: int = 0o022) -> list[str]:
        """Return what runs a command as a user (`root`: as root) of this machine."""
        lines = ["set -e", *_open_to_all(self.folder / "held")]
        for kind in ("passwd", "group"):
            lines.append(f"mount --bind {self.folder / kind} /etc/{kind}")
        lines.append(f"umask {umask:o}")
        become = [] if name == "root" else self._become(name)
        lines.append('exec "$@"')
        start = ["unshare", "--mount", "--propagation", "private", "sh", "-c", "\n".join(lines)]
        return [*start, "sh", *become, *map(str, command)]

    def _become(self, name: str) -> list[str]:
        mine = [str(number) for number, members in self.groups.values() if name in members]
        groups = f"--groups={','.join(mine)}" if mine else "--clear-groups"
        number = self.ids[name]
        return ["setpriv", f"--reuid={number}", f"--regid={number}", groups]

    def env(self, name: str) -> dict[str, str]:
        """Return a user's environment."""
        bin_ = str(Path(sys.prefix, "bin"))
        return {
            "HOME": str(self.home(name)) if name != "root" else "/nonexistent",
            "USER": name,
            "LANG": "C.UTF-8",
            "PATH": f"{bin_}:/usr/local/bin:/usr/bin:/bin",
            "PYTHONPATH": os.pathsep.join(
                str(ROOT / part) for part in ("src", "packages/nbjudge/src", "tools")
            ),
            "OMP_NUM_THREADS": "1",
        }

    def run(
        self,
        name: str,
        folder: Path,
        *command: str | Path,
        code: int | None = 0,
        umask: int = 0o022,
        **env: str,
    ) -> str:
        """Run a command as a user in a folder, and return what it printed."""
        done = subprocess.run(
            self.command(name, *command, umask=umask),
            cwd=folder,
            env=self.env(name) | env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
        )
        assert code is None or done.returncode == code, done.stdout
        return done.stdout

    def remove(self) -> None:
        """Leave nothing behind."""
        shutil.rmtree(self.folder, ignore_errors=True)


def people_called(names: list[str], groups: dict[str, list[str]]) -> Callable[[], Any]:
    """Return a fixture with these people, to be called `people` where it is used."""

    @pytest.fixture
    def people() -> Iterator[People]:
        found = People(names, groups)
        yield found
        found.remove()

    return people


def _open_to_all(held: Path) -> list[str]:
    """Return the lines that let everybody read what is shared, below folders that are not."""
    closed: dict[Path, list[Path]] = {}
    for path in dict.fromkeys(SHARED):
        shut = [part for part in reversed(path.parents) if not part.stat().st_mode & 0o001]
        if shut:
            closed.setdefault(shut[0], []).append(path)
    lines = []
    for top, paths in closed.items():
        places = [held / str(number) for number, _ in enumerate(paths)]
        for path, place in zip(paths, places, strict=True):
            lines += [f"mkdir -p '{place}'", f"mount --bind '{path}' '{place}'"]
        lines.append(f"mount -t tmpfs -o mode=755 tmpfs '{top}'")
        for path, place in zip(paths, places, strict=True):
            lines += [f"mkdir -p '{path}'", f"mount --bind '{place}' '{path}'"]
    return lines
