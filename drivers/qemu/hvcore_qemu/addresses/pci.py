"""PCI addresses of a QEMU guest, and the controllers they need.

Addresses are assigned in two runs. The first only finds out how many buses the guest needs: it
lets the set of buses grow, keeps a place free for hotplug, and forgets the addresses. The
controllers found missing are then added to the document, and the second run assigns for good,
bridges and ports coming before the devices.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import Final

from hvcore.addresses.controllers import add_controller
from hvcore.addresses.pci import ANY_FUNCTION
from hvcore.addresses.pci import BUS_MODELS
from hvcore.addresses.pci import Connect
from hvcore.addresses.pci import PciAddressSet
from hvcore.addresses.pci import PciBus
from hvcore.addresses.pci import PciSlot
from hvcore.addresses.pci import PciTopology
from hvcore.addresses.pci import ZpciIds
from hvcore.errors import Issue
from hvcore.errors import ValidationFailed
from hvcore.model.devices import ADDRESSED
from hvcore.model.devices.base import CcwAddress
from hvcore.model.devices.base import PciAddress
from hvcore.model.devices.base import VirtioMmioAddress
from hvcore_qemu.addresses.bridges import complete_pci_controllers
from hvcore_qemu.addresses.chipset import NO_PCI_VIDEO
from hvcore_qemu.addresses.chipset import is_piix3_part
from hvcore_qemu.addresses.chipset import reserve_chipset
from hvcore_qemu.addresses.connect import NONE
from hvcore_qemu.addresses.connect import WAYS
from hvcore_qemu.addresses.connect import flags_by_way
from hvcore_qemu.addresses.guest import has_pci_address
from hvcore_qemu.addresses.guest import wants_pci_address
from hvcore_qemu.addresses.isolation import isolation_groups

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Mapping
    from collections.abc import Sequence

    from hvcore.model.devices.base import Device
    from hvcore.model.devices.controller import Controller
    from hvcore_qemu.addresses.guest import Guest

_WHOLE_SLOT: Final = "Only PCI device addresses with function=0 are supported"
ROOTS: Final = ("pci-root", "pcie-root")

# Where the functions of an ICH9 USB 2 controller are in their common slot, and whether the
# function says that there are others.
ICH9_USB_FUNCTIONS: Final[Mapping[str | None, tuple[int, bool | None]]] = {
    "ich9-ehci1": (7, None),
    "ich9-uhci1": (0, True),
    "ich9-uhci2": (1, None),
    "ich9-uhci3": (2, None),
}

# Character devices have no s390 PCI identifiers.
_WITHOUT_ZPCI: Final = frozenset({"serials", "parallels", "channels", "consoles"})


class Request:
    """One device, with what decides where it goes.

    :ivar family: the list the device is in.
    :ivar device: the device; its type depends on the family.
    :ivar flags: its connect flags; 0 for devices that do not belong on PCI.
    :ivar group: its isolation group.
    """

    __slots__ = ("device", "family", "flags", "group")

    def __init__(self, family: str, device: Any, flags: int) -> None:
        self.family = family
        self.device = device
        self.flags = flags
        self.group = 0


def _always(device: Any) -> bool:
    del device
    return True


def _is_other_controller(controller: Any) -> bool:
    # The floppy controller is behind the ISA bridge, CCID is a USB device, the first IDE
    # controller is part of the chipset, and an NCR 53C90 is on the board.
    kind, model = controller.type, controller.model
    return not (
        kind in ("pci", "fdc", "ccid")
        or (kind == "usb" and model == "none")
        or (kind == "ide" and not controller.index)
        or (kind == "scsi" and model == "ncr53c90")
    )


def _is_pci_hostdev(hostdev: Any) -> bool:
    if hostdev.mode != "subsystem":
        return False
    return hostdev.type in ("pci", "scsi_host") or (
        hostdev.type == "mdev" and hostdev.model == "vfio-pci"
    )


# What gets an address after the bridges and in which order, as old as QEMU 0.12: later kinds
# came to the end, so that an upgrade does not move devices.
ORDER: Final[tuple[tuple[str, Callable[[Any], bool]], ...]] = (
    ("filesystems", lambda fs: fs.driver_type != "mtp"),
    ("interfaces", lambda net: net.model != "usb-net" and net.type != "hostdev"),
    ("sounds", lambda sound: sound.model not in ("sb16", "pcspk", "usb")),
    ("controllers", _is_other_controller),
    ("disks", lambda disk: disk.bus == "virtio"),
    ("interfaces", lambda net: net.type == "hostdev" and net.source_pci is not None),
    ("hostdevs", _is_pci_hostdev),
    ("memballoons", lambda balloon: balloon.model != "none"),
    ("rngs", _always),
    ("watchdogs", lambda watchdog: watchdog.model == "i6300esb"),
    ("videos", lambda video: video.type not in NO_PCI_VIDEO),
    ("shmems", _always),
    ("inputs", lambda device: device.bus == "virtio"),
    ("serials", lambda serial: serial.target_type == "pci-serial"),
    ("iommus", lambda iommu: iommu.model == "virtio"),
    ("vsocks", _always),
    ("memories", lambda memory: memory.model in ("virtio-pmem", "virtio-mem")),
    ("cryptos", _always),
    ("panics", lambda panic: panic.model == "pvpanic"),
    ("pstores", _always),
)


class Requests:
    """The devices of a guest and how they connect.

    :ivar everything: all devices, in visiting order.
    :ivar bridges: PCI controllers but the root, which are placed first.
    :ivar others: everything else that may be given an address, in the order of :data:`ORDER`.
    """

    def __init__(self, guest: Guest, flags: tuple[int, ...]) -> None:
        self._guest = guest
        self.everything: list[Request] = []
        self._by_family: dict[str, list[Request]] = {}
        devices = guest.devices
        for family in ADDRESSED:
            found = getattr(devices, family)
            if not found:
                continue
            way = WAYS.get(family)
            if way is None:
                if family == "consoles":
                    found = guest.own_consoles()
                self.everything += [Request(family, device, NONE) for device in found]
            else:
                mine = [Request(family, device, flags[way(device, guest)]) for device in found]
                self._by_family[family] = mine
                self.everything += mine
        self.bridges = self._find_bridges()
        self.others = [
            request
            for family, suits in ORDER
            for request in self._by_family.get(family, ())
            if suits(request.device)
        ]
        if guest.machine.pseries:
            groups = isolation_groups(guest)
            for request in self.everything:
                request.group = groups.get(id(request.device), 0)

    @property
    def primary_video(self) -> Request:
        """The first video device; there has to be one."""
        return self._by_family["videos"][0]

    def plug(self, devices: Sequence[Device]) -> None:
        """Ask for buses that take ``devices`` while the guest runs.

        :raises ValidationFailed: an address is not that of a whole slot.
        """
        for request in self.everything:
            if not request.flags or all(request.device is not each for each in devices):
                continue
            request.flags |= Connect.HOTPLUGGABLE
            if getattr(request.device.address, "function", None):
                raise ValidationFailed([Issue.internal(_WHOLE_SLOT)])

    def follow_controllers(self) -> None:
        """Take in PCI controllers that were added to the guest."""
        known = self._by_family.setdefault("controllers", [])
        by_device = {id(request.device): request for request in known}
        fresh = [
            by_device.get(id(each)) or Request("controllers", each, NONE)
            for each in self._guest.devices.controllers
        ]
        start = self.everything.index(known[0]) if known else len(self.everything)
        self.everything[start : start + len(known)] = fresh
        known[:] = fresh
        self.bridges = self._find_bridges()

    def _find_bridges(self) -> list[Request]:
        bridges = []
        for request in self._by_family.get("controllers", ()):
            if request.device.type == "pci":
                # How a bridge connects is part of its model.
                rule = BUS_MODELS.get(request.device.model)
                if rule is not None and rule.plugs_as:
                    request.flags = rule.plugs_as
                    bridges.append(request)
        return bridges


class Assignment:
    """One run over all devices.

    :ivar slots: the buses and what is on them.
    :ivar keep: addresses are given to the devices, not only counted.
    """

    def __init__(self, guest: Guest, requests: Requests, *, buses: int, keep: bool) -> None:
        self.guest = guest
        self.requests = requests
        self.keep = keep
        self.slots = self._make_slots(buses)
        for request in requests.everything:
            if type(request.device.address) is PciAddress:
                self._collect(request, request.device.address)

    def _make_slots(self, buses: int) -> PciAddressSet:
        guest = self.guest
        topology = PciTopology(
            multiple_roots=guest.machine.pseries,
            pcie_to_pci_bridge="pcie-pci-bridge" in guest.caps,
        )
        slots = PciAddressSet(topology, growable=not self.keep)
        present: dict[int, Controller] = {each.index or 0: each for each in guest.pci_controllers()}
        express = any(each.model == "pcie-root" for each in present.values())
        filler = "pcie-root-port" if express else "pci-bridge"
        if guest.machine.pseries:
            filler = "pci-root"
        for index in range(buses):
            controller = present.get(index)
            if controller is None:
                slots.add(PciBus(filler if index else "pci-root"))
            else:
                slots.add(_bus_of(controller, locked=guest.machine.pseries and not index))
        return slots

    def _collect(self, request: Request, address: PciAddress) -> None:
        """Reserve the address that the document gives a device."""
        device = request.device
        if not (address.bus or address.slot or address.domain):
            return
        if not request.flags:
            # Documents have been accepted with a PCI address where none belongs; whether the
            # kind of address suits the device is for validation to say.
            request.flags = Connect.PCI_DEVICE
        place = PciSlot(address.bus or 0, address.slot or 0, address.function or 0)
        if request.family == "controllers" and is_piix3_part(device, address):
            # The chipset reserves these, if the machine has one.
            if self.slots.buses and not self.slots.buses[0].flags & Connect.PCI_DEVICE:
                raise ValidationFailed(
                    [
                        Issue.internal(
                            "Bus 0 must be PCI for integrated PIIX3 USB or IDE controllers"
                        )
                    ]
                )
            return
        given = self.slots.reserve(
            place, request.flags, domain=address.domain or 0, isolation_group=request.group
        )
        address.bus = given.bus

    def place(self, request: Request, function: int = ANY_FUNCTION) -> None:
        """Find a place for a device."""
        place = self.slots.reserve_next(
            request.flags, isolation_group=request.group, function=function
        )
        if self.keep:
            give(request.device, place)

    def place_all(self) -> None:
        """Find places for all devices that have none, in libvirt's order."""
        for requests in (self.requests.bridges, self.requests.others):
            for request in requests:
                device = request.device
                if not wants_pci_address(device):
                    if request.family == "disks":
                        self._check_disk(device)
                elif request.family == "controllers" and device.model in ICH9_USB_FUNCTIONS:
                    self._place_usb2(request)
                else:
                    self.place(request)

    def _check_disk(self, disk: Any) -> None:
        kind = type(disk.address)
        if kind in (PciAddress, CcwAddress):
            return
        if kind is VirtioMmioAddress and "virtio-mmio" in self.guest.caps:
            return
        raise ValidationFailed(
            [Issue.unsupported(f"virtio disk cannot have an address of type '{disk.address.type}'")]
        )

    def _place_usb2(self, request: Request) -> None:
        """Put a function of an ICH9 USB 2 controller into the slot of the others."""
        controller = request.device
        function, multifunction = ICH9_USB_FUNCTIONS[controller.model]
        for other in self.guest.devices.controllers:
            if (
                other.type == "usb"
                and other.model in ICH9_USB_FUNCTIONS
                and other.index == controller.index
                and has_pci_address(other)
            ):
                address = other.address
                assert isinstance(address, PciAddress)  # what has_pci_address says
                place = PciSlot(address.bus or 0, address.slot or 0, function)
                self.slots.reserve(
                    place,
                    request.flags,
                    domain=address.domain or 0,
                    isolation_group=request.group,
                )
                give(controller, place)
                break
        else:
            self.place(request, function)
        if isinstance(controller.address, PciAddress):
            controller.address.multifunction = multifunction


def _bus_of(controller: Controller, *, locked: bool) -> PciBus:
    if controller.model is None or controller.model not in BUS_MODELS:
        raise ValidationFailed([Issue.internal("PCI controller model was not set correctly")])
    return PciBus(
        controller.model,
        hotplug=controller.hotplug is not False,
        isolation_locked=locked,
    )


def give(device: Any, place: PciSlot) -> None:
    """Set a device's PCI address, keeping the s390 identifiers it may have."""
    old = device.address
    new = PciAddress(domain=0, bus=place.bus, slot=place.slot, function=place.function)
    if old is not None:
        new.zpci_uid = old.zpci_uid
        new.zpci_fid = old.zpci_fid
    device.address = new


def assign_pci(guest: Guest, plugged: Sequence[Device] = ()) -> None:
    """Assign PCI addresses, adding the controllers they need unless the guest runs already.

    :param plugged: devices that a running guest is to get.
    :raises ValidationFailed: on the first conflict.
    """
    last = max((each.index or 0 for each in guest.pci_controllers()), default=-1)
    buses = last + 1
    root = guest.root_model()
    requests = Requests(guest, flags_by_way(guest, express=root == "pcie-root"))
    if plugged:
        requests.plug(plugged)
    elif buses:
        buses = _count_buses(guest, requests, last=last, root=root)
    run = Assignment(guest, requests, buses=buses, keep=True)
    ids = ZpciIds() if "zpci" in guest.caps else None
    if ids is not None:
        _identify(requests, ids, complete=False)
    if guest.machine.supports_pci:
        reserve_chipset(run)
        run.place_all()
        if ids is not None:
            _identify(requests, ids, complete=True)
        _mark_multifunction(requests)
        complete_pci_controllers(guest)


def _count_buses(guest: Guest, requests: Requests, *, last: int, root: str | None) -> int:
    """Find out how many buses the guest needs and add the controllers that are missing."""
    run = Assignment(guest, requests, buses=last + 1, keep=False)
    slots = run.slots
    reserve_chipset(run)
    if root == "pci-root" and not all(bus.full for bus in slots.buses):
        # One place stays free for a bridge that may have to be added some day. When all
        # are taken by explicit addresses, the author has decided against that.
        slots.reserve_next(Connect.PCI)
    run.place_all()
    if root == "pcie-root" and last <= 0 < len(slots.buses) - 1 - last:
        # The author leaves controllers to us: one port more than needed allows hotplug.
        slots.reserve_next(Connect.PCIE)
    controllers = guest.devices.controllers
    present = {each.index for each in guest.pci_controllers()}
    index = 1
    while index < len(slots.buses):  # a bridge may need a bus of its own
        if index not in present:
            model = slots.buses[index].model
            add_controller(controllers, "pci", index, model)
            if model not in ROOTS:
                slots.reserve_next(BUS_MODELS[model].plugs_as)
        index += 1
    if len(present) < len(slots.buses):
        requests.follow_controllers()
    return len(slots.buses)


def _identify(requests: Requests, ids: ZpciIds, *, complete: bool) -> None:
    """Give PCI devices of s390 guests their identifiers.

    :param complete: also to those that have none of the two yet.
    """
    for request in requests.everything:
        address = request.device.address
        if request.family in _WITHOUT_ZPCI or type(address) is not PciAddress:
            continue
        uid, fid = address.zpci_uid, address.zpci_fid
        partial = uid is None or fid is None
        if (complete and partial) or (not complete and not (uid is None and fid is None)):
            address.zpci_uid, address.zpci_fid = ids.ensure(uid, fid)


def _mark_multifunction(requests: Requests) -> None:
    """Say of function 0 that there are others, unless the document says something itself."""
    first: dict[tuple[int, int, int], PciAddress] = {}
    shared = set()
    for request in requests.everything:
        address = request.device.address
        if type(address) is PciAddress:
            slot = (address.domain or 0, address.bus or 0, address.slot or 0)
            if address.function:
                shared.add(slot)
            else:
                first.setdefault(slot, address)
    for slot in shared:
        if slot in first and first[slot].multifunction is None:
            first[slot].multifunction = True
