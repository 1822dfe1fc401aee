"""Names of devices, by which QEMU's monitor and command line know them.

A device keeps the name it has: one the user chose (``ua-...``) or one from before. New names have
a number where there can be several of a kind. It is the position in the document for kinds that
cannot be hotplugged, and for the others one more than the highest in use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import Final

from hvcore.addresses.controllers import find_controller
from hvcore.addresses.drive import disk_index
from hvcore.errors import Issue
from hvcore.errors import ValidationFailed
from hvcore.model.devices.base import DimmAddress
from hvcore.model.devices.base import DriveAddress
from hvcore_qemu.machines import machine_of
from hvcore_qemu.netports import is_host_device

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterable
    from collections.abc import Mapping

    from hvcore.capabilities import Capabilities
    from hvcore.model.devices import Devices
    from hvcore.model.devices.controller import Controller
    from hvcore.model.devices.disk import Disk
    from hvcore.model.domain import Domain
    from hvcore_qemu.machines import Machine

# Lists whose devices are numbered by position.
_BY_POSITION: Final[Mapping[str, str]] = {
    "sounds": "sound",
    "redirdevs": "redir",
    "videos": "video",
    "inputs": "input",
    "parallels": "parallel",
    "serials": "serial",
    "channels": "channel",
    "hubs": "hub",
    "shmems": "shmem",
    "smartcards": "smartcard",
    "watchdogs": "watchdog",
    "tpms": "tpm",
    "vsocks": "vsock",
    "iommus": "iommu",
    "pstores": "pstore",
}
# Lists whose devices are numbered behind the highest number in use.
_BY_NEXT: Final[Mapping[str, str]] = {
    "interfaces": "net",
    "filesystems": "fs",
    "rngs": "rng",
    "cryptos": "crypto",
}
_MEMORIES: Final[Mapping[str, str]] = {
    "dimm": "dimm",
    "nvdimm": "nvdimm",
    "virtio-pmem": "virtiopmem",
    "virtio-mem": "virtiomem",
    "sgx-epc": "epc",
}
_MODULES: Final = frozenset({"dimm", "nvdimm"})

# Where QEMU's object of a disk is, for commands that want it; %s is the alias.
_DISK_OBJECTS: Final[Mapping[str, str]] = {
    "fdc": "{0}",
    "ide": "{0}",
    "sata": "{0}",
    "scsi": "{0}",
    "virtio": "/machine/peripheral/{0}/virtio-backend",
    "usb": "/machine/peripheral/{0}/{0}.0/legacy[0]",
}


def assign(
    domain: Domain,
    caps: Capabilities,
    *,
    network_forward: Callable[[str], str | None] | None = None,
) -> None:
    """Give every device without a name one.

    :param network_forward: returns how a virtual network forwards; interfaces of a network
        that hands out host devices are named like those.
    :raises ValidationFailed: when a SCSI disk is on a controller that does not exist.
    """
    del caps  # names depended on the version of QEMU once
    devices = domain.devices
    for disk in devices.disks:
        if disk.alias is None:
            disk.alias = disk_alias(devices, disk)
    _name_host_devices(devices, network_forward)
    for family, prefix in _BY_NEXT.items():
        _number_behind(getattr(devices, family), prefix)
    for family, prefix in _BY_POSITION.items():
        for position, device in enumerate(getattr(devices, family)):
            if device.alias is None:
                device.alias = f"{prefix}{position}"
    machine = machine_of(domain)
    for controller in devices.controllers:
        if controller.alias is None:
            controller.alias = controller_alias(controller, machine)
    _name_consoles(domain)
    for balloon in devices.memballoons:
        if balloon.alias is None and balloon.model != "none":
            balloon.alias = "balloon0"
    for memory in devices.memories:
        if memory.alias is None:
            memory.alias = _memory_alias(devices, memory)


def controller_alias(controller: Controller, machine: Machine) -> str:
    """Return the name of a controller; those on the board have names QEMU gave them."""
    kind, index, model = controller.type, controller.index, controller.model
    if kind == "pci":
        if not machine.pci_multibus:
            return "pci"
        return f"pcie.{index}" if model == "pcie-root" else f"pci.{index}"
    if not index:
        if (kind == "ide" and machine.builtin_ide) or (kind == "sata" and machine.q35):
            return "ide"
        if kind == "usb":
            return "usb"
        if kind == "scsi" and model == "ncr53c90":
            return "scsi"
    return f"{kind}{index}"


def disk_alias(devices: Devices, disk: Disk) -> str:
    """Return the name of a disk: its place for drives, else the number of its target.

    :raises ValidationFailed: when a SCSI disk is on a controller that does not exist.
    """
    address = disk.address
    if not isinstance(address, DriveAddress):
        index = disk_index(disk.target or "")
        return f"{disk.bus}-disk{-1 if index is None else index}"
    parts = [address.controller or 0, address.bus or 0, address.unit or 0]
    if disk.bus == "scsi":
        controller = find_controller(devices.controllers, "scsi", parts[0])
        if controller is None:
            raise ValidationFailed(
                [Issue.internal(f"unable to find a SCSI controller for idx={parts[0]}")]
            )
        if controller.model != "lsilogic":
            parts.insert(2, address.target or 0)
    return f"{disk.bus}{'-'.join(map(str, parts))}"


def disk_object(disk: Disk) -> str | None:
    """Return the path or id of a disk's object in QEMU, or None for kinds that have none."""
    pattern = _DISK_OBJECTS.get(disk.bus or "")
    return None if pattern is None or disk.alias is None else pattern.format(disk.alias)


def alias_number(alias: str | None, prefix: str) -> int | None:
    """Return the number of an alias that consists of a prefix and a number, else None."""
    if alias is None or not alias.startswith(prefix):
        return None
    digits = alias[len(prefix) :]
    return int(digits) if digits.isascii() and digits.isdecimal() else None


def next_number(devices: Iterable[Any], prefix: str) -> int:
    """Return the number behind the highest that a device has with a prefix."""
    numbers = (alias_number(device.alias, prefix) for device in devices)
    return max((number + 1 for number in numbers if number is not None), default=0)


def _number_behind(devices: list[Any], prefix: str) -> None:
    number = next_number(devices, prefix)
    for device in devices:
        if device.alias is None:
            device.alias = f"{prefix}{number}"
            number += 1


def _name_host_devices(
    devices: Devices, network_forward: Callable[[str], str | None] | None
) -> None:
    """Name host devices, those that are interfaces included, from one sequence."""
    number = next_number((*devices.interfaces, *devices.hostdevs), "hostdev")
    interfaces = [each for each in devices.interfaces if is_host_device(each, network_forward)]
    for device in (*interfaces, *devices.hostdevs):
        if device.alias is None:
            device.alias = f"hostdev{number}"
            number += 1


def _name_consoles(domain: Domain) -> None:
    devices = domain.devices
    for position, console in enumerate(devices.consoles):
        if console.alias is not None:
            continue
        serial = devices.serials[0] if devices.serials else None
        if (
            position == 0
            and serial is not None
            and console.target_type == "serial"
            and domain.os is not None
            and domain.os.type == "hvm"
        ):
            # The first console of a full guest is its first serial port.
            console.alias = serial.alias
        else:
            console.alias = f"console{position}"


def _memory_alias(devices: Devices, memory: Any) -> str:
    prefix = _MEMORIES[memory.model]
    if memory.model in _MODULES:
        slot = memory.address.slot if isinstance(memory.address, DimmAddress) else 0
        return f"{prefix}{slot or 0}"
    return f"{prefix}{next_number(devices.memories, prefix)}"
