"""The live definition: what a running guest has really got, where the document left it open."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from typing import Final

from hvcore.model.devices.base import PciAddress
from hvcore.model.devices.chardev_source import PtySource
from hvcore_ch.devices.vsock import FIRST_CID

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hvcore.model.devices.base import Device
    from hvcore.model.domain import Domain

_BDF: Final = re.compile(r"([0-9a-f]{4}):([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])")


def place(device: Device, bdf: str) -> None:
    """Give a device the address that the VM has it at, such as ``0000:00:05.0``."""
    found = _BDF.fullmatch(bdf)
    if found is not None:
        domain, bus, slot, function = (int(part, 16) for part in found.groups())
        device.address = PciAddress(domain=domain, bus=bus, slot=slot, function=function)


def settle(
    domain: Domain,
    *,
    terminals: Mapping[str, str],
    addresses: Mapping[str, str],
    taps: Mapping[str, str],
) -> None:
    """Write into ``domain`` what the host and the VM chose.

    :param terminals: by member of the configuration, ``serial`` or ``console``.
    :param addresses: on the guest's PCI buses, by alias.
    :param taps: names of taps, by alias of the interface.
    """
    devices = domain.devices
    for family, member in ((devices.serials, "serial"), (devices.consoles, "console")):
        if family and isinstance(family[0].source, PtySource) and member in terminals:
            family[0].source.path = terminals[member]
    for interface in devices.interfaces:
        if interface.alias is not None and interface.alias in taps:
            interface.target = taps[interface.alias]
    for vsock in devices.vsocks:
        vsock.guest_cid = vsock.guest_cid or FIRST_CID
    for device in devices.walk():
        if device.alias is not None and device.alias in addresses:
            place(device, addresses[device.alias])
