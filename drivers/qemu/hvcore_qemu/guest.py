"""What the driver keeps of a running guest."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import attrs

from hvcore_qemu import folders

if TYPE_CHECKING:
    from pathlib import Path

    from hvcore.process import Log
    from hvcore.process import Process
    from hvcore_qemu.lifecycle import Course
    from hvcore_qemu.monitor import Monitor
    from hvcore_qemu.placement import Placement
    from hvcore_qemu.plugging import Unplug


@attrs.define(eq=False)
class Guest:
    """One running QEMU.

    :ivar leaving: devices that are to go, by alias; true once they are gone, false when the guest
        keeps them.
    :ivar pending: devices that were asked for and have not gone yet, nobody waiting any more.
    :ivar folders: directories that its memory is taken from, which go with it.
    :ivar steps: set whenever QEMU tells of a step of a migration.
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
    pending: dict[str, Unplug] = attrs.field(factory=dict)
    folders: list[str] = attrs.field(factory=list)
    steps: asyncio.Event = attrs.field(factory=asyncio.Event)

    async def leave(self) -> None:
        """Remove what the host had for a process that is gone."""
        if self.placement.made:
            await asyncio.to_thread(self.placement.end)
        if self.folders:
            await asyncio.to_thread(folders.remove, self.folders)

    def tell_departure(self, alias: str, *, gone: bool) -> bool:
        """Tell whoever waits for a device to go how that ended; return whether anybody does."""
        waiting = self.leaving.get(alias)
        if waiting is not None and not waiting.done():
            waiting.set_result(gone)
        return waiting is not None
