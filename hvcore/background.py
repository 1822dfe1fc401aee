"""The event loop behind the blocking API: one thread, for as long as the process lives.

Blocking calls hand their work to it and wait, so they also work inside a program that runs a loop
of its own, and events keep flowing while nobody calls.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
from typing import TYPE_CHECKING
from typing import Any
from typing import TypeVar

from hvcore.events import Overflow
from hvcore.events import StreamClosed

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Coroutine
    from types import TracebackType
    from typing import Self

    from hvcore import events

_T = TypeVar("_T")
_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


def _running() -> asyncio.AbstractEventLoop:
    """Return the loop, starting its thread at first use."""
    global _loop  # noqa: PLW0603 - one for each process, that is the point
    with _lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="hvcore-loop", daemon=True).start()
        return _loop


def _forget() -> None:
    """Start over in a forked child: threads do not survive a fork."""
    global _loop, _lock  # noqa: PLW0603 - see _running
    _lock = threading.Lock()
    _loop = None


os.register_at_fork(after_in_child=_forget)


def run(work: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine in the background loop and return its result.

    If the wait is interrupted (Ctrl-C), the coroutine is cancelled.
    """
    return _result(asyncio.run_coroutine_threadsafe(work, _running()))


def call(function: Callable[[], _T]) -> _T:
    """Call a plain function in the thread of the loop, which owns all objects."""
    done: concurrent.futures.Future[_T] = concurrent.futures.Future()

    def work() -> None:
        try:
            result = function()
        except BaseException as error:  # noqa: BLE001 - raised again where it is awaited
            done.set_exception(error)
        else:
            done.set_result(result)

    _running().call_soon_threadsafe(work)
    return _result(done)


def _result(future: concurrent.futures.Future[_T]) -> _T:
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


class EventStream:
    """A stream of events to iterate over, as :class:`hvcore.events.EventStream`, but waiting."""

    __slots__ = ("_async",)

    def __init__(self, wrapped: events.EventStream) -> None:
        self._async = wrapped

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> events.Event | Overflow | StreamClosed:
        try:
            return run(self._async.get())
        except StopAsyncIteration:
            raise StopIteration from None

    def get(self, *, within: float | None = None) -> events.Event | Overflow | StreamClosed | None:
        """Return the next item, or ``None`` when the stream is over or none came in time.

        :param within: seconds to wait; for ever unless given.
        """

        async def wait() -> events.Event | Overflow | StreamClosed | None:
            try:
                async with asyncio.timeout(within):
                    return await self._async.get()
            except (TimeoutError, StopAsyncIteration):
                return None

        return run(wait())

    def close(self) -> None:
        """End the stream; what is already queued can still be read."""
        call(self._async.close)
