"""Names of the devices of a running guest, as libvirt names those of QEMU."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING
from typing import Final

if TYPE_CHECKING:
    from hvcore.model.devices.base import Device
    from hvcore.model.domain import Domain

PREFIXES: Final = {
    "disks": "virtio-disk",
    "interfaces": "net",
    "serials": "serial",
    "consoles": "console",
    "rngs": "rng",
    "memballoons": "balloon",
    "vsocks": "vsock",
    "filesystems": "fs",
    "memories": "virtiopmem",
    "hostdevs": "hostdev",
    "tpms": "tpm",
    "iommus": "iommu",
    "panics": "panic",
    "controllers": "pci",
}
"""Families and what the names of their devices begin with."""


def prefix(device: Device, family: str) -> str:
    """Return what the name of a device of ``family`` begins with."""
    # An interface that is a device of the host is numbered with those.
    if getattr(device, "type", None) == "hostdev":
        return "hostdev"
    return "dimm" if getattr(device, "model", None) == "dimm" else PREFIXES[family]


def assign(domain: Domain) -> None:
    """Give every device without a name the next free one of its kind."""
    taken = {device.alias for device in domain.devices.walk()}
    for family in PREFIXES:
        for device in getattr(domain.devices, family):
            if device.alias is None:
                device.alias = free(prefix(device, family), taken)
                taken.add(device.alias)


def free(begin: str, taken: set[str | None]) -> str:
    """Return the first name that begins with ``begin`` and is not taken."""
    return next(name for name in map(f"{begin}{{}}".format, itertools.count()) if name not in taken)
