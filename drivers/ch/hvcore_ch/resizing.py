"""The verbs that change the size of memory and disks of a running guest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore.errors import ErrorClass
from hvcore.errors import HvError
from hvcore.errors import InvalidState
from hvcore_ch.tuning import Tuning

if TYPE_CHECKING:
    from hvcore.driver import Record
    from hvcore.model.devices.disk import Disk
    from hvcore.model.domain import Domain
    from hvcore_ch.guest import Guest


class Resizing(Tuning):
    """The part of the driver that resizes what a guest has."""

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
