"""nbgrader's Execute, for code that nobody vouches for.

What it does beyond nbgrader's own: a cell that kills the kernel, hangs, or floods the output
costs its own points and nobody else's. The rest of the notebook is run in a fresh kernel, in
which the earlier cells are run again. So it is, too, with a kernel that answers no more.

**The rule for a fresh kernel.** Every earlier cell that came to an end by itself (with or without
an error) is run again, in order, and its first outputs stay. Left out are cells that ended a
kernel, silenced it or had to be interrupted (they would do it again), test cells (their verdict
is in, and they define nothing that others use), and cells that grading skips.
"""

import asyncio
import inspect
import os
import re
import signal
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import zmq
from jupyter_client import AsyncKernelManager
from nbclient.client import NotebookClient
from nbclient.util import run_sync
from nbformat.notebooknode import NotebookNode
from nbgrader import utils
from nbgrader.preprocessors import Execute
from traitlets import Any as AnyTrait
from traitlets import Float, Integer, List, Unicode

from nbjudge import settings
from nbjudge.codes import KEY, REASONS, mark, note, nothing_handed_in, own
from nbjudge.names import bound_names, names_read, without_magics
from nbjudge.run.judge_client import JudgeProcess, resident_bytes
from nbjudge.run.provisioner import (
    KERNEL_NAME,
    SandboxKernelSpecManager,
    SandboxProvisioner,
    kernel_for,
)
from nbjudge.server.forkserver import SandboxedProcess

_MB = 1 << 20
#: Where nbconvert's resources hold the files that a notebook's code wrote: bytes by path.
WRITTEN = "nbjudge_written"
#: Beyond this in one cell, a kernel is not reporting but flooding. (An honest one stops earlier:
#: `warmkernel.BoundedSession`.)
_FLOOD_BYTES = 64 * _MB
_FLOOD_MESSAGES = 20_000
#: No single message may be larger: JSON takes twenty times its length when it is read.
_LARGEST_MESSAGE = 16 * _MB
#: No more of them wait at each of the grader's sockets; the kernel keeps those behind.
_WAITING_MESSAGES = 100
#: Bytes that this process may come to hold while a cell runs: messages on their way to be read.
_MOST_HELD_HERE = 400 * _MB
#: Bytes outside a kernel for which nobody looks into it.
_NOT_WORTH_IT = 64 * _MB
#: Seconds between two looks at what a submission holds.
_LOOK = 0.1
#: Seconds that outputs have to arrive after the reply. Some may be lost on the way, the end too.
_LATE_OUTPUTS = 10.0
#: Seconds for the first word on a cell, from a kernel that has answered all others, and for the
#: reply of one that says it is done.
_FIRST_WORD, _LATE_REPLY = 30.0, 10.0
#: Characters of a learner's cell beyond which nobody looks for the names in it.
_MOST_LOOKED_AT = 20_000
#: Of what costs no graded cell its points, no more than these are said of one notebook.
_MOST_FLAGS_OF_A_KIND = 10
_SHOWN_MESSAGES = {
    *("stream", "display_data", "update_display_data", "execute_result", "error", "clear_output"),
}
_HOW = {
    "SIGSEGV": "a segmentation fault",
    "SIGABRT": "it aborted",
    "SIGBUS": "a bus error",
    "SIGKILL": "it was killed",
    "SIGXCPU": "it used up its processor time",
}


class KernelEnded(Exception):
    """The learner's kernel ended; `status` is its exit status (negative: the signal)."""

    def __init__(self, status: int | None):
        self.status = status
        super().__init__(self.how)

    @property
    def how(self) -> str:
        """In words for the learner."""
        if self.status is not None and self.status < 0:
            names = {number.value: number.name for number in signal.Signals}
            name = names.get(-self.status, f"signal {-self.status}")
            return _HOW.get(name, name)
        return f"it exited with status {self.status}"


class KernelSilent(Exception):
    """The kernel lives and answers no more."""


class OutputFlood(Exception):
    """The kernel goes on sending far beyond what is kept."""


class StudentKernel:
    """A running kernel with the grader's client; `km` is its manager, `kc` its async client.

    `km.blocking_client()` gives another client on the same kernel.
    """

    def __init__(self, km: AsyncKernelManager):
        self.km = km
        self.kc: Any = None  # an AsyncKernelClient, once the kernel is started
        self.on_stop: list[Callable[[], Awaitable[None]]] = []
        self.judge: Any = None  # what judges this submission, once it is opened
        self.stuck = False  # whether it may still be busy with a test that was given up

    @property
    def process(self) -> Any:
        """What the provisioner started: a `SandboxedProcess`, or an ordinary one."""
        return getattr(self.km.provisioner, "process", None)

    async def start(self, cwd: str | None, extra_arguments: list[str], timeout: float) -> None:
        """Start the kernel, and wait until it answers and its outputs arrive.

        Raises KernelEnded, TimeoutError, and what the provisioner raises.
        """
        await self.km.start_kernel(extra_arguments=extra_arguments, cwd=cwd)
        self.kc = self.km.client()
        # A larger message is dropped by zmq: nobody makes the grader hold gigabytes.
        self.kc.context.setsockopt(zmq.MAXMSGSIZE, _LARGEST_MESSAGE)
        self.kc.context.setsockopt(zmq.RCVHWM, _WAITING_MESSAGES)
        self.kc.start_channels(stdin=False, hb=False)
        self.kc.allow_stdin = False
        answered = asyncio.ensure_future(self.answered())
        await self.finish(answered, timeout)

    async def answered(self) -> None:
        """Wait until the kernel answers and its outputs arrive."""
        # Subscribing takes a moment that nobody announces: ask until an answer's echo arrives.
        while True:
            self.kc.kernel_info()
            await self.kc.shell_channel.get_msg(timeout=None)
            if await self.kc.iopub_channel.socket.poll(50):
                return

    async def finish(self, work: asyncio.Future, timeout: float | None) -> Any:
        """The result of `work`, unless the kernel ends or the time is up before it.

        Raises KernelEnded, TimeoutError (`work` is then still running), and what `work` raises.
        """
        ended = asyncio.ensure_future(self.ended())
        try:
            await asyncio.wait({work, ended}, timeout=timeout, return_when="FIRST_COMPLETED")
            if work.done():
                return work.result()
            if ended.done():
                work.cancel()
                raise KernelEnded(ended.result())
            raise TimeoutError
        finally:
            ended.cancel()

    async def ended(self) -> int | None:
        """Wait for the kernel to end; returns its exit status."""
        provisioner: Any = self.km.provisioner
        if isinstance(provisioner, SandboxProvisioner):
            return await provisioner.ended()
        while (status := await provisioner.poll()) is None:
            await asyncio.sleep(0.2)
        return status

    async def interrupt(self) -> None:
        """Raise KeyboardInterrupt in the running cell."""
        await self.km.interrupt_kernel()

    def judges_memory(self) -> int:
        """Bytes that the judge has taken up since it began, 0 where it is no process of its own."""
        opening = self.judge
        if not isinstance(opening, asyncio.Future) or not opening.done() or opening.cancelled():
            return 0
        judge = None if opening.exception() else opening.result()
        return judge.memory() if isinstance(judge, JudgeProcess) else 0

    async def drop_messages(self) -> None:
        """Read and drop what the kernel sends, until cancelled.

        While a test is judged nobody waits for these, and what nobody reads piles up. Raises
        OutputFlood when there is no end of it.
        """
        sockets = [self.kc.iopub_channel.socket, self.kc.shell_channel.socket]
        sizes = 0
        while True:
            idle = True
            for socket in sockets:
                while await socket.poll(0):
                    frames = await socket.recv_multipart(copy=False)
                    sizes += sum(len(frame) for frame in frames)
                    idle = False
                    if sizes > _FLOOD_BYTES:
                        raise OutputFlood
            await asyncio.sleep(0.05 if idle else 0)

    async def stop(self) -> None:
        """End the kernel and everything that it started."""
        try:
            for close in self.on_stop:
                await close()
        finally:
            await self._end()

    async def _end(self) -> None:
        if self.kc is not None:
            self.kc.stop_channels()
            self.kc.context.destroy(linger=0)
        provisioner = self.km.provisioner
        if isinstance(provisioner, SandboxProvisioner) and provisioner.has_process:
            # The manager's own way to end a kernel looks for its end every 0.1 seconds.
            await provisioner.kill()
            await provisioner.wait()
        if self.km.has_kernel:
            await self.km.shutdown_kernel(now=True)
        else:
            await self.km.cleanup_resources()

    async def execute(self, code: str, show: Callable[[dict], None]) -> dict[str, Any]:
        """Run `code`, hand each output message to `show`; returns the content of the reply.

        Raises KernelSilent if nothing is heard of it, or the end of it without a reply.
        """
        self._heard = asyncio.Event()
        request = self.kc.execute(code, store_history=True, allow_stdin=False, stop_on_error=False)
        outputs = asyncio.ensure_future(self._outputs(request, show))
        reply = asyncio.ensure_future(self._reply(request))
        heard = asyncio.ensure_future(self._heard.wait())
        try:
            await asyncio.wait(
                {outputs, reply, heard}, timeout=_FIRST_WORD, return_when="FIRST_COMPLETED"
            )
            if not (outputs.done() or reply.done() or heard.done()):
                raise KernelSilent
            await asyncio.wait({outputs, reply}, return_when="FIRST_COMPLETED")
            if not outputs.done():
                await asyncio.wait({outputs}, timeout=_LATE_OUTPUTS)
            if outputs.done():
                outputs.result()
                await asyncio.wait({reply}, timeout=_LATE_REPLY)
            if not reply.done():
                raise KernelSilent
            return reply.result()
        finally:
            for waiting in (outputs, reply, heard):
                waiting.cancel()

    async def _reply(self, request: str) -> dict[str, Any]:
        while True:
            message = await _received(self.kc.shell_channel)
            if message and _parent(message) == request:
                content = message.get("content")
                return content if isinstance(content, dict) else {}

    async def _outputs(self, request: str, show: Callable[[dict], None]) -> None:
        while True:
            message = await _received(self.kc.iopub_channel)
            if message is not None and _parent(message) == request:
                self._heard.set()
            if message is None or message["header"]["msg_type"] != "status":
                show(message if message and _parent(message) == request else {})
            elif (
                _parent(message) == request and message["content"].get("execution_state") == "idle"
            ):
                return


async def _received(channel: Any) -> dict[str, Any] | None:
    """The next message, or None for one that makes no sense (a kernel may send anything)."""
    try:
        message = await channel.get_msg(timeout=None)
        ok = isinstance(message["content"], dict) and isinstance(message["header"], dict)
        return message if ok and isinstance(message["header"]["msg_type"], str) else None
    except (asyncio.CancelledError, zmq.ZMQError):
        raise
    except Exception:
        return None


def _parent(message: dict[str, Any]) -> Any:
    header = message.get("parent_header")
    return header.get("msg_id") if isinstance(header, dict) else None


class OutputTally:
    """Passes the outputs of one cell on until they are too many; what follows is only counted.

    Raises OutputFlood when they go on and on.
    """

    def __init__(self, limit: int, keep: Callable[[dict], None]):
        self._limit, self._keep = limit, keep
        self._bytes = self._messages = 0
        self.cut = False

    @property
    def kept(self) -> int:
        """Bytes of what was passed on, about."""
        return min(self._bytes, self._limit)

    def __call__(self, message: dict[str, Any]) -> None:
        """Take one message (an empty one if it made no sense or belongs to another cell)."""
        content = message.get("content", {})
        left = self._limit - self._bytes
        try:
            self._bytes += _size(content) + sum(len(b) for b in message.get("buffers", ()))
        except Exception:  # nested too deep
            message = {}
            self._bytes += _MB
        self._messages += 1
        if self._bytes > _FLOOD_BYTES or self._messages > _FLOOD_MESSAGES:
            self.cut = True
            raise OutputFlood
        kind = message.get("header", {}).get("msg_type")
        if kind not in _SHOWN_MESSAGES:
            return
        if self._bytes <= self._limit or kind in ("error", "clear_output"):
            self._keep(message)
        else:
            if not self.cut and isinstance(content.get("text"), str):
                text = content["text"][: max(left, 0)] + "\n... the rest was cut ...\n"
                self._keep({**message, "content": {**content, "text": text}})
            self.cut = True


def _size(value: Any) -> int:
    """About how many bytes a value takes."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return 64 + sum(_size(k) + _size(v) for k, v in value.items())
    if isinstance(value, list | tuple):
        return 64 + sum(map(_size, value))
    return 8


class SandboxedExecute(Execute):
    """Runs a submission's cells in a warm, sandboxed kernel, and loses nothing to a bad cell.

    Configured as `Execute` is (`c.Execute.timeout = …` reaches it), and by the traits below.
    """

    kernel_name = Unicode(
        KERNEL_NAME,
        help="The kernel for every submission in Python. Another one can be set for a whole "
        "course; a notebook of the course in another language has the kernel that it names.",
    ).tag(config=True)
    total_timeout = Float(
        600.0, help="Seconds for a whole notebook, fresh kernels included; then it is cut short."
    ).tag(config=True)
    interrupt_grace = Float(
        2.0, help="Seconds that an interrupted cell has to stop, before its kernel is ended."
    ).tag(config=True)
    output_limit = Integer(
        1 * _MB, help="Bytes of output that are kept of one cell; what follows is cut."
    ).tag(config=True)
    notebook_output_limit = Integer(
        16 * _MB, help="Bytes of output that are kept of all cells together; what follows is cut."
    ).tag(config=True)
    skip_tags = List(
        Unicode(),
        ["show", "skip-execution"],
        help="Cells with one of these tags are not run: no grade needs them.",
    ).tag(config=True)
    test_cell_runner = AnyTrait(
        None,
        allow_none=True,
        help="Called as runner(cell, kernel) for each test cell in place of running it in the "
        "learner's kernel; sets cell.outputs. May be a coroutine function; an ordinary function "
        "is called in a thread. It is stopped, with the kernel, when the time is up.",
    )

    def preprocess(
        self, nb: NotebookNode, resources: Any = None, km: AsyncKernelManager | None = None
    ) -> tuple[NotebookNode, Any]:
        """Run the notebook's cells.

        Whatever a cell does, the notebook comes back. Each cell that did not fare as code should
        has a reason in its metadata (see `reasons`), and the notebook's flags have the same
        reasons. What fails on the grader's side is raised.
        """
        settings.apply(self.config)
        NotebookClient.__init__(self, nb, None)
        self.reset_execution_trackers()
        self._check_assign_resources(resources)
        self._kernel_to_run = self._choose_kernel()
        if said := nothing_handed_in(nb):
            for cell in filter(is_test, nb.cells):
                self._leave_unrun(cell, said)
        else:
            run_sync(self._run_notebook)()
        nb.metadata.pop("widgets", None)
        self._flag_notebook()
        return nb, self.resources

    def _leave_unrun(self, cell: NotebookNode, said: str) -> None:
        """Score a test of a notebook of which nothing could be read: no kernel is needed."""
        cell.outputs, cell.execution_count = [error_output("NothingHandedIn", said, [said])], None

    def _choose_kernel(self) -> str:
        """The name of the kernel for this notebook.

        Raises NoSuchKernel if the notebook, or the configuration, names one that is not here.
        """
        return kernel_for(self.nb.metadata, self.kernel_name)

    # -- one notebook ------------------------------------------------------------------------

    async def _run_notebook(self) -> None:
        self._deadline = time.monotonic() + self.total_timeout
        self._count = self._kept_bytes = 0
        #: The cells that a fresh kernel starts with.
        self._again: list[int] = []
        again = self._again
        kernel: StudentKernel | None = None
        try:
            for index, cell in enumerate(self.nb.cells):
                if cell.cell_type != "code":
                    continue
                if not self._is_run(cell):
                    continue
                cell.outputs, cell.execution_count = [], None
                if kernel is None:
                    kernel = await self._fresh_kernel(again)
                if kernel is None or time.monotonic() > self._deadline:
                    self._fail(cell, "timeout_total", seconds=self.total_timeout)
                    continue
                alive, by_itself = await self._run_cell(kernel, cell, index)
                reason = cell.metadata.get(KEY, {}).get("reason")
                # The cell before a test may have left the kernel dying.
                died = reason == "kernel_died" and is_test(cell) and again
                died = died and not self._is_asked_for(cell, again[-1])
                if again and (died or reason == "kernel_silent"):
                    kernel, alive, by_itself = await self._try_without_last(kernel, cell, index)
                if by_itself and not is_test(cell):
                    again.append(index)
                if not alive and kernel is not None:
                    await kernel.stop()
                    kernel = None
            if kernel is not None:
                await self._take_files(kernel)
        finally:
            if kernel is not None:
                await kernel.stop()

    #: Bytes of output that the cells have so far, as `OutputTally` counts them.
    _kept_bytes = 0

    @property
    def _remedy(self) -> str:
        if self._kernel_to_run == KERNEL_NAME:
            return ""
        return (
            " If it cannot run in a box (without TCP, and with no files but Python's), and you "
            "trust the submissions with all of your own rights, add it to "
            "c.SandboxProvisioner.unsandboxed_kernels."
        )

    async def _take_files(self, kernel: StudentKernel) -> None:
        """Hand the files that the notebook's code wrote to whoever writes the notebook."""
        provisioner = kernel.km.provisioner
        if isinstance(provisioner, SandboxProvisioner):
            found = await provisioner.end_and_take_files()
            if found and isinstance(self.resources, dict):
                self.resources[WRITTEN] = found

    def _is_asked_for(self, test: NotebookNode, index: int) -> bool:
        """Whether a test speaks of what the cell `index` defines: then that has its verdict."""
        source = self.nb.cells[index].source
        if len(source) > _MOST_LOOKED_AT:
            return True
        try:
            return bool(bound_names(source) & names_read(without_magics(test.source))[0])
        except (SyntaxError, RecursionError, MemoryError, ValueError):  # it is made to be no Python
            return True

    async def _try_without_last(
        self, kernel: StudentKernel, cell: NotebookNode, index: int
    ) -> tuple[StudentKernel | None, bool, bool]:
        """Run a cell that got no answer in a fresh kernel, without the cell that ran before it.

        If that is what silenced or ended the kernel, it loses what it did, and this one loses
        nothing.
        Returns a kernel, and of it what `_run_cell` does.
        """
        await kernel.stop()
        suspect = self._again.pop()
        fresh = await self._fresh_kernel(self._again)
        if fresh is not None:
            metadata = NotebookNode(cell.metadata)
            kept = {k: v for k, v in own(cell).items() if k not in ("reason", "detail")}
            metadata[KEY] = NotebookNode(kept)
            second = NotebookNode(cell, outputs=[], metadata=metadata)
            alive, by_itself = await self._run_cell(fresh, second, index)
            died = own(cell).get("reason") == "kernel_died"
            # A test may need the cell before it, and fail without: then nothing is found out.
            fails = any(output.output_type == "error" for output in second.outputs)
            if not fails if died else own(second).get("reason") != "kernel_silent":
                cell.update(second)
                how = {"how": "a moment after it had run"} if died else {}
                self._fail(
                    self.nb.cells[suspect], "kernel_died" if died else "kernel_silent", **how
                )
                return fresh, alive, by_itself
            await fresh.stop()
        self._again.append(suspect)
        return None, False, False

    def _is_run(self, cell: NotebookNode) -> bool:
        tags = cell.metadata.get("tags", [])
        return bool(cell.source.strip()) and not any(tag in self.skip_tags for tag in tags)

    async def _fresh_kernel(self, again: list[int]) -> StudentKernel | None:
        """A kernel in which the cells `again` have been run; None when the time is up.

        A cell that ends its kernel the second time is marked and taken out of `again`.
        """
        while time.monotonic() < self._deadline:
            kernel = await self._start_kernel()
            try:
                for index in list(again):
                    cell = self.nb.cells[index]
                    scratch = NotebookNode(cell, outputs=[], metadata=NotebookNode())
                    alive, by_itself = await self._run_cell(kernel, scratch, index, show=False)
                    if not by_itself:
                        again.remove(index)
                        own(cell).update(own(scratch))
                    if not alive:
                        break
                else:
                    return kernel
            except BaseException:
                await kernel.stop()
                raise
            await kernel.stop()
        return None

    async def _start_kernel(self) -> StudentKernel:
        path = (self.resources or {}).get("metadata", {}).get("path") or None
        for attempt in (1, 2):
            kernel = StudentKernel(
                AsyncKernelManager(
                    kernel_name=self._kernel_to_run,
                    kernel_spec_manager=SandboxKernelSpecManager(),
                    config=self.config,
                    log=self.log,
                    kernel_id=str(uuid.uuid4()),
                ),
            )
            try:
                await kernel.start(path, list(self.extra_arguments), self.startup_timeout)
                return kernel
            except (KernelEnded, TimeoutError) as error:
                await kernel.stop()
                if attempt == 2:
                    raise RuntimeError(
                        f"The kernel {self._kernel_to_run!r} did not start: {error!r}. Nothing in "
                        f"this submission was run.{self._remedy}"
                    ) from error
            except BaseException:
                await kernel.stop()
                raise
        raise AssertionError("unreachable")

    # -- one cell ----------------------------------------------------------------------------

    async def _run_cell(
        self, kernel: StudentKernel, cell: NotebookNode, index: int, show: bool = True
    ) -> tuple[bool, bool]:
        """Run `cell`; returns (is the kernel still good, did the cell end by itself)."""
        self.clear_before_next_output = False
        timeout = self._get_timeout(cell)
        left = max(0.1, self._deadline - time.monotonic())
        timeout = left if timeout is None else min(timeout, left)

        def keep(message: dict[str, Any]) -> None:
            if show:
                self._keep(message, cell, index)

        room = self.output_limit
        if show:
            room = max(0, min(room, self.notebook_output_limit - self._kept_bytes))
        tally = OutputTally(room, keep)
        work = asyncio.ensure_future(self._cell_work(kernel, cell, tally))
        watch = asyncio.ensure_future(self._watch_memory(kernel))
        alive = by_itself = True
        try:
            await kernel.finish(work, timeout)
        except KernelEnded as error:
            alive = by_itself = False
            if watch.done():
                self._fail(cell, "memory", megabytes=self._limits.memory_limit / _MB)
            else:
                self._fail(cell, "kernel_died", how=error.how)
        except TimeoutError:
            by_itself = False
            alive = await self._interrupt(kernel, work)
            self._fail(cell, "timeout", seconds=timeout)
        except KernelSilent:
            alive = by_itself = False
            self._fail(cell, "kernel_silent")
        except OutputFlood:
            alive = by_itself = False
            self._fail(cell, "output_flood", megabytes=self.output_limit / _MB)
        finally:
            work.cancel()
            watch.cancel()
        if show:
            self._kept_bytes += tally.kept
        self._note_attempts(kernel, cell)
        if tally.cut and room < self.output_limit:
            mark(cell, "outputs_limit", megabytes=self.notebook_output_limit / _MB)
        elif tally.cut:
            mark(cell, "output_limit", megabytes=self.output_limit / _MB)
        if is_test(cell):
            # nbgrader takes any text on stderr for a failure; a warning is none.
            for output in cell.outputs:
                if output.output_type == "stream":
                    output.name = "stdout"
        return alive, by_itself

    async def _cell_work(
        self, kernel: StudentKernel, cell: NotebookNode, tally: OutputTally
    ) -> None:
        if is_test(cell) and self.test_cell_runner is not None:
            if inspect.iscoroutinefunction(self.test_cell_runner):
                test = asyncio.ensure_future(self.test_cell_runner(cell, kernel))
            else:
                # Not `to_thread`: blocking clients find the loop of a copied context running.
                loop = asyncio.get_running_loop()
                test = loop.run_in_executor(None, self.test_cell_runner, cell, kernel)
            dropping = asyncio.ensure_future(kernel.drop_messages())
            try:
                await asyncio.wait({test, dropping}, return_when="FIRST_COMPLETED")
                (test if test.done() else dropping).result()
            finally:
                dropping.cancel()
                test.cancel()
            return
        reply = await kernel.execute(cell.source, tally)
        self._count += 1
        cell.execution_count = self._count
        if reply.get("status") != "ok":
            self._record_error(cell, reply)

    @property
    def _limits(self) -> SandboxProvisioner:
        """The limits as configured."""
        return SandboxProvisioner(config=self.config)

    async def _watch_memory(self, kernel: StudentKernel) -> None:
        """End a kernel when a submission holds more than it may, whoever holds it.

        That are its processes and sockets, its judge, and what this process has taken up since the
        cell began: messages that wait here to be read.
        """
        process, limit = kernel.process, self._limits.memory_limit
        here, looks = resident_bytes(os.getpid()), 0
        while isinstance(process, SandboxedProcess):
            await asyncio.sleep(_LOOK)
            waiting = resident_bytes(os.getpid()) - here
            looks += 1
            others = waiting + kernel.judges_memory()
            held = 0
            if looks % 5 == 0:  # it costs more than a look at this process
                # A kernel alone has a limit of its own, with an error that can be caught.
                alone = others < _NOT_WORTH_IT
                held = process.memory_of_children() if alone else process.memory_together()
                held += process.memory_in_sockets()
            held += others
            if waiting > _MOST_HELD_HERE or held > limit:
                process.kill()
                return
        await asyncio.Event().wait()

    async def _interrupt(self, kernel: StudentKernel, work: asyncio.Future) -> bool:
        """Interrupt the running cell; whether the kernel can be used on."""
        try:
            await kernel.interrupt()
            await kernel.finish(work, self.interrupt_grace)
        except (KernelEnded, KernelSilent, OutputFlood, TimeoutError):
            return False
        return True

    def _keep(self, message: dict[str, Any], cell: NotebookNode, index: int) -> None:
        """Add an output message to the cell, if it is one that a notebook can hold."""
        try:
            message = _clean(message)
            kind, content = message["header"]["msg_type"], message["content"]
            content.pop("execution_count", None)
            if not _well_formed(kind, content):
                return
            if kind == "execute_result":
                content["execution_count"] = self._count + 1
            self.process_message(message, cell, index)
        except Exception:
            self.log.debug("An output message could not be used", exc_info=True)

    def _record_error(self, cell: NotebookNode, reply: dict[str, Any]) -> None:
        """See to it that a failed cell has an error among its outputs, and say what kind it is."""
        name = _text(reply.get("ename", "CellFailed"))
        value = _text(reply.get("evalue", "the cell did not run to its end"))
        if not any(o.output_type == "error" for o in cell.outputs):
            traceback = reply.get("traceback")
            lines = traceback[:100] if isinstance(traceback, list) else []
            lines = [_text(line) for line in lines] or [f"{name}: {value}"]
            cell.outputs.append(error_output(name, value, lines))
        if name == "StdinNotImplementedError":
            mark(cell, "input")
        elif "MemoryError" in name or "can't allocate memory" in value:
            mark(cell, "memory", megabytes=self._limits.memory_limit / _MB)
        elif name == "OSError" and ("[Errno 28]" in value or "[Errno 27]" in value):
            mark(cell, "disk", megabytes=self._limits.disk_limit / _MB)
        elif "[Errno 11]" in value or "can't start new thread" in value:
            mark(cell, "processes")

    def _note_attempts(self, kernel: StudentKernel, cell: NotebookNode) -> None:
        """Note what the cell tried to no effect, as far as its process says."""
        process = kernel.process
        if isinstance(process, SandboxedProcess):
            for code, tried in process.attempts().items():
                if is_test(cell) and code not in ("patched", "shell_hooked"):
                    # Their words may say what a hidden test has passed.
                    known = "\n".join(one.source for one in self.nb.cells)
                    tried = [what if what in known else "something" for what in tried]
                    tried = list(dict.fromkeys(tried))
                what = ", ".join(tried[:3]) + (" and more" if len(tried) > 3 else "")
                note(cell, code, what=what)
        if any(_has_script(output) for output in cell.outputs):
            note(cell, "script")

    def _fail(self, cell: NotebookNode, code: str, **fields: object) -> None:
        """Mark the cell, and leave an error in it, by which nbgrader scores it 0."""
        mark(cell, code, **fields)
        detail = own(cell)["detail"]
        cell.outputs.append(error_output(code, detail, [f"\x1b[0;31m{code}\x1b[0m: {detail}"]))

    def _flag_notebook(self) -> None:
        notes = own(self.nb)
        flags = notes.setdefault("flags", [])
        for cell in self.nb.cells:
            about = cell.metadata.get(KEY, {})
            grade_id = cell.metadata.get("nbgrader", {}).get("grade_id", "")
            # A cell without a name is found by its number on the page.
            count = cell.get("execution_count")
            name = grade_id or (f"In [{count}]" if count else "")
            found = [(entry["code"], entry["detail"]) for entry in about.get("notes", [])]
            if "reason" in about and "detail" in about:
                found.insert(0, (about.reason, about.detail))
            for code, sentence in found:
                flag = NotebookNode(code=code, cell=name, sentence=sentence)
                many = sum(other["code"] == code for other in flags) >= _MOST_FLAGS_OF_A_KIND
                if flag not in flags and not (many and not (grade_id and REASONS[code].costs)):
                    flags.append(flag)


def is_test(cell: NotebookNode) -> bool:
    """Whether a cell is one of nbgrader's autograder tests."""
    return cell.cell_type == "code" and utils.is_grade(cell) and not utils.is_solution(cell)


def _has_script(output: NotebookNode) -> bool:
    """Whether an output would run a script, if a page showed it as it is."""
    data = output.get("data", {})
    texts = [data.get(kind, "") for kind in ("text/html", "image/svg+xml", "text/markdown")]
    texts.append(output.get("evalue", ""))
    return "application/javascript" in data or any(
        "<script" in "".join(text).lower() for text in texts
    )


def error_output(name: str, value: str, traceback: list[str]) -> NotebookNode:
    """Return an output by which nbgrader scores a test cell 0."""
    return NotebookNode(output_type="error", ename=name, evalue=value, traceback=traceback)


def _text(value: Any) -> str:
    """A string that can be written to a file, whatever a kernel sent."""
    text = value if isinstance(value, str) else type(value).__name__
    return text[: 1 << 16].encode("utf-8", "replace").decode("utf-8")


def _clean(value: Any) -> Any:
    """The same value, its strings without lone surrogates (no file can hold them)."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, dict):
        return {_clean(k): _clean(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_clean(v) for v in value]
    return value


_JSON_TYPE = re.compile(r"application/(json|[a-zA-Z0-9.-]+\+json)")


def _well_formed(kind: str, content: dict[str, Any]) -> bool:
    """Whether nbformat's schema will accept what a kernel sent."""
    if kind == "stream":
        return content.get("name") in ("stdout", "stderr") and isinstance(content.get("text"), str)
    if kind == "error":
        traceback = content.get("traceback")
        texts = [content.get("ename"), content.get("evalue")]
        texts += traceback if isinstance(traceback, list) else [None]
        return all(isinstance(text, str) for text in texts)
    if kind == "clear_output":
        return True
    data, metadata = content.get("data"), content.get("metadata")
    transient = content.get("transient") or {}
    return (
        isinstance(data, dict)
        and isinstance(metadata, dict)
        and isinstance(transient, dict)
        and isinstance(transient.get("display_id", ""), str)
        and all(isinstance(value, str) or _JSON_TYPE.fullmatch(key) for key, value in data.items())
    )
