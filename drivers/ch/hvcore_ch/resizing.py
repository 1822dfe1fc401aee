"""The verbs that change the size of memory and disks, and those that count what devices did."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore.errors import ErrorClass
from hvcore.errors import HvError
from hvcore.errors import InvalidState
from hvcore.errors import MonitorError
from hvcore.statistics import BlockStats
from hvcore.statistics import InterfaceStats
from hvcore_ch.tuning import Tuning

if TYPE_CHECKING:
    from hvcore.driver import Record
    from hvcore.model.devices.base import Device
    from hvcore.model.devices.disk import Disk
    from hvcore.model.devices.interface import Interface
    from hvcore.model.domain import Domain
    from hvcore_ch.guest import Guest


class Resizing(Tuning):
    """The part of the driver that resizes what a guest has, and counts what it did with it."""

    async def set_memory(self, record: Record, live: Domain, size: int) -> None:
        """Let the balloon take what the guest is to have no more.

        :raises InvalidState: there is no balloon.
        """
        from hvcore_ch.devices.memballoon import balloon_of  # noqa: PLC0415 - see tuning

        guest: Guest = record.runtime
        if balloon_of(live) is None:
            raise InvalidState(
                "Unable to change memory of active domain without the balloon device and guest OS "
                "balloon driver",
                domain=record.name,
            )
        taken = (live.memory or 0) - size
        await guest.vmm.monitor.call("vm.resize", {"desired_balloon": taken * 1024})
        live.current_memory = size

    async def resize_disk(self, record: Record, live: Domain, disk: Disk, size: int) -> None:
        """Resize the image, and tell the guest.

        :raises HvError: the disk is a vDPA device.
        """
        del live
        guest: Guest = record.runtime
        if disk.type == "vhostvdpa":
            raise HvError(
                "block resize is not supported for vhostvdpa disk",
                kind=ErrorClass.OPERATION_UNSUPPORTED,
            )
        wanted = {"id": disk.alias, "desired_size": size}
        await guest.vmm.monitor.call("vm.resize-disk", wanted)

    async def inject_nmi(self, record: Record) -> None:
        """Send the guest a non-maskable interrupt."""
        guest: Guest = record.runtime
        await guest.vmm.monitor.call("vm.nmi")

    async def _counted(self, record: Record, device: Device, **names: str) -> dict[str, int]:
        """Return counters of a device.

        :param names: what they are to be called, and what they are called.
        :raises HvError: it is not counted: another process does its work.
        """
        guest: Guest = record.runtime
        found = await guest.vmm.monitor.call("vm.counters")
        try:
            if device.alias not in found:
                raise HvError(f"missing statistics of device '{device.alias}'")
            return {name: int(found[device.alias][theirs]) for name, theirs in names.items()}
        except (KeyError, TypeError, ValueError) as error:
            raise MonitorError(
                "Cloud-Hypervisor answered 'vm.counters' in another schema", received=found
            ) from error

    async def block_stats(self, record: Record, disk: Disk) -> BlockStats:
        """Return what a disk has done."""
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
        """Return what an interface has done."""
        counters = await self._counted(
            record,
            interface,
            rx_bytes="rx_bytes",
            rx_packets="rx_frames",
            tx_bytes="tx_bytes",
            tx_packets="tx_frames",
        )
        return InterfaceStats(**counters)
