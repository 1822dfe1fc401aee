"""What all steps of address assignment look at: the guest, its devices in order, the host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore.model.devices import ADDRESSED
from hvcore.model.devices.base import PciAddress
from hvcore_qemu.machines import machine_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.capabilities import Capabilities
    from hvcore.hostpci import HostPci
    from hvcore.model.devices.base import Address
    from hvcore.model.devices.base import Device
    from hvcore.model.devices.controller import Controller
    from hvcore.model.domain import Domain


class Guest:
    """A domain on its way to being addressed.

    :param host: None where nothing is known of the host.
    """

    __slots__ = ("_visited", "caps", "devices", "domain", "host", "machine")

    def __init__(self, domain: Domain, caps: Capabilities, host: HostPci | None) -> None:
        self.domain = domain
        self.devices = domain.devices
        self.caps = caps
        self.host = host
        self.machine = machine_of(domain)
        self._visited: list[Device] | None = None

    @property
    def visited(self) -> list[Device]:
        """Every device that may have an address, in libvirt's order, as it was at first use."""
        if self._visited is None:
            self._visited = []
            for family in ADDRESSED:
                found = getattr(self.devices, family)
                if found:
                    self._visited += found if family != "consoles" else self.own_consoles()
        return self._visited

    def own_consoles(self) -> list[Device]:
        """Return the consoles without the first one if it only repeats the first serial port."""
        consoles = self.devices.consoles
        if consoles and consoles[0].target_type in (None, "serial") and self._is_hvm():
            return list(consoles[1:])
        return list(consoles)

    def root_model(self) -> str | None:
        """Return the model of the PCI root bus, or None if there is none."""
        for controller in self.devices.controllers:
            if controller.type == "pci" and not controller.index:
                return controller.model
        return None

    def pci_controllers(self) -> Iterator[Controller]:
        """Yield the PCI controllers."""
        return (each for each in self.devices.controllers if each.type == "pci")

    def _is_hvm(self) -> bool:
        return self.domain.os is not None and self.domain.os.type == "hvm"


def has_pci_address(device: Device) -> bool:
    """Tell whether a device has a PCI address; one of all zeros only asks for one."""
    address = device.address
    return type(address) is PciAddress and bool(address.bus or address.slot or address.domain)


def wants_pci_address(device: Device) -> bool:
    """Tell whether a PCI address may be chosen for a device."""
    address: Address | None = device.address
    return address is None or (
        type(address) is PciAddress and not (address.bus or address.slot or address.domain)
    )
