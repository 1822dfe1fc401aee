"""What can be plugged into a running domain of the test driver, and how.

What no hypervisor of libvirt plugs is refused, in the words that its test driver and QEMU's share
(``testDomainAttachDeviceDiskLiveInternal`` of test_driver.c). What a certain QEMU refuses beyond
that is refused on a host with its recorded capabilities.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import Final

from hvcore.errors import ErrorClass
from hvcore.errors import HvError
from hvcore.rules import hotplug
from hvcore_test import aliases

if TYPE_CHECKING:
    from hvcore.model.devices.base import Device
    from hvcore.model.domain import Domain
    from hvcore.rules.hotplug import Family

_COLD: Final = frozenset({"sounds", "iommus"})
"""Families that no hypervisor can plug, though their definition can be changed."""
_REMOVABLE: Final = frozenset({"cdrom", "floppy"})


def _refusal(message: str) -> HvError:
    return HvError(message, kind=ErrorClass.OPERATION_UNSUPPORTED)


def _check(family: Family, action: hotplug.Action) -> None:
    if action not in family.config or family.members in _COLD:
        raise hotplug.unsupported(action, family.name, live=True)


def check_family(domain: Domain, device: Device) -> None:
    """Refuse to look for a device whose family cannot be unplugged.

    :raises HvError: with libvirt's words.
    """
    _check(hotplug.family_of(domain, device), "detach")


def changes_medium(domain: Domain, device: Any) -> bool:
    """Return whether a disk is a new medium for a drive that there is, as virsh attaches them."""
    return getattr(device, "device", None) in _REMOVABLE and any(
        each.target == device.target for each in domain.devices.disks
    )


def attach(domain: Domain, device: Any) -> None:
    """Put a device into a running definition, with a name.

    :raises HvError: something that is there is in its way, or it cannot be plugged in at all.
    """
    family = hotplug.family_of(domain, device)
    _check(family, "attach")
    problem = None
    if family.members == "disks":
        problem = hotplug.disk_refusal(domain, device)
    elif family.members == "controllers":
        problem = hotplug.controller_refusal(device)
    if problem is not None:
        raise problem
    hotplug.number(domain, device)
    hotplug.add(domain, device)
    aliases.assign(domain)


def check_detach(domain: Domain, device: Any) -> None:
    """Refuse to unplug a device that no guest lets go.

    :raises HvError: with libvirt's words.
    """
    family = hotplug.family_of(domain, device)
    _check(family, "detach")
    if family.members == "controllers" and device.type != "scsi":
        raise _refusal(f"'{device.type}' controller cannot be hot unplugged.")
    if family.members == "disks":
        if device.device == "floppy":
            raise _refusal("disk device type 'floppy' cannot be detached")
        if device.bus not in hotplug.PLUGGED_BUSES:
            raise _refusal("This type of disk cannot be hot unplugged")


def update(domain: Domain, device: Any) -> None:
    """Change a device of a running definition to what ``device`` says.

    :raises HvError: there is none, or devices of its family cannot be changed.
    """
    _check(hotplug.family_of(domain, device), "update")
    old = hotplug.find_for_update(domain, device)
    hotplug.check_compatible(domain, device, old, live=True, attach=False)
    device.alias = old.alias
    if device.address is None:
        device.address = old.address
    hotplug.replace(domain, old, device)
