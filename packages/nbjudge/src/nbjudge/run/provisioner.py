"""The jupyter_client provisioner whose kernels are forked and sandboxed, and its kernelspec.

`SandboxProvisioner` is named in the kernelspec `nbjudge-sandbox`, which stands beside this
file (`kernels/`) and is found by `SandboxKernelSpecManager`, so nothing is installed in
anybody's home. Source: "Kernel Provisioning" in the documentation of jupyter_client.
"""

import asyncio
import os
import re
import sys
import tempfile
from collections.abc import Iterable, Mapping
from logging import Logger
from pathlib import Path
from typing import Any

from jupyter_client import kernelspec
from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.provisioning import LocalProvisioner
from traitlets import Bool, Integer, List, Set, Unicode

from nbjudge import trees
from nbjudge.intake.notebook import language_named, language_of
from nbjudge.server import sandbox
from nbjudge.server.forkserver import ForkServer, SandboxedProcess

KERNEL_NAME = "nbjudge-sandbox"

_SECONDS_FOR_FILES = 10.0
_SOCKET_PATH_MOST = 100  # sun_path holds 108 bytes


class SandboxMissing(RuntimeError):
    """`require_sandbox` is set and the platform does not offer every protection."""


class NoSuchKernel(RuntimeError):
    """A notebook of the course is for a kernel that is not installed; the message names it."""


def kernel_for(metadata: Mapping[str, Any], chosen: str = KERNEL_NAME) -> str:
    """Return the kernel that runs a notebook with these metadata, which are the course's own.

    That is the one chosen for the whole course; else the warm one for Python, whatever its
    environment is called, and for another language the kernel that the notebook names.
    `NoSuchKernel`, which names it and what there is, if it is not installed.
    """
    name = chosen
    if chosen == KERNEL_NAME:
        name = (metadata.get("kernelspec") or {}).get("name") or KERNEL_NAME
        python = re.fullmatch(r"python\d*", name) or language_of(metadata) == "python"
        if name == KERNEL_NAME or python:
            return KERNEL_NAME
    manager = SandboxKernelSpecManager()
    try:
        found = manager.get_kernel_spec(name)
    except kernelspec.NoSuchKernel as error:
        there = ", ".join(sorted({*manager.find_kernel_specs()} - {KERNEL_NAME})) or "none"
        raise NoSuchKernel(
            f"the kernel {name!r} is not installed on this machine (there are: {there}). Install "
            "it, or choose another one in the notebook and run `nbgrader generate_assignment`"
        ) from error
    if chosen == KERNEL_NAME and language_named(found.language) == "python":
        return KERNEL_NAME
    return name


class SandboxKernelSpecManager(KernelSpecManager):
    """Finds the kernelspecs of this package too, and has every kernel started in a box."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        """Return the spec of a kernel, provisioned by `SandboxProvisioner`; `NoSuchKernel`."""
        spec = super().get_kernel_spec(kernel_name)
        provisioner = {"kernel_provisioner": {"provisioner_name": KERNEL_NAME}}
        spec.metadata = {**(spec.metadata or {}), **provisioner}
        return spec

    def _kernel_dirs_default(self) -> list[str]:
        return [str(Path(__file__).with_name("kernels")), *super()._kernel_dirs_default()]


class SandboxProvisioner(LocalProvisioner):
    """Forks a warm kernel into a sandbox; an ordinary kernel where the platform has no fork."""

    require_sandbox = Bool(
        False,
        help="Refuse to run anything if one of the sandbox's protections is missing here.",
    ).tag(config=True)
    memory_limit = Integer(
        sandbox.Limits.memory_bytes, help="Bytes of memory, beyond the libraries' own."
    ).tag(config=True)
    disk_limit = Integer(
        sandbox.Limits.disk_bytes, help="Bytes that a submission may have on disk."
    ).tag(config=True)
    process_limit = Integer(
        sandbox.Limits.processes, help="Processes and threads at the same time."
    ).tag(config=True)
    cpu_limit = Integer(
        sandbox.Limits.cpu_seconds, help="Seconds of processor time for one process."
    ).tag(config=True)

    written_files = Integer(
        200, help="Files that a submission's code wrote and that are kept beside its notebook."
    ).tag(config=True)
    written_bytes = Integer(20_000_000, help="Bytes that those files may have in all.").tag(
        config=True
    )
    without = Set(
        help="Protections to leave out, where one of them makes trouble on a machine: names as "
        "in `nbjudge.server.sandbox.MISSING`. They count as missing.",
    ).tag(config=True)

    unsandboxed_kernels = List(
        Unicode(),
        help="Kernels of other languages that do not start in a box (they need TCP, or files that "
        "are not there), and are trusted to run submissions with all of your own rights.",
    ).tag(config=True)

    parent: Any  # the kernel manager, which jupyter_client sets
    process: Any = None  # a `SandboxedProcess`, or a Popen where there is no fork
    box: sandbox.Box | None = None
    exit_code: int | None = None
    missing_here: set[str] = set()  # noqa: RUF012 (of the process: each absence is said once)

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        """Prepare the box and point the connection at sockets in it."""
        if not can_fork() or self.parent.kernel_name in self.unsandboxed_kernels:
            self._note_missing({"fork", *sandbox.MISSING} - {"course_hidden"}, only="fork")
            return await super().pre_launch(**kwargs)
        self._discard_box()
        submission = kwargs.get("cwd")
        submission = os.path.abspath(submission) if submission else None
        self.box = sandbox.Box(_make_folder(), submission)
        self.box.make()
        self.parent.transport = "ipc"
        self.parent.ip = os.path.join(self.box.ipc, "k")
        self.parent.connection_file = os.path.join(self.box.path, "connection.json")
        return await super().pre_launch(**kwargs)

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Fork the kernel. Raises SandboxMissing, ForkServerError."""
        if self.box is None:
            return await super().launch_kernel(cmd, **kwargs)
        limits = sandbox.Limits(
            memory_bytes=self.memory_limit,
            disk_bytes=self.disk_limit,
            processes=self.process_limit,
            cpu_seconds=self.cpu_limit,
        )
        connection = {
            k: v.decode() if isinstance(v, bytes) else v for k, v in self.connection_info.items()
        }
        environment = {
            k: v for k, v in (kwargs.get("env") or {}).items() if k.startswith("NBGRADER_")
        }
        command = None
        if self.parent.kernel_name != KERNEL_NAME:
            environment |= self.kernel_spec.env
            inside = self.box.connection_file
            command = [part.replace(self.parent.connection_file, inside) for part in cmd]
        try:
            process = await asyncio.to_thread(
                ForkServer.instance().launch,
                connection,
                self.box,
                limits,
                environment,
                self.without,
                command,
            )
        except BaseException:
            self._discard_box()
            raise
        self.process, self.exit_code = process, None
        self.pid, self.pgid, self.cwd = process.pid, None, self.box.work
        try:
            self._note_missing(set(process.missing))
        except SandboxMissing:
            process.kill()
            await self.wait()
            self._discard_box()
            raise
        return self.connection_info

    def _note_missing(self, missing: set[str], only: str | None = None) -> None:
        if missing and self.require_sandbox:
            raise SandboxMissing(
                f"Nothing was run: require_sandbox is set, and this machine does not offer "
                f"{', '.join(sorted(missing))}. Grade on a Linux machine with user namespaces and "
                "Landlock, or set c.SandboxProvisioner.require_sandbox = False."
            )
        say_missing({only} if only else missing, self.log)

    async def end_and_take_files(self) -> dict[str, bytes]:
        """End the kernel and return the files that it wrote, by relative path: hostile.

        Nothing where a kernel has no box: its files are in the folder already.
        """
        if not isinstance(self.process, SandboxedProcess):
            return {}
        return await asyncio.to_thread(
            self.process.end_and_take_files,
            self.written_files,
            self.written_bytes,
            _SECONDS_FOR_FILES,
        )

    async def ended(self) -> int | None:
        """Wait for the kernel to end and leave it to others to clean up; its exit status."""
        process = self.process
        if not isinstance(process, SandboxedProcess):
            while (status := await self.poll()) is None:
                await asyncio.sleep(0.1)
            return status
        if process.poll() is None:
            # A descriptor of its own: a loop knows one reader for each.
            watched, ended = os.dup(process.pidfd), asyncio.Event()
            loop = asyncio.get_running_loop()
            loop.add_reader(watched, ended.set)
            try:
                await ended.wait()
            finally:
                loop.remove_reader(watched)
                os.close(watched)
        return process.poll()

    async def wait(self) -> int | None:
        """Wait for the kernel to end, without polling."""
        if not isinstance(self.process, SandboxedProcess):
            return await super().wait()
        await self.ended()
        self.exit_code = self.process.poll()
        self.process.close()
        self.process = None
        return self.exit_code

    def get_shutdown_wait_time(self, recommended: float = 5.0) -> float:
        """A forked kernel is not waited for: nothing in it is worth saving."""
        return recommended if self.box is None else 0.0

    async def cleanup(self, restart: bool = False) -> None:
        """Remove the box."""
        await super().cleanup(restart=restart)
        if self.process is not None and self.box is not None:
            await self.kill()
            await self.wait()
        self._discard_box()

    def _discard_box(self) -> None:
        if self.box is not None:
            trees.remove(self.box.path)
            self.box = None


def say_missing(names: Iterable[str], log: Logger) -> None:
    """Say of each protection that is missing what that means, once in this process."""
    for name in sorted(set(names) - SandboxProvisioner.missing_here):
        SandboxProvisioner.missing_here.add(name)
        log.warning("Sandbox: no %s here: %s.", name, sandbox.MISSING[name])


def can_fork() -> bool:
    return sys.platform == "linux" and hasattr(os, "pidfd_open") and os.path.isdir("/proc/self")


def _make_folder() -> str:
    """A folder whose sockets' paths are short enough, and that every user can walk to."""
    path = tempfile.mkdtemp(prefix="nbjudge-")
    walkable = all(p.stat().st_mode & 0o001 for p in Path(path).resolve().parents)
    if len(path) + len("/ipc/k-1") > _SOCKET_PATH_MOST or not walkable:
        os.rmdir(path)
        path = tempfile.mkdtemp(prefix="nbjudge-", dir="/tmp")
    return os.path.realpath(path)
