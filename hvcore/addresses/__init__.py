"""Allocators for guest device addresses, one module per kind of bus.

They work on plain integers and know neither a hypervisor nor the device model: a driver
tells them which buses exist, reserves what the document says, and asks for the rest. The
one invariant of all of them: an address is never handed out twice, and one that was reserved
is never handed out at all.

The rules, figures and error texts are those of libvirt 11.3 (``docs/pci-addresses.rst`` and
the behaviour of its ``domain_addr`` module), so that a document gets the same addresses here.
"""

from __future__ import annotations

from hvcore.addresses.ccw import CcwAddressSet
from hvcore.addresses.pci import BusModel
from hvcore.addresses.pci import Connect
from hvcore.addresses.pci import PciAddressSet
from hvcore.addresses.pci import PciBus
from hvcore.addresses.pci import PciTopology
from hvcore.addresses.pci import ZpciIds
from hvcore.addresses.spapr import SpaprVioAddressSet
from hvcore.addresses.usb import UsbAddressSet
from hvcore.addresses.virtio_serial import VirtioSerialAddressSet

__all__ = [
    "BusModel",
    "CcwAddressSet",
    "Connect",
    "PciAddressSet",
    "PciBus",
    "PciTopology",
    "SpaprVioAddressSet",
    "UsbAddressSet",
    "VirtioSerialAddressSet",
    "ZpciIds",
]
