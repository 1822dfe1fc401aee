"""Rules of <hostdev> that hold for every driver."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Final

from hvcore.addresses.drive import SCSI_UNITS
from hvcore.errors import Issue
from hvcore.model.devices.base import CcwAddress
from hvcore.model.devices.base import DriveAddress
from hvcore.model.devices.base import PciAddress
from hvcore.model.devices.base import UnassignedAddress
from hvcore.model.devices.base import UsbAddress
from hvcore.model.devices.hostdev import Hostdev
from hvcore.model.devices.hostdev import MdevSource
from hvcore.model.devices.hostdev import MiscSource
from hvcore.model.devices.hostdev import NetSource
from hvcore.model.devices.hostdev import ScsiHostSource
from hvcore.model.devices.hostdev import ScsiSource
from hvcore.model.devices.hostdev import StorageSource
from hvcore.model.devices.hostdev import UsbSource
from hvcore.rules.base import Rules

if TYPE_CHECKING:
    from collections.abc import Hashable
    from collections.abc import Iterator
    from collections.abc import Mapping

    from hvcore.model.devices.base import Address
    from hvcore.model.devices.disk import Disk
    from hvcore.model.devices.hostdev import HostPciAddress
    from hvcore.model.devices.interface import Interface
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore.rules.base import Issues

rules = Rules()

_PLACES: Final[Mapping[str, tuple[tuple[type[Address], ...], Issue]]] = {
    "pci": (
        (PciAddress, UnassignedAddress),
        Issue.internal("PCI host devices must use 'pci' or 'unassigned' address type"),
    ),
    "scsi": (
        (DriveAddress,),
        Issue.unsupported("SCSI host device must use 'drive' address type"),
    ),
    "scsi_host": (
        (PciAddress, CcwAddress),
        Issue.unsupported("SCSI_host host device must use 'pci' or 'ccw' address type"),
    ),
    "usb": (
        (UsbAddress,),
        Issue.unsupported("USB host device must use 'usb' address type"),
    ),
}
"""Addresses in the guest that each type can have, and the refusal of the others."""
_MDEV_PLACES: Final[Mapping[str, type[Address]]] = {
    "vfio-pci": PciAddress,
    "vfio-ccw": CcwAddress,
}


def host_devices(domain: Domain) -> Iterator[Hostdev | Interface]:
    """Yield everything that is a device of the host, interfaces first."""
    for interface in domain.devices.interfaces:
        if interface.type == "hostdev":
            yield interface
    yield from domain.devices.hostdevs


def same_pci(first: HostPciAddress, second: HostPciAddress) -> bool:
    """Return whether both are the same device of the host."""
    return str(first) == str(second)


@rules.post_parse(Hostdev)
def _complete(domain: Domain, device: Hostdev, ctx: Context) -> Issues:
    """Complete the names and places of SCSI devices, and check places of mediated ones."""
    if isinstance(device.source, UsbSource) and not ctx.active:
        device.source.missing = None  # which only a start finds out
    if isinstance(device.source, ScsiSource):
        if device.source.protocol == "iscsi" and "/" not in (device.source.name or ""):
            device.source.name = f"{device.source.name}/0"
        yield from _place_scsi(domain, device)
    elif isinstance(device.source, MdevSource) and device.address is not None:
        wanted = _MDEV_PLACES.get(device.model or "")
        if wanted is not None and not isinstance(device.address, wanted):
            yield Issue.xml(
                f"Unsupported address type '{device.address.type}' with mediated device model"
                f" '{device.model}'"
            )


def _place_scsi(domain: Domain, device: Hostdev) -> Issues:
    if device.address is None:
        used = {_place(each.address) for each in _on_scsi(domain)}
        controller = unit = 0
        while (controller, 0, 0, unit) in used:
            unit += 1
            if unit == SCSI_UNITS:
                controller, unit = controller + 1, 0
        device.address = DriveAddress(controller=controller, bus=0, target=0, unit=unit)
    place = _place(device.address)
    disks = (disk for disk in domain.devices.disks if disk.bus == "scsi")
    if place is not None and any(_place(disk.address) == place for disk in disks):
        controller, bus, target, unit = place
        yield Issue.xml(
            f"SCSI host address controller='{controller}' bus='{bus}' target='{target}'"
            f" unit='{unit}' in use by a SCSI disk"
        )


def _on_scsi(domain: Domain) -> Iterator[Hostdev | Disk]:
    yield from (disk for disk in domain.devices.disks if disk.bus == "scsi")
    yield from (each for each in domain.devices.hostdevs if each.type == "scsi")


def _place(address: Address | None) -> tuple[int, int, int, int] | None:
    if not isinstance(address, DriveAddress):
        return None
    return (
        address.controller or 0, address.bus or 0, address.target or 0, address.unit or 0
    )  # fmt: skip


@rules.check(Hostdev)
def _address(domain: Domain, device: Hostdev, ctx: Context) -> Issues:
    """Check that the guest finds the device on a bus of its kind."""
    del domain, ctx
    types, refusal = _PLACES.get(device.type, ((type(device.address),), None))
    if device.address is not None and not isinstance(device.address, types):
        assert refusal is not None  # every type of the table has one
        yield refusal
    if device.sgio == "unfiltered":
        yield Issue.unsupported("unfiltered sgio is no longer supported")


@rules.check(Hostdev)
def _teaming(domain: Domain, device: Hostdev, ctx: Context) -> Issues:
    """Check that a device in a team is the one that can go away."""
    del domain, ctx
    if device.teaming is None and device.teaming_persistent is None:
        return
    if device.teaming != "transient":
        yield Issue.unsupported("teaming hostdev devices must have type='transient'")
    elif device.teaming_persistent is None:
        yield Issue.unsupported("missing required persistent attribute in hostdev teaming element")
    elif device.type != "pci":
        yield Issue.unsupported("teaming is only supported for pci hostdev devices")


def _identity(device: Hostdev | Interface) -> Hashable | None:
    """Return what makes a device of the host unique, but for USB; None for what cannot be told."""
    pci = device.source_pci
    if pci is not None:
        return ("pci", str(pci))
    source = device.source
    if isinstance(source, ScsiSource):
        if source.protocol == "iscsi":
            host = source.hosts[0]
            return ("iscsi", host.name, host.port, source.name)
        place = source.address
        assert place is not None  # the parser requires it
        return ("scsi", source.adapter, place.bus, place.target, place.unit)
    if isinstance(source, ScsiHostSource):
        return ("scsi_host", source.wwpn)
    if isinstance(source, MdevSource):
        return ("mdev", source.uuid)
    if isinstance(source, StorageSource):
        return ("storage", source.block)
    if isinstance(source, MiscSource):
        return ("misc", source.char)
    return ("net", source.interface) if isinstance(source, NetSource) else None


def _same_usb(first: UsbSource, second: UsbSource) -> bool:
    """Return whether both are one device, as far as the first is known."""
    if first.address is not None and first.address.bus and first.address.device:
        return second.address is not None and (
            (first.address.bus, first.address.device) == (second.address.bus, second.address.device)
        )
    return (first.vendor or 0, first.product or 0) == (second.vendor or 0, second.product or 0)


@rules.check_domain
def _duplicates(domain: Domain, ctx: Context) -> Issues:
    """Refuse to give a device twice, and two screens during boot."""
    del ctx
    seen: set[Hashable] = set()
    usb: list[UsbSource] = []
    screens = 0
    for device in host_devices(domain):
        identity = _identity(device)
        source = device.source
        again = identity is not None and identity in seen
        if isinstance(source, UsbSource):
            again = any(_same_usb(first, source) for first in usb)
            usb.append(source)
        if again:
            yield Issue.xml("Hostdev already exists in the domain configuration", line=device.line)
        if identity is not None:
            seen.add(identity)
        screens += bool(isinstance(device, Hostdev) and device.ramfb)
    if screens > 1:
        yield Issue.unsupported("Only one vgpu device can have 'ramfb' enabled")
