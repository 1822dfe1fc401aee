"""The verbs that put running QEMU guests into files, and start guests from them."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING
from typing import Any
from typing import Final

from hvcore import events
from hvcore.errors import DriverError
from hvcore.errors import ErrorClass
from hvcore.errors import HvError
from hvcore.errors import MonitorError
from hvcore.errors import MonitorLost
from hvcore.lifecycle import PausedReason
from hvcore.lifecycle import RunningReason
from hvcore.lifecycle import State
from hvcore_qemu.hotplug import Hotplug
from hvcore_qemu.pump import pump

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from collections.abc import Callable

    from hvcore.driver import Record
    from hvcore_qemu.guest import Guest
    from hvcore_qemu.pump import Pump

UNLIMITED: Final = 9223372036853727232
"""Bytes per second of a migration that nothing else has to share a network with; libvirt's."""

_LOOKS: Final = (0.005, 0.2)
"""Seconds between two looks at a migration, first and last; each look takes half as long again."""

_FD: Final = "hvcore-state"
"""What QEMU calls the descriptor that it is to migrate through."""

_ONGOING: Final = frozenset(
    {"none", "setup", "active", "device", "pre-switchover", "wait-unplug", "cancelling"}
)


class Saving(Hotplug):
    """The part of the QEMU driver that saves, restores and dumps."""

    if TYPE_CHECKING:

        async def launch(
            self,
            record: Record,
            *,
            paused: bool,
            incoming: Callable[[Guest], Awaitable[None]] | None = None,
        ) -> None:
            """See the driver."""

    async def save(self, record: Record, fd: int) -> None:
        """Stop the CPUs and migrate into a file.

        :raises DriverError: QEMU or the file refuses.
        """
        guest: Guest = record.runtime
        await self._stand_still(record, guest, PausedReason.SAVE)
        await self._migrate_into(guest, fd, "domain save")

    async def save_failed(self, record: Record, *, resume: bool) -> None:
        """Let the guest run on."""
        guest: Guest = record.runtime
        with contextlib.suppress(MonitorError, MonitorLost):
            await guest.monitor.execute("migrate_cancel")
        if resume:
            await self._go_on(record, guest, RunningReason.SAVE_CANCELED)

    async def load(self, record: Record, fd: int, *, paused: bool) -> None:
        """Start a QEMU that waits for a migration and let it read the file.

        :raises LaunchError: it did not come up, or the file does not fit.
        """

        async def incoming(guest: Guest) -> None:
            async with pump(fd, into_file=False) as flow:
                await guest.monitor.execute("getfd", {"fdname": _FD}, fd=flow.fd)
                flow.give_away()
                await guest.monitor.execute("migrate-incoming", {"uri": f"fd:{_FD}"})
                await self.migrated(guest, "domain restore", flow)

        await self.launch(record, paused=paused, incoming=incoming)

    async def dump(self, record: Record, fd: int, *, kind: str | None, live: bool) -> None:
        """Migrate into a file, or have QEMU write the guest's memory alone.

        :raises DriverError: QEMU or the file refuses.
        """
        guest: Guest = record.runtime
        if not live:
            await self._stand_still(record, guest, PausedReason.DUMP)
        if kind is not None:
            await self._dump_memory(guest, fd, kind)
            return
        # Migrating stops the CPUs in the end, live or not.
        guest.course.pausing = PausedReason.DUMP
        try:
            await self._migrate_into(guest, fd, "domain core dump")
        finally:
            guest.course.pausing = PausedReason.UNKNOWN

    async def dump_done(self, record: Record, *, reset: bool, resume: bool) -> None:
        """Let the guest run on."""
        guest: Guest = record.runtime
        if reset:
            await guest.monitor.execute("system_reset")
        if resume and record.state is State.PAUSED:
            await self._go_on(record, guest, RunningReason.UNPAUSED)

    # -- parts --------------------------------------------------------------------------

    async def _dump_memory(self, guest: Guest, fd: int, kind: str) -> None:
        await guest.monitor.execute("getfd", {"fdname": _FD}, fd=fd)
        arguments = {"paging": False, "protocol": f"fd:{_FD}", "format": kind, "detach": True}
        await guest.monitor.execute("dump-guest-memory", arguments)
        pause = _LOOKS[0]
        while (status := (await guest.monitor.execute("query-dump"))["status"]) == "active":
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, _LOOKS[1])
        if status != "completed":
            raise DriverError(f"memory-only dump failed: {status}")

    async def _migrate_into(self, guest: Guest, fd: int, job: str) -> None:
        await guest.monitor.execute("migrate-set-parameters", {"max-bandwidth": UNLIMITED})
        async with pump(fd, into_file=True) as flow:
            await guest.monitor.execute("getfd", {"fdname": _FD}, fd=flow.fd)
            flow.give_away()
            await guest.monitor.execute("migrate", {"uri": f"fd:{_FD}"})
            await self.migrated(guest, job, flow)
            await flow.finished()

    async def migrated(self, guest: Guest, job: str, flow: Pump | None = None) -> dict[str, Any]:
        """Wait for the end of a migration and return what QEMU says of it.

        :raises DriverError: it failed, or was cancelled.
        """
        pause = _LOOKS[0]
        while True:
            found: dict[str, Any] = await guest.monitor.execute("query-migrate")
            status = found.get("status", "none")
            if status == "completed":
                return found
            if status == "cancelled":
                raise DriverError(
                    f"job '{job}' canceled by client", kind=ErrorClass.OPERATION_ABORTED
                )
            if status not in _ONGOING:
                reason = found.get("error-desc", "unexpectedly failed")
                failure = None if flow is None else flow.failure()
                if failure is not None:
                    reason = failure.strerror
                raise DriverError(f"job '{job}' failed: {reason}")
            # One that was asked to tell does so at once; the others are looked at again.
            guest.steps.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await guest.steps.wait()
            pause = min(pause * 1.5, _LOOKS[1])

    async def _stand_still(self, record: Record, guest: Guest, reason: PausedReason) -> None:
        if record.state is State.RUNNING:
            guest.course.pausing = reason
            await guest.monitor.execute("stop")

    async def _go_on(self, record: Record, guest: Guest, reason: RunningReason) -> None:
        guest.course.resuming = reason
        try:
            await guest.monitor.execute("cont")
        except HvError:
            if record.state is State.PAUSED:
                suspended = events.Suspended(
                    domain=record.ref(), reason=events.SuspendedDetail.API_ERROR
                )
                self.reports.transition(record, PausedReason.API_ERROR, suspended)
            raise
