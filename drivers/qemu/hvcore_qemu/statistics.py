"""What QEMU guests use, asked from QEMU and from the kernel."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING
from typing import Any
from typing import Final

from hvcore import usage
from hvcore.driver import Driver
from hvcore.driver import Info
from hvcore.errors import ErrorClass
from hvcore.errors import HvError
from hvcore.errors import MonitorError

if TYPE_CHECKING:
    from hvcore.driver import Record
    from hvcore.model.devices.disk import Disk
    from hvcore.model.devices.interface import Interface
    from hvcore.model.domain import Domain
    from hvcore.statistics import BlockInfo
    from hvcore.statistics import BlockStats
    from hvcore.statistics import CpuStats
    from hvcore.statistics import InterfaceStats
    from hvcore.statistics import VcpuInfo
    from hvcore_qemu.guest import Guest

_UNKNOWN: Final = 0xFFFFFFFFFFFFFFFF
"""What a balloon that was told nothing says."""

_GUEST: Final = {
    "swap_in": ("stat-swap-in", 1024),
    "swap_out": ("stat-swap-out", 1024),
    "major_fault": ("stat-major-faults", 1),
    "minor_fault": ("stat-minor-faults", 1),
    "unused": ("stat-free-memory", 1024),
    "available": ("stat-total-memory", 1024),
    "usable": ("stat-available-memory", 1024),
    "disk_caches": ("stat-disk-caches", 1024),
    "hugetlb_pgalloc": ("stat-htlb-pgalloc", 1),
    "hugetlb_pgfail": ("stat-htlb-pgfail", 1),
}
"""What the guest's balloon driver tells: QEMU's names, and what its numbers are divided by."""


class Statistics(Driver):
    """The part of the QEMU driver that counts."""

    async def info(self, record: Record) -> Info:
        """Return the balloon's size and the process's CPU time."""
        guest: Guest = record.runtime
        model = record.definition.domain
        memory = await _balloon(guest)
        if memory is None:
            memory = model.current_memory or model.memory or 0
        return Info(memory=memory, cpu_time=usage.cpu_stats(guest.process.pid).cpu_time)

    async def memory_stats(self, record: Record) -> dict[str, int]:
        """Return what the balloon and the kernel tell."""
        guest: Guest = record.runtime
        found = {}
        balloons = record.definition.domain.devices.memballoons
        actual = await _balloon(guest)
        if actual is not None:
            found["actual"] = actual
        for balloon in balloons:
            if balloon.model != "none" and balloon.alias is not None:
                found.update(await _guest_stats(guest, balloon.alias))
        found["rss"] = usage.resident(guest.process.pid)
        return found

    async def vcpu_info(self, record: Record) -> list[VcpuInfo]:
        """Return QEMU's threads of virtual CPUs, as the kernel sees them."""
        guest: Guest = record.runtime
        pid = guest.process.pid
        # In QEMU without threads of their own for CPUs all of them have the same one.
        infos = [
            usage.vcpu_info(cpu["cpu-index"], pid, cpu["thread-id"])
            for cpu in await guest.monitor.execute("query-cpus-fast")
        ]
        return sorted(infos, key=lambda info: info.number)

    async def block_stats(self, record: Record, disk: Disk) -> BlockStats:
        """Return what QEMU counted.

        :raises HvError: QEMU knows no such disk.
        """
        from hvcore.statistics import BlockStats  # noqa: PLC0415

        guest: Guest = record.runtime
        answer = await guest.monitor.execute("query-blockstats")
        stats = _entry(answer, disk)["stats"]
        return BlockStats(
            read_requests=stats["rd_operations"],
            read_bytes=stats["rd_bytes"],
            write_requests=stats["wr_operations"],
            write_bytes=stats["wr_bytes"],
            read_time=stats.get("rd_total_time_ns", 0),
            write_time=stats.get("wr_total_time_ns", 0),
            flush_requests=stats.get("flush_operations", 0),
            flush_time=stats.get("flush_total_time_ns", 0),
        )

    async def block_info(self, record: Record, model: Domain, disk: Disk) -> BlockInfo:
        """Return sizes from QEMU, or from the file where nothing runs.

        :raises HvError: it cannot be looked at.
        """
        del model
        if not record.active:
            return await asyncio.to_thread(usage.image_info, disk)
        from hvcore.statistics import BlockInfo  # noqa: PLC0415

        guest: Guest = record.runtime
        path = getattr(disk.source, "path", None)
        image = _entry(await guest.monitor.execute("query-block"), disk)["inserted"]["image"]
        stats = _entry(await guest.monitor.execute("query-blockstats"), disk)
        used = image.get("actual-size", 0)
        highest = stats.get("parent", stats).get("stats", {}).get("wr_highest_offset", 0)
        file = disk.type == "file" and path is not None
        qcow2 = disk.format == "qcow2"
        allocation = used if not highest or (file and qcow2) else highest
        physical = used
        if not used or allocation in (0, used):
            allocation = allocation or used
            physical = await asyncio.to_thread(usage.size, path) or used
        return BlockInfo(capacity=image["virtual-size"], allocation=allocation, physical=physical)

    async def interface_stats(self, record: Record, interface: Interface) -> InterfaceStats:
        """Return the kernel's counters of the interface's device, as the guest sees them.

        :raises HvError: it has none.
        """
        del record
        return usage.interface_stats(interface)

    async def cpu_stats(self, record: Record) -> CpuStats:
        """Return the process's CPU time; the kernel keeps none for each of the host's CPUs."""
        guest: Guest = record.runtime
        return usage.cpu_stats(guest.process.pid)


async def _balloon(guest: Guest) -> int | None:
    """Return the KiB that the balloon leaves the guest; None where there is no balloon."""
    with contextlib.suppress(MonitorError):
        actual: int = (await guest.monitor.execute("query-balloon"))["actual"]
        return actual // 1024
    return None


async def _guest_stats(guest: Guest, alias: str) -> dict[str, int]:
    """Return what the guest's balloon driver told last."""
    arguments = {"path": f"/machine/peripheral/{alias}", "property": "guest-stats"}
    try:
        answer = await guest.monitor.execute("qom-get", arguments)
    except MonitorError:
        return {}
    found = {}
    for name, (theirs, unit) in _GUEST.items():
        value = answer["stats"].get(theirs, _UNKNOWN)
        if 0 <= value < _UNKNOWN:
            found[name] = value // unit
    if answer["last-update"]:
        found["last_update"] = answer["last-update"]
    return found


def _entry(answer: list[dict[str, Any]], disk: Disk) -> dict[str, Any]:
    """Return what an answer of QEMU says of a disk.

    A device is named by its path in QEMU's tree of objects, or by its alias.
    """
    for entry in answer:
        if disk.alias is not None and disk.alias in entry.get("qdev", "").split("/"):
            return entry
    raise HvError(f"cannot find statistics for device '{disk.alias}'", kind=ErrorClass.INTERNAL)
