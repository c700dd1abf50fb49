"""Execute with a judge: the learner's cells run in their sandbox, the test cells do not."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from nbformat import NotebookNode
from nbgrader import utils
from traitlets import Float, default

from nbjudge.codes import mark, own
from nbjudge.intake.recorded import recorder
from nbjudge.judge.process import open_judge
from nbjudge.run.execution import KernelEnded, SandboxedExecute, StudentKernel
from nbjudge.server.forkserver import ForkServerError


class JudgedExecute(SandboxedExecute):
    """Runs each test cell in the judge; a quiz is not run at all, its answer is on record."""

    call_timeout = Float(
        # Of wall-clock time: on a busy machine an honest call waits for its turn, too.
        30.0,
        help="Seconds for one call that a test makes of the learner's code.",
    ).tag(config=True)

    @default("test_cell_runner")
    def _default_test_cell_runner(self) -> Any:
        return self._judge_cell

    def _is_run(self, cell: NotebookNode) -> bool:
        return recorder().question_of(cell) is None and super()._is_run(cell)

    async def _start_kernel(self) -> StudentKernel:
        kernel = await super()._start_kernel()
        if not self._in_python:
            return kernel
        imports = [cell.source for cell in self.nb.cells if _is_given(cell)]
        # The judge gets ready while the first cells run.
        opening = asyncio.ensure_future(
            asyncio.to_thread(
                open_judge,
                kernel.km.get_connection_info(),
                imports,
                call_seconds=self.call_timeout,
            )
        )
        kernel.judge = opening

        async def close() -> None:
            with contextlib.suppress(ForkServerError):  # raised where a test needed the judge
                (await opening).close()

        kernel.on_stop.append(close)
        return kernel

    async def _judge_cell(self, cell: NotebookNode, kernel: StudentKernel) -> None:
        # A test that is given up must not take the opening of the judge with it.
        judge = await asyncio.shield(kernel.judge)
        timeout = self._get_timeout(cell)
        # The judge knows better than `_run_cell` what a test waited for: let it be first.
        seconds = timeout and 0.9 * timeout
        outcome = await asyncio.to_thread(judge.run, cell.source, seconds)
        cell.outputs = outcome.outputs
        if outcome.reason:
            mark(cell, outcome.reason, **outcome.fields)
        if outcome.mistake:
            own(cell).mistake = outcome.mistake
        kernel.stuck = outcome.stuck

    async def _run_cell(
        self, kernel: StudentKernel, cell: NotebookNode, index: int, **how: bool
    ) -> tuple[bool, bool]:
        kernel.stuck = False
        alive, by_itself = await super()._run_cell(kernel, cell, index, **how)
        if alive and kernel.stuck:
            alive = await self._free(kernel)
        return alive, by_itself

    async def _free(self, kernel: StudentKernel) -> bool:
        """Interrupt what a given-up test left running; whether the kernel can be used on."""
        try:
            await kernel.interrupt()
            await kernel.finish(asyncio.ensure_future(kernel.answered()), self.interrupt_grace)
        except (KernelEnded, TimeoutError):
            return False
        return True


def _is_given(cell: NotebookNode) -> bool:
    """Whether a cell is the course's own in every submission, and no test."""
    return cell.cell_type == "code" and utils.is_locked(cell) and not utils.is_grade(cell)
