"""I/O threads, limits and sleep of machines that exist only in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Final

from hvcore import events
from hvcore.driver import Driver
from hvcore.lifecycle import PMSuspendedReason
from hvcore.lifecycle import RunningReason
from hvcore.lifecycle import State
from hvcore.rules import iothread
from hvcore.rules import throttling
from hvcore.statistics import IOThreadStats

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hvcore.driver import Record
    from hvcore.model.domain import Domain
    from hvcore.model.iothread import ThrottleGroup
    from hvcore.testing.clock import VirtualClock
    from hvcore.verbs.power import SleepKind
    from hvcore_test.monitor import Machine

POLL_MAX: Final = 32768
"""Nanoseconds for which I/O threads poll unless told otherwise, as those of QEMU."""


class Adjusting(Driver):
    """What is only remembered, and a guest that sleeps whenever it is told to."""

    clock: VirtualClock

    async def add_iothread(self, record: Record, live: Domain, number: int) -> None:
        """Start an I/O thread."""
        iothread.add(live, number)
        record.runtime.history.append(f"add iothread {number}")

    async def remove_iothread(self, record: Record, live: Domain, number: int) -> None:
        """End an I/O thread."""
        iothread.remove(live, number)
        record.runtime.history.append(f"remove iothread {number}")

    async def set_iothread(
        self, record: Record, live: Domain, number: int, settings: Mapping[str, int]
    ) -> None:
        """Let an I/O thread work in another way."""
        iothread.adjust(live, number, settings)
        record.runtime.history.append(f"set iothread {number}")

    async def iothread_stats(self, record: Record) -> list[IOThreadStats]:
        """Return what was said, and QEMU's defaults."""
        threads = iothread.iothreads(record.definition.domain)
        return [
            IOThreadStats(
                number=thread.id,
                poll_max=POLL_MAX if thread.poll_max is None else thread.poll_max,
                poll_grow=thread.poll_grow or 0,
                poll_shrink=thread.poll_shrink or 0,
            )
            for thread in sorted(threads, key=lambda thread: thread.id)
        ]

    async def set_throttle_group(self, record: Record, live: Domain, group: ThrottleGroup) -> None:
        """Remember the limits."""
        throttling.put(live, group)
        record.runtime.history.append(f"throttle {group.group_name}")

    async def remove_throttle_group(self, record: Record, live: Domain, name: str) -> None:
        """Forget the limits."""
        throttling.remove(live, name)
        record.runtime.history.append(f"remove throttle {name}")

    async def pm_suspend(self, record: Record, kind: SleepKind, seconds: int) -> None:
        """Let the guest sleep, and wake up by itself; one that sleeps on disk powers off."""
        machine: Machine = record.runtime
        on_disk = kind == "disk"
        detail = events.PMSuspendedDetail.DISK if on_disk else events.PMSuspendedDetail.MEMORY
        machine.stop()
        asleep = events.PMSuspended(domain=record.ref(), reason=detail)
        self.reports.transition(record, PMSuspendedReason.UNKNOWN, asleep)
        if on_disk:
            await self.shutdown(record)
        elif seconds:
            self.clock.call_later(seconds, lambda: self._wake(record, machine))

    async def pm_wakeup(self, record: Record) -> None:
        """Let the guest go on."""
        self._wake(record, record.runtime)

    def _wake(self, record: Record, machine: Machine) -> None:
        """Let the guest go on, unless something else has happened meanwhile."""
        if record.runtime is machine and record.state is State.PMSUSPENDED:
            machine.cont()
            woken = events.PMWakeup(domain=record.ref())
            started = events.Started(domain=record.ref(), reason=events.StartedDetail.WAKEUP)
            self.reports.transition(record, RunningReason.WAKEUP, woken, started)
