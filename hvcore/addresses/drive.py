"""Places of disks on their controllers, from the names of their targets."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING
from typing import Final
from typing import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAME: Final = re.compile(r"(?:fd|hd|vd|sd|xvd|ubd)([a-z]+)[0-9]*", re.ASCII)
_MAX_INDEX: Final = 0x7FFFFFFF

# Of the eight ids of a narrow SCSI bus, 7 is the host adapter's own.
SCSI_UNITS: Final = 7


class DrivePlace(NamedTuple):
    """Where a drive is: the parts of libvirt's ``<address type='drive'>``."""

    controller: int
    bus: int
    target: int
    unit: int


class DriveBus(NamedTuple):
    """How many buses a controller has and how many units a bus has."""

    buses: int
    units: int


# Default mappings of the buses whose disks hang off a controller.
DRIVE_BUSES: Final[Mapping[str, DriveBus]] = {
    "ide": DriveBus(2, 2),
    "sata": DriveBus(1, 6),
    "fdc": DriveBus(1, 2),
    "scsi": DriveBus(1, SCSI_UNITS),
}


class ScsiLimits(NamedTuple):
    """Units of a SCSI controller model.

    :param last: highest unit; None if libvirt knows no limit.
    :param adapter: the unit that is the adapter itself.
    """

    last: int | None = None
    adapter: int | None = None


SCSI_LIMITS: Final[Mapping[str | None, ScsiLimits]] = {
    "virtio-scsi": ScsiLimits(16383),
    "virtio-transitional": ScsiLimits(16383),
    "virtio-non-transitional": ScsiLimits(16383),
    "ibmvscsi": ScsiLimits(31, 7),
    "lsisas1068": ScsiLimits(1),
    "lsisas1078": ScsiLimits(255),
    "lsilogic": ScsiLimits(None, 7),
    "vmpvscsi": ScsiLimits(None, 7),
    "buslogic": ScsiLimits(None, 7),
    "ncr53c90": ScsiLimits(6),
    "dc390": ScsiLimits(6),
    "am53c974": ScsiLimits(6),
}


@functools.lru_cache(maxsize=4096)
def disk_index(name: str) -> int | None:
    """Return the number of a target name: 0 for ``sda``, 26 for ``vdaa``; partitions ignored.

    :returns: None when it is not a disk name libvirt knows.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    index = -1
    for letter in match[1]:
        index = (index + 1) * 26 + ord(letter) - ord("a")
        if index > _MAX_INDEX:
            return None
    return index


def drive_place(bus: str, index: int) -> DrivePlace | None:
    """Return the default place of the disk with a number.

    :returns: None when disks of this bus do not hang off a controller.
    """
    rule = DRIVE_BUSES.get(bus)
    if rule is None:
        return None
    controller, rest = divmod(index, rule.buses * rule.units)
    return DrivePlace(controller, rest // rule.units, 0, rest % rule.units)


def scsi_unit_exists(model: str | None, unit: int) -> bool:
    """Tell whether a SCSI controller model can have a device at a unit."""
    limits = SCSI_LIMITS.get(model)
    if limits is None:
        return True
    return unit != limits.adapter and (limits.last is None or unit <= limits.last)
