"""What guests' address assignment asks about the host's PCI devices, and sysfs answering it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from typing import Final
from typing import Protocol
from typing import final

if TYPE_CHECKING:
    import os

# Conventional configuration space; Express devices have 4096 bytes, of which an unprivileged
# process sees only the size.
_CONVENTIONAL_SIZE: Final = 256
_HEADER_SIZE: Final = 0x40
_STATUS: Final = 0x06
_STATUS_HAS_CAPABILITIES: Final = 0x10
_FIRST_CAPABILITY: Final = 0x34
_EXPRESS: Final = 0x10


class HostPci(Protocol):
    """Facts about the host's PCI devices, by domain, bus, slot and function."""

    def is_express(self, domain: int, bus: int, slot: int, function: int) -> bool | None:
        """Tell whether a device is PCI Express; None if there is no such device."""

    def iommu_group(self, domain: int, bus: int, slot: int, function: int) -> int | None:
        """Return the number of a device's IOMMU group, or None if it has none."""


@final
class SysfsPci:
    """The devices of this host.

    :param root: what stands for ``/``.
    """

    def __init__(self, root: str | os.PathLike[str] = "/") -> None:
        self._devices = Path(root) / "sys/bus/pci/devices"

    def is_express(self, domain: int, bus: int, slot: int, function: int) -> bool | None:
        """Tell whether a device is PCI Express; None if there is no such device."""
        path = self._path(domain, bus, slot, function) / "config"
        try:
            config = path.read_bytes()
            size = path.stat().st_size
        except FileNotFoundError:
            return None
        except OSError:
            return True  # it is there, and nearly all are
        return size != _CONVENTIONAL_SIZE or _has_capability(config, _EXPRESS)

    def iommu_group(self, domain: int, bus: int, slot: int, function: int) -> int | None:
        """Return the number of a device's IOMMU group, or None if it has none."""
        link = self._path(domain, bus, slot, function) / "iommu_group"
        try:
            name = link.readlink().name
        except OSError:
            return None
        return int(name) if name.isdecimal() else None

    def _path(self, domain: int, bus: int, slot: int, function: int) -> Path:
        return self._devices / f"{domain:04x}:{bus:02x}:{slot:02x}.{function:x}"


def _has_capability(config: bytes, wanted: int) -> bool:
    """Look for a capability in the linked list of a configuration space."""
    if len(config) <= _FIRST_CAPABILITY or not config[_STATUS] & _STATUS_HAS_CAPABILITIES:
        return False
    position = config[_FIRST_CAPABILITY]
    seen = set()
    while _HEADER_SIZE <= position < len(config) - 1 and position not in seen:
        seen.add(position)
        if config[position] == wanted:
            return True
        position = config[position + 1]
    return False
