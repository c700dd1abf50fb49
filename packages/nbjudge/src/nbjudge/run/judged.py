"""Execute with a judge: the learner's cells run in their sandbox, the test cells do not.

**A test that the judge cannot check** (calibration says so, or the judge itself while it is at it)
runs in the learner's process after all, when everything else is done: in a fresh sandboxed kernel
the learner's cells are run once more, with every test cell in its place, as nbgrader would run
them. So whatever a test needs of another cell is there, its source is in reach of the learner's
code only when no other verdict is open, and the kernel that the judge asked has never seen it. Of
what such a test prints or raises the learner is told only whether it passed.

**What a test passes stays with it.** A function may keep what it was called with, and a cell below
the test may print it. So where a cell that ran in a kernel behind a test has something to show,
the cells run once more, in a kernel that no test has asked, and that is what is shown.

**No way down.** A learner decides what their functions return, so they can bring about that the
judge gives a test up. Where calibration has shown that the judge can check it, passing inside then
earns nothing by itself: a teacher looks at it. Failing inside is failing.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import os
import time
from typing import Any

from nbformat import NotebookNode
from nbformat.v4 import new_output
from nbgrader import utils
from traitlets import Bool, Float, default

from nbjudge import trees
from nbjudge.codes import (
    INSIDE,
    KEY,
    MANUAL,
    OUTSIDE,
    REASONS,
    by_hand,
    forced_mode,
    mark,
    note,
    own,
    sentence,
    shown,
)
from nbjudge.intake.recorded import recorder
from nbjudge.run.execution import (
    KERNEL_NAME,
    KernelEnded,
    SandboxedExecute,
    StudentKernel,
    error_output,
    is_test,
)
from nbjudge.run.judge_client import open_judge
from nbjudge.server.forkserver import ForkServerError

#: Where nbconvert's resources name the folder with the course's own files for the judge.
COURSE_FOLDER = "nbjudge_course_folder"


class JudgedExecute(SandboxedExecute):
    """Runs each test cell in the judge; a quiz is not run at all, its answer is on record."""

    call_timeout = Float(
        # Of wall-clock time: on a busy machine an honest call waits for its turn, too.
        30.0,
        help="Seconds for one call that a test makes of the learner's code.",
    ).tag(config=True)

    inside = Bool(
        True,
        help="Run tests that the judge cannot check in a sandboxed copy of the learner's process, "
        "flagged as unprotected. If not, a teacher grades them by hand.",
    ).tag(config=True)

    unasked = Bool(
        True,
        help="Show of cells that run behind a test what they show in a kernel that no test has "
        "asked, so that no hidden test's arguments are printed there. Their cells then run twice.",
    ).tag(config=True)

    #: Whether test cells run in the learner's process now, where their outputs are not shown.
    _replaying = False
    #: Whether a kernel is started without a judge.
    _alone = False
    #: Paths of the course's own files in the judge's folder.
    _brought: set[str] | None = None
    #: The outputs of all cells when the first test began: a display can be updated afterwards.
    _before_tests: list[Any] | None = None

    @default("test_cell_runner")
    def _default_test_cell_runner(self) -> Any:
        return self._judge_cell

    def _is_run(self, cell: NotebookNode) -> bool:
        return (
            recorder().question_of(cell) is None
            and super()._is_run(cell)
            and id(cell) not in self._left_out
        )

    def _mode_of(self, cell: NotebookNode) -> str | None:
        return mode_of(cell)

    def _leave_unrun(self, cell: NotebookNode, said: str) -> None:
        if recorder().question_of(cell) is not None:
            return  # its answer may be on record all the same
        if self._mode_of(cell) == MANUAL:
            why = cell.metadata.get(KEY, {}).get("why", "the course asks for it")
            self._by_hand(cell, "by_hand", why)
        else:
            super()._leave_unrun(cell, said)

    async def _run_notebook(self) -> None:
        self._left_out: set[int] = set()
        self._before_tests = self._brought = None
        tests = [cell for cell in self.nb.cells if is_test(cell) and self._is_run(cell)]
        judged = self._kernel_to_run == KERNEL_NAME
        if judged:
            # What the judge gives no verdict on fills its namespace for what comes after.
            while tests and self._mode_of(tests[-1]) in (INSIDE, MANUAL):
                self._left_out.add(id(tests.pop()))
        else:  # the judge speaks Python only
            self._left_out = {id(cell) for cell in tests}
        await super()._run_notebook()
        self._left_out = set()
        if judged and self.unasked:
            await self._show_unasked()
        await self._settle_the_rest(judged)

    async def _show_unasked(self) -> None:
        """Give cells that ran behind a test the outputs that they have where no test has asked."""
        cells = self.nb.cells
        if self._before_tests is None:
            return
        run = [
            at for at, cell in enumerate(cells) if cell.cell_type == "code" and self._is_run(cell)
        ]
        first = next((at for at in run if is_test(cells[at])), len(cells))
        for at in (at for at in run if at < first):
            kept = self._before_tests[at]
            _keep_reason_only(cells[at])  # found out later, of a cell that silenced its kernel
            cells[at].outputs = kept + [o for o in cells[at].outputs if o not in kept]
        later = [at for at in run if at > first and not is_test(cells[at]) and cells[at].outputs]
        if not later:
            return
        self._deadline = time.monotonic() + self.total_timeout
        before = [at for at in self._again if at < later[0]]
        kernel: StudentKernel | None = None
        self._alone, self._kept_bytes = True, 0
        try:
            for at in (at for at in run if later[0] <= at <= later[-1] and not is_test(cells[at])):
                if at not in self._again:  # it ended a kernel, or had to be interrupted
                    if at in later:
                        _keep_reason_only(cells[at])
                    continue
                scratch = NotebookNode(cells[at], outputs=[], metadata=NotebookNode())
                alive = by_itself = False
                kernel = kernel or await self._fresh_kernel(before)
                if kernel is not None and time.monotonic() < self._deadline:
                    alive, by_itself = await self._run_cell(kernel, scratch, at)
                if at in later:
                    _take_unasked(cells[at], scratch, by_itself)
                before += [at] if by_itself else []
                if not alive and kernel is not None:
                    await kernel.stop()
                    kernel = None
        finally:
            self._alone = False
            if kernel is not None:
                await kernel.stop()

    async def _settle_the_rest(self, judged: bool) -> None:
        """Give every test that the judge has not a verdict, or to a teacher."""
        wanted: list[int] = []
        for index, cell in enumerate(self.nb.cells):
            if not is_test(cell) or not self._is_run(cell):
                continue
            mode, about = self._mode_of(cell), cell.metadata.get(KEY, {})
            if mode == MANUAL:
                self._by_hand(cell, "by_hand", about.get("why", "the course asks for it"))
            elif mode == INSIDE or not judged:
                _forget_verdict(cell)
                own(cell).setdefault("unchecked", about.get("why", "the course asks for it"))
                wanted.append(index)
            elif "unchecked" in about and forced_mode(cell) == OUTSIDE:
                self._by_hand(cell, "unchecked", about.unchecked)
            elif "unchecked" in about:
                wanted.append(index)
        ran = await self._replay(wanted) if wanted and self.inside else {}
        for index in wanted:
            self._take_inside(self.nb.cells[index], ran.get(index), judged)

    def _by_hand(self, cell: NotebookNode, code: str, why: str) -> None:
        """Leave a test to a teacher; where nobody takes note of that, it has no points."""
        _forget_verdict(cell)
        why = shown(str(why), 200)
        note(cell, code, why=why)
        said = sentence(code, why=why)
        by_hand(self.nb)[cell.metadata.nbgrader.grade_id] = said
        cell.outputs = [error_output("GradedByHand", said, [said])]

    async def _replay(self, wanted: list[int]) -> dict[int, NotebookNode]:
        """Run the notebook once more, its tests in place; returns the cells `wanted` as they ran.

        It has the time of a whole notebook for itself.
        """
        self._deadline = time.monotonic() + self.total_timeout
        ran: dict[int, NotebookNode] = {}
        done: list[int] = []
        kernel: StudentKernel | None = None
        self._replaying = True
        try:
            for index, cell in enumerate(self.nb.cells[: max(wanted) + 1]):
                tested = is_test(cell)
                if cell.cell_type != "code" or not self._is_run(cell):
                    continue
                if not tested and index not in self._again:
                    continue
                # Without its metadata it is no test cell: it runs in the kernel.
                scratch = NotebookNode(cell, outputs=[], metadata=NotebookNode())
                if kernel is None:
                    kernel = await self._fresh_kernel(done)
                if kernel is None or time.monotonic() > self._deadline:
                    self._fail(scratch, "timeout_total", seconds=self.total_timeout)
                    alive, by_itself = kernel is not None, False
                else:
                    alive, by_itself = await self._run_cell(kernel, scratch, index, show=tested)
                if index in wanted:
                    ran[index] = scratch
                elif not tested and _has_error(cell) and not _has_error(scratch):
                    # It needs what a test cell defines; the learner's own error it was not.
                    cell.outputs = [new_output("stream", name="stdout", text=f"{_RAN_LATER}\n")]
                if by_itself:
                    done.append(index)
                if not alive and kernel is not None:
                    await kernel.stop()
                    kernel = None
        finally:
            self._replaying = False
            if kernel is not None:
                await kernel.stop()
        return ran

    def _keep(self, message: dict[str, Any], cell: NotebookNode, index: int) -> None:
        if not self._replaying:
            return super()._keep(message, cell, index)
        # Of a test in reach of the learner's code only this decides about its points.
        kind, content = message["header"]["msg_type"], message["content"]
        if kind == "error":
            cell.outputs.append(error_output("TestFailed", "", []))
        elif kind == "execute_result":
            number = _number(content.get("data"))
            if number is not None:
                cell.outputs.append(_number_output(number))
        return None

    def _take_inside(self, cell: NotebookNode, ran: NotebookNode | None, judged: bool) -> None:
        """Take over from a test that ran in the learner's process what decides, and no more."""
        why = own(cell).pop("unchecked", "")
        if ran is None:
            return self._by_hand(cell, "unchecked", why)
        failed = _has_error(ran)
        if self._mode_of(cell) == OUTSIDE and judged and not failed:
            return self._by_hand(cell, "unchecked", why)
        about = ran.metadata.get(KEY, {})
        cell.outputs = []
        note(cell, "unprotected")
        if failed and REASONS.get(about.get("reason"), REASONS["unprotected"]).costs:
            own(cell).update(reason=about.reason, detail=about.detail)
            cell.outputs.append(error_output(about.reason, about.detail, [about.detail]))
        elif failed:
            cell.outputs.append(error_output("TestFailed", _FAILED, [_FAILED]))
        else:
            cell.outputs.append(new_output("stream", name="stdout", text=f"{_PASSED}\n"))
            cell.outputs += [o for o in ran.outputs if o.output_type == "execute_result"][:1]
        return None

    async def _start_kernel(self) -> StudentKernel:
        kernel = await super()._start_kernel()
        if self._replaying or self._alone or self._kernel_to_run != KERNEL_NAME:
            return kernel
        self._tidy_course_folder()
        common = self.nb.metadata.get(KEY, {})
        imports = [cell.source for cell in self.nb.cells if _is_given(cell)]
        # The judge gets ready while the first cells run.
        opening = asyncio.ensure_future(
            asyncio.to_thread(
                open_judge,
                kernel.km.get_connection_info(),
                imports,
                solution_imports=common.get("imports", []),
                call_seconds=self.call_timeout,
                shared=common.get("shared", []),
                rebound=common.get("rebound", []),
                settings=common.get("settings", []),
                **self._course_folder(),
            )
        )
        kernel.judge = opening

        async def close() -> None:
            with contextlib.suppress(ForkServerError):  # raised where a test needed the judge
                (await opening).close()

        kernel.on_stop.append(close)
        return kernel

    def _tidy_course_folder(self) -> None:
        """Leave in the judge's folder what the course brought, for a kernel that begins anew."""
        folder = (self.resources or {}).get(COURSE_FOLDER)
        if not folder:
            return
        found = {
            os.path.join(inside, name) for inside, _, names in trees.walk(folder) for name in names
        }
        if self._brought is None:
            self._brought = found
        for path in found - self._brought:
            with contextlib.suppress(OSError):
                os.unlink(path)

    def _course_folder(self) -> dict[str, Any]:
        folder = (self.resources or {}).get(COURSE_FOLDER)
        return {"folder": folder} if folder else {}

    async def _judge_cell(self, cell: NotebookNode, kernel: StudentKernel) -> None:
        if self._before_tests is None:
            outputs = [cell.get("outputs", []) for cell in self.nb.cells]
            self._before_tests = copy.deepcopy(outputs)
        # A test that is given up must not take the opening of the judge with it.
        judge = await asyncio.shield(kernel.judge)
        timeout = self._get_timeout(cell)
        # The judge knows better than `_run_cell` what a test waited for: let it be first.
        seconds = timeout and 0.9 * timeout
        outcome = await asyncio.to_thread(judge.run, cell.source, seconds)
        kernel.stuck = outcome.stuck
        if self._mode_of(cell) in (INSIDE, MANUAL):
            return
        # A judge that says so has found neither right nor wrong.
        unchecked = getattr(outcome, "unchecked", None)
        if unchecked:
            own(cell).unchecked = str(unchecked)
            return
        cell.outputs = outcome.outputs
        if outcome.reason:
            mark(cell, outcome.reason, **outcome.fields)
        if outcome.mistakes:
            own(cell).mistakes = outcome.mistakes

    async def _run_cell(
        self, kernel: StudentKernel, cell: NotebookNode, index: int, show: bool = True
    ) -> tuple[bool, bool]:
        kernel.stuck = False
        alive, by_itself = await super()._run_cell(kernel, cell, index, show)
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


def mode_of(cell: NotebookNode) -> str | None:
    """Return how a test cell is checked: as its teacher or calibration said; None if neither."""
    return forced_mode(cell) or cell.metadata.get(KEY, {}).get("mode")


_PASSED = "This test passed."
_RAN_LATER = (
    "This cell ran without an error once the tests above it had run. What it shows is left out."
)
_FAILED = (
    "This test did not pass. It ran in your notebook's own process, so what it compares is not "
    "shown."
)


_LEFT_OUT = (
    "What this cell shows is left out: it ran behind a test, and without the test it does not end "
    "as it did."
)


def _keep_reason_only(cell: NotebookNode) -> None:
    """Leave of a cell's outputs what the grader itself says of it."""
    reason = own(cell).get("reason")
    cell.outputs = [o for o in cell.outputs if o.output_type == "error" and o.ename == reason]


def _take_unasked(cell: NotebookNode, ran: NotebookNode, by_itself: bool) -> None:
    """Give a cell the outputs of a run in which no test has asked."""
    if not by_itself:
        cell.outputs = [new_output("stream", name="stdout", text=f"{_LEFT_OUT}\n")]
    elif _has_error(ran) and not _has_error(cell):
        # It needs what a test cell defines.
        cell.outputs = [new_output("stream", name="stdout", text=f"{_RAN_LATER}\n")]
    else:
        cell.outputs = ran.outputs
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = cell.execution_count


def _has_error(cell: NotebookNode) -> bool:
    return any(output.output_type == "error" for output in cell.outputs)


def _forget_verdict(cell: NotebookNode) -> None:
    """Leave nothing in a cell of what came of it in the judge."""
    cell.outputs = []
    for key in ("reason", "detail", "notes", "mistakes"):
        own(cell).pop(key, None)


def _number(data: Any) -> float | None:
    """Return the points that the value of a test gives, as nbgrader reads them, if it does."""
    text = data.get("text/plain") if isinstance(data, dict) else None
    try:
        number = float(text) if isinstance(text, str) else -1.0
    except ValueError:
        return None
    return number if number >= 0 else None


def _number_output(number: float) -> NotebookNode:
    return new_output("execute_result", {"text/plain": repr(number)}, execution_count=None)
