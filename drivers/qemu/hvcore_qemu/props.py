"""Properties that devices of many families have: address, ROM, virtio transport.

All functions return dictionaries whose order is that of libvirt's JSON; entries that are None are
left out when the option is written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import Final
from typing import NoReturn

from hvcore.addresses.controllers import find_controller
from hvcore.addresses.pci import format_address
from hvcore.errors import Issue
from hvcore.errors import ValidationFailed
from hvcore.model.devices.base import CcwAddress
from hvcore.model.devices.base import DimmAddress
from hvcore.model.devices.base import DriveAddress
from hvcore.model.devices.base import IsaAddress
from hvcore.model.devices.base import PciAddress
from hvcore.model.devices.base import SpaprVioAddress
from hvcore.model.devices.base import UnassignedAddress
from hvcore.model.devices.base import UsbAddress
from hvcore.model.devices.base import VirtioMmioAddress
from hvcore.model.devices.base import VirtioSerialAddress
from hvcore_qemu.machines import machine_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Mapping

    from hvcore.model.devices.base import Address
    from hvcore.model.devices.base import Device
    from hvcore.model.devices.controller import Controller
    from hvcore.model.domain import Domain
    from hvcore_qemu.capabilities import QemuCapabilities
    from hvcore_qemu.command import Command

Props = dict[str, Any]

USER_ALIAS: Final = "ua-"
"""How identifiers begin that a user chose; QEMU's built-in devices never have those."""

_TRANSPORTS: Final[Mapping[type[Address], str]] = {
    PciAddress: "pci",
    VirtioMmioAddress: "device",
    CcwAddress: "ccw",
}
_TRANSITION: Final = {
    "virtio-transitional": "-transitional",
    "virtio-non-transitional": "-non-transitional",
}
# SCSI adapters without channels and targets: the unit is the SCSI id, each bus is a bus of QEMU.
_NARROW_SCSI: Final = frozenset({"lsilogic", "ncr53c90", "dc390", "am53c974"})


def refuse(issue: Issue) -> NoReturn:
    """Stop building a command line.

    :raises ValidationFailed: always, with ``issue``.
    """
    raise ValidationFailed([issue])


def switch(value: bool | None) -> str | None:
    """Return ``on`` or ``off`` for properties that QEMU does not take as booleans."""
    return None if value is None else ("on" if value else "off")


def positive(value: int | None) -> int | None:
    """Return ``value`` unless it is zero, which stands for not given."""
    return value or None


def controller_alias(domain: Domain, kind: str, index: int) -> str:
    """Return the name of a controller.

    :raises ValidationFailed: when it does not exist or has no name.
    """
    controller = find_controller(domain.devices.controllers, kind, index)
    if controller is None:
        refuse(
            Issue.internal(
                f"Could not find {kind} controller with index {index} required for device"
            )
        )
    if controller.alias is None:
        refuse(Issue.internal(f"Device alias was not set for {kind} controller with index {index}"))
    return controller.alias


def pci_bus(domain: Domain, address: PciAddress) -> str:
    """Return QEMU's name of the bus that ``address`` is on.

    :raises ValidationFailed: when there is no such bus.
    """
    index = address.bus or 0
    controller = find_controller(domain.devices.controllers, "pci", index)
    if controller is None:
        refuse(
            Issue.internal(
                f"Could not find PCI controller with index '{index}' required for device at"
                f" address '{_written(address)}'"
            )
        )
    if controller.alias is None:
        refuse(
            Issue.internal(
                f"Device alias was not set for PCI controller with index '{index}' required for"
                f" device at address '{_written(address)}'"
            )
        )
    name = _bus_name(domain, controller, controller.alias)
    # A bus that a pSeries host bridge makes is below it, except the one that is always there.
    is_bridge = controller.model_name == "spapr-pci-host-bridge" and controller.target_index
    return f"{name}.0" if is_bridge else name


def _written(address: PciAddress) -> str:
    return format_address(
        address.domain or 0, address.bus or 0, address.slot or 0, address.function or 0
    )


def _bus_name(domain: Domain, controller: Controller, alias: str) -> str:
    """Return the name of the bus; built-in roots keep QEMU's whatever the user named them."""
    if alias.startswith(USER_ALIAS):
        if controller.model == "pci-root" and not controller.target_index:
            return "pci.0" if machine_of(domain).pci_multibus else "pci"
        if controller.model == "pcie-root":
            return "pcie.0"
    return alias


def address_props(domain: Domain, device: Device) -> Props:
    """Return where ``device`` is, in QEMU's terms.

    :raises ValidationFailed: when what it is plugged into does not exist.
    """
    address = device.address
    write = _ADDRESSES.get(type(address)) if address is not None else None
    return {} if write is None else write(domain, device)


def _pci(domain: Domain, device: Device) -> Props:
    address = device.address
    assert isinstance(address, PciAddress)
    place = f"0x{address.slot or 0:x}"
    if address.function:
        place += f".0x{address.function:x}"
    return {
        "bus": pci_bus(domain, address),
        "multifunction": address.multifunction,
        "addr": place,
        "acpi-index": positive(device.acpi_index),
    }


def _usb(domain: Domain, device: Device) -> Props:
    address = device.address
    assert isinstance(address, UsbAddress)
    return {
        "bus": f"{controller_alias(domain, 'usb', address.bus or 0)}.0",
        "port": address.port or None,
    }


def _spapr(domain: Domain, device: Device) -> Props:
    del domain
    address = device.address
    assert isinstance(address, SpaprVioAddress)
    return {"reg": positive(address.reg)}


def _ccw(domain: Domain, device: Device) -> Props:
    del domain
    address = device.address
    assert isinstance(address, CcwAddress)
    return {"devno": f"{address.cssid or 0:x}.{address.ssid or 0:x}.{address.devno or 0:04x}"}


def _isa(domain: Domain, device: Device) -> Props:
    del domain
    address = device.address
    assert isinstance(address, IsaAddress)
    return {"iobase": address.iobase or 0, "irq": positive(address.irq)}


def _dimm(domain: Domain, device: Device) -> Props:
    del domain
    address = device.address
    assert isinstance(address, DimmAddress)
    return {"slot": address.slot or 0, "addr": positive(address.base)}


def _virtio_serial(domain: Domain, device: Device) -> Props:
    address = device.address
    assert isinstance(address, VirtioSerialAddress)
    alias = controller_alias(domain, "virtio-serial", address.controller or 0)
    return {"bus": f"{alias}.{address.bus or 0}", "nr": address.port or 0}


def _drive(domain: Domain, device: Device) -> Props:
    # Besides disks only SCSI host devices have such addresses.
    bus = getattr(device, "bus", "scsi")
    write = _DRIVES.get(bus)
    if write is None:
        refuse(Issue.internal(f"address type drive is not supported for bus '{bus}'"))
    address = device.address
    assert isinstance(address, DriveAddress)
    return write(domain, address)


def _ide_drive(domain: Domain, address: DriveAddress) -> Props:
    if machine_of(domain).builtin_ide:
        alias = "ide"
    else:
        alias = controller_alias(domain, "ide", address.controller or 0)
    return {"bus": f"{alias}.{address.bus or 0}", "unit": address.unit or 0}


def _sata_drive(domain: Domain, address: DriveAddress) -> Props:
    if machine_of(domain).q35 and not address.controller:
        alias = "ide"
    else:
        alias = controller_alias(domain, "sata", address.controller or 0)
    return {"bus": f"{alias}.{address.unit or 0}"}


def _fdc_drive(domain: Domain, address: DriveAddress) -> Props:
    del domain
    return {"unit": address.unit or 0}


def _scsi_drive(domain: Domain, address: DriveAddress) -> Props:
    index = address.controller or 0
    controller = find_controller(domain.devices.controllers, "scsi", index)
    if controller is None:
        refuse(Issue.internal(f"unable to find a SCSI controller for idx={index}"))
    if controller.model in _NARROW_SCSI:
        return {"bus": f"{controller.alias}.{address.bus or 0}", "scsi-id": address.unit or 0}
    return {
        "bus": f"{controller.alias}.0",
        "channel": address.bus or 0,
        "scsi-id": address.target or 0,
        "lun": address.unit or 0,
    }


_DRIVES: Final[Mapping[str, Callable[[Domain, DriveAddress], Props]]] = {
    "ide": _ide_drive,
    "sata": _sata_drive,
    "fdc": _fdc_drive,
    "scsi": _scsi_drive,
}
_ADDRESSES: Final[Mapping[type[Address], Callable[[Domain, Device], Props]]] = {
    PciAddress: _pci,
    UsbAddress: _usb,
    SpaprVioAddress: _spapr,
    CcwAddress: _ccw,
    IsaAddress: _isa,
    DimmAddress: _dimm,
    VirtioSerialAddress: _virtio_serial,
    DriveAddress: _drive,
}


def rom_props(device: Device) -> Props:
    """Return how the option ROM is tuned.

    :raises ValidationFailed: for a device that is not on a PCI bus.
    """
    if device.rom_enabled is None and device.rom_bar is None and device.rom_file is None:
        return {}
    if not isinstance(device.address, PciAddress):
        refuse(Issue.unsupported("ROM tuning is only supported for PCI devices"))
    if device.rom_enabled is False:
        return {"romfile": ""}
    return {
        "rombar": None if device.rom_bar is None else int(device.rom_bar),
        "romfile": device.rom_file,
    }


def virtio_name(
    base: str, device: Device, caps: QemuCapabilities, *, transport: bool = True
) -> str:
    """Return the name of a virtio device, such as ``virtio-net-pci-transitional``.

    :param base: the name without its transport.
    :param transport: whether the name says the transport (``virtio-vga`` does not).
    :raises ValidationFailed: when the address is none a virtio device can have.
    """
    address = device.address
    if address is None or isinstance(address, UnassignedAddress):
        value = 0 if address is None else 12
        refuse(Issue.internal(f"Unexpected enum value {value} for virDomainDeviceAddressType"))
    suffix = _TRANSPORTS.get(type(address))
    if suffix is None:
        refuse(Issue.internal(f"Unexpected address type for '{base}'"))
    name = f"{base}-{suffix}" if transport else base
    transition = _TRANSITION.get(getattr(device, "model", None) or "")
    if transition is None:
        return name
    if not isinstance(address, PciAddress):
        refuse(
            Issue.unsupported(
                "virtio (non-)transitional models are not supported for address"
                f" type={address.type}"
            )
        )
    if "virtio-pci-non-transitional" in caps:
        return name + transition
    if transition == "-non-transitional":
        refuse(Issue.unsupported("virtio non-transitional model not supported for this qemu"))
    # On a conventional PCI bus, where such devices are put, the plain one is transitional.
    return name


def virtio_props(
    base: str, device: Device, caps: QemuCapabilities, *, transport: bool = True
) -> Props:
    """Return ``driver`` and the options of the virtio transport; parameters as above.

    :raises ValidationFailed: when the address is none a virtio device can have.
    """
    return {
        "driver": virtio_name(base, device, caps, transport=transport),
        "iommu_platform": getattr(device, "iommu", None),
        "ats": getattr(device, "ats", None),
        "packed": getattr(device, "packed", None),
        "page-per-vq": getattr(device, "page_per_vq", None),
    }


def boot_index(device: Device) -> int | None:
    """Return the place in the boot order, from 1: the device's own or that of its kind."""
    return device.boot_order or device.effective_boot_order


def add_device(cmd: Command, device: Device, props: Mapping[str, Any]) -> None:
    """Append ``-device`` for ``device``, after what has to stand before it.

    That is the zPCI device of a PCI device of s390x, and what features of plugins add.
    """
    address = device.address
    if (
        isinstance(address, PciAddress)
        and address.zpci_uid is not None
        and address.zpci_fid is not None
    ):
        cmd.device(
            {
                "driver": "zpci",
                "uid": address.zpci_uid,
                "fid": address.zpci_fid,
                "target": device.alias,
                "id": f"zpci{address.zpci_uid}",
            }
        )
    cmd.features(device)
    cmd.device(props)
