"""Lets this package see a Python as on Windows: with this folder on PYTHONPATH, in every process.

Only modules of this project see it. The libraries go on as they are: they have code of their own
for Windows, which needs Windows.
"""

import builtins
import os
import signal
import socket
import sys
import types

MODULES = {
    *("fcntl", "grp", "landlockpy", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"),
}
# From the documentation of Python: what is marked "Availability: Unix" or "Linux".
NAMES = {
    os: (
        *("O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "WNOHANG", "chown", "chroot"),
        *("eventfd", "fchmod", "fchown", "fork", "forkpty", "getegid", "geteuid", "getgid"),
        *("getgroups", "getloadavg", "getpgid", "getpriority", "getresuid", "getuid", "initgroups"),
        *("killpg", "lchown", "memfd_create", "mkfifo", "mknod", "nice", "pidfd_open", "pipe2"),
        *("posix_spawn", "register_at_fork", "sched_getaffinity", "setegid", "seteuid", "setgid"),
        *("setgroups", "setns", "setpgid", "setpriority", "setresgid", "setresuid", "setsid"),
        *("setuid", "statvfs", "sysconf", "uname", "unshare", "wait", "wait3", "wait4", "waitid"),
    ),
    signal: (
        *("ITIMER_REAL", "SIGALRM", "SIGBUS", "SIGCHLD", "SIGCONT", "SIGHUP", "SIGKILL", "SIGPIPE"),
        *("SIGQUIT", "SIGSTOP", "SIGUSR1", "SIGUSR2", "SIGXCPU", "SIG_BLOCK", "alarm", "pause"),
        *("pidfd_send_signal", "pthread_kill", "pthread_sigmask", "setitimer", "sigwait"),
    ),
    socket: ("AF_UNIX", "SCM_RIGHTS", "SOCK_CLOEXEC", "recv_fds", "send_fds"),
    sys: (),
}
OTHERWISE = {os: {"name": "nt"}, sys: {"platform": "win32"}}


class View(types.ModuleType):
    """A module, some of whose names are missing or stand for something else."""

    def __init__(self, module):
        super().__init__(module.__name__)
        self.__dict__.update(OTHERWISE.get(module, {}))
        self.__getattr__ = lambda name: _look(module, name)


def _look(module, name):
    if name in NAMES[module]:
        raise AttributeError(f"module {module.__name__!r} has no attribute {name!r} on Windows")
    return getattr(module, name)


VIEWS = {module: View(module) for module in NAMES}
_import = builtins.__import__


def _import_as_on_windows(name, globals=None, locals=None, fromlist=(), level=0):
    asks = str((globals or {}).get("__name__", ""))
    if asks.partition(".")[0] not in ("llm_memory", "nbjudge"):
        return _import(name, globals, locals, fromlist, level)
    if level == 0 and name.partition(".")[0] in MODULES:
        raise ModuleNotFoundError(f"No module named {name!r} on Windows", name=name)
    found = _import(name, globals, locals, fromlist, level)
    return VIEWS.get(found, found)


builtins.__import__ = _import_as_on_windows
