"""What disks and interfaces of a running guest have done so far."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from hvcore.jobs import Job
from hvcore.operations import Op
from hvcore.verbs.base import Handle
from hvcore.verbs.base import Verbs

if TYPE_CHECKING:
    from hvcore.driver import Record
    from hvcore.model.devices.disk import Disk
    from hvcore.model.devices.interface import Interface


@attrs.frozen(kw_only=True)
class BlockStats:
    """``virDomainBlockStatsStruct``: requests and bytes since the guest was started.

    :param errors: None where the hypervisor does not count them.
    """

    read_requests: int
    read_bytes: int
    write_requests: int
    write_bytes: int
    errors: int | None = None


@attrs.frozen(kw_only=True)
class InterfaceStats:
    """``virDomainInterfaceStatsStruct``, as the guest sees it; None for what is not counted."""

    rx_bytes: int
    rx_packets: int
    rx_errors: int | None = None
    rx_drops: int | None = None
    tx_bytes: int
    tx_packets: int
    tx_errors: int | None = None
    tx_drops: int | None = None


class StatisticsVerbs(Verbs):
    """What a driver may override."""

    async def block_stats(self, record: Record, disk: Disk) -> BlockStats:
        """Return what a disk of the running definition has done.

        :raises HvError: this disk is not counted.
        """
        del disk
        raise self.unsupported(Op.BLOCK_STATS, record)

    async def interface_stats(self, record: Record, interface: Interface) -> InterfaceStats:
        """Return what an interface of the running definition has done.

        :raises HvError: this interface is not counted.
        """
        del interface
        raise self.unsupported(Op.INTERFACE_STATS, record)


class StatisticsHandle(Handle):
    """What a handle on a domain offers."""

    __slots__ = ()

    async def block_stats(self, disk: str) -> BlockStats:
        """Return what a disk has done so far.

        :param disk: its target, such as ``vda``, or the path of its image.
        :raises InvalidState: the domain does not run.
        :raises HvError: there is no such disk, or it is not counted.
        """
        from hvcore.rules.resizing import disk_of  # noqa: PLC0415 - handles import no rules

        api = Op.BLOCK_STATS.api
        async with self._engine.modify(self._record, api, Job.QUERY, active=True) as record:
            found = disk_of(record.definition.domain, disk)
            return await self._engine.driver.block_stats(record, found)

    async def interface_stats(self, interface: str) -> InterfaceStats:
        """Return what an interface has done so far.

        :param interface: its target on the host, its MAC address, or its alias.
        :raises InvalidState: the domain does not run.
        :raises HvError: there is no such interface, or it is not counted.
        """
        from hvcore.rules.resizing import interface_of  # noqa: PLC0415 - as above

        api = Op.INTERFACE_STATS.api
        async with self._engine.modify(self._record, api, Job.QUERY, active=True) as record:
            found = interface_of(record.definition.domain, interface)
            return await self._engine.driver.interface_stats(record, found)
