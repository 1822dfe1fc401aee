"""Statistics of machines that exist only in memory: they move with the clock while it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Final

from hvcore.driver import Driver
from hvcore.rules.placement import vcpu_cpus
from hvcore.rules.vcpu import vcpu_states
from hvcore.statistics import BlockInfo
from hvcore.statistics import BlockStats
from hvcore.statistics import CpuStats
from hvcore.statistics import InterfaceStats
from hvcore.statistics import VcpuInfo
from hvcore.statistics import VcpuState

if TYPE_CHECKING:
    from hvcore.driver import Record
    from hvcore.driver import Setup
    from hvcore.model.devices.disk import Disk
    from hvcore.model.devices.interface import Interface
    from hvcore.model.domain import Domain
    from hvcore_test.monitor import Machine

CAPACITY: Final = 1099506450432
"""Bytes of every disk, as of libvirt's test driver."""

ALLOCATION: Final = 1099511627776
"""Bytes that every disk takes on the host."""


class Statistics(Driver):
    """Numbers without significance, but always the same ones at the same time."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._capacities: dict[str, int] = {}

    async def memory_stats(self, record: Record) -> dict[str, int]:
        """Return libvirt's figures for a guest with a balloon, and nothing without."""
        if not any(b.model != "none" for b in record.definition.domain.devices.memballoons):
            return {}
        memory = record.runtime.memory
        return {
            "actual": memory,
            "swap_in": 0,
            "swap_out": 0,
            "major_fault": 0,
            "minor_fault": 0,
            "unused": memory // 2,
            "available": memory,
            "usable": memory // 2,
            "last_update": 627319920,
            "disk_caches": memory // 8,
            "hugetlb_pgalloc": 0,
            "hugetlb_pgfail": 0,
            "rss": memory // 2,
        }

    async def vcpu_info(self, record: Record) -> list[VcpuInfo]:
        """Return CPUs that are all equally busy, each on the first host CPU it may run on."""
        model = record.definition.domain
        machine: Machine = record.runtime
        online = [state.id for state in vcpu_states(model) if state.enabled]
        infos = []
        for number in online:
            mask = vcpu_cpus(model, number, None)
            infos.append(
                VcpuInfo(
                    number=number,
                    state=VcpuState.RUNNING,
                    cpu_time=machine.cpu_time // len(online),
                    cpu=min(mask) if mask else 0,
                    affinity=mask,
                )
            )
        return infos

    async def block_stats(self, record: Record, disk: Disk) -> BlockStats:
        """Return figures that grow while the machine runs; what cannot be written never is."""
        busy = record.runtime.cpu_time // 1000
        written = 0 if disk.readonly else busy
        return BlockStats(
            read_requests=busy // 1000,
            read_bytes=busy // 1000 * 4096,
            write_requests=written // 2000,
            write_bytes=written // 2000 * 4096,
            read_time=busy * 10,
            write_time=written * 20,
            flush_requests=busy // 100000,
            flush_time=busy,
        )

    async def block_info(self, record: Record, model: Domain, disk: Disk) -> BlockInfo:
        """Return libvirt's figures, unless the disk was resized."""
        del record, model
        capacity = self._capacities.get(_image(disk), CAPACITY)
        return BlockInfo(
            capacity=capacity,
            allocation=max(ALLOCATION, capacity),
            physical=max(ALLOCATION, capacity),
        )

    async def resize_disk(self, record: Record, live: Domain, disk: Disk, size: int) -> None:
        """Remember the size, which the image keeps when the machine is gone."""
        del live
        self._capacities[_image(disk)] = size
        record.runtime.history.append(f"resize {disk.target} {size}")

    async def interface_stats(self, record: Record, interface: Interface) -> InterfaceStats:
        """Return figures that grow while the machine runs, unless the link is down."""
        busy = 0 if interface.link == "down" else record.runtime.cpu_time // 1000
        return InterfaceStats(
            rx_bytes=busy // 10,
            rx_packets=busy // 100,
            rx_errors=busy // 1_000_000,
            rx_drops=busy // 2_000_000,
            tx_bytes=busy // 20,
            tx_packets=busy // 110,
            tx_errors=busy // 3_000_000,
            tx_drops=busy // 4_000_000,
        )

    async def cpu_stats(self, record: Record) -> CpuStats:
        """Return the machine's time, evenly over the host's CPUs."""
        total = record.runtime.cpu_time
        count = self.host().nodeinfo.cpus
        return CpuStats(
            cpu_time=total,
            user_time=total * 6 // 13,
            system_time=total - total * 6 // 13,
            per_cpu=dict.fromkeys(range(count), total // count),
        )


def _image(disk: Disk) -> str:
    """Return what all disks have in common that are the same image."""
    return getattr(disk.source, "path", None) or disk.target or ""
