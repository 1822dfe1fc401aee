"""What all devices share, address, ROM and ACPI index, in QEMU: validation."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import Final

from hvcore.addresses.controllers import find_controller
from hvcore.addresses.pci import ZpciIds
from hvcore.errors import Issue
from hvcore.model.devices.base import CcwAddress
from hvcore.model.devices.base import DriveAddress
from hvcore.model.devices.base import PciAddress
from hvcore.model.devices.base import SpaprVioAddress
from hvcore.model.devices.base import UnassignedAddress
from hvcore.model.devices.disk import Disk
from hvcore.rules.address import ADDRESSED
from hvcore.rules.base import Rules
from hvcore_qemu.machines import machine_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Mapping

    from hvcore.model.devices.base import Device
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context

rules = Rules()

_MAX_REGISTER: Final = 0xFFFFFFFF
_MAX_OLD_TARGET: Final = 7
_WITH_ROM: Final = frozenset({type(None), PciAddress, UnassignedAddress})


@rules.check(*ADDRESSED)
def _info(domain: Domain, device: Device, ctx: Context) -> list[Issue] | None:
    issues: list[str | Issue] = []
    kind = type(device.address)
    check = _ADDRESS_CHECKS.get(kind)
    if check is not None:
        issues += check(domain, device, ctx)
    if device.acpi_index:
        if "acpi-index" not in ctx.caps:
            issues.append("ACPI index is not supported with this QEMU")
        if kind not in (type(None), PciAddress):
            issues.append("ACPI index is only supported for PCI devices")
    if kind not in _WITH_ROM and (
        device.rom_enabled is not None or device.rom_bar is not None or device.rom_file is not None
    ):
        issues.append("ROM tuning is only supported for PCI devices")
    if not issues:
        return None
    return [
        Issue.unsupported(issue, line=device.line) if isinstance(issue, str) else issue
        for issue in issues
    ]


def _pci(domain: Domain, device: Device, ctx: Context) -> list[str | Issue]:
    del domain
    address: Any = device.address
    uid, fid = address.zpci_uid, address.zpci_fid
    if (uid is not None or fid is not None) and "zpci" not in ctx.caps:
        return ["This QEMU binary doesn't support zPCI"]
    if uid is not None and not 0 < uid <= ZpciIds.MAX_UID:
        return [
            Issue.xml(
                f"Invalid PCI address uid='0x{uid:04x}', must be > 0x0000 and <="
                f" 0x{ZpciIds.MAX_UID:04x}",
                line=device.line,
            )
        ]
    return []


def _spapr_vio(domain: Domain, device: Device, ctx: Context) -> list[str | Issue]:
    del domain, ctx
    address: Any = device.address
    register: int = address.reg or 0
    if register > _MAX_REGISTER:
        return [
            f"spapr-vio reg='{register:#x}' exceeds maximum possible value ({_MAX_REGISTER:#x})"
        ]
    return []


def _ccw(domain: Domain, device: Device, ctx: Context) -> list[str | Issue]:
    del device, ctx
    machine = machine_of(domain)
    if machine.s390_ccw:
        return []
    return [f"CCW addresses are not supported by machine type '{machine.name}'"]


def _drive(domain: Domain, device: Device, ctx: Context) -> list[str | Issue]:
    address: Any = device.address
    # Besides disks only SCSI host devices have drive addresses.
    bus = device.bus if isinstance(device, Disk) else "scsi"
    internal = [
        Issue.internal(message, line=device.line)
        for value, message in (
            (bus == "scsi" and address.bus, "SCSI controller only supports 1 bus"),
            (bus == "ide" and address.controller, "Only 1 IDE controller is supported"),
            (bus == "fdc" and address.controller, "Only 1 fdc controller is supported"),
            (bus == "fdc" and address.bus, "Only 1 fdc bus is supported"),
        )
        if value
    ]
    unsupported = [
        message
        for value, message in (
            (bus == "ide" and address.target, "target must be 0 for ide controller"),
            (bus == "fdc" and address.target, "target must be 0 for controller fdc"),
            (bus == "sata" and address.bus, "bus must be 0 for sata controller"),
            (bus == "sata" and address.target, "target must be 0 for sata controller"),
        )
        if value
    ]
    if bus == "scsi":
        unsupported += _scsi(domain, address, ctx)
    return [*internal, *unsupported]


def _scsi(domain: Domain, address: DriveAddress, ctx: Context) -> list[str]:
    controller = find_controller(domain.devices.controllers, "scsi", address.controller or 0)
    target = address.target or 0
    if controller is None:
        return []
    if controller.model == "lsilogic":
        return ["target must be 0 for controller model 'lsilogic'"] if target else []
    if "scsi-disk.channel" not in ctx.caps and target > _MAX_OLD_TARGET:
        return ["This QEMU doesn't support target greater than 7"]
    return []


_ADDRESS_CHECKS: Final[Mapping[type, Callable[[Domain, Device, Context], list[str | Issue]]]] = {
    PciAddress: _pci,
    SpaprVioAddress: _spapr_vio,
    CcwAddress: _ccw,
    DriveAddress: _drive,
}
