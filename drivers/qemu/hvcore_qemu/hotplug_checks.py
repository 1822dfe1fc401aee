"""What a running QEMU can have plugged in and out, family by family: libvirt's rules and words.

Sources: ``qemuDomainAttach*``, ``qemuDomainDetachPrep*`` and ``qemuDomainDetachDeviceLive`` of
libvirt's qemu_hotplug.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import Final

from hvcore.addresses.controllers import find_controller
from hvcore.addresses.pci import format_address
from hvcore.errors import ErrorClass
from hvcore.errors import HvError
from hvcore.errors import InvalidState
from hvcore.errors import Unsupported
from hvcore.model.devices.base import DriveAddress
from hvcore.model.devices.base import PciAddress
from hvcore.model.devices.base import VirtioSerialAddress
from hvcore.rules.hotplug import FAMILIES
from hvcore.rules.hotplug import controller_refusal
from hvcore.rules.hotplug import disk_refusal
from hvcore.rules.hotplug import same_address
from hvcore.rules.hotplug import unsupported
from hvcore_qemu.devices.chardev import on_board

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Mapping

    from hvcore.model.devices.base import Device
    from hvcore.model.devices.disk import Disk
    from hvcore.model.domain import Domain
    from hvcore.rules.hotplug import Family

_PLUGGED_NETS: Final = frozenset({
    "bridge", "network", "direct", "ethernet", "vhostuser", "user", "vdpa", "hostdev"
})  # fmt: skip
_FIXED_CHARDEVS: Final = frozenset({"spiceport", "pipe", "stdio", "nmdm"})
_PLUGGED_TARGETS: Final = frozenset({"pci-serial", "usb-serial", "virtio"})
_PLUGGED_ADDRESSES: Final = (PciAddress, VirtioSerialAddress)
_FIXED_BUSES: Final = frozenset({"ide", "fdc", "xen", "uml", "sata", "sd"})
_REMOVABLE: Final = frozenset({"cdrom", "floppy"})


def _unsupported(message: str) -> HvError:
    return HvError(message, kind=ErrorClass.OPERATION_UNSUPPORTED)


# -- coming ----------------------------------------------------------------------------------------


def _new_disk(domain: Domain, disk: Disk) -> HvError | None:
    problem = disk_refusal(domain, disk)
    if problem is not None:
        return problem
    if disk.bus == "scsi":
        if not isinstance(disk.address, DriveAddress):
            kind = "none" if disk.address is None else disk.address.type
            return HvError(f"unexpected disk address type {kind}")
        others = (*domain.devices.disks, *domain.devices.hostdevs)
        if any(
            isinstance(each.address, DriveAddress)
            and (getattr(each, "bus", None) or getattr(each, "type", None)) == "scsi"
            and same_address(disk, each)
            for each in others
        ):
            return InvalidState("Domain already contains a disk with that address")
    return None


def _new_controller(domain: Domain, controller: Any) -> HvError | None:
    problem = controller_refusal(controller)
    if problem is not None:
        return problem
    index = controller.index
    if index is not None and find_controller(domain.devices.controllers, controller.type, index):
        return HvError(
            f"target {controller.type}:{index} already exists", kind=ErrorClass.OPERATION_FAILED
        )
    return None


def _new_interface(domain: Domain, interface: Any) -> HvError | None:
    del domain
    if interface.type not in _PLUGGED_NETS:
        return _unsupported(f"hotplug of interface type of {interface.type} is not implemented yet")
    return None


def _new_hostdev(domain: Domain, hostdev: Any) -> HvError | None:
    if hostdev.mode != "subsystem":
        return Unsupported(f"hotplug is not supported for hostdev mode '{hostdev.mode}'")
    if hostdev.ramfb:
        # QEMU's variant with firmware's screen cannot be plugged in.
        return Unsupported("ramfb is not supported for hotplugged devices")
    same = FAMILIES["hostdevs"].same
    if any(same(hostdev, each) for each in domain.devices.hostdevs):
        return HvError("target device already exists", kind=ErrorClass.OPERATION_FAILED)
    return None


def _new_watchdog(domain: Domain, watchdog: Any) -> HvError | None:
    del domain
    if watchdog.model != "i6300esb":
        return _unsupported(f"hotplug of watchdog model '{watchdog.model}' is not supported")
    return None


def _new_input(domain: Domain, device: Any) -> HvError | None:
    del domain
    if device.type != "evdev" and device.bus not in ("usb", "virtio"):
        return _unsupported(f"input device on bus '{device.bus}' cannot be hot plugged.")
    return None


def _new_vsock(domain: Domain, vsock: Any) -> HvError | None:
    del vsock
    if domain.devices.vsocks:
        return _unsupported("the domain already has a vsock device")
    return None


def _filesystem(domain: Domain, device: Any) -> HvError | None:
    del domain
    if device.driver_type != "virtiofs":
        return _unsupported("only virtiofs filesystems can be hotplugged")
    return None


def _new_chardev(domain: Domain, device: Any) -> HvError | None:
    if on_board(domain, device):
        return Unsupported("Cannot hotplug platform device")
    problem = FAMILIES["channels"].free(domain, device)
    if problem is not None:
        return problem
    if device.type in _FIXED_CHARDEVS:
        return HvError(
            f"Hotplug unsupported for char device type '{device.type}'",
            kind=ErrorClass.OPERATION_FAILED,
        )
    target = getattr(device, "target_type", None)
    if target not in _PLUGGED_TARGETS and isinstance(device.address, _PLUGGED_ADDRESSES):
        return Unsupported("Unsupported address type for character device")
    return None


def _nothing(domain: Domain, device: Any) -> HvError | None:
    del domain, device
    return None


_NEW: Final[Mapping[str, Callable[[Domain, Any], HvError | None]]] = {
    "disks": _new_disk,
    "controllers": _new_controller,
    "leases": FAMILIES["leases"].free,
    "interfaces": _new_interface,
    "hostdevs": _new_hostdev,
    "redirdevs": _nothing,
    "serials": _new_chardev,
    "parallels": _new_chardev,
    "channels": _new_chardev,
    "consoles": _new_chardev,
    "rngs": _nothing,
    "memories": _nothing,
    "shmems": _nothing,
    "watchdogs": _new_watchdog,
    "inputs": _new_input,
    "vsocks": _new_vsock,
    "filesystems": _filesystem,
}


def check_attach(domain: Domain, family: Family, device: Device) -> None:
    """Refuse a device that this domain cannot have plugged in while it runs.

    :raises HvError: with libvirt's words.
    """
    check = _NEW.get(family.members)
    if check is None:
        raise unsupported("attach", family.name, live=True)
    problem = check(domain, device)
    if problem is not None:
        raise problem


# -- going -----------------------------------------------------------------------------------------


def _old_disk(domain: Domain, disk: Disk) -> HvError | None:
    del domain
    if disk.device in _REMOVABLE and disk.bus not in ("usb", "scsi"):
        return _unsupported(f"disk device type '{disk.device}' cannot be detached")
    if disk.device == "floppy":
        return _unsupported("disk device type 'floppy' cannot be detached")
    if disk.bus in _FIXED_BUSES:
        return _unsupported("This type of disk cannot be hot unplugged")
    return None


def _old_controller(domain: Domain, controller: Any) -> HvError | None:
    used = (
        each.address.controller
        for each in (*domain.devices.disks, *domain.devices.hostdevs)
        if isinstance(each.address, DriveAddress)
        and (getattr(each, "bus", None) or getattr(each, "type", None)) == "scsi"
    )
    if controller.index in used:
        return HvError(
            "device cannot be detached: device is busy", kind=ErrorClass.OPERATION_FAILED
        )
    return None


def _old_hostdev(domain: Domain, hostdev: Any) -> HvError | None:
    del domain
    if hostdev.mode != "subsystem":
        return Unsupported(f"hot unplug is not supported for hostdev mode '{hostdev.mode}'")
    return None


def _old_watchdog(domain: Domain, watchdog: Any) -> HvError | None:
    del domain
    if watchdog.model != "i6300esb":
        return _unsupported(f"hot unplug of watchdog of model {watchdog.model} is not supported")
    return None


def _old_shmem(domain: Domain, shmem: Any) -> HvError | None:
    del domain
    if shmem.model == "ivshmem":
        return _unsupported(f"live detach of shmem model '{shmem.model}' is not supported")
    return None


def _old_input(domain: Domain, device: Any) -> HvError | None:
    del domain
    if device.type != "evdev" and device.bus not in ("usb", "virtio"):
        return _unsupported(f"input device on bus '{device.bus}' cannot be detached")
    return None


def _old_chardev(domain: Domain, device: Any) -> HvError | None:
    if on_board(domain, device):
        return Unsupported("Cannot detach platform device")
    console = device in domain.devices.consoles
    if console and device.target_type in ("serial", None):
        return _unsupported(
            "detaching of <console/> is unsupported. Try corresponding <serial/> instead"
        )
    return None


_OLD: Final[Mapping[str, Callable[[Domain, Any], HvError | None]]] = {
    **dict.fromkeys(_NEW, _nothing),
    "disks": _old_disk,
    "controllers": _old_controller,
    "hostdevs": _old_hostdev,
    "watchdogs": _old_watchdog,
    "shmems": _old_shmem,
    "inputs": _old_input,
    "filesystems": _filesystem,
    "serials": _old_chardev,
    "parallels": _old_chardev,
    "channels": _old_chardev,
    "consoles": _old_chardev,
}


def check_family(family: Family, wanted: Any) -> None:
    """Refuse to look for a device whose family cannot be unplugged.

    :raises HvError: with libvirt's words.
    """
    if family.members not in _OLD:
        raise unsupported("detach", family.name, live=True)
    if family.members == "controllers" and wanted.type != "scsi":
        raise _unsupported(f"'{wanted.type}' controller cannot be hot unplugged.")


def check_detach(domain: Domain, family: Family, device: Device) -> None:
    """Refuse to unplug a device of a running domain that cannot go.

    :raises HvError: with libvirt's words.
    """
    check_family(family, device)
    problem = _OLD[family.members](domain, device)
    if problem is not None:
        raise problem
    if device.alias is None:
        raise HvError(f"Cannot detach {family.name} device with no alias")
    address = device.address
    if not isinstance(address, PciAddress):
        return
    place = (address.domain or 0, address.bus or 0, address.slot or 0, address.function or 0)
    what = f"cannot hot unplug {family.name} device with"
    if _shares_slot(domain, device, place):
        raise HvError(
            f"{what} multifunction PCI guest address: {format_address(*place)}",
            kind=ErrorClass.OPERATION_FAILED,
        )
    bridge = find_controller(domain.devices.controllers, "pci", place[1])
    reason = None
    if bridge is None:
        reason = "controller not found"
    elif bridge.hotplug is False:
        reason = "not allowed by controller"
    if reason is not None:
        raise HvError(
            f"{what} PCI guest address: {format_address(*place)} - {reason}",
            kind=ErrorClass.OPERATION_FAILED,
        )


def _shares_slot(domain: Domain, device: Device, place: tuple[int, int, int, int]) -> bool:
    """Return whether another device is in the same slot: QEMU unplugs slots."""
    return any(
        other is not device
        and isinstance(other.address, PciAddress)
        and (other.address.domain or 0, other.address.bus or 0, other.address.slot or 0)
        == place[:3]
        for other in domain.devices.walk()
    )
