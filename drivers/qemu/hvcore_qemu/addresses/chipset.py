"""Devices with fixed places on the boards of QEMU's PC machines.

i440fx has the PIIX3 in slot 1 of bus 0, with the first IDE and USB controller in it, and looks
for the primary video device in slot 2. q35 has the ICH9's LPC bridge, SATA controller and
SMBus in slot 1f and expects video in slot 1; other places are where real hardware has them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Final

from hvcore.addresses.pci import Connect
from hvcore.addresses.pci import PciSlot
from hvcore.errors import Issue
from hvcore.errors import ValidationFailed
from hvcore.model.devices.base import PciAddress
from hvcore_qemu.addresses.guest import has_pci_address
from hvcore_qemu.addresses.guest import wants_pci_address

if TYPE_CHECKING:
    from hvcore.model.devices.base import Device
    from hvcore.model.devices.controller import Controller
    from hvcore_qemu.addresses.pci import Assignment

PIIX3_IDE: Final = PciSlot(0, 1, 1)
PIIX3_USB: Final = PciSlot(0, 1, 2)
# The ISA bridge and the power management function, which no document mentions.
PIIX3_OTHERS: Final = (PciSlot(0, 1, 0), PciSlot(0, 1, 3))
PIIX3_VIDEO: Final = PciSlot(0, 2, 0)
PIIX3_USB_MODELS: Final = ("piix3-uhci", None)

ICH9_SATA: Final = PciSlot(0, 0x1F, 2)
# The LPC bridge and the SMBus controller.
ICH9_OTHERS: Final = (PciSlot(0, 0x1F, 0), PciSlot(0, 0x1F, 3))
ICH9_VIDEO: Final = PciSlot(0, 1, 0)
ICH9_USB: Final = (PciSlot(0, 0x1D, 0), PciSlot(0, 0x1A, 0))
ICH9_BRIDGE: Final = PciSlot(0, 0x1E, 0)
ICH9_SOUND: Final = PciSlot(0, 0x1B, 0)

NO_PCI_VIDEO: Final = ("none", "ramfb")


def is_piix3_part(controller: Controller, address: PciAddress) -> bool:
    """Tell whether a controller is one of the PIIX3's own, at its own address."""
    place = PciSlot(address.bus or 0, address.slot or 0, address.function or 0)
    return not address.domain and place == _piix3_place(controller)


def _piix3_place(controller: Controller) -> PciSlot | None:
    if controller.index:
        return None
    if controller.type == "ide":
        return PIIX3_IDE
    if controller.type == "usb" and controller.model in PIIX3_USB_MODELS:
        return PIIX3_USB
    return None


def reserve_chipset(run: Assignment) -> None:
    """Reserve what the machine's board has, and place what belongs on it.

    :raises ValidationFailed: when the document puts something else there.
    """
    if run.guest.machine.i440fx:
        _reserve_piix3(run)
    if run.guest.machine.q35:
        _reserve_ich9(run)


def _reserve_piix3(run: Assignment) -> None:
    for controller in run.guest.devices.controllers:
        place = _piix3_place(controller)
        if place is None:
            continue
        name = "Primary IDE controller" if place is PIIX3_IDE else "PIIX3 USB controller at index 0"
        _fix(controller, place, f"{name} must have PCI address 0:0:1.{place.function}")
        if run.slots.buses:
            run.slots.reserve(place, Connect.PCI)
    if run.slots.buses:
        for place in PIIX3_OTHERS:
            run.slots.reserve(place, Connect.PCI)
    _place_video(run, PIIX3_VIDEO, Connect.PCI)


def _reserve_ich9(run: Assignment) -> None:
    slots = run.slots
    for controller in run.guest.devices.controllers:
        if controller.type == "sata" and not controller.index:
            _fix(controller, ICH9_SATA, "Primary SATA controller must have PCI address 0:0:1f.2")
        elif controller.address is not None:
            continue
        elif controller.type == "usb" and controller.model == "ich9-uhci1":
            # Its companions follow it into the slot.
            for place in ICH9_USB:
                if not slots.slot_in_use(place.bus, place.slot):
                    slots.reserve(place, Connect.PCIE_DEVICE)
                    controller.address = _address(place, multifunction=True)
                    break
        elif (
            controller.type == "pci"
            and controller.model == "dmi-to-pci-bridge"
            and not slots.slot_in_use(ICH9_BRIDGE.bus, ICH9_BRIDGE.slot)
        ):
            slots.reserve(ICH9_BRIDGE, Connect.PCIE_DEVICE)
            controller.address = _address(ICH9_BRIDGE)
    if slots.buses:
        for place in ICH9_OTHERS:
            slots.reserve(place, Connect.PCIE_DEVICE)
    _place_video(run, ICH9_VIDEO, Connect.PCIE_DEVICE)
    if not slots.slot_in_use(ICH9_SOUND.bus, ICH9_SOUND.slot):
        for sound in run.guest.devices.sounds:
            if sound.model == "ich9" and wants_pci_address(sound):
                slots.reserve(ICH9_SOUND, Connect.PCIE_DEVICE)
                sound.address = _address(ICH9_SOUND)
                break


def _place_video(run: Assignment, place: PciSlot, flags: int) -> None:
    """Put the primary video device where firmware and QEMU look for it, if that is free."""
    videos = run.guest.devices.videos
    if not videos or videos[0].type in NO_PCI_VIDEO or not wants_pci_address(videos[0]):
        return
    run.slots.check(place, flags)
    if run.slots.slot_in_use(place.bus, place.slot):
        run.place(run.requests.primary_video)
    else:
        run.slots.reserve(place, flags)
        videos[0].address = _address(place)


def _fix(device: Device, place: PciSlot, otherwise: str) -> None:
    """Put a device where it always is, or insist that it is there."""
    address = device.address
    if isinstance(address, PciAddress) and has_pci_address(device):
        given = (address.bus or 0, address.slot or 0, address.function or 0)
        if address.domain or given != place:
            raise ValidationFailed([Issue.internal(otherwise)])
    else:
        device.address = _address(place)


def _address(place: PciSlot, *, multifunction: bool | None = None) -> PciAddress:
    return PciAddress(
        domain=0,
        bus=place.bus,
        slot=place.slot,
        function=place.function,
        multifunction=multifunction,
    )
