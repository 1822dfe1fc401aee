"""Finding and adding controllers: the part of addressing that changes the model.

Controllers of a type stay sorted by index in the document, USB companions behind the controller
they belong to; everything that adds one goes through :func:`insert_controller`.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING
from typing import Final

from hvcore.addresses.drive import SCSI_UNITS
from hvcore.addresses.drive import DrivePlace
from hvcore.addresses.drive import scsi_unit_exists
from hvcore.model.devices.base import CcidAddress
from hvcore.model.devices.base import DriveAddress
from hvcore.model.devices.base import VirtioSerialAddress
from hvcore.model.devices.controller import Controller

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hvcore.model.devices import Devices
    from hvcore.model.devices.base import Address
    from hvcore.model.devices.chardev import Channel
    from hvcore.model.devices.chardev import Console
    from hvcore.model.devices.controller import ControllerType
    from hvcore.model.devices.hostdev import Hostdev

# A USB 2 controller comes with three USB 1.1 companions on the same ports.
EHCI_COMPANIONS: Final = (("ich9-uhci1", 0), ("ich9-uhci2", 2), ("ich9-uhci3", 4))

_DISK_CONTROLLERS: Final[tuple[ControllerType, ...]] = ("scsi", "fdc", "ide", "sata")


def find_controller(controllers: Iterable[Controller], kind: str, index: int) -> Controller | None:
    """Return the first controller of a type with an index."""
    for controller in controllers:
        if controller.type == kind and controller.index == index:
            return controller
    return None


def unused_index(controllers: Iterable[Controller], kind: str) -> int:
    """Return the lowest index that no controller of a type has."""
    used = {controller.index for controller in controllers if controller.type == kind}
    return next(index for index in range(len(used) + 1) if index not in used)


def insert_controller(controllers: list[Controller], new: Controller) -> None:
    """Put a controller among its kind: behind lower indexes, before its companions."""
    place = None
    for position in range(len(controllers) - 1, -1, -1):
        present = controllers[position]
        if present.type != new.type:
            continue
        if new.index is None:
            place = position + 1
            break
        if present.index is not None and present.index < new.index:
            # Those before it are lower still.
            place = position + 1 if place is None else place
            break
        if _comes_before(new, present):
            place = position
        elif place is None:
            place = position + 1
    controllers.insert(len(controllers) if place is None else place, new)


def _comes_before(new: Controller, present: Controller) -> bool:
    assert new.index is not None
    if present.index is not None and present.index > new.index:
        return True
    return (
        present.index == new.index
        and new.master_startport is None
        and present.master_startport is not None
    )


def add_controller(
    controllers: list[Controller],
    kind: ControllerType,
    index: int | None = None,
    model: str | None = None,
) -> Controller:
    """Add a controller and return it.

    :param index: None means the lowest that is free.
    """
    if index is None:
        index = unused_index(controllers, kind)
    new = Controller(type=kind, index=index, model=model)
    insert_controller(controllers, new)
    return new


def ensure_controller(
    controllers: list[Controller], kind: ControllerType, index: int, model: str | None = None
) -> Controller | None:
    """Add a controller unless there is one with this index; return it if it was added."""
    if find_controller(controllers, kind, index) is not None:
        return None
    return add_controller(controllers, kind, index, model)


def add_usb_controller(
    controllers: list[Controller], index: int | None, model: str | None
) -> Controller:
    """Add a USB controller, with its companions if it is an ich9-ehci1, and return it."""
    new = add_controller(controllers, "usb", index, model)
    if model == "ich9-ehci1":
        for companion, first_port in EHCI_COMPANIONS:
            insert_controller(
                controllers,
                Controller(
                    type="usb", index=new.index, model=companion, master_startport=first_port
                ),
            )
    return new


def add_implicit_controllers(devices: Devices) -> None:
    """Add the controllers that addresses of other devices refer to but the document lacks.

    Documents need not name controllers, so whatever a drive, port or card is plugged into
    comes to exist. Smartcards without an address get one.
    """
    controllers = devices.controllers
    for kind in _DISK_CONTROLLERS:
        last = _last_drive_controller(disk.address for disk in devices.disks if disk.bus == kind)
        for index in range(last + 1):
            ensure_controller(controllers, kind, index)
    ports: list[Channel | Console] = [*devices.channels, *devices.consoles]
    for port in ports:
        if port.target_type == "virtio":
            address = port.address
            index = address.controller or 0 if isinstance(address, VirtioSerialAddress) else 0
            ensure_controller(controllers, "virtio-serial", index)
    _add_smartcard_controllers(devices)
    _add_scsi_hostdev_controllers(devices)


def next_scsi_place(devices: Devices) -> DrivePlace:
    """Return the first place for a SCSI host device, on a controller that may have to be added."""
    used = {
        DrivePlace(place.controller or 0, place.bus or 0, place.target or 0, place.unit or 0)
        for place in (
            *(disk.address for disk in devices.disks if disk.bus == "scsi"),
            *(hostdev.address for hostdev in devices.hostdevs if _is_scsi(hostdev)),
        )
        if isinstance(place, DriveAddress)
    }
    models = {each.index: each.model for each in devices.controllers if each.type == "scsi"}
    places = (
        DrivePlace(index, 0, 0, unit) for index in itertools.count() for unit in range(SCSI_UNITS)
    )
    return next(
        place
        for place in places
        if place not in used
        and (
            place.controller not in models or scsi_unit_exists(models[place.controller], place.unit)
        )
    )


def _is_scsi(hostdev: Hostdev) -> bool:
    return hostdev.mode == "subsystem" and hostdev.type == "scsi"


def _last_drive_controller(addresses: Iterable[Address | None]) -> int:
    return max(
        (each.controller or 0 for each in addresses if isinstance(each, DriveAddress)), default=-1
    )


def _add_smartcard_controllers(devices: Devices) -> None:
    for card in devices.smartcards:
        if card.address is None:
            slots = [
                other.address.slot or 0
                for other in devices.smartcards
                if isinstance(other.address, CcidAddress) and not other.address.controller
            ]
            card.address = CcidAddress(controller=0, slot=max(slots, default=-1) + 1)
        index = card.address.controller if isinstance(card.address, CcidAddress) else 0
        ensure_controller(devices.controllers, "ccid", index or 0)


def _add_scsi_hostdev_controllers(devices: Devices) -> None:
    last, model = -1, None
    for hostdev in devices.hostdevs:
        if not _is_scsi(hostdev):
            continue
        address = hostdev.address
        index = address.controller or 0 if isinstance(address, DriveAddress) else 0
        if index > last:
            last = index
            # A controller that is added because this one is full becomes one of its kind.
            present = find_controller(devices.controllers, "scsi", index)
            if present is not None and present.model is not None:
                model = present.model
    for index in range(last + 1):
        ensure_controller(devices.controllers, "scsi", index, model)
