"""Where the devices of a QEMU guest sit: addresses for all that have none.

The allocators are :mod:`hvcore.addresses`; here is which device needs what kind of address on
which machine. The order of the steps, of the devices within a step, and with them every
address chosen, is libvirt's: a guest keeps its addresses when its document comes from there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore_qemu.addresses.dimm import assign_dimm_slots
from hvcore_qemu.addresses.guest import Guest
from hvcore_qemu.addresses.pci import assign_pci
from hvcore_qemu.addresses.spapr import assign_spapr_vio
from hvcore_qemu.addresses.usb import assign_usb
from hvcore_qemu.addresses.virtio import assign_ccw
from hvcore_qemu.addresses.virtio import prefer_mmio_or_pci
from hvcore_qemu.addresses.virtio_serial import assign_virtio_serial

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hvcore.capabilities import Capabilities
    from hvcore.hostpci import HostPci
    from hvcore.model.devices.base import Device
    from hvcore.model.domain import Domain

__all__ = ["assign"]


def assign(
    domain: Domain,
    caps: Capabilities,
    *,
    new_domain: bool,
    host: HostPci | None = None,
    plugged: Sequence[Device] = (),
) -> None:
    """Give every device that needs an address one, adding controllers where there is no room.

    :param new_domain: the guest was never started; only then USB devices are arranged in a
        topology of ours, as a guest that is migrated here may rely on QEMU's own choice.
    :param host: what is known of the host's PCI devices.
    :param plugged: devices that the running guest is to get; they need a PCI bus that it has, and
        that takes devices while it runs.
    :raises ValidationFailed: when an address of the document is unsuitable or taken, or there is
        no room; the first conflict only, as what follows depends on it.
    """
    guest = Guest(domain, caps, host)
    assign_virtio_serial(guest)
    assign_spapr_vio(guest)
    if guest.machine.s390_ccw:
        assign_ccw(guest)
    prefer_mmio_or_pci(guest)
    assign_pci(guest, plugged)
    assign_usb(guest, new_domain=new_domain)
    assign_dimm_slots(guest)
