"""Migration of machines that exist only in memory, and what is known of long jobs.

A guest goes as QEMU's do: all of its memory first, then again and again what it has written to
meanwhile, until so little is left that it can stand still for the rest. All of it takes time of the
source's clock. This guest writes to a quarter of what could be sent meanwhile, so it always gets
there; one that does not is a fault to plan.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import Final

import attrs

from hvcore import events
from hvcore.driver import Driver
from hvcore.events import ResumedDetail
from hvcore.events import SuspendedDetail
from hvcore.jobs import AsyncJob
from hvcore.lifecycle import PausedReason
from hvcore.lifecycle import RunningReason
from hvcore.lifecycle import State

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hvcore.driver import Record
    from hvcore.errors import HvError
    from hvcore.jobinfo import Progress
    from hvcore.testing.clock import VirtualClock
    from hvcore.testing.injection import Injector
    from hvcore_test.monitor import Machine

BANDWIDTH: Final = 1024
"""MiB per second that the network between two hosts takes, unless a migration is given less."""
DOWNTIME: Final = 0.3
"""Seconds that a guest may stand still at the end; QEMU's."""
PAGE: Final = 4096
"""Bytes of a page of memory."""
_WRITTEN: Final = 4
"""The guest writes to one part in so many of what could be sent meanwhile."""


@attrs.define(eq=False, kw_only=True)
class Transfer:
    """The memory of a guest on its way.

    :ivar rate: bytes per second.
    :ivar total: bytes of the guest.
    :ivar sent: bytes that were sent in passes that are over.
    :ivar left: bytes of the pass that is going on.
    :ivar since: seconds on the clock when that began.
    :ivar stood: seconds that the guest stood still for the rest.
    """

    clock: VirtualClock
    rate: int
    total: int
    sent: int = 0
    left: int = 0
    since: float = 0.0
    iteration: int = 0
    stood: float = DOWNTIME

    def begin(self, left: int) -> float:
        """Begin a pass, and return the seconds that it takes."""
        self.iteration += 1
        self.left, self.since = left, self.clock.now
        return left / self.rate

    def end(self) -> None:
        """Note that the pass is over."""
        self.sent += self.left
        self.left = 0

    def progress(self) -> Progress:
        """Return how far it is at this moment."""
        from hvcore.jobinfo import Progress  # noqa: PLC0415 - few programs ask

        done = min(round((self.clock.now - self.since) * self.rate), self.left)
        sent = self.sent + done
        return Progress(
            memory_total=self.total,
            memory_processed=sent,
            memory_remaining=self.left - done,
            memory_bps=self.rate,
            memory_dirty_rate=self.rate // _WRITTEN // PAGE,
            memory_page_size=PAGE,
            memory_iteration=self.iteration,
            memory_constant=0,
            memory_normal=sent // PAGE,
            memory_normal_bytes=sent,
            downtime=round(self.stood * 1000),
        )


class Migration(Driver):
    """The part of the test driver that moves machines."""

    if TYPE_CHECKING:
        clock: VirtualClock
        injector: Injector

    def seconds(self) -> float:
        """Return the time on the host's clock."""
        return self.clock.now

    async def sleep(self, seconds: float) -> None:
        """Wait on the host's clock."""
        await self.clock.sleep(seconds)

    async def migrate_begin(self, record: Record) -> None:
        """Let every guest go."""

    async def migrate_prepare(self, record: Record) -> str:
        """Make a machine that stands still."""
        await self.start(record, paused=True)
        return f"{self.uri}#{record.uuid}"

    async def migrate_perform(
        self, record: Record, address: str, *, live: bool, bandwidth: int | None
    ) -> Mapping[str, Any]:
        """Let time pass as sending would, and return what there is to know of the machine."""
        machine: Machine = record.runtime
        machine.history.append(f"migrate {address}")
        if not live:
            self._stop(record, machine)
        rate = (bandwidth or BANDWIDTH) << 20
        transfer = Transfer(clock=self.clock, rate=rate, total=machine.memory << 10)
        machine.transfer = transfer
        left = transfer.total
        while True:
            seconds = transfer.begin(left)
            iteration = events.MigrationIteration(domain=record.ref(), iteration=transfer.iteration)
            self.reports.publish(record, iteration)
            await self._pass(record, seconds)
            transfer.end()
            left = left // _WRITTEN if record.state is State.RUNNING else 0
            if left <= rate * DOWNTIME:
                break
        self._stop(record, machine)
        transfer.stood = transfer.begin(left)
        await self._pass(record, transfer.stood)
        transfer.end()
        return machine.state()

    async def _pass(self, record: Record, seconds: float) -> None:
        """Let the time of one pass go by.

        :raises DriverError: it was aborted.
        """
        await self.injector.wait(record, seconds)
        if record.jobs.aborted:
            raise self._cancelled(record, AsyncJob.MIGRATION_OUT)

    async def migrate_finish(
        self, record: Record, cookie: Mapping[str, Any], *, paused: bool
    ) -> None:
        """Let the machine be as it was."""
        machine: Machine = record.runtime
        machine.arrive(**cookie)
        if paused:
            suspended = events.Suspended(domain=record.ref(), reason=SuspendedDetail.PAUSED)
            self.reports.transition(record, PausedReason.USER, suspended)
            return
        machine.cont()
        resumed = events.Resumed(domain=record.ref(), reason=ResumedDetail.MIGRATED)
        self.reports.transition(record, RunningReason.MIGRATED, resumed)

    async def migrate_confirm(self, record: Record, *, cancelled: bool, resume: bool) -> None:
        """Let a machine go on that stays; nobody is told about one that does not."""
        machine: Machine = record.runtime
        machine.transfer = None
        if cancelled and resume and record.state is State.PAUSED:
            machine.cont()
            resumed = events.Resumed(domain=record.ref(), reason=ResumedDetail.MIGRATED)
            self.reports.transition(record, RunningReason.MIGRATION_CANCELED, resumed)

    async def job_progress(self, record: Record) -> Progress:
        """Return how much of the machine has been sent."""
        from hvcore.jobinfo import Progress  # noqa: PLC0415 - few programs ask

        transfer: Transfer | None = record.runtime.transfer
        return Progress() if transfer is None else transfer.progress()

    async def abort_job(self, record: Record, kind: AsyncJob) -> None:
        """Let whoever waits for something of the machine fail."""
        self.injector.end(record, self._cancelled(record, kind))

    @staticmethod
    def _cancelled(record: Record, kind: AsyncJob) -> HvError:
        from hvcore.migration import cancelled  # noqa: PLC0415 - only here

        return cancelled(kind, record)

    def _stop(self, record: Record, machine: Machine) -> None:
        if record.state is State.RUNNING:
            machine.stop()
            suspended = events.Suspended(domain=record.ref(), reason=SuspendedDetail.MIGRATED)
            self.reports.transition(record, PausedReason.MIGRATION, suspended)
