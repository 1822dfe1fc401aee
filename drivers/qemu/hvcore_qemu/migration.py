"""The verbs that move running QEMU guests to another QEMU, and those for long jobs.

The destination listens on a socket in its domain's own directory, which nobody else may enter. What
QEMU says of a migration that was going on when its manager ended is libvirt's to judge as well: a
destination whose guest never arrived is ended, and a source goes on unless all of it was sent.
"""

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
from hvcore.errors import InvalidState
from hvcore.errors import MonitorError
from hvcore.errors import MonitorLost
from hvcore.lifecycle import PausedReason
from hvcore.lifecycle import RunningReason
from hvcore.lifecycle import State
from hvcore_qemu.saving import UNLIMITED
from hvcore_qemu.saving import Saving

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hvcore.driver import Record
    from hvcore.jobinfo import Progress
    from hvcore.jobs import AsyncJob
    from hvcore.model.domain import Domain
    from hvcore_qemu.capabilities import QemuCapabilities
    from hvcore_qemu.guest import Guest

SOCKET: Final = "migrate.sock"
"""Where a destination listens, in its domain's directory."""

_ENDED: Final = frozenset({"none", "completed", "failed", "cancelled"})
"""States of a migration that go on by themselves to no other."""

_RAM: Final = {
    "memory_total": "total",
    "memory_processed": "transferred",
    "memory_remaining": "remaining",
    "memory_dirty_rate": "dirty-pages-rate",
    "memory_page_size": "page-size",
    "memory_iteration": "dirty-sync-count",
    "memory_constant": "duplicate",
    "memory_normal": "normal",
    "memory_normal_bytes": "normal-bytes",
}
"""Our names of numbers, and QEMU's."""

_BYTES_PER_MEGABIT: Final = 1_000_000 // 8


class Migration(Saving):
    """The part of the QEMU driver that migrates."""

    if TYPE_CHECKING:

        async def qemu_capabilities(self, domain: Domain) -> QemuCapabilities:
            """See the driver."""

    async def migrate_begin(self, record: Record) -> None:
        """Refuse a guest that libvirt or QEMU would not let go.

        :raises InvalidState: with the reason.
        """
        guest: Guest = record.runtime
        found = await guest.monitor.execute("query-migrate")
        if found.get("blocked-reasons"):
            reasons = "; ".join(found["blocked-reasons"])
            raise InvalidState(f"cannot migrate domain: {reasons}", domain=record.name)
        assert record.live is not None  # it runs
        check_movable(record.live.domain)

    async def migrate_prepare(self, record: Record) -> str:
        """Start a QEMU that listens.

        :raises LaunchError: it did not come up.
        """
        assert record.live is not None
        caps = await self.qemu_capabilities(record.live.domain)
        address = ""

        async def incoming(guest: Guest) -> None:
            nonlocal address
            path = guest.socket.with_name(SOCKET)
            path.unlink(missing_ok=True)
            address = f"unix:{path}"
            arguments: dict[str, Any] = {"uri": address}
            if "migrate-incoming.exit-on-error" in caps:
                # One that stays can be asked what went wrong.
                arguments["exit-on-error"] = False
            await self._announce(guest)
            record.data = {**record.data, "arriving": True}
            await guest.monitor.execute("migrate-incoming", arguments)

        await self.launch(record, paused=True, incoming=incoming)
        return address

    async def migrate_perform(
        self, record: Record, address: str, *, live: bool, bandwidth: int | None
    ) -> Mapping[str, Any]:
        """Send the guest, and wait until it has been sent.

        :raises DriverError: QEMU refuses, cannot reach the other one, or was told to stop.
        """
        guest: Guest = record.runtime
        record.data = {**record.data, "leaving": record.state is State.RUNNING}
        self.reports.save(record)
        if not live:
            await self._stand_still(record, guest, PausedReason.MIGRATION)
        limit = UNLIMITED if bandwidth is None else bandwidth << 20
        await guest.monitor.execute("migrate-set-parameters", {"max-bandwidth": limit})
        await self._announce(guest)
        # QEMU stops the CPUs in the end, and lets them run again if it fails after that.
        guest.course.pausing = PausedReason.MIGRATION
        guest.course.resuming = RunningReason.MIGRATION_CANCELED
        try:
            await guest.monitor.execute("migrate", {"uri": address})
            await self.migrated(guest, "migration out")
        finally:
            guest.course.pausing = PausedReason.UNKNOWN
            guest.course.resuming = RunningReason.UNPAUSED
        return {}

    async def migrate_finish(
        self, record: Record, cookie: Mapping[str, Any], *, paused: bool
    ) -> None:
        """Wait until QEMU has read everything, and let the CPUs run.

        :raises DriverError: it could not read it, or its disks are not to be had.
        """
        del cookie
        guest: Guest = record.runtime
        await self.migrated(guest, "migration in")
        record.data = {name: value for name, value in record.data.items() if name != "arriving"}
        guest.socket.with_name(SOCKET).unlink(missing_ok=True)
        if paused:
            suspended = events.Suspended(domain=record.ref(), reason=events.SuspendedDetail.PAUSED)
            self.reports.transition(record, PausedReason.USER, suspended)
            return
        guest.course.resuming = RunningReason.MIGRATED
        await guest.monitor.execute("cont")

    async def migrate_confirm(self, record: Record, *, cancelled: bool, resume: bool) -> None:
        """Stop sending, and let the guest run on if it ran."""
        if not cancelled:
            return
        guest: Guest = record.runtime
        await self._stop_sending(guest)
        record.data = {name: value for name, value in record.data.items() if name != "leaving"}
        if resume and record.state is State.PAUSED and record.reason is not PausedReason.IOERROR:
            await self._go_on(record, guest, RunningReason.MIGRATION_CANCELED)
        else:
            self.reports.save(record)

    async def migrate_error(self, record: Record) -> str | None:
        """Return what a destination could not read."""
        guest: Guest = record.runtime
        with contextlib.suppress(MonitorError, MonitorLost):
            found = await guest.monitor.execute("query-migrate")
            if found.get("status") == "failed" and "error-desc" in found:
                return f"operation failed: job 'migration in' failed: {found['error-desc']}"
        return None

    async def job_progress(self, record: Record) -> Progress:
        """Return what QEMU says of the migration by which a guest goes elsewhere or into a file."""
        guest: Guest = record.runtime
        return progress(await guest.monitor.execute("query-migrate"))

    async def abort_job(self, record: Record, kind: AsyncJob) -> None:
        """End a migration; whoever waits for it learns of that from QEMU.

        :raises InvalidState: it is a dump of memory alone.
        """
        del kind
        guest: Guest = record.runtime
        if (await guest.monitor.execute("query-dump"))["status"] == "active":
            raise InvalidState("cannot abort memory-only dump", domain=record.name)
        await guest.monitor.execute("migrate_cancel")

    # -- parts --------------------------------------------------------------------------

    @staticmethod
    async def _announce(guest: Guest) -> None:
        """Have QEMU tell of each step of a migration."""
        capabilities = [{"capability": "events", "state": True}]
        await guest.monitor.execute("migrate-set-capabilities", {"capabilities": capabilities})

    @staticmethod
    async def _stop_sending(guest: Guest) -> None:
        await guest.monitor.execute("migrate_cancel")
        while True:
            found = await guest.monitor.execute("query-migrate")
            if found.get("status", "none") in _ENDED:
                return
            await asyncio.sleep(0.01)

    async def after_migration(self, record: Record, guest: Guest) -> None:
        """Judge a migration that was going on when an earlier manager ended.

        :raises DriverError: the guest did not arrive by then, so its machine is to be ended.
        """
        if "arriving" in record.data:
            raise DriverError(f"Domain '{record.name}' did not arrive, killing it")
        if "leaving" not in record.data:
            return
        status = (await guest.monitor.execute("query-migrate")).get("status")
        if status == "completed":
            # It may run on the other host: only somebody who sees both can tell.
            return
        await self._stop_sending(guest)
        ran = record.data["leaving"]
        record.data = {name: value for name, value in record.data.items() if name != "leaving"}
        if ran and not (await guest.monitor.execute("query-status"))["running"]:
            guest.course.resuming = RunningReason.MIGRATION_CANCELED
            await guest.monitor.execute("cont")


def check_movable(domain: Domain) -> None:
    """Refuse what libvirt knows cannot be migrated and QEMU would not complain of.

    :raises HvError: with libvirt's words.
    """
    devices = domain.devices
    for shmem in devices.shmems:
        if shmem.role != "master":
            raise InvalidState(
                f"shmem device '{shmem.name}' cannot be migrated, only shmem with role='master' "
                "can be migrated",
                domain=domain.name,
            )
    for filesystem in devices.filesystems:
        if filesystem.driver_type == "virtiofs" and filesystem.socket is None:
            raise HvError(
                "migration with this virtiofs device is not supported",
                kind=ErrorClass.OPERATION_UNSUPPORTED,
                domain=domain.name,
            )
    if any(disk.transient for disk in devices.disks):
        raise InvalidState("migration with transient disk is not supported", domain=domain.name)


def progress(found: Mapping[str, Any]) -> Progress:
    """Return what QEMU's answer to ``query-migrate`` says."""
    from hvcore.jobinfo import Progress  # noqa: PLC0415 - few programs ask

    ram, disk = found.get("ram", {}), found.get("disk", {})
    numbers = {name: ram[theirs] for name, theirs in _RAM.items() if theirs in ram}
    for group, entry in (("memory", ram), ("disk", disk)):
        if entry.get("mbps", 0) > 0:
            numbers[f"{group}_bps"] = round(entry["mbps"] * _BYTES_PER_MEGABIT)
    sizes = {"total": "total", "processed": "transferred", "remaining": "remaining"}
    numbers |= {f"disk_{name}": disk[theirs] for name, theirs in sizes.items() if theirs in disk}
    downtime = "downtime" if found.get("status") == "completed" else "expected-downtime"
    for name, theirs in (("downtime", downtime), ("setup_time", "setup-time")):
        if theirs in found:
            numbers[name] = found[theirs]
    return Progress(**numbers)
