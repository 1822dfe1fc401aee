"""PCI buses, slots and functions of one guest.

A bus is what one PCI controller offers downstream. Its occupancy is two integers: a mask of
the slots in use and a mask of the functions in use (bit ``slot * 8 + function``), so that
finding a free slot is one bit operation and copying a bus is cheap.

What fits where is decided by *connect flags*: a controller says what it accepts, a device
says what it needs, and the two must have a connection type in common.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Final
from typing import NamedTuple
from typing import NoReturn

from hvcore.errors import ErrorClass
from hvcore.errors import Issue
from hvcore.errors import ValidationFailed

if TYPE_CHECKING:
    from collections.abc import Mapping

LAST_SLOT: Final = 31
LAST_FUNCTION: Final = 7
ANY_FUNCTION: Final = -1


class Connect:
    """The bits of connect flags; plain integers because they are tested in the inner loop."""

    AUTOASSIGN: Final = 1 << 0  # devices may be placed here without being asked for it
    HOTPLUGGABLE: Final = 1 << 1
    INTEGRATED: Final = 1 << 2  # must sit on bus 0 itself, as part of the chipset
    AGGREGATE_SLOT: Final = 1 << 3  # may share a slot with others of its kind
    PCI_DEVICE: Final = 1 << 4
    PCIE_DEVICE: Final = 1 << 5
    PCIE_ROOT_PORT: Final = 1 << 6
    PCIE_SWITCH_UPSTREAM_PORT: Final = 1 << 7
    PCIE_SWITCH_DOWNSTREAM_PORT: Final = 1 << 8
    DMI_TO_PCI_BRIDGE: Final = 1 << 9
    PCI_EXPANDER_BUS: Final = 1 << 10
    PCIE_EXPANDER_BUS: Final = 1 << 11
    PCI_BRIDGE: Final = 1 << 12
    PCIE_TO_PCI_BRIDGE: Final = 1 << 13

    ENDPOINTS: Final = PCI_DEVICE | PCIE_DEVICE
    TYPES: Final = (1 << 14) - (1 << 4)
    QUALITIES: Final = AUTOASSIGN | HOTPLUGGABLE  # a bus must have those the device asks for

    PCI: Final = PCI_DEVICE | AUTOASSIGN  # an ordinary conventional PCI endpoint
    PCIE: Final = PCIE_DEVICE | AUTOASSIGN  # an ordinary PCI Express endpoint


# Under names of the module for the inner loops: each attribute of a class is looked up anew.
_QUALITIES: Final = Connect.QUALITIES
_TYPES: Final = Connect.TYPES
_INTEGRATED: Final = Connect.INTEGRATED
_AGGREGATE_SLOT: Final = Connect.AGGREGATE_SLOT


class BusModel(NamedTuple):
    """What a model of PCI controller offers downstream and needs upstream.

    :param accepts: connect flags of the bus, without hotplug.
    :param hotplug: the bus is hotpluggable unless the document switches it off.
    :param first_slot: lowest usable slot; slot 0 is often the bridge's own.
    :param last_slot: highest usable slot; ports have one slot only.
    :param plugs_as: connect flags of the controller itself; 0 for root buses.
    """

    accepts: int
    hotplug: bool
    first_slot: int
    last_slot: int
    plugs_as: int


_BRIDGE: Final = Connect.AUTOASSIGN | Connect.PCI_DEVICE | Connect.PCI_BRIDGE
_PORT: Final = (
    Connect.AUTOASSIGN
    | Connect.PCIE_DEVICE
    | Connect.PCIE_SWITCH_UPSTREAM_PORT
    | Connect.PCIE_TO_PCI_BRIDGE
)
_EXPRESS_ROOT: Final = Connect.PCIE_ROOT_PORT | Connect.DMI_TO_PCI_BRIDGE

# pcie-root has no AUTOASSIGN: endpoints belong in ports, where they can be hotplugged.
# Slot 0 of pci-bridge and pcie-to-pci-bridge is taken by the standard hotplug controller.
BUS_MODELS: Final[Mapping[str, BusModel]] = {
    "pci-root": BusModel(_BRIDGE | Connect.PCI_EXPANDER_BUS, True, 1, LAST_SLOT, 0),
    "pcie-root": BusModel(
        _EXPRESS_ROOT | Connect.PCIE_DEVICE | Connect.PCIE_EXPANDER_BUS, False, 1, LAST_SLOT, 0
    ),
    "pci-bridge": BusModel(_BRIDGE, True, 1, LAST_SLOT, Connect.PCI_BRIDGE),
    "dmi-to-pci-bridge": BusModel(
        Connect.PCI_DEVICE | Connect.PCI_BRIDGE, False, 0, LAST_SLOT, Connect.DMI_TO_PCI_BRIDGE
    ),
    "pcie-to-pci-bridge": BusModel(_BRIDGE, True, 1, LAST_SLOT, Connect.PCIE_TO_PCI_BRIDGE),
    "pcie-root-port": BusModel(_PORT, True, 0, 0, Connect.PCIE_ROOT_PORT | Connect.AGGREGATE_SLOT),
    "pcie-switch-upstream-port": BusModel(
        Connect.PCIE_SWITCH_DOWNSTREAM_PORT,
        False,
        0,
        LAST_SLOT,
        Connect.PCIE_SWITCH_UPSTREAM_PORT,
    ),
    "pcie-switch-downstream-port": BusModel(_PORT, True, 0, 0, Connect.PCIE_SWITCH_DOWNSTREAM_PORT),
    "pci-expander-bus": BusModel(_BRIDGE, True, 0, LAST_SLOT, Connect.PCI_EXPANDER_BUS),
    "pcie-expander-bus": BusModel(_EXPRESS_ROOT, False, 0, LAST_SLOT, Connect.PCIE_EXPANDER_BUS),
}

# How a connection type is called in messages; the first that a device has, wins.
_TYPE_NAMES: Final = (
    (Connect.PCI_DEVICE, "standard PCI device"),
    (Connect.PCIE_DEVICE, "PCI Express device"),
    (Connect.PCIE_ROOT_PORT, "pcie-root-port"),
    (Connect.PCIE_SWITCH_UPSTREAM_PORT, "pcie-switch-upstream-port"),
    (Connect.PCIE_SWITCH_DOWNSTREAM_PORT, "pcie-switch-downstream-port"),
    (Connect.DMI_TO_PCI_BRIDGE, "dmi-to-pci-bridge"),
    (Connect.PCIE_TO_PCI_BRIDGE, "pcie-to-pci-bridge"),
    (Connect.PCI_EXPANDER_BUS, "pci-expander-bus"),
    (Connect.PCIE_EXPANDER_BUS, "pcie-expander-bus"),
    (Connect.PCI_BRIDGE, "pci-bridge"),
)

# Controllers for which no bus is made automatically. Expander buses and switches describe a
# deliberate topology, root ports and bridges need an upstream bus whose choice is the user's.
_NOT_GROWN_FOR: Final = (
    (Connect.PCIE_ROOT_PORT, "pcie-root-port"),
    (Connect.PCIE_SWITCH_DOWNSTREAM_PORT, "pcie-switch-downstream-port"),
    (Connect.DMI_TO_PCI_BRIDGE, "dmi-to-pci-bridge"),
    (Connect.PCI_EXPANDER_BUS, "pci-expander-bus"),
    (Connect.PCIE_EXPANDER_BUS, "pcie-expander-bus"),
    (Connect.PCI_BRIDGE, "pci-bridge"),
)


class PciTopology(NamedTuple):
    """What the machine allows when its PCI topology has to grow.

    :param multiple_roots: further pci-root controllers may be added (pSeries).
    :param pcie_to_pci_bridge: a pcie-to-pci-bridge can be used; otherwise conventional
        devices of an Express machine hang off a dmi-to-pci-bridge.
    """

    multiple_roots: bool = False
    pcie_to_pci_bridge: bool = False


class PciSlot(NamedTuple):
    """A place on the PCI buses of domain 0."""

    bus: int
    slot: int
    function: int


class PciBus:
    """One PCI bus and what is plugged into it.

    :param model: the controller's model; a key of :data:`BUS_MODELS`.
    :param hotplug: False where the document switches hotplug off for this controller.
    :param isolation_group: devices of another group are not placed here automatically.
    :param isolation_locked: the first device does not change the group.
    """

    __slots__ = (
        "aggregate",
        "busy",
        "first_slot",
        "flags",
        "functions",
        "isolation_group",
        "isolation_locked",
        "last_slot",
        "model",
        "usable",
    )

    def __init__(
        self,
        model: str,
        *,
        hotplug: bool = True,
        isolation_group: int = 0,
        isolation_locked: bool = False,
    ) -> None:
        rule = BUS_MODELS[model]
        self.model = model
        self.flags = rule.accepts | (Connect.HOTPLUGGABLE if hotplug and rule.hotplug else 0)
        self.first_slot = rule.first_slot
        self.last_slot = rule.last_slot
        self.usable = (2 << rule.last_slot) - (1 << rule.first_slot)
        self.busy = 0
        self.functions = 0
        self.aggregate = 0
        self.isolation_group = isolation_group
        self.isolation_locked = isolation_locked

    @property
    def full(self) -> bool:
        """Every usable slot has a device."""
        return not self.usable & ~self.busy

    @property
    def empty(self) -> bool:
        """No usable slot has a device."""
        return not self.usable & self.busy

    def find_shared(self, function: int) -> tuple[int, int] | None:
        """Return the lowest slot and function that a device can take which shares slots.

        :param function: the function wanted, or :data:`ANY_FUNCTION`.
        """
        free = self.usable & ~self.busy
        free &= -free
        wanted = max(function, 0)
        shared = self.aggregate & self.usable
        while shared:
            lowest = shared & -shared
            if free and free < lowest:
                break
            slot = lowest.bit_length() - 1
            unused = ~(self.functions >> slot * 8) & 0xFF
            if unused >> wanted & 1:
                return slot, wanted
            if function == ANY_FUNCTION and unused:
                return slot, (unused & -unused).bit_length() - 1
            shared ^= lowest
        return (free.bit_length() - 1, wanted) if free else None


def format_address(domain: int, bus: int, slot: int, function: int) -> str:
    """Return an address the way libvirt's messages print it, as in ``0000:00:1f.2``."""
    return f"{domain:04x}:{bus:02x}:{slot:02x}.{function:x}"


def _refuse(message: str, *, explicit: bool) -> NoReturn:
    # An address from the document is the author's mistake, one that was chosen is ours.
    kind = ErrorClass.XML if explicit else ErrorClass.INTERNAL
    raise ValidationFailed([Issue(message, kind)])


class PciAddressSet:
    """All PCI addresses of one guest.

    :param topology: what may be added when there is no room.
    :param growable: make further buses on demand; used for working out how many controllers a
        guest needs. Without it a lack of room is an error.
    """

    __slots__ = ("_hints", "_isolating", "buses", "growable", "topology")

    def __init__(self, topology: PciTopology = PciTopology(), *, growable: bool = False) -> None:  # noqa: B008 an immutable tuple
        self.topology = topology
        self.growable = growable
        self.buses: list[PciBus] = []
        # Buses only fill up, so the first bus with room for a kind of device never moves
        # back: where the last search ended, the next one begins.
        self._hints: dict[tuple[int, int, int], int] = {}
        self._isolating = False

    def add(self, bus: PciBus) -> int:
        """Append a bus and return its index."""
        self.buses.append(bus)
        self._isolating |= bus.isolation_group != 0 or bus.isolation_locked
        return len(self.buses) - 1

    def slot_in_use(self, bus: int, slot: int) -> bool:
        """Tell whether any function of a slot is reserved."""
        return self.buses[bus].busy >> slot & 1 != 0

    def check(
        self, address: PciSlot, flags: int, *, domain: int = 0, explicit: bool = True
    ) -> None:
        """Check that an address exists and suits a device, whether or not it is in use.

        :param explicit: the address comes from the document; it then may be in a kind of slot
            that would not be chosen automatically.
        :raises ValidationFailed: when there is no such address or the bus does not accept
            this kind of device.
        """
        problem = self._problem(address, flags, domain=domain, explicit=explicit)
        if problem is not None:
            _refuse(problem.format(format_address(domain, *address)), explicit=explicit)

    def _problem(self, address: PciSlot, flags: int, *, domain: int, explicit: bool) -> str | None:
        """Return what is wrong with an address, with ``{}`` where it is to be named."""
        index, slot, function = address
        if not self.buses:
            return "No PCI buses available"
        if domain:
            return "Invalid PCI address {}. Only PCI domain 0 is available"
        if index >= len(self.buses):
            last = len(self.buses) - 1
            return f"Invalid PCI address {{}}. Only PCI buses up to {last} are available"
        bus = self.buses[index]
        problem = mismatch(index, bus.flags, flags, explicit=explicit)
        if problem is not None:
            return problem
        if slot < bus.first_slot:
            return f"Invalid PCI address {{}}. slot must be >= {bus.first_slot}"
        if slot > bus.last_slot:
            return f"Invalid PCI address {{}}. slot must be <= {bus.last_slot}"
        if function > LAST_FUNCTION:
            return f"Invalid PCI address {{}}. function must be <= {LAST_FUNCTION}"
        return None

    def reserve(
        self,
        address: PciSlot,
        flags: int,
        *,
        domain: int = 0,
        isolation_group: int = 0,
        explicit: bool = True,
    ) -> PciSlot:
        """Reserve one function.

        :returns: the address reserved. It differs from the one given only where a growable
            set had to insert a bridge in front of the bus that was asked for.
        :raises ValidationFailed: when the address is unsuitable (see :meth:`check`) or in use.
        """
        asked = address
        if self.growable and address.bus >= len(self.buses):
            address = address._replace(bus=self._grow(address.bus, flags))
        problem = self._problem(address, flags, domain=domain, explicit=explicit)
        if problem is None:
            bus = self.buses[address.bus]
            if not bus.functions >> (address.slot * 8 + address.function) & 1:
                self._mark(
                    bus, address.slot, address.function, flags, isolation_group, explicit=explicit
                )
                return address
            problem = "Attempted double use of PCI Address {}"
        # The message names the address as it was asked for, even if a bridge moved it.
        _refuse(problem.format(format_address(domain, *asked)), explicit=explicit)

    def reserve_next(
        self, flags: int, *, isolation_group: int = 0, function: int = ANY_FUNCTION
    ) -> PciSlot:
        """Reserve the first free place for a device, adding buses where that is allowed.

        Buses that hold devices of the same isolation group come first; an empty bus may
        change its group.

        :param function: the function wanted, or :data:`ANY_FUNCTION`.
        :raises ValidationFailed: when there is no room and none can be made.
        """
        if not self.buses:
            _refuse("No PCI buses available", explicit=True)
        key = (flags, function, isolation_group)
        found = self._search(self._hints.get(key, 0), flags, function, isolation_group)
        self._hints[key] = len(self.buses) if found is None else found.bus
        if found is None and (self._isolating or isolation_group):
            found = self._search(0, flags, function, None)
        if found is None:
            if not self.growable:
                _refuse("No more available PCI slots", explicit=False)
            index = self._grow(len(self.buses), flags)
            found = PciSlot(index, self.buses[index].first_slot, max(function, 0))
            self.check(found, flags, explicit=False)
        index, slot, function = found
        self._mark(self.buses[index], slot, function, flags, isolation_group, explicit=False)
        return found

    def release(self, address: PciSlot) -> None:
        """Give one function back."""
        bus = self.buses[address.bus]
        bus.functions &= ~(1 << address.slot * 8 + address.function)
        if not bus.functions >> address.slot * 8 & 0xFF:
            bus.busy &= ~(1 << address.slot)
            bus.aggregate &= ~(1 << address.slot)
        self._hints.clear()

    def _search(self, start: int, flags: int, function: int, group: int | None) -> PciSlot | None:
        """Find room on the buses of a group, or with group None on empty buses of any group."""
        qualities = flags & _QUALITIES
        types = flags & _TYPES
        integrated = flags & _INTEGRATED
        shares = flags & _AGGREGATE_SLOT
        buses = self.buses
        for index in range(start, len(buses)):
            bus = buses[index]
            accepted = bus.flags
            if integrated:
                if index:
                    break
                accepted |= Connect.PCI
            if qualities & ~accepted or not types & accepted:
                continue
            if group is None:
                if bus.isolation_locked or not bus.empty:
                    continue
            elif bus.isolation_group != group:
                continue
            if shares:
                place = bus.find_shared(function)
                if place is not None:
                    return PciSlot(index, *place)
            else:
                free = bus.usable & ~bus.busy
                if free:
                    return PciSlot(index, (free & -free).bit_length() - 1, max(function, 0))
        return None

    def _mark(
        self, bus: PciBus, slot: int, function: int, flags: int, group: int, *, explicit: bool
    ) -> None:
        bit = 1 << slot
        if flags & _AGGREGATE_SLOT and not bus.busy & bit:
            bus.aggregate |= bit
        if bus.isolation_group != group:
            # The first device decides for the whole bus. A user who mixes groups on a bus gets
            # it, but isolation cannot be guaranteed there any more.
            if bus.empty and not bus.isolation_locked:
                self._regroup(bus, group)
            elif explicit:
                self._regroup(bus, 0)
        bus.busy |= bit
        bus.functions |= 1 << slot * 8 + function

    def _regroup(self, bus: PciBus, group: int) -> None:
        bus.isolation_group = group
        self._isolating = True
        self._hints.clear()

    def _grow(self, index: int, flags: int) -> int:
        """Add buses up to the given index for a device; return the device's bus.

        The flags are those of the device, not of the controller to add.
        """
        missing = index - len(self.buses) + 1
        if flags & Connect.PCI_DEVICE:
            if self.topology.multiple_roots:
                self._append("pci-root", missing)
                return index
            if not any(bus.flags & Connect.PCI_BRIDGE for bus in self.buses):
                return self._grow_conventional(index, missing)
            self._append("pci-bridge", missing)
        elif flags & (Connect.PCIE_DEVICE | Connect.PCIE_SWITCH_UPSTREAM_PORT):
            self._append("pcie-root-port", missing)
        else:
            self._refuse_to_grow(flags)
        return index

    def _grow_conventional(self, index: int, missing: int) -> int:
        # A purely Express guest gets its first conventional device. Either way of connecting
        # it takes two controllers: dmi-to-pci-bridge and pci-bridge, or root port and
        # pcie-to-pci-bridge. If just one was missing, the device's bus is one further.
        if missing == 1:
            missing += 1
            index += 1
        if self.topology.pcie_to_pci_bridge:
            port = PciBus("pcie-root-port")
            # Kept for the bridge: a spare port for hotplug must not be taken from here.
            port.flags = Connect.PCIE_TO_PCI_BRIDGE
            self.add(port)
            self.add(PciBus("pcie-to-pci-bridge"))
            missing -= 2
        else:
            self.add(PciBus("dmi-to-pci-bridge", hotplug=False))
            missing -= 1
        self._append("pci-bridge", missing)
        return index

    def _append(self, model: str, count: int) -> None:
        for _ in range(count):
            self.add(PciBus(model))

    @staticmethod
    def _refuse_to_grow(flags: int) -> NoReturn:
        for bit, model in _NOT_GROWN_FOR:
            if flags & bit:
                _refuse(
                    f"a PCI slot is needed to connect a PCI controller model='{model}', but"
                    " none is available, and it cannot be automatically added",
                    explicit=False,
                )
        _refuse(
            f"Cannot automatically add a new PCI bus for a device with connect flags {flags:02x}",
            explicit=False,
        )


def mismatch(bus: int, accepted: int, flags: int, *, explicit: bool) -> str | None:
    """Return why a bus does not suit a device, or None if it does.

    The message has ``{}`` where the address is to be named.

    :param bus: index of the bus.
    :param accepted: connect flags of the bus.
    :param flags: connect flags of the device.
    """
    if flags & Connect.INTEGRATED:
        if bus:
            return "The device at PCI address {} needs to be an integrated device (bus=0)"
        accepted |= Connect.PCI
    if explicit:
        # The author may plug a PCI device into an Express slot and the other way round, and
        # a pci-bridge wherever a conventional device fits.
        if accepted & Connect.ENDPOINTS:
            accepted |= Connect.ENDPOINTS
        if flags & Connect.PCI_BRIDGE:
            flags |= Connect.PCI_DEVICE
    elif flags & Connect.AUTOASSIGN & ~accepted:
        return (
            "The device at PCI address {} was auto-assigned this address, but the PCI"
            f" controller with index='{bus}' doesn't allow auto-assignment"
        )
    if flags & Connect.HOTPLUGGABLE & ~accepted:
        return (
            "The device at PCI address {} requires hotplug capability, but the PCI"
            f" controller with index='{bus}' doesn't support hotplug"
        )
    if flags & accepted & Connect.TYPES:
        return None
    for bit, name in _TYPE_NAMES:
        if flags & bit:
            return (
                "The device at PCI address {} cannot be plugged into the PCI controller"
                f" with index='{bus}'. It requires a controller that accepts a {name}."
            )
    return (
        "The device at PCI address {} has unrecognized connection type flags"
        f" 0x{flags & Connect.TYPES:02x}"
    )


class ZpciIds:
    """The uid and fid of every zPCI function of a guest (s390x).

    Both are unique on their own; uids begin with 1, fids with 0.
    """

    __slots__ = ("_fids", "_next_fid", "_next_uid", "_uids")

    MAX_UID: Final = 0xFFFF
    MAX_FID: Final = 0xFFFFFFFF

    def __init__(self) -> None:
        self._uids: set[int] = set()
        self._fids: set[int] = set()
        self._next_uid = 1
        self._next_fid = 0

    def ensure(self, uid: int | None, fid: int | None) -> tuple[int, int]:
        """Reserve the ids given and choose those that are None.

        :raises ValidationFailed: when an id is in use or none is left.
        """
        if uid is None:
            uid = self._next_uid = self._unused(self._uids, self._next_uid, self.MAX_UID, "uid")
        if fid is None:
            fid = self._next_fid = self._unused(self._fids, self._next_fid, self.MAX_FID, "fid")
        for ids, value, name in ((self._uids, uid, "uid"), (self._fids, fid, "fid")):
            if value in ids:
                # Octal, as libvirt prints it.
                _refuse(f"zPCI {name} {value:o} is already reserved", explicit=False)
        self._uids.add(uid)
        self._fids.add(fid)
        return uid, fid

    def release(self, uid: int, fid: int) -> None:
        """Give the ids of one function back."""
        self._uids.discard(uid)
        self._fids.discard(fid)
        self._next_uid = min(self._next_uid, max(uid, 1))
        self._next_fid = min(self._next_fid, fid)

    @staticmethod
    def _unused(ids: set[int], value: int, last: int, name: str) -> int:
        while value in ids:
            if value == last:
                _refuse(f"There is no more free {name}.", explicit=False)
            value += 1
        return value
