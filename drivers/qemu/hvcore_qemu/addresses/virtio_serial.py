"""Ports of virtio channels and consoles."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore.addresses.controllers import add_controller
from hvcore.addresses.controllers import unused_index
from hvcore.addresses.virtio_serial import VirtioSerialAddressSet
from hvcore.model.devices.base import VirtioSerialAddress

if TYPE_CHECKING:
    from hvcore_qemu.addresses.guest import Guest


def assign_virtio_serial(guest: Guest) -> None:
    """Give virtio channels a port, adding controllers when those there are full.

    :raises ValidationFailed: when a port of the document does not exist or is taken.
    """
    devices = guest.devices
    ports = VirtioSerialAddressSet()
    for controller in devices.controllers:
        if controller.type == "virtio-serial":
            ports.add_controller(controller.index or 0, controller.ports)
    for device in guest.visited:
        address = device.address
        if type(address) is VirtioSerialAddress and address.port:
            ports.reserve(address.controller or 0, address.port)
    for console in devices.consoles:
        # QEMU chooses the port of a console itself, 0 for the first. An address without a port
        # nevertheless keeps one from channels, and no address keeps none, as in libvirt.
        address = console.address if console.target_type == "virtio" else None
        if type(address) is VirtioSerialAddress and not address.port:
            ports.reserve_on(0)
    for channel in devices.channels:
        if channel.target_type != "virtio" or _has_port(channel.address):
            continue
        if type(channel.address) is VirtioSerialAddress:
            index = channel.address.controller or 0
            port = ports.reserve_on(index)
        else:
            index, port = _next_port(guest, ports)
        channel.address = VirtioSerialAddress(controller=index, bus=0, port=port)


def _has_port(address: object) -> bool:
    return type(address) is VirtioSerialAddress and bool(address.port)


def _next_port(guest: Guest, ports: VirtioSerialAddressSet) -> tuple[int, int]:
    place = ports.reserve_next()
    if place is None:
        controllers = guest.devices.controllers
        index = unused_index(controllers, "virtio-serial")
        add_controller(controllers, "virtio-serial", index)
        ports.add_controller(index)
        place = index, ports.reserve_on(index)
    return place
