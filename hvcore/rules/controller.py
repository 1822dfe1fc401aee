"""Rules of <controller> that hold for every driver."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Final

from hvcore.addresses.controllers import add_implicit_controllers
from hvcore.addresses.controllers import insert_controller
from hvcore.addresses.controllers import unused_index
from hvcore.errors import Issue
from hvcore.model.devices.controller import COMPANION_PORTS
from hvcore.model.devices.controller import Controller
from hvcore.rules.base import Rules

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context

rules = Rules()

VIRTIO_SCSI: Final = frozenset({"virtio-scsi", "virtio-transitional", "virtio-non-transitional"})
"""Models of SCSI controllers that are virtio devices."""

_USB2: Final = frozenset({"ich9-ehci1", *COMPANION_PORTS})
_ROOTS: Final = frozenset({"pci-root", "pcie-root"})
_RANGES: Final = (
    # attribute, what libvirt calls it, lowest and highest value
    ("chassis_nr", "chassisNr", 1, 255),
    ("chassis", "chassis", 0, 255),
    ("port", "port", 0, 255),
    ("bus_nr", "busNr", 1, 254),
)


@rules.post_parse_early
def _indexes(domain: Domain, ctx: Context) -> None:
    """Sort the controllers of each type by index, and number those without one.

    The free index is the lowest that is unused, but a USB 2 controller next to one of another
    model of the same set joins it.
    """
    del ctx
    devices = domain.devices
    controllers: list[Controller] = []
    for controller in devices.controllers:
        insert_controller(controllers, controller)
    moved = False
    for position, controller in enumerate(controllers):
        if controller.index is not None:
            continue
        companion = None
        if position and _is_usb2(controller):
            moved = True
            companion = _companion(controllers, position)
        controller.index = (
            unused_index(controllers, controller.type) if companion is None else companion.index
        )
    if moved:
        sorted_again: list[Controller] = []
        for controller in controllers:
            insert_controller(sorted_again, controller)
        controllers = sorted_again
    devices.controllers = controllers


def _is_usb2(controller: Controller) -> bool:
    return controller.type == "usb" and controller.model in _USB2


def _companion(controllers: list[Controller], position: int) -> Controller | None:
    """Return the controller before ``position`` that the one there makes a set with."""
    before = (c for c in reversed(controllers[:position]) if c.type == "usb")
    previous = next(before, None)
    if previous is None or not _is_usb2(previous):
        return None
    taken = any(
        c.type == "usb" and c.index == previous.index and c.model == controllers[position].model
        for c in controllers
    )
    return None if taken else previous


@rules.post_parse(Controller)
def _iothread(domain: Domain, device: Controller, ctx: Context) -> Iterator[Issue]:
    """Refuse I/O threads where nothing would use them."""
    del domain, ctx
    if device.iothread and device.model not in VIRTIO_SCSI:
        yield Issue.xml(
            "'iothread' attribute only supported for virtio scsi controllers", line=device.line
        )


@rules.post_parse_late
def _complete(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Refuse duplicates, and add what other devices are plugged into."""
    del ctx
    seen: set[tuple[str, int | None]] = set()
    for controller in domain.devices.controllers:
        key = controller.type, controller.index
        # The companions of a USB 2 controller have its index.
        if key in seen and controller.type != "usb":
            yield Issue.xml(
                f"Multiple '{controller.type}' controllers with index '{controller.index}'",
                line=controller.line,
            )
            return
        seen.add(key)
    add_implicit_controllers(domain.devices)


@rules.check(Controller)
def _pci(domain: Domain, device: Controller, ctx: Context) -> Iterator[Issue]:
    """Check what is said about PCI controllers whatever the hypervisor."""
    del domain, ctx
    if device.type != "pci":
        return
    index, target = device.index or 0, device.target_index
    if device.model in _ROOTS and device.address is not None:
        yield Issue.unsupported("pci-root and pcie-root controllers should not have an address")
    if index > 255:
        yield Issue.unsupported(f"PCI controller index {index} too high, maximum is 255")
    if target is not None and target > 30:
        yield Issue.unsupported(
            f"PCI controller target index '{target}' out of range - must be 0-30"
        )
    elif target is not None and (index == 0) != (target == 0):
        yield Issue.unsupported(
            "Only the PCI controller with index 0 can have target index 0, and vice versa"
        )
    for attribute, name, low, high in _RANGES:
        value = getattr(device, attribute)
        if value is not None and not low <= value <= high:
            yield Issue.unsupported(
                f"PCI controller {name} '{value}' out of range - must be {low}-{high}"
            )
    if device.node is not None and index == 0:
        yield Issue.unsupported(
            "The PCI controller with index=0 can't be associated with a NUMA node"
        )


@rules.check(Controller)
def _iothreads(domain: Domain, device: Controller, ctx: Context) -> Iterator[Issue]:
    """Check who may have I/O threads, and that they are given in one way."""
    del domain, ctx
    if not device.iothread and not device.iothreads:
        return
    if device.type != "scsi" or device.model not in VIRTIO_SCSI:
        yield Issue.unsupported("iothreads are supported only by 'virtio-scsi' controllers")
    elif device.iothread and device.iothreads:
        yield Issue.xml(
            "controller driver 'iothread' attribute can't be used together with 'iothreads'"
            " subelement"
        )
