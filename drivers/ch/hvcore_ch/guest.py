"""What the driver keeps of a running guest."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING
from typing import Any

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.process import Log
    from hvcore.process import Process
    from hvcore_ch.lifecycle import Course
    from hvcore_ch.monitor import Events
    from hvcore_ch.plugging import Unplug
    from hvcore_ch.process import Vmm
    from hvcore_ch.relay import Relay


@attrs.define(eq=False)
class Guest:
    """One running cloud-hypervisor.

    :ivar watch: of the file of events, for the notifier.
    :ivar expected: events that somebody waits for, by name.
    :ivar leaving: devices that somebody waits for to go, by alias.
    :ivar asked: what is to follow when a device goes that the guest was asked for, by alias.
    :ivar leaving_by: by what it is on its way to another host.
    :ivar arriving: by what it is on its way here.
    :ivar receiving: the request that ends when it is here.
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
    leaving_by: Relay | None = None
    arriving: Relay | None = None
    receiving: asyncio.Task[Any] | None = None

    @property
    def process(self) -> Process:
        """Its process."""
        return self.vmm.process

    @property
    def log(self) -> Log:
        """What its process writes."""
        return self.vmm.log

    @property
    def left(self) -> bool:
        """Whether it runs on another host, so that its end here is no news."""
        return self.leaving_by is not None and self.leaving_by.handed_over

    async def give_up(self) -> None:
        """End every migration of it that is going on."""
        for way in (self.leaving_by, self.arriving):
            if way is not None:
                await way.close()
        if self.receiving is not None:
            self.receiving.cancel()

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
