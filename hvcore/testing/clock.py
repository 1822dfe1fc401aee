"""A clock that stands still until it is told, for hosts that exist only in a test.

Whoever waits for it waits in no real time. It moves when the test says so, and by itself unless it
is held: when everybody who could do something has done it and somebody waits for the clock, it
jumps to when the first of them is due. Two runs of a test see the same times.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from typing import TYPE_CHECKING
from typing import Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable

SECOND: Final = 1_000_000_000
"""Nanoseconds of one second."""

_ROUNDS: Final = 64
"""Turns of the event loop after which all that can be done has been done: chains of tasks that
wait for each other are never that long, and a turn takes some microseconds."""


@attrs.define(eq=False)
class Timer:
    """Something that is to be done at a time; :meth:`cancel` calls it off."""

    action: Callable[[], None] | None

    def cancel(self) -> None:
        """Let nothing happen."""
        self.action = None


class VirtualClock:
    """Time of one host."""

    def __init__(self) -> None:
        self._held = False
        self._now = 0
        self._timers: list[tuple[int, int, Timer]] = []
        self._numbers = itertools.count()
        self._sleepers = 0
        self._jumping: asyncio.Task[None] | None = None

    @property
    def now(self) -> float:
        """Seconds since the host came up."""
        return self._now / SECOND

    @property
    def now_ns(self) -> int:
        """Nanoseconds since the host came up."""
        return self._now

    def hold(self) -> None:
        """Let nothing but :meth:`advance` move the clock from now on."""
        self._held = True

    def release(self) -> None:
        """Let the clock jump again when everybody waits for it."""
        self._held = False
        self._keep_moving()

    def call_later(self, seconds: float, action: Callable[[], None]) -> Timer:
        """Have something done in a while; whoever sets a timer does not wait for it."""
        timer = Timer(action)
        due = self._now + round(seconds * SECOND)
        heapq.heappush(self._timers, (due, next(self._numbers), timer))
        return timer

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        if seconds <= 0:
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def wake() -> None:
            if not woken.done():
                woken.set_result(None)

        timer = self.call_later(seconds, wake)
        self._sleepers += 1
        try:
            self._keep_moving()
            await woken
        finally:
            self._sleepers -= 1
            timer.cancel()

    async def advance(self, seconds: float) -> None:
        """Let time pass: what is due meanwhile happens at its time, one after the other.

        :raises ValueError: time does not run backwards.
        """
        if seconds < 0:
            raise ValueError("time does not run backwards")
        until = self._now + round(seconds * SECOND)
        await _settle()
        while self._timers and self._timers[0][0] <= until:
            self._next()
            await _settle()
        self._now = max(self._now, until)

    def _keep_moving(self) -> None:
        if self._held or not self._sleepers:
            return
        if self._jumping is None or self._jumping.done():
            self._jumping = asyncio.get_running_loop().create_task(self._jump())

    async def _jump(self) -> None:
        """Let time pass for as long as somebody waits for it."""
        await _settle()
        while not self._held and self._sleepers and self._timers:
            self._next()
            await _settle()

    def _next(self) -> None:
        """Go to the next time at which something is to be done, and do it."""
        due, _, timer = heapq.heappop(self._timers)
        if timer.action is not None:
            self._now = max(self._now, due)
            timer.action()


async def _settle() -> None:
    for _ in range(_ROUNDS):
        await asyncio.sleep(0)
