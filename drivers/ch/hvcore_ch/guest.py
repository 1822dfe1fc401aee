"""What the driver keeps of a running guest."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore_ch.lifecycle import Course
    from hvcore_ch.monitor import Events
    from hvcore_ch.plugging import Unplug
    from hvcore_ch.process import Vmm


@attrs.define(eq=False)
class Guest:
    """One running cloud-hypervisor.

    :ivar watch: of the file of events, for the notifier.
    :ivar expected: events that somebody waits for, by name.
    :ivar leaving: devices that somebody waits for to go, by alias.
    :ivar asked: what is to follow when a device goes that the guest was asked for, by alias.
    """

    vmm: Vmm
    course: Course
    events: Events
    crashed: bool = False
    watch: int | None = None
    watcher: asyncio.Task[None] | None = None
    expected: dict[str, asyncio.Future[None]] = attrs.field(factory=dict)
    leaving: dict[str, asyncio.Future[None]] = attrs.field(factory=dict)
    asked: dict[str, Unplug] = attrs.field(factory=dict)

    @contextlib.contextmanager
    def expecting(self, event: str) -> Iterator[asyncio.Future[None]]:
        """Hold what is done when ``event`` was handled."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.expected[event] = future
        try:
            yield future
        finally:
            self.expected.pop(event, None)

    def tell(self, event: str) -> None:
        """Wake whoever waits for ``event``."""
        future = self.expected.get(event)
        if future is not None and not future.done():
            future.set_result(None)

    def tell_departure(self, alias: str) -> bool:
        """Wake whoever waits for a device to go; return whether anybody does."""
        waiting = self.leaving.get(alias)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)
        return waiting is not None
