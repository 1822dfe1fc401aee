"""USB devices, the ports they are plugged into, and the hubs that make enough of them."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import Final

from hvcore.addresses.usb import HUB_PORTS
from hvcore.addresses.usb import UsbAddressSet
from hvcore.addresses.usb import controller_ports
from hvcore.addresses.usb import format_port
from hvcore.addresses.usb import parse_port
from hvcore.errors import Issue
from hvcore.errors import ValidationFailed
from hvcore.model.devices.base import UsbAddress
from hvcore.model.devices.hub import Hub
from hvcore.model.devices.interface import HostdevInterfaceSource

if TYPE_CHECKING:
    from collections.abc import Callable

    from hvcore.model.devices.base import Device
    from hvcore_qemu.addresses.guest import Guest


def _is_host_usb(interface: Any) -> bool:
    source = interface.source
    return isinstance(source, HostdevInterfaceSource) and source.is_usb


# Which devices of a family are USB devices, in visiting order; a smartcard reader (the CCID
# controller) is one.
_USB: Final[tuple[tuple[str, Callable[[Any], bool]], ...]] = (
    ("disks", lambda disk: disk.bus == "usb"),
    ("interfaces", lambda net: net.model == "usb-net"),
    ("sounds", lambda sound: sound.model == "usb"),
    ("interfaces", _is_host_usb),
    ("hostdevs", lambda hostdev: hostdev.mode == "subsystem" and hostdev.type == "usb"),
    ("controllers", lambda controller: controller.type == "ccid"),
    ("serials", lambda serial: serial.target_type == "usb-serial"),
    ("inputs", lambda device: device.bus == "usb"),
    ("filesystems", lambda filesystem: filesystem.driver_type == "mtp"),
    ("redirdevs", lambda redirdev: redirdev.bus == "usb"),
)


def assign_usb(guest: Guest, *, new_domain: bool) -> None:
    """Give USB devices a port, adding hubs when there are not enough.

    :param new_domain: arrange ports although devices have none yet; otherwise a guest in which
        QEMU chose the ports stays as it is.
    :raises ValidationFailed: when a port does not exist or is taken, or there is no USB.
    """
    devices = guest.devices
    found: list[Device] = [
        device for family, is_usb in _USB for device in getattr(devices, family) if is_usb(device)
    ]
    hubs = [hub for hub in devices.hubs if hub.type == "usb"]
    if not new_domain and not all(_has_port(device) for device in (*found, *hubs)):
        return
    controllers = [each for each in devices.controllers if each.type == "usb"]
    counts = [controller_ports(each.model, each.ports) for each in controllers]
    if found or hubs:
        if not any(each.model != "none" for each in controllers):
            raise ValidationFailed(
                [
                    Issue.unsupported(
                        "USB is disabled for this domain, but USB devices are present in the"
                        " domain XML"
                    )
                ]
            )
        missing = len(found) + len(hubs) - sum(counts) - HUB_PORTS * len(hubs)
        if missing > 0:
            # A hub takes one port and gives eight; one port more than needed stays free.
            new = [Hub(type="usb") for _ in range(-(-(missing + 1) // (HUB_PORTS - 1)))]
            devices.hubs += new
            hubs += new
    ports = UsbAddressSet()
    for controller, count in zip(controllers, counts, strict=True):
        ports.add_controller(controller.index or 0, count)
    _plug_in(ports, found, hubs)


def _plug_in(ports: UsbAddressSet, found: list[Device], hubs: list[Hub]) -> None:
    for hub in hubs:
        if _has_port(hub):
            ports.add_hub(*_port(hub))
    for device in found:
        if _has_port(device):
            ports.reserve(*_port(device))
    for hub in hubs:
        if not _has_port(hub):
            _choose(ports, hub)
            ports.add_hub(*_port(hub))
    for device in found:
        if not _has_port(device) and isinstance(device.address, UsbAddress | None):
            _choose(ports, device)


def _choose(ports: UsbAddressSet, device: Device) -> None:
    address = device.address
    wanted = (address.bus or 0) if isinstance(address, UsbAddress) else None
    bus, path = ports.reserve_next(wanted)
    device.address = UsbAddress(bus=bus, port=format_port(path))


def _has_port(device: Device) -> bool:
    return isinstance(device.address, UsbAddress) and bool(parse_port(device.address.port))


def _port(device: Device) -> tuple[int, tuple[int, ...]]:
    address = device.address
    assert isinstance(address, UsbAddress)  # what _has_port says
    return address.bus or 0, parse_port(address.port)
