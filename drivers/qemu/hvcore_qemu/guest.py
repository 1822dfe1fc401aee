"""What the driver keeps of a running guest."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from pathlib import Path

    from hvcore.process import Log
    from hvcore.process import Process
    from hvcore_qemu.lifecycle import Course
    from hvcore_qemu.monitor import Monitor
    from hvcore_qemu.placement import Placement


@attrs.define(eq=False)
class Guest:
    """One running QEMU.

    :ivar leaving: devices that are to go, by alias; true once they are gone, false when the guest
        keeps them.
    """

    process: Process
    monitor: Monitor
    course: Course
    log: Log
    socket: Path
    placement: Placement
    crashed: bool = False
    watcher: asyncio.Task[None] | None = None
    leaving: dict[str, asyncio.Future[bool]] = attrs.field(factory=dict)

    def tell_departure(self, alias: str, *, gone: bool) -> None:
        """Tell whoever waits for a device to go how that ended."""
        waiting = self.leaving.get(alias)
        if waiting is not None and not waiting.done():
            waiting.set_result(gone)
