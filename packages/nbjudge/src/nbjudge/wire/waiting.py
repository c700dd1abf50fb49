"""Waiting for coroutines: both ends of the line answer from within a loop that is running already.

An event loop in a thread of its own does it, and lasts: what a coroutine leaves in its loop (an
asynchronous generator that is half read) is there for the next one.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable
from typing import Any

#: Loops that wait for nothing now. While one waits, a coroutine in it may lead to another wait.
_idle: list[asyncio.AbstractEventLoop] = []


def wait_for(awaitable: Awaitable[Any]) -> Any:
    """Return what an awaitable gives, or raise what it raises."""
    loop = _idle.pop() if _idle else _started()
    future = asyncio.run_coroutine_threadsafe(_ended(awaitable), loop)
    try:
        value, error = future.result()
    except BaseException:  # an interrupt: the loop may be busy for ever, and is left alone
        future.cancel()
        raise
    _idle.append(loop)
    if error is not None:
        raise error
    return value


def next_of(values: AsyncIterator[Any]) -> Any:
    """Return the next value of an asynchronous iterator; StopAsyncIteration where there is none."""
    return wait_for(anext(values))


def _started() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    return loop


async def _ended(awaitable: Awaitable[Any]) -> tuple[Any, BaseException | None]:
    # As a value: an exception that ends a program would end the thread of the loop.
    try:
        return await awaitable, None
    except BaseException as error:
        return None, error
