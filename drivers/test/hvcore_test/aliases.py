"""Names of the devices of a running domain, as QEMU's driver gives them.

A device keeps the name it has; a new one gets a number behind the highest of its kind.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING
from typing import Any
from typing import Final

from hvcore.addresses.drive import disk_index
from hvcore.model.devices import VISITED
from hvcore.model.devices.base import DriveAddress
from hvcore.rules.chain import images

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Mapping

    from hvcore.model.devices.disk import Disk
    from hvcore.model.domain import Domain

_NAMELESS: Final = frozenset({"graphics", "audios", "leases", "panics", "nvrams"})
"""Kinds of which there is nothing to be told apart."""

_PREFIXES: Final[Mapping[str, str]] = {
    "interfaces": "net",
    "filesystems": "fs",
    "memballoons": "balloon",
    "redirdevs": "redir",
    "memories": "dimm",
}
"""Where the prefix is not the name of the list without its plural."""


def assign(domain: Domain) -> None:
    """Give every device without a name one."""
    devices = domain.devices
    for members in VISITED:
        if members not in _NAMELESS:
            present = getattr(devices, members)
            nameless = [device for device in present if device.alias is None]
            prefix = _PREFIXES.get(members, members.removesuffix("s"))
            numbers = itertools.count(_highest(present, prefix) + 1) if nameless else ()
            names = (f"{prefix}{number}" for number in numbers)
            for device in nameless:
                device.alias = _name(domain, members, device, names)
    _number_images(domain)


def _number_images(domain: Domain) -> None:
    """Give every image a number by which it can be named; from the last disk on, as QEMU's do."""
    found = [
        image.source
        for disk in reversed(domain.devices.disks)
        for image in images(disk)
        if image.source is not None and not image.source.empty
    ]
    last = max((source.index or 0 for source in found), default=0)
    for source in found:
        if source.index is None:
            last += 1
            source.index = last


def _name(domain: Domain, members: str, device: Any, names: Iterator[str]) -> str | None:
    if members == "disks":
        return _disk_name(device)
    if members == "controllers":
        dot = "." if device.type == "pci" else ""
        return f"{device.type}{dot}{device.index or 0}"
    serials = domain.devices.serials
    if members == "consoles" and serials and domain.devices.consoles[0] is device:
        return serials[0].alias  # it only stands for the port
    if members == "memballoons" and device.model == "none":
        return None
    return next(names)


def _disk_name(disk: Disk) -> str:
    place = disk.address
    if not isinstance(place, DriveAddress):
        return f"{disk.bus}-disk{disk_index(disk.target or '') or 0}"
    numbers = [place.controller or 0, place.bus or 0, place.unit or 0]
    if disk.bus == "scsi":
        numbers.insert(2, place.target or 0)
    return f"{disk.bus}{'-'.join(map(str, numbers))}"


def _highest(devices: list[Any], prefix: str) -> int:
    """Return the highest number in use; -1 where there is none."""
    numbers = [-1]
    for device in devices:
        rest = (device.alias or "").removeprefix(prefix)
        if rest.isdigit() and device.alias != rest:
            numbers.append(int(rest))
    return max(numbers)
