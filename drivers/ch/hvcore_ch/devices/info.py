"""What every device has: a name, and a place on the one PCI bus of its segment."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import Final

from hvcore.errors import Issue
from hvcore.model.devices.base import Device
from hvcore.model.devices.base import PciAddress
from hvcore.model.devices.base import VirtioDevice
from hvcore.rules.base import Rules
from hvcore_ch.accepts import ANY
from hvcore_ch.accepts import one_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore_ch.accepts import Accepts

rules = Rules()

SEGMENTS: Final = 96
"""PCI segments a guest can have (MAX_NUM_PCI_SEGMENTS)."""

ACCEPTS: Accepts = {
    Device: {"alias": ANY, "address": one_of("pci")},
    VirtioDevice: {"iommu": ANY, "packed": one_of(False)},
    PciAddress: {"domain": one_of(*range(SEGMENTS)), "bus": one_of(0), "slot": ANY,
                 "function": one_of(0)},
}  # fmt: skip

VIRTIO: Final = one_of("virtio", "virtio-non-transitional")
"""Models of virtio devices; there are none of the old kind."""


@rules.check_domain
def _slots(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Let a slot be taken once; the first one is the bridge to the host."""
    del ctx
    taken: set[tuple[int, int]] = set()
    for device in domain.devices.walk():
        address = device.address
        if not isinstance(address, PciAddress) or address.slot is None:
            continue
        place = (address.domain or 0, address.slot)
        written = f"{place[0]:04x}:00:{place[1]:02x}.0"
        if place[1] == 0:
            yield Issue.xml(f"Invalid PCI address {written}. slot must be >= 1", line=device.line)
        elif place in taken:
            yield Issue.xml(f"Attempted double use of PCI Address {written}", line=device.line)
        taken.add(place)


def place(device: Device) -> dict[str, Any]:
    """Return the members that every device of the API has: its name and its address."""
    address = device.address
    fixed = isinstance(address, PciAddress) and address.slot is not None
    return {
        "id": device.alias,
        "pci_segment": address.domain if isinstance(address, PciAddress) and fixed else None,
        "pci_device_id": address.slot if isinstance(address, PciAddress) and fixed else None,
    }


def segments(domain: Domain) -> int:
    """Return how many PCI segments the addresses of a document need."""
    found = [
        device.address.domain or 0
        for device in domain.devices.walk()
        if isinstance(device.address, PciAddress)
    ]
    return max(found, default=0) + 1


def behind_iommu(device: VirtioDevice) -> bool | None:
    """Return the member that puts a device behind the guest's IOMMU."""
    return True if device.iommu else None
