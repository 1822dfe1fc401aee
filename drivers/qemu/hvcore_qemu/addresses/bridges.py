"""What QEMU needs to be told about PCI controllers beyond their address.

Numbers that the guest sees (chassis, port, bus number) are derived from index and address and
written to the document, so that they stay when controllers are added later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Final

from hvcore.errors import Issue
from hvcore.errors import ValidationFailed
from hvcore.model.devices.base import PciAddress

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hvcore.model.devices.controller import Controller
    from hvcore.model.devices.controller import PciModelName
    from hvcore_qemu.addresses.guest import Guest

# QEMU's device for each model; pcie-root-port falls back to Intel's where the generic one is
# missing, pci-root is a device on pSeries only.
DEVICE_NAMES: Final[Mapping[str | None, PciModelName]] = {
    "pci-bridge": "pci-bridge",
    "dmi-to-pci-bridge": "i82801b11-bridge",
    "pcie-to-pci-bridge": "pcie-pci-bridge",
    "pcie-root-port": "pcie-root-port",
    "pcie-switch-upstream-port": "x3130-upstream",
    "pcie-switch-downstream-port": "xio3130-downstream",
    "pci-expander-bus": "pxb",
    "pcie-expander-bus": "pxb-pcie",
}
_OLD_ROOT_PORT: Final[PciModelName] = "ioh3420"
_HOST_BRIDGE: Final[PciModelName] = "spapr-pci-host-bridge"

# QEMU has 32 pSeries host bridges; 0 is the one that is always there.
_MAX_HOST_BRIDGE: Final = 31


def complete_pci_controllers(guest: Guest) -> None:
    """Fill in model names and numbers of all PCI controllers.

    :raises ValidationFailed: when no number is left, or a bridge would be on a bus that does not
        come before it.
    """
    for controller in guest.pci_controllers():
        if controller.model_name in (None, "none"):
            controller.model_name = _device_name(controller, guest)
        _number(controller, guest)
        bus = _place(controller).bus or 0
        index = controller.index or 0
        if controller.model == "pci-bridge" and index <= bus:
            raise ValidationFailed(
                [
                    Issue.unsupported(
                        f"PCI controller at index {index} (0x{index:02x}) has bus='0x{bus:02x}',"
                        " but index must be larger than bus"
                    )
                ]
            )


def _place(controller: Controller) -> PciAddress:
    address = controller.address
    return address if isinstance(address, PciAddress) else PciAddress()


def _device_name(controller: Controller, guest: Guest) -> PciModelName | None:
    if controller.model == "pcie-root-port" and "pcie-root-port" not in guest.caps:
        return _OLD_ROOT_PORT
    if controller.model == "pci-root":
        return _HOST_BRIDGE if guest.machine.pseries else None
    return DEVICE_NAMES.get(controller.model)


def _number(controller: Controller, guest: Guest) -> None:
    place = _place(controller)
    match controller.model:
        case "pci-bridge":
            if controller.chassis_nr is None:
                controller.chassis_nr = controller.index
        case "pcie-root-port":
            if controller.chassis is None:
                controller.chassis = controller.index
            if controller.port is None:
                controller.port = ((place.slot or 0) << 3) + (place.function or 0)
        case "pcie-switch-downstream-port":
            if controller.chassis is None:
                controller.chassis = controller.index
            if controller.port is None:
                controller.port = place.slot or 0
        case "pci-expander-bus" | "pcie-expander-bus":
            if controller.bus_nr is None:
                controller.bus_nr = _next_bus_number(controller, guest)
        case "pci-root" if guest.machine.pseries and controller.target_index is None:
            controller.target_index = _next_host_bridge(controller, guest)


def _next_bus_number(controller: Controller, guest: Guest) -> int:
    """Return a bus number for an expander bus, two below the lowest in use.

    The expander takes two numbers, one for a bridge inside. Buses below it need numbers up to the
    next expander's; taking the highest possible leaves the most for everything else.
    """
    lowest = min(
        (each.bus_nr for each in guest.pci_controllers() if each.bus_nr is not None), default=256
    )
    lowest = min(lowest, 256)
    if lowest <= 2:
        bus = _place(controller).bus or 0
        raise ValidationFailed(
            [
                Issue.unsupported(
                    "No free busNr lower than current lowest busNr is available to auto-assign to"
                    f" bus {bus}. Must be manually assigned"
                )
            ]
        )
    return lowest - 2


def _next_host_bridge(controller: Controller, guest: Guest) -> int:
    if not controller.index:
        return 0
    used = {each.target_index for each in guest.pci_controllers() if each.model == "pci-root"}
    for number in range(1, _MAX_HOST_BRIDGE + 1):
        if number not in used:
            return number
    bus = _place(controller).bus or 0
    raise ValidationFailed([Issue.unsupported(f"No usable target index found for {bus}")])
