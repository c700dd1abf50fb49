"""A process that has everything imported, and forks a sandboxed kernel on request.

Importing torch and booting IPython is most of what a cold kernel does. The server does it once:
it imports, computes nothing and starts no thread (one matrix product before the fork, and the
child's first one never answers), and then forks.

    grader ── socket pair ── server ─fork─▶ throw-away ─fork─▶ init ─fork─▶ kernel
                                             (unshare)       (sandbox)

`init` is the first process of its PID namespace: when it ends, whatever the submission started
ends with it, detached or not. It watches its kernel, and a pipe that closes when the server
dies; the server ends when the grader's end of the socket pair closes. So nothing outlives the
grader, however it ends. The child closes every descriptor that it inherits, but for a pipe to write
notes to (`attempts`): a submission has no way to ask the server for anything.
"""

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Iterable
from typing import IO, Any

from nbjudge import trees
from nbjudge.kernel import attempts
from nbjudge.server import sandbox, syscalls, written
from nbjudge.wire import course

_LIBRARIES = (
    *("ipykernel.kernelapp", "ipykernel.debugger"),
    *("IPython.core.magics.execution", "IPython.core.oinspect", "IPython.extensions.storemagic"),
    *("IPython.core.completerlib", "IPython.core.pylabtools", "IPython.core.debugger"),
    *("IPython.core.debugger_backport", "IPython.core.logger", "tornado.platform.asyncio"),
    *("faulthandler", "resource"),
    *(
        "yaml",
        "jinja2",
        "sqlite3",
    ),  # whose texts the judge looks at, if they are there when a test begins
    *("nbjudge.kernel.warm", "nbjudge.judge.process"),
)
#: What libraries import when it is first used, by the library.
_PARTS = {"numpy": ("numpy.random",), "torch": ("torch.utils._device",)}
#: One thread for each library: a pool that exists before the fork is dead after it.
_ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
_KEPT_ENVIRONMENT = (
    *("PATH", "HOME", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "VIRTUAL_ENV"),
    *("LD_LIBRARY_PATH", "CONDA_PREFIX", "PYTHONPATH", "PYTHONHOME", "PYTHONUSERBASE"),
)
_MESSAGE = 1 << 16


class ForkServerError(RuntimeError):
    """The fork server could not start, or could not start a kernel."""


# -- the server's side ----------------------------------------------------------------------


def warm_up() -> dict[str, str]:
    """Import what kernels and the course's notebooks import; computes nothing.

    Returns what went wrong with modules that the course named, by module.
    """
    failed = {}
    for name in (*_LIBRARIES, *course.here().preload):
        module, _, function = name.partition(":")
        try:
            imported = importlib.import_module(module)
            if function:
                getattr(imported, function)()
        except Exception as error:
            if name in course.here().preload:
                failed[name] = f"{type(error).__name__}: {error}"
    for library, parts in _PARTS.items():
        for name in parts if library in sys.modules else ():
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
    with contextlib.suppress(ImportError):
        import landlockpy

        landlockpy.supported()  # finds the C library, by programs that a box has no room for
    if "matplotlib" in sys.modules:
        with contextlib.suppress(ImportError):
            import matplotlib_inline.config  # noqa: F401 - kernels draw with it
            from matplotlib.backends import backend_registry  # since version 3.9

            backend_registry.list_all()  # reads what every installed package says of itself
    syscalls.build()
    gc.collect()
    gc.freeze()  # a collection in a child must not copy the server's pages
    return failed


def serve(requests: socket.socket) -> None:
    """Fork kernels for the grader at the other end of `requests`, until it goes away."""
    sandbox.become_subreaper()
    failed = warm_up()
    threads = len(os.listdir("/proc/self/task"))
    requests.send(json.dumps({"threads": threads, "failed": failed}).encode())
    lifeline, lifeline_held = os.pipe()
    # By pidfd: process id, channel, and the box (a judge has none).
    running: dict[int, tuple[int, socket.socket, str | None]] = {}
    while True:
        ready, _, _ = select.select([requests.fileno(), *running], [], [])
        for descriptor in ready:
            if descriptor != requests.fileno():
                pid, channel, _ = running.pop(descriptor)
                os.close(descriptor)
                _, status = os.waitpid(pid, 0)
                with contextlib.suppress(OSError), channel:
                    channel.send(json.dumps({"exit": os.waitstatus_to_exitcode(status)}).encode())
                continue
            message, descriptors, _, _ = socket.recv_fds(requests, _MESSAGE, 1)
            if not message:  # the grader is gone, and so is everything else
                os.close(lifeline_held)
                _clear_up(running.values())
                return
            channel = socket.socket(fileno=descriptors[0])
            inherited = (requests, channel, lifeline, lifeline_held)
            request = json.loads(message)
            forked: int | None
            if request.get("judge"):
                forked = _fork_judge(*inherited)
                channel.close()  # its end is to be seen at the other end
            else:
                forked = _fork_init(request, *inherited)
            if forked is None:
                channel.close()
            else:
                box = None if request.get("judge") else request["box"]["path"]
                running[os.pidfd_open(forked)] = (forked, channel, box)


def _clear_up(running: Iterable[tuple[int, socket.socket, str | None]]) -> None:
    """Remove the boxes that a grader left behind, once their kernels have ended."""
    for pid, _, box in running:
        if box is not None:
            os.waitpid(pid, 0)
            trees.remove(box)


def _fork_judge(
    requests: socket.socket, channel: socket.socket, lifeline: int, lifeline_held: int
) -> int:
    """Fork a trusted process, which judges: no sandbox, but its end is the server's too."""
    pid = os.fork()
    if pid == 0:
        try:
            sandbox.die_with_parent()
            requests.close()
            os.close(lifeline)
            os.close(lifeline_held)
            from nbjudge.judge import process as judge_process

            socket.send_fds(channel, [b"\0"], [os.pidfd_open(os.getpid())])
            judge_process.serve(channel)
        finally:
            os._exit(0)
    return pid


def _fork_init(
    request: dict[str, Any],
    requests: socket.socket,
    channel: socket.socket,
    lifeline: int,
    lifeline_held: int,
) -> int | None:
    """Fork the throw-away process, which forks init; returns init's process id, or None."""
    read, write = os.pipe()
    passing = os.fork()
    if passing == 0:
        try:
            requests.close()
            os.close(read)
            os.close(lifeline_held)
            missing = sandbox.unshare_namespaces(request["without"])
            user = os.getpid()
            init = os.fork()
            if init == 0:
                os.close(write)
                _run_init(request, channel, lifeline, missing, user)
            os.write(write, str(init).encode())
        except BaseException:
            _report(channel, {"error": traceback.format_exc()})
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        number = answer.read()
    os.waitpid(passing, 0)
    return int(number) if number else None


def _report(channel: socket.socket, message: dict[str, Any], descriptors: tuple = ()) -> None:
    with contextlib.suppress(OSError):
        socket.send_fds(channel, [json.dumps(message).encode()[-_MESSAGE:]], descriptors)


def _run_init(
    request: dict[str, Any],
    channel: socket.socket,
    lifeline: int,
    missing: set[str],
    user: int,
) -> None:
    """Be the first process of the namespace: shut it, start the kernel, watch it. Never returns."""
    try:
        if "pid_namespace" in missing:
            sandbox.become_subreaper()
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(null, standard)
        # What is made for the box is read by a user without rights, whatever the grader's umask.
        os.umask(0o022)
        box, limits = sandbox.Box(**request["box"]), sandbox.Limits(**request["limits"])
        # A kernel of another language binds its own.
        sockets = {} if box.binds else box.listen(request["connection"])
        missing = sandbox.enter(box, limits, missing, user)
        brought = written.state_of(box.work)
        notes, noted = os.pipe()
        kernel = os.fork()
        if kernel == 0:
            _run_kernel(request, box, noted, sockets)
        os.close(noted)
        for held in sockets.values():
            held.close()
        watched = os.pidfd_open(kernel)
        own = os.pidfd_open(os.getpid())
        files, asking = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        _report(channel, {"missing": sorted(missing)}, (own, watched, notes, asking.fileno()))
        os.close(notes)
        asking.close()
    except BaseException:
        _report(channel, {"error": traceback.format_exc()})
        os._exit(1)
    channel.close()
    status = None
    while status is None:
        # Orphans become children of this process: look in now and then, and bury them.
        ready, _, _ = select.select([watched, lifeline, files.fileno()], [], [], 1.0)
        if lifeline in ready:
            break
        if files.fileno() in ready:
            _hand_over(files, box.work, brought)
            break
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == kernel:
                    status = os.waitstatus_to_exitcode(ended[1])
    if "pid_namespace" in missing:
        end_descendants(os.getpid())
    code = 0 if status is None else status
    os._exit(code if code >= 0 else 128 - code)


def _hand_over(files: socket.socket, folder: str, brought: written.State) -> None:
    """End the kernel and all that it started, then send what they wrote."""
    if os.getpid() == 1:  # of a namespace of its own, in which -1 means all but this process
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
    else:
        end_descendants(os.getpid())
    with contextlib.suppress(ChildProcessError):
        while True:  # until nobody is left who could write; a grader that tires of it ends this
            os.waitpid(-1, 0)
    with contextlib.suppress(Exception):  # the grader has given up, or the file system has
        written.serve(files, folder, brought)


def _run_kernel(
    request: dict[str, Any], box: sandbox.Box, noted: int, sockets: dict[str, socket.socket]
) -> None:
    """Become the kernel on these sockets, by their ports' names. Never returns.

    It writes at `noted` what it is not allowed.
    """
    try:
        import fcntl  # not on every platform on which this module is imported

        kept = [noted, *(held.detach() for held in sockets.values())]
        first_free = 3 + len(kept)
        # Out of the way first: none may be overwritten before it is moved.
        kept = [fcntl.fcntl(held, fcntl.F_DUPFD_CLOEXEC, first_free) for held in kept]
        for number, held in enumerate(kept, 3):
            os.dup2(held, number, inheritable=False)
        os.closerange(first_free, 1 << 16)
        listening = dict(zip(sockets, range(4, first_free), strict=True))
        sandbox.make_dumpable()
        os.environ.update(request["environment"])
        os.environ.update(HOME=box.home, TMPDIR=box.home, MPLCONFIGDIR=box.home)
        if request["command"]:
            with open(box.connection_file, "w", encoding="utf-8") as file:
                json.dump(request["connection"], file)
            os.execvp(request["command"][0], request["command"])
        tempfile.tempdir = None
        from nbjudge.kernel.warm import run_kernel

        connection = request["connection"]
        run_kernel(connection, listening, 3, box.space, sandbox.readable_paths())
    finally:
        os._exit(0)


def descendants(pid: int) -> list[int]:
    """Process ids of everything below `pid`."""
    found: list[int] = []
    todo = [pid]
    while todo:
        folder = f"/proc/{todo.pop()}/task"
        for thread in _listed(folder):
            with (
                contextlib.suppress(OSError),
                open(f"{folder}/{thread}/children", encoding="utf-8") as children,
            ):
                below = [int(child) for child in children.read().split()]
                found += below
                todo += below
    return found


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def end_descendants(pid: int) -> None:
    """Kill everything below `pid`: what a platform without PID namespaces leaves to do.

    Once more until nothing new is found, for what was forked meanwhile.
    """
    killed: set[int] = set()
    while found := set(descendants(pid)) - killed:
        for child in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(child, signal.SIGKILL)
        killed |= found


# -- the grader's side ----------------------------------------------------------------------


def _own_share(pid: int) -> int:
    """Return the bytes of memory of a process, what it shares counted in parts; 0 if it is gone."""
    with (
        contextlib.suppress(OSError, StopIteration),
        open(f"/proc/{pid}/smaps_rollup", encoding="utf-8") as sizes,
    ):
        return 1024 * next(int(line.split()[1]) for line in sizes if line.startswith("Pss:"))
    return 0


@functools.cache
def _largest_buffer() -> int:
    """Return the bytes that may be on their way from a socket, where nobody sets its buffer."""
    sizes = [212_992]  # Linux's own, where this one does not say
    for name in ("wmem_default", "rmem_default"):
        with (
            contextlib.suppress(OSError, ValueError),
            open(f"/proc/sys/net/core/{name}", encoding="utf-8") as size,
        ):
            sizes.append(int(size.read()))
    return max(sizes)


class SandboxedProcess:
    """A forked kernel, seen from the grader; has the methods of `subprocess.Popen` that
    jupyter_client's provisioners use.

    missing: the protections that the platform did not give (keys of `sandbox.MISSING`).
    """

    stdin = stdout = stderr = None

    def __init__(
        self,
        channel: socket.socket,
        init: int,
        kernel: int,
        notes: int,
        files: int,
        missing: list[str],
    ):
        self._channel, self.pidfd, self._kernel, self._notes = channel, init, kernel, notes
        self._files = socket.socket(fileno=files)
        os.set_blocking(notes, False)
        self.missing = missing
        self.returncode: int | None = None
        self.pid = _pid_of(init)

    def poll(self) -> int | None:
        """The exit status (negative: the signal), or None while it runs."""
        if self.returncode is None and select.select([self.pidfd], [], [], 0)[0]:
            self.returncode = self._exit_status()
            self._channel.close()
        return self.returncode

    def _exit_status(self) -> int:
        self._channel.settimeout(5)
        try:
            code = json.loads(self._channel.recv(_MESSAGE) or b"{}").get("exit", -signal.SIGKILL)
        except (OSError, ValueError):
            return -signal.SIGKILL
        return 128 - code if code > 128 else code

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended."""
        if self.returncode is None and not select.select([self.pidfd], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired("sandboxed kernel", timeout or 0)
        return self.poll() or 0

    def attempts(self) -> dict[str, list[str]]:
        """What the kernel noted since the last call: see `attempts.read`."""
        return attempts.read(self._notes)

    def end_and_take_files(
        self, most_files: int, most_bytes: int, seconds: float
    ) -> dict[str, bytes]:
        """End the kernel and return the files that it wrote, by relative path: hostile."""
        if self.poll() is not None:
            return {}
        found = written.request(self._files, most_files, most_bytes, seconds)
        self.kill()
        return found

    def memory_of_children(self) -> int:
        """Bytes of memory that the kernel and what it started hold, 0 while it is alone.

        One process is bounded by its own limit; many are bounded by whoever looks here.
        Pages that several share are counted once.
        """
        found = descendants(self.pid)
        return sum(map(_own_share, found)) if len(found) > 1 else 0

    def memory_together(self) -> int:
        """Bytes of memory of the kernel and what it started, also while it is alone."""
        return sum(map(_own_share, descendants(self.pid)))

    def memory_in_sockets(self) -> int:
        """Bytes that the operating system may hold in the kernel's sockets; no process has them.

        0 where the network is not its own, and the sockets are everybody's.
        """
        if "network_namespace" in self.missing:
            return 0
        with (
            contextlib.suppress(OSError, StopIteration, ValueError, IndexError),
            open(f"/proc/{self.pid}/net/sockstat", encoding="utf-8") as counts,
        ):
            line = next(line for line in counts if line.startswith("sockets:"))
            return int(line.split()[2]) * _largest_buffer()
        return 0

    def send_signal(self, number: int) -> None:
        """Send a signal to the kernel itself (an interrupt), or end everything (SIGKILL)."""
        if number == signal.SIGKILL:
            self.kill()
        elif self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._kernel, number)

    def kill(self) -> None:
        """End the kernel and everything that it started."""
        if self.poll() is None:
            if "pid_namespace" in self.missing:
                end_descendants(self.pid)
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    terminate = kill

    def close(self) -> None:
        """Let go of the descriptors."""
        for name in ("pidfd", "_kernel", "_notes"):
            if getattr(self, name) >= 0:
                os.close(getattr(self, name))
                setattr(self, name, -1)
        self._channel.close()
        self._files.close()


def _pid_of(pidfd: int) -> int:
    with open(f"/proc/self/fdinfo/{pidfd}", encoding="utf-8") as info:
        return next(int(line.split()[1]) for line in info if line.startswith("Pid:"))


class ForkServer:
    """The grader's handle on its fork server, which starts with the first kernel."""

    _instances: dict[int, "ForkServer"] = {}  # noqa: RUF012 (one for each process, by its id)
    _lock = threading.Lock()

    @classmethod
    def instance(cls) -> "ForkServer":
        """Return this process's server (a forked worker has its own)."""
        with cls._lock:
            if os.getpid() not in cls._instances:
                cls._instances[os.getpid()] = cls()
                atexit.register(cls._instances[os.getpid()].close)
            return cls._instances[os.getpid()]

    def __init__(self) -> None:
        self._server: subprocess.Popen | None = None
        self._requests: socket.socket | None = None
        self._settings = ""  # the course that the server has imported for
        self._log: IO[bytes] | None = None  # what it writes, until it is warm
        self._busy = threading.Lock()

    @property
    def pid(self) -> int | None:
        """The server's process id, or None while there is none of our own."""
        return self._server.pid if self._server else None

    def begin(self) -> None:
        """Start the server and do not wait for it; does nothing if it runs."""
        settings = course.here().to_json()
        ours = self._server is None or self._settings == settings
        if self._requests is not None and ours and not self._has_died():
            return
        self.close()
        self._settings = settings
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = {k: os.environ[k] for k in _KEPT_ENVIRONMENT if k in os.environ}
        environment |= _ONE_THREAD
        environment |= {
            "MPLBACKEND": "module://matplotlib_inline.backend_inline",
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        }
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (`start` closes it, or `close`)
        with theirs:
            self._server = subprocess.Popen(
                [sys.executable, "-P", "-m", __name__, str(theirs.fileno()), settings],
                pass_fds=[theirs.fileno()],
                env=environment,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
            )

    def start(self) -> None:
        """Start the server and wait until it is warm; does nothing if it is.

        Raises ForkServerError with what it wrote if it ends before it is ready.
        """
        self.begin()
        if self._log is None or self._server is None:
            return
        with self._log as log:
            self._log = None
            answer = self._line.recv(_MESSAGE)
            if not answer:
                self._server.wait()
                log.seek(0)
                text = log.read()[-4000:].decode(errors="replace")
                raise ForkServerError(f"the fork server did not start:\n{text}")
        said = json.loads(answer)
        for name, problem in said["failed"].items():
            self.close()
            done = "called" if ":" in name else "imported"
            raise ForkServerError(
                f"c.NbJudge.preload in nbgrader_config.py names {name!r}, which cannot be {done} "
                f"here ({problem}). Install it in this environment, or take it out of the list."
            )
        threads = said["threads"]
        if threads > 1:
            warnings.warn(
                f"{threads - 1} threads were running in the fork server before the first fork; "
                "a library starts them on import. Kernels may hang.",
                stacklevel=2,
            )

    def lend(self) -> socket.socket:
        """Return the line to a warm server, for `borrow` in a process that this one starts.

        Raises ForkServerError as `start`.
        """
        with self._busy:
            self.start()
            return self._line

    @property
    def _line(self) -> socket.socket:
        if self._requests is None:
            raise ForkServerError("the fork server was not started")
        return self._requests

    @classmethod
    def borrow(cls, line: socket.socket) -> None:
        """Use another process's server in this one; one of our own follows if that one dies."""
        cls.instance()._requests = line

    def launch(
        self,
        connection: dict[str, Any],
        box: sandbox.Box,
        limits: sandbox.Limits,
        environment: dict[str, str],
        without: Iterable[str] = (),
        command: list[str] | None = None,
    ) -> SandboxedProcess:
        """Fork a kernel that listens at `connection`; returns once it is shut in its box.

        without: protections that are left out (keys of `sandbox.MISSING`).
        command: the program to become, in place of the warm kernel.
        Raises ForkServerError if it could not be shut in.
        """
        request = {
            "box": {"path": box.path, "submission": box.submission, "binds": command is not None},
            "limits": limits.to_dict(),
            "connection": connection,
            "environment": environment,
            "without": sorted(without),
            "command": command,
        }
        for attempt in (1, 2):
            ours = self._ask(request, socket.SOCK_SEQPACKET)
            try:
                message, descriptors, _, _ = socket.recv_fds(ours, _MESSAGE, 4)
                answer = json.loads(message or b"{}")
            except OSError as error:
                raise ForkServerError(f"the fork server did not answer: {error}") from error
            # It may have died with the request in its hands, and then a new one is asked.
            if answer or attempt == 2 or not self._has_died(seconds=1):
                break
            ours.close()
        if "missing" not in answer:
            ours.close()
            raise ForkServerError(f"no kernel could be forked:\n{answer.get('error', answer)}")
        init, kernel, notes, files = descriptors
        return SandboxedProcess(ours, init, kernel, notes, files, answer["missing"])

    def _has_died(self, seconds: float = 0) -> bool:
        """Whether its end of the line is closed, or will be within some seconds."""
        line = select.poll()
        line.register(self._line, 0)  # a closed line is reported unasked
        return bool(line.poll(1000 * seconds))

    def launch_judge(self) -> tuple[socket.socket, int]:
        """Fork a judge (`judge_process.serve`) and return its stream and its pidfd.

        Raises ForkServerError if it does not start.
        """
        ours = self._ask({"judge": True}, socket.SOCK_STREAM)
        try:
            _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
            ours.settimeout(None)
            return ours, descriptors[0]
        except (OSError, IndexError) as error:
            ours.close()
            raise ForkServerError(f"no judge could be forked: {error!r}") from error

    def _ask(self, request: dict[str, Any], kind: socket.SocketKind) -> socket.socket:
        """Send the server a request and return the grader's end of the line to what it forks."""
        with self._busy:
            for attempt in (1, 2):
                self.start()
                ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
                with theirs:
                    try:
                        socket.send_fds(
                            self._line, [json.dumps(request).encode()], [theirs.fileno()]
                        )
                        break
                    except OSError:
                        # The server died (memory ran out, say) since the last kernel: once more.
                        ours.close()
                        self.close()
                        if attempt == 2:
                            raise
        ours.settimeout(60)
        return ours

    def close(self) -> None:
        """End the server, and with it every kernel that it forked."""
        if self._log is not None:
            self._log.close()
            self._log = None
        if self._requests is not None:
            self._requests.close()
            self._requests = None
        if self._server is not None:
            try:
                self._server.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self._server.kill()
                self._server.wait()
            self._server = None


if __name__ == "__main__":
    # The importable module serves, so that its names are not in __main__, which the kernel
    # replaces by the learner's namespace.
    from nbjudge.server.forkserver import serve as serve_requests

    course.use(course.Course(**json.loads(sys.argv[2])))
    serve_requests(socket.socket(fileno=int(sys.argv[1])))
    os._exit(0)  # nothing here is worth the time that torch takes to go
