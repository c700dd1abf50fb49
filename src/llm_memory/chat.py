"""Chat with a real model through a cache: turns to token ids, and a widget that streams.

Models with ChatML turns (SmolLM2, Qwen2) mark who speaks by two special tokens. Those are put in
as ids; what a person typed is text, whatever it spells.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from html import escape
from typing import Any

import torch

__all__ = ["Chat", "chat_box"]

BEGIN, END = "<|im_start|>", "<|im_end|>"
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
MIB = 1024**2


def turn_ids(tokenizer: Any, role: str, text: str) -> list[int]:
    """The token ids of one whole turn: the start sign, who speaks, the text, the end sign."""
    begin, end = (special_id(tokenizer, sign) for sign in (BEGIN, END))
    said = tokenizer.encode_as_text(f"{role}\n{text}")
    return [begin, *said, end, *tokenizer.encode_as_text("\n")]


def special_id(tokenizer: Any, sign: str) -> int:
    """The id of a special token; ValueError for a model without such turns."""
    ids = tokenizer.encode(sign) if hasattr(tokenizer, "encode_as_text") else []
    if len(ids) != 1:
        raise ValueError(
            f"this model has no token {sign}: it was not trained to chat in such turns"
        )
    return ids[0]


class Chat:
    """A conversation: `say(text)` yields the answer piece by piece, and `ids` holds all of it.

    `make_cache` makes the cache that is kept from turn to turn, so that a turn costs its own tokens
    only; with `cached` set to False every token passes through the model at every step. After each
    piece `seconds_to_first`, `rate` (tokens a second), `n_bytes` and `forwarded` are those so far.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        make_cache: Callable[[], Any],
        system: str = SYSTEM,
        most: int = 200,
    ) -> None:
        """`most` tokens at most are written in an answer. ValueError if the model has no turns."""
        self.model, self.tokenizer, self.make_cache, self.most = model, tokenizer, make_cache, most
        self.end = special_id(tokenizer, END)
        self.opening = turn_ids(tokenizer, "system", system)
        self.cached = True
        self.begin()

    def begin(self) -> None:
        """Begin a new conversation."""
        self.ids = list(self.opening)
        self.cache = self.make_cache()
        self.seconds_to_first = self.rate = float("nan")
        self.forwarded = 0

    @property
    def n_bytes(self) -> int:
        """Bytes that the cache holds, counted in its tensors; 0 without a cache."""
        return sum(tensor.nbytes for tensor in _tensors(self.cache)) if self.cached else 0

    def say(self, text: str) -> Generator[str]:
        """Say something and yield the answer, as text, token by token.

        Raises ValueError, with nothing changed, for a text that is empty or does not fit the
        window. Stopped in the middle, the conversation goes on from what was written.
        """
        if not text.strip():
            raise ValueError("Nothing was said: type a message first.")
        window = self.model.config.window
        # A letter is less than a token, but no token is longer than a few hundred of them.
        new = turn_ids(self.tokenizer, "user", text[: 400 * window])
        new += [special_id(self.tokenizer, BEGIN), *self.tokenizer.encode_as_text("assistant\n")]
        room = window - len(self.ids) - len(new)
        if room < 1:
            raise ValueError(
                f"The message has {len(new):,} tokens, and {max(0, window - len(self.ids)):,} are "
                f"left of the window of {window:,}: shorten it, or begin a new conversation."
            )
        self.ids += new
        self.forwarded, start, shown = 0, time.perf_counter(), ""
        written: list[int] = []
        try:
            while len(written) < min(self.most, room):
                token = self._next()
                took = time.perf_counter() - start
                if not written:
                    self.seconds_to_first = took
                else:
                    self.rate = len(written) / (took - self.seconds_to_first)
                if token == self.end:
                    break
                written.append(token)
                self.ids.append(token)
                # A character may take several tokens: half of one is not shown.
                whole = self.tokenizer.decode(written).rstrip("\ufffd")
                yield whole[len(shown) :]
                shown = whole
        finally:
            self.ids += [self.end, *self.tokenizer.encode_as_text("\n")]

    def _next(self) -> int:
        if self.cached:
            if self.cache is None:
                self.cache = self.make_cache()
            unseen = self.ids[self.cache.n_seen :]
        else:
            self.cache, unseen = None, self.ids
        try:
            with torch.inference_mode():
                scores = self.model(unseen, cache=self.cache, only_last=True)
        except BaseException:
            # Interrupted between two layers, a cache holds half a step: it is filled anew.
            self.cache = None
            raise
        self.forwarded += len(unseen)
        return int(scores[0, -1].argmax())


def _tensors(held: Any) -> Iterator[torch.Tensor]:
    """The tensors in a learner's cache, wherever it keeps them; a view counts what it shows."""
    if isinstance(held, torch.Tensor):
        yield held
    elif isinstance(held, dict):
        for one in held.values():
            yield from _tensors(one)
    elif isinstance(held, list | tuple):
        for one in held:
            yield from _tensors(one)
    elif hasattr(held, "__dict__"):
        yield from _tensors(vars(held))


def chat_box(chat: Chat) -> Any:
    """A widget around a `Chat`: a text field, the conversation, its speed, a switch, Stop.

    Enter sends. Everything can be reached with the Tab key, and what is new is announced to screen
    readers. The answer is streamed in a thread of its own, so the kernel hears Stop meanwhile, and
    runs other cells; an interrupt of the kernel stops those and leaves the answer alone.
    """
    import ipywidgets as widgets

    return _Box(chat, widgets)


class _Box:
    def __init__(self, chat: Chat, widgets: Any) -> None:
        import threading

        self.chat = chat
        self.turns: list[list[str]] = []
        self.stopping = threading.Event()
        self.thread: threading.Thread | None = None
        self.entered: threading.Timer | None = None
        wide = {"width": "min(50em, 95%)"}
        self.talk = widgets.HTML(self._page())
        self.text = widgets.Text(
            placeholder="Say something, then press Enter",
            description="You:",
            continuous_update=False,
            layout=wide,
        )
        self.send = widgets.Button(description="Send", button_style="primary")
        self.stop = widgets.Button(description="Stop", disabled=True)
        self.fresh = widgets.Button(description="New conversation")
        self.switch = widgets.Checkbox(value=True, description="KV cache", indent=False)
        self.note = widgets.HTML()
        self.send.on_click(lambda _: self.begin())
        # Enter alone sends: a field that reports its value when it is left would send at Tab, too.
        self.text.on_msg(
            lambda _, said, __: self._enter() if said.get("event") == "submit" else None
        )
        self.text.observe(lambda _: self._came(), "value")
        self.stop.on_click(lambda _: self.halt())
        self.fresh.on_click(lambda _: self.clear())
        self.box = widgets.VBox(
            [
                self.talk,
                self.text,
                widgets.HBox([self.send, self.stop, self.fresh, self.switch]),
                self.note,
            ]
        )

    def show(self) -> None:
        """Display the widget, and a line of text where no kernel runs."""
        from IPython.display import display

        view = {"version_major": 2, "version_minor": 0, "model_id": self.box.model_id}
        still = "Run this cell to chat."
        bundle = {"text/html": still, "application/vnd.jupyter.widget-view+json": view}
        display(bundle | {"text/plain": still}, raw=True)

    def _enter(self) -> None:
        """Send at Enter, once the text is here: the browser says Enter first, then what was typed.

        Nothing follows where nothing was typed since the field was left.
        """
        import threading

        self.entered = threading.Timer(1.0, self.begin)
        self.entered.daemon = True
        self.entered.start()

    def _came(self) -> None:
        if self.entered is not None:
            self.begin()

    def begin(self) -> None:
        """Send what stands in the text field; nothing happens while an answer is written."""
        import threading

        if self.entered is not None:
            self.entered.cancel()
            self.entered = None
        text = self.text.value
        if self.thread is not None and self.thread.is_alive():
            return
        self._to_text()
        self.chat.cached = self.switch.value
        self.stopping.clear()
        self.text.value = ""
        self._busy(True)
        self.thread = threading.Thread(target=self._answer, args=(text,), daemon=True)
        self.thread.start()

    def halt(self) -> None:
        """Stop the answer."""
        self._to_text()
        self.stopping.set()

    def clear(self) -> None:
        """Forget the conversation."""
        self.stopping.set()
        if self.thread is not None:
            self.thread.join(timeout=60)
        self.turns.clear()
        self.chat.begin()
        self.talk.value, self.note.value = self._page(), ""

    def _answer(self, text: str) -> None:
        turn = [text, ""]
        self.turns.append(turn)
        try:
            drawn = 0.0
            answer = self.chat.say(text)
            for piece in answer:
                turn[1] += piece
                if time.perf_counter() - drawn > 0.1:  # each drawing is a message to the browser
                    self.talk.value, self.note.value = self._page(), self._speed()
                    drawn = time.perf_counter()
                if self.stopping.is_set():
                    turn[1] += " … (stopped)"
                    answer.close()
                    break
            self.note.value = self._speed()
        except ValueError as refused:
            self.turns.remove(turn)
            self.text.value = text
            self.note.value = f'<span role="alert">{escape(str(refused))}</span>'
        except BaseException as broken:
            # Shown, for nobody sees what a thread raises; the next message begins anew.
            self.note.value = (
                f'<span role="alert">The answer broke off: {escape(repr(broken))}</span>'
            )
        finally:
            self.talk.value = self._page()
            self._busy(False)

    def _to_text(self) -> None:
        # A button that is switched off loses the keyboard, which then begins at the page's top.
        if hasattr(self.text, "focus"):  # since ipywidgets 8
            self.text.focus()

    def _busy(self, busy: bool) -> None:
        self.send.disabled = self.fresh.disabled = self.switch.disabled = busy
        self.stop.disabled = not busy

    def _speed(self) -> str:
        chat = self.chat
        return escape(
            f"first token after {chat.seconds_to_first:.2f} s · {chat.rate:.1f} tokens a second · "
            f"cache {chat.n_bytes / MIB:.1f} MiB · {chat.forwarded:,} tokens passed for this answer"
        )

    def _page(self) -> str:
        lines = "".join(
            f"<p><b>You:</b> {escape(said)}</p><p><b>Model:</b> "
            f'<span style="white-space: pre-wrap">{escape(answered) or "…"}</span></p>'
            for said, answered in self.turns
        )
        return (
            '<div role="log" aria-live="polite" aria-label="Conversation" style="min-height: 4em; '
            f'border: 1px solid #8A8F99; border-radius: 4px; padding: 0.5em">{lines}</div>'
        )
