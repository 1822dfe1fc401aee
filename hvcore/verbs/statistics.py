"""What a domain uses: memory, virtual CPUs, disks, interfaces, host CPU time."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING
from typing import Any

from hvcore.errors import ErrorClass
from hvcore.errors import HvError
from hvcore.errors import Unsupported
from hvcore.jobs import Job
from hvcore.operations import Op
from hvcore.verbs.base import Handle
from hvcore.verbs.base import OnHost
from hvcore.verbs.base import Verbs

if TYPE_CHECKING:
    from collections.abc import Collection

    from hvcore.driver import Record
    from hvcore.model.devices.disk import Disk
    from hvcore.model.devices.interface import Interface
    from hvcore.model.domain import Domain as Model
    from hvcore.statistics import BlockInfo
    from hvcore.statistics import BlockStats
    from hvcore.statistics import CpuStats
    from hvcore.statistics import InterfaceStats
    from hvcore.statistics import VcpuInfo


class StatisticsVerbs(Verbs):
    """What a driver may override."""

    async def memory_stats(self, record: Record) -> dict[str, int]:
        """Return what is known of a running guest's memory, by name and in KiB.

        Names are those of :data:`hvcore.statistics.MEMORY`; what is not known is left out.
        """
        raise self.unsupported(Op.MEMORY_STATS, record)

    async def vcpu_info(self, record: Record) -> list[VcpuInfo]:
        """Return the virtual CPUs of a running guest that are online."""
        raise self.unsupported(Op.VCPU_INFO, record)

    async def block_stats(self, record: Record, disk: Disk) -> BlockStats:
        """Return what a running guest did with a disk."""
        del disk
        raise self.unsupported(Op.BLOCK_STATS, record)

    async def block_info(self, record: Record, model: Model, disk: Disk) -> BlockInfo:
        """Return how large a disk with a medium is, whether the domain runs or not.

        :param model: the definition that the disk is part of.
        """
        del model, disk
        raise self.unsupported(Op.BLOCK_INFO, record)

    async def interface_stats(self, record: Record, interface: Interface) -> InterfaceStats:
        """Return what a running guest received and sent.

        :raises HvError: nobody counts.
        """
        del interface
        raise self.unsupported(Op.INTERFACE_STATS, record)

    async def cpu_stats(self, record: Record) -> CpuStats:
        """Return how much of the host's CPUs a running domain used."""
        raise self.unsupported(Op.CPU_STATS, record)


class StatisticsHandle(Handle):
    """What a handle on a domain offers."""

    __slots__ = ()

    async def memory_stats(self) -> dict[str, int]:
        """Return what is known of the guest's memory, by virsh's names and in KiB.

        :raises InvalidState: it does not run.
        """
        record = self._running()
        return await self._engine.driver.memory_stats(record)

    async def vcpu_info(self) -> list[VcpuInfo]:
        """Return its virtual CPUs that are online.

        :raises InvalidState: it does not run.
        """
        record = self._running()
        return await self._engine.driver.vcpu_info(record)

    async def block_stats(self, disk: str | None = None) -> BlockStats:
        """Return what the guest did with a disk.

        :param disk: its target or source; all disks together unless given.
        :raises InvalidState: it does not run.
        :raises HvError: there is no such disk.
        """
        import attrs  # noqa: PLC0415 - only here

        from hvcore import statistics  # noqa: PLC0415 - handles import no rules, so below

        record = self._running()
        model, driver = record.definition.domain, self._engine.driver
        if disk is not None:
            return await driver.block_stats(record, statistics.find_disk(model, disk))
        total = dict.fromkeys(("read_requests", "read_bytes", "write_requests", "write_bytes"), 0)
        for each in model.devices.disks:
            found = attrs.asdict(await driver.block_stats(record, each))
            for name, value in found.items():
                if value is not None:
                    total[name] = total.get(name, 0) + value
        return statistics.BlockStats(**total)

    async def block_info(self, disk: str) -> BlockInfo:
        """Return how large a disk is, whether the domain runs or not.

        :param disk: its target or source.
        :raises HvError: there is no such disk, or it has no medium.
        """
        from hvcore import statistics  # noqa: PLC0415

        record = self._now()
        model = await self._engine.view(record)
        found = statistics.find_disk(model, disk)
        if found.source is None or found.source.empty:
            raise HvError(
                f"disk '{disk}' does not currently have a source assigned",
                kind=ErrorClass.INVALID_ARG,
            )
        return await self._engine.driver.block_info(record, model, found)

    async def interface_stats(self, interface: str) -> InterfaceStats:
        """Return what the guest received and sent.

        :param interface: its name on the host, its MAC address or its alias.
        :raises InvalidState: it does not run.
        :raises HvError: there is no such interface, or nobody counts.
        """
        from hvcore.rules.resizing import interface_of  # noqa: PLC0415

        record = self._running()
        found = interface_of(record.definition.domain, interface)
        return await self._engine.driver.interface_stats(record, found)

    async def cpu_stats(self) -> CpuStats:
        """Return how much of the host's CPUs it used.

        :raises InvalidState: it does not run.
        """
        record = self._running()
        return await self._engine.driver.cpu_stats(record)

    async def stats(self, groups: Collection[str] = ()) -> dict[str, Any]:
        """Return statistics in one flat list, with libvirt's names, such as ``block.0.rd.bytes``.

        What nobody can tell is left out, also of a domain that does not run.

        :param groups: of :data:`hvcore.statistics.GROUPS`; all unless given.
        """
        from hvcore import statistics  # noqa: PLC0415

        record = self._now()
        async with record.jobs.job("virDomainListGetStats", Job.QUERY, check=record.check_exists):
            found: dict[str, Any] = {}
            for group in statistics.GROUPS:
                if not groups or group in groups:
                    found.update(await _GROUPS[group](self, record))
            return found

    # -- groups -------------------------------------------------------------------------

    async def _state(self, record: Record) -> dict[str, Any]:
        return {"state.state": int(record.state), "state.reason": int(record.reason)}

    async def _cpu(self, record: Record) -> dict[str, Any]:
        from hvcore import statistics  # noqa: PLC0415

        if not record.active or not self._has(Op.CPU_STATS):
            return {}
        return dict(statistics.cpu_values(await self._engine.driver.cpu_stats(record)))

    async def _balloon(self, record: Record) -> dict[str, Any]:
        from hvcore import statistics  # noqa: PLC0415

        model = record.definition.domain
        maximum = model.memory or 0
        stats: dict[str, int] = {}
        if record.active and self._has(Op.MEMORY_STATS):
            stats = await self._engine.driver.memory_stats(record)
        current = stats.get("actual", model.current_memory or maximum)
        return dict(statistics.balloon_values(current, maximum, stats))

    async def _vcpu(self, record: Record) -> dict[str, Any]:
        from hvcore import statistics  # noqa: PLC0415
        from hvcore.rules.vcpu import max_vcpus  # noqa: PLC0415
        from hvcore.rules.vcpu import online_vcpus  # noqa: PLC0415

        model = record.definition.domain
        infos = []
        if record.active and self._has(Op.VCPU_INFO):
            infos = await self._engine.driver.vcpu_info(record)
        return dict(statistics.vcpu_values(online_vcpus(model), max_vcpus(model), infos))

    async def _interface(self, record: Record) -> dict[str, Any]:
        from hvcore import statistics  # noqa: PLC0415

        if not record.active:
            return {}
        interfaces = record.definition.domain.devices.interfaces
        found: dict[str, Any] = {"net.count": len(interfaces)}
        for number, interface in enumerate(interfaces):
            try:
                stats = await self._engine.driver.interface_stats(record, interface)
            except HvError:
                continue  # nobody counts for a network in user space
            name = interface.target or interface.mac or ""
            found.update(statistics.interface_values(number, name, stats))
        return found

    async def _block(self, record: Record) -> dict[str, Any]:
        from hvcore import statistics  # noqa: PLC0415

        driver, model = self._engine.driver, record.definition.domain
        found: dict[str, Any] = {"block.count": len(model.devices.disks)}
        for number, disk in enumerate(model.devices.disks):
            stats = info = None
            if record.active:
                with contextlib.suppress(Unsupported):
                    stats = await driver.block_stats(record, disk)
            if disk.source is not None and not disk.source.empty:
                # An image may be missing while nobody needs it.
                with contextlib.suppress(Unsupported if record.active else HvError):
                    info = await driver.block_info(record, model, disk)
            found.update(statistics.block_values(number, disk, stats, info))
        return found

    async def _iothread(self, record: Record) -> dict[str, Any]:
        from hvcore import statistics  # noqa: PLC0415

        if not record.active or not self._has(Op.IOTHREAD_STATS):
            return {}
        stats = await self._engine.driver.iothread_stats(record)
        return dict(statistics.iothread_values(stats))

    def _has(self, op: Op) -> bool:
        return op in self._engine.driver.operations()

    def _running(self) -> Record:
        record = self._now()
        record.check_active()
        return record


_GROUPS = {
    "state": StatisticsHandle._state,  # noqa: SLF001 - of this very module, and so below
    "cpu-total": StatisticsHandle._cpu,  # noqa: SLF001
    "balloon": StatisticsHandle._balloon,  # noqa: SLF001
    "vcpu": StatisticsHandle._vcpu,  # noqa: SLF001
    "interface": StatisticsHandle._interface,  # noqa: SLF001
    "block": StatisticsHandle._block,  # noqa: SLF001
    "iothread": StatisticsHandle._iothread,  # noqa: SLF001
}


class StatisticsHost(OnHost):
    """What a host offers."""

    __slots__ = ()

    async def stats(
        self, groups: Collection[str] = (), *, active: bool | None = None
    ) -> dict[str, dict[str, Any]]:
        """Return the flat statistics of its domains, by their names.

        :param groups: of :data:`hvcore.statistics.GROUPS`; all unless given.
        :param active: only of those that run, or only of those that do not.
        """
        from hvcore.domain import Domain  # noqa: PLC0415 - which is made of modules like this

        found = {}
        for record in self._engine.records():
            if active in (None, record.active):
                found[record.name] = await Domain(self._engine, record).stats(groups)
        return found
