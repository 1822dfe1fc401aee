"""Isolation groups of pSeries guests: host devices of one IOMMU group share a PCI host bridge.

Errors are recovered per host bridge there, so a host device should not be with devices it does
not share its fate with. Group 0 is that of everything else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore_qemu.addresses.connect import host_pci_address

if TYPE_CHECKING:
    from hvcore_qemu.addresses.guest import Guest


def isolation_groups(guest: Guest) -> dict[int, int]:
    """Return the groups of the devices that need one, by ``id()`` of the device."""
    groups: dict[int, int] = {}
    host = guest.host
    if host is None:
        return groups
    for device in (*guest.devices.interfaces, *guest.devices.hostdevs):
        source = host_pci_address(device)
        if source is None:
            continue
        iommu_group = host.iommu_group(*source)
        if iommu_group is not None:
            # Zero is an IOMMU group as well, hence one more.
            groups[id(device)] = iommu_group + 1
    return groups
