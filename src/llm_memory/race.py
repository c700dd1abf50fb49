"""Two generations side by side, each on a clock of its own, as on two equal machines.

Both run in this process, so they take turns: whoever has used less time goes on. A turn is one pass
through the model with the code around it, measured alone, so that neither slows the other down.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any

__all__ = ["Lane", "race"]


class _Stopped(BaseException):
    """The race was called off."""


@dataclass
class Lane:
    """One generation: the tokens so far, when each came (seconds of its own time), what passed."""

    name: str
    n_prompt: int
    tokens: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    forwarded: int = 0
    seconds: float = 0.0
    running: bool = True
    error: BaseException | None = None

    @property
    def first_token(self) -> float:
        """Seconds until the first token was there."""
        return self.times[0] if self.times else float("nan")

    @property
    def rate(self) -> float:
        """Tokens per second after the first one."""
        if len(self.times) < 2:
            return float("nan")
        return (len(self.times) - 1) / (self.times[-1] - self.times[0])


class _Runner:
    """Runs one generation in a thread that stops at every pass until it gets its turn."""

    def __init__(self, lane: Lane, model: Any, work: Callable[[Any], Any]) -> None:
        self.lane, self.model, self.work = lane, model, work
        self.turn, self.done = threading.Semaphore(0), threading.Semaphore(0)
        self.stopped = False
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    @property
    def config(self) -> Any:
        return self.model.config

    def _wait(self) -> None:
        self.turn.acquire()
        if self.stopped:
            raise _Stopped
        self.since = time.perf_counter()

    def _run(self) -> None:
        import torch

        try:
            self._wait()
            with torch.inference_mode():
                self.work(self)
        except _Stopped:
            return
        except Exception as error:
            self.lane.error = error
        self.lane.seconds += time.perf_counter() - self.since
        self.lane.running = False
        self.done.release()

    def __call__(self, ids: Any, *args: Any, **kwargs: Any) -> Any:
        """Stand in for the model: one pass, then hand the turn back."""
        import torch

        logits = self.model(ids, *args, **kwargs)
        token = int(logits[0, -1].argmax())
        lane = self.lane
        lane.seconds += time.perf_counter() - self.since
        lane.forwarded += int(torch.as_tensor(ids).shape[-1])
        lane.tokens.append(token)
        lane.times.append(lane.seconds)
        self.done.release()
        self._wait()
        return logits

    def step(self) -> None:
        """Give the generation one turn."""
        self.turn.release()
        self.done.acquire()

    def stop(self) -> None:
        """End the thread."""
        self.stopped = True
        self.turn.release()
        self.thread.join(timeout=5)


def race(
    model: Any,
    tokenizer: Any,
    prompt: list[int],
    works: Mapping[str, Callable[[Any], Any]],
    show: bool = True,
) -> list[Lane]:
    """Run `works` (name → `work(model)`, a generation from `prompt`) side by side and show them.

    Each work gets a stand-in for `model`, whose passes take turns. Shows the texts as they grow,
    the time to the first token and the tokens per second. Returns the lanes; raises what a work
    raised.
    """
    lanes = [Lane(name, len(prompt)) for name in works]
    runners = [_Runner(lane, model, work) for lane, work in zip(lanes, works.values(), strict=True)]
    sheet = _sheet(lanes, tokenizer) if show else None
    drawn = time.perf_counter()
    try:
        while any(lane.running for lane in lanes):
            runner = min((r for r in runners if r.lane.running), key=lambda r: r.lane.seconds)
            runner.step()
            if runner.lane.error is not None:
                raise runner.lane.error
            if sheet is not None and time.perf_counter() - drawn > 0.05:
                sheet.value = _html(lanes, tokenizer)
                drawn = time.perf_counter()
    finally:
        for runner in runners:
            runner.stop()
    if sheet is not None:
        sheet.value = _html(lanes, tokenizer)
        for lane in lanes:
            print(
                f"{lane.name}: first token after {1000 * lane.first_token:.0f} ms, then "
                f"{lane.rate:.0f} tokens a second; {lane.forwarded:,} tokens passed"
            )
    return lanes


def replay(lanes: list[Lane], tokenizer: Any) -> None:
    """Show a finished race again, with a slider over the time that both had."""
    import ipywidgets as widgets

    longest = max(lane.times[-1] for lane in lanes)
    moments = [longest * i / 40 for i in range(41)]
    control = widgets.SelectionSlider(
        options=[(f"{moment:.2f} s", moment) for moment in moments],
        value=moments[10],
        description="Time",
        layout={"width": "min(30em, 95%)"},
    )
    sheet = widgets.HTML(_html(lanes, tokenizer, moments[10]))

    def redraw(_change: Any) -> None:
        sheet.value = _html(lanes, tokenizer, control.value)

    control.observe(redraw, names="value")
    _display(widgets.VBox([control, sheet]), _html(lanes, tokenizer))


def _sheet(lanes: list[Lane], tokenizer: Any) -> Any:
    import ipywidgets as widgets

    sheet = widgets.HTML(_html(lanes, tokenizer))
    _display(sheet, "Run this cell to see the race.")
    return sheet


def _display(widget: Any, still: str) -> None:
    """Display `widget`, and `still` (HTML) where no kernel runs."""
    from IPython.display import display

    view = {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}
    bundle = {"text/html": still, "application/vnd.jupyter.widget-view+json": view}
    display(bundle | {"text/plain": "Run this cell to see the race."}, raw=True)


def _html(lanes: list[Lane], tokenizer: Any, until: float = float("inf")) -> str:
    longest = max(max((lane.times[-1] for lane in lanes if lane.times), default=0), 1e-9)
    columns = []
    for lane in lanes:
        n = sum(moment <= until for moment in lane.times)
        shown = Lane(lane.name, lane.n_prompt, lane.tokens[:n], lane.times[:n])
        first = f"{1000 * shown.first_token:.0f} ms" if n else "…"
        rate = f"{shown.rate:.0f}" if n > 1 else "…"
        at = shown.times[-1] if n else 0.0
        columns.append(
            '<div style="flex: 1 1 18em; border: 1px solid #8A8F99; padding: 0.5em; '
            'border-radius: 4px">'
            f"<b>{escape(lane.name)}</b><br>"
            f"{n} tokens after {at:.2f} s<br>first token: {first} · tokens a second: {rate}"
            f'<div style="background: #0072B2; height: 0.4em; margin: 0.4em 0; '
            f'width: {100 * at / longest:.0f}%" role="presentation"></div>'
            f'<div style="min-height: 6em">{escape(tokenizer.decode(shown.tokens))}</div></div>'
        )
    return f'<div style="display: flex; gap: 1em; flex-wrap: wrap">{"".join(columns)}</div>'
