"""What cloud-hypervisor guests use, asked from cloud-hypervisor and from the kernel."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from typing import Any

from hvcore import usage
from hvcore.driver import Info
from hvcore.errors import ErrorClass
from hvcore.errors import MonitorError
from hvcore.errors import Unsupported
from hvcore.statistics import BlockStats
from hvcore.statistics import InterfaceStats
from hvcore_ch.lifecycle import CREATED
from hvcore_ch.lifecycle import state_in
from hvcore_ch.monitor import another_schema
from hvcore_ch.resizing import Resizing
from hvcore_ch.tuning import vcpu_threads

if TYPE_CHECKING:
    from hvcore.driver import Record
    from hvcore.model.devices.base import Device
    from hvcore.model.devices.disk import Disk
    from hvcore.model.devices.interface import Interface
    from hvcore.model.domain import Domain
    from hvcore.statistics import BlockInfo
    from hvcore.statistics import CpuStats
    from hvcore.statistics import VcpuInfo
    from hvcore_ch.guest import Guest


class Statistics(Resizing):
    """The part of the driver that counts."""

    async def info(self, record: Record) -> Info:
        """Return the memory without the balloon, and the process's CPU time."""
        guest: Guest = record.runtime
        used = usage.cpu_stats(guest.process.pid).cpu_time
        return Info(memory=await self._memory(record, guest), cpu_time=used)

    async def _memory(self, record: Record, guest: Guest) -> int:
        """Return the KiB that the balloon leaves the guest."""
        found = await guest.vmm.monitor.call("vm.info")
        whole = (record.definition.domain.memory or 0) * 1024
        actual = found.get("memory_actual_size", whole) if isinstance(found, dict) else None
        if not isinstance(actual, int):
            raise another_schema("vm.info", found)
        return actual // 1024

    async def memory_stats(self, record: Record) -> dict[str, int]:
        """Return what cloud-hypervisor and the kernel tell; of the guest itself nobody tells."""
        guest: Guest = record.runtime
        return {
            "actual": await self._memory(record, guest),
            "rss": usage.resident(guest.process.pid),
        }

    async def vcpu_info(self, record: Record) -> list[VcpuInfo]:
        """Return the threads of virtual CPUs, as the kernel sees them."""
        guest: Guest = record.runtime
        pid = guest.process.pid
        threads = await asyncio.to_thread(vcpu_threads, pid)
        return [usage.vcpu_info(number, pid, tid) for number, tid in sorted(threads.items())]

    async def cpu_stats(self, record: Record) -> CpuStats:
        """Return the process's CPU time."""
        guest: Guest = record.runtime
        return usage.cpu_stats(guest.process.pid)

    async def block_info(self, record: Record, model: Domain, disk: Disk) -> BlockInfo:
        """Return sizes from the image, whose own size is written when it changes.

        :raises HvError: it cannot be looked at.
        """
        del record, model
        return await asyncio.to_thread(usage.image_info, disk)

    async def block_stats(self, record: Record, disk: Disk) -> BlockStats:
        """Return what a disk has done.

        Of times there is only an average, of which no sum can be made that never decreases.

        :raises Unsupported: it is not counted: another process does its work.
        """
        counters = await self._counted(
            record,
            disk,
            read_requests="read_ops",
            read_bytes="read_bytes",
            write_requests="write_ops",
            write_bytes="write_bytes",
        )
        return BlockStats(**counters)

    async def interface_stats(self, record: Record, interface: Interface) -> InterfaceStats:
        """Return what an interface has done.

        :raises Unsupported: it is not counted: another process does its work.
        """
        counters = await self._counted(
            record,
            interface,
            rx_bytes="rx_bytes",
            rx_packets="rx_frames",
            tx_bytes="tx_bytes",
            tx_packets="tx_frames",
        )
        return InterfaceStats(**counters)

    async def _counted(self, record: Record, device: Device, **names: str) -> dict[str, int]:
        """Return counters of a device.

        :param names: what they are to be called, and what they are called.
        """
        found = await _counters(record.runtime)
        if found is None:
            return dict.fromkeys(names, 0)
        if isinstance(found, dict) and device.alias not in found:
            raise Unsupported(
                f"missing statistics of device '{device.alias}'",
                kind=ErrorClass.OPERATION_UNSUPPORTED,
            )
        try:
            return {name: int(found[device.alias][theirs]) for name, theirs in names.items()}
        except (KeyError, TypeError, ValueError) as error:
            raise another_schema("vm.counters", found) from error


async def _counters(guest: Guest) -> Any:
    """Return all counters; None of a guest that was not booted so far."""
    monitor = guest.vmm.monitor
    try:
        return await monitor.call("vm.counters")
    except MonitorError:
        if state_in(await monitor.call("vm.info")) != CREATED:
            raise
        return None
