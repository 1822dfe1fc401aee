"""Devices on the virtual I/O bus of pSeries guests."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import Final

from hvcore.addresses.spapr import SpaprVioAddressSet
from hvcore.model.devices.base import SpaprVioAddress

if TYPE_CHECKING:
    from collections.abc import Callable

    from hvcore_qemu.addresses.guest import Guest

# Where QEMU begins with each kind, and which devices of a family must be on this bus;
# nvram and tpm only on pSeries machines.
_KINDS: Final[tuple[tuple[str, int, Callable[[Any, bool], bool]], ...]] = (
    ("interfaces", 0x1000, lambda net, _: net.model == "spapr-vlan"),
    ("controllers", 0x2000, lambda each, _: each.type == "scsi" and each.model == "ibmvscsi"),
    ("serials", 0x30000000, lambda each, _: each.target_type == "spapr-vio-serial"),
    ("nvrams", 0x3000, lambda _, pseries: pseries),
    ("tpms", 0x4000, lambda tpm, pseries: pseries and tpm.model != "spapr-tpm-proxy"),
)


def assign_spapr_vio(guest: Guest) -> None:
    """Give the devices of the virtual I/O bus their registers.

    :raises ValidationFailed: when two devices of the document have the same.
    """
    pseries = guest.machine.pseries
    for family, _, belongs in _KINDS:
        for device in getattr(guest.devices, family):
            if type(device.address) is not SpaprVioAddress and belongs(device, pseries):
                device.address = SpaprVioAddress()
    addresses = [each.address for each in guest.visited if type(each.address) is SpaprVioAddress]
    if not addresses:
        return
    used = SpaprVioAddressSet(each.reg for each in addresses if each.reg is not None)
    for family, default, _ in _KINDS:
        for device in getattr(guest.devices, family):
            address = device.address
            if type(address) is SpaprVioAddress:
                if address.reg is None:
                    address.reg = used.reserve_next(default)
                else:
                    used.check(address.reg)
