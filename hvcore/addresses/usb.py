"""USB buses, hubs and ports.

The ports of a bus form a tree: a controller has root ports, and a hub plugged into a port has
ports of its own. A port is written as the path to it, ``1.2`` being port 2 of the hub in port 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Final

from hvcore.errors import Issue
from hvcore.errors import ValidationFailed

if TYPE_CHECKING:
    from collections.abc import Mapping

HUB_PORTS: Final = 8
MAX_DEPTH: Final = 4

# Ports of each controller model. Those that take a ``ports`` attribute use it if given. The
# ich9-uhci companions have none: their two ports are the USB 1.1 side of ich9-ehci1's six.
CONTROLLER_PORTS: Final[Mapping[str | None, int]] = {
    None: 2,
    "piix3-uhci": 2,
    "piix4-uhci": 2,
    "vt82c686b-uhci": 2,
    "ehci": 6,
    "ich9-ehci1": 6,
    "ich9-uhci1": 0,
    "ich9-uhci2": 0,
    "ich9-uhci3": 0,
    "pci-ohci": 3,
    "nec-xhci": 4,
    "qemu-xhci": 4,
    "qusb1": 8,
    "qusb2": 8,
    "none": 0,
}
_CONFIGURABLE: Final = frozenset({"nec-xhci", "qemu-xhci", "qusb1", "qusb2"})


def controller_ports(model: str | None, ports: int | None = None) -> int:
    """Return how many root ports a controller offers.

    :param ports: the ``ports`` attribute of the document.
    """
    if ports is not None and model in _CONFIGURABLE:
        return ports
    return CONTROLLER_PORTS[model]


def parse_port(text: str | None) -> tuple[int, ...]:
    """Return the path that a port is written as; empty if it is missing or begins with 0."""
    if not text:
        return ()
    path = [int(part) for part in text.split(".")]
    while path and not path[-1]:
        path.pop()
    return tuple(path) if path and path[0] else ()


def format_port(path: tuple[int, ...]) -> str:
    """Return a path as it is written in documents and messages."""
    return ".".join(map(str, path))


class _Hub:
    __slots__ = ("busy", "children", "ports")

    def __init__(self, ports: int) -> None:
        self.ports = ports
        self.busy = 0
        self.children: dict[int, _Hub] = {}

    def find(self, depth: int = 1) -> tuple[int, ...] | None:
        free = ~self.busy & (1 << self.ports) - 1
        if free:
            return ((free & -free).bit_length(),)
        if depth < MAX_DEPTH:
            for port in sorted(self.children):
                path = self.children[port].find(depth + 1)
                if path is not None:
                    return (port, *path)
        return None


def _refuse(message: str) -> ValidationFailed:
    return ValidationFailed([Issue.xml(message)])


class UsbAddressSet:
    """The USB ports of one guest."""

    __slots__ = ("_buses",)

    def __init__(self) -> None:
        self._buses: dict[int, _Hub] = {}

    def add_controller(self, index: int, ports: int) -> None:
        """Register a controller; one without ports of its own is ignored.

        :raises ValidationFailed: when there is a controller with this index.
        """
        if not ports:
            return
        if index in self._buses:
            raise _refuse(f"Duplicate USB controllers with index {index}")
        self._buses[index] = _Hub(ports)

    def add_hub(self, bus: int, path: tuple[int, ...]) -> None:
        """Register the ports of a hub that is plugged into a port.

        :raises ValidationFailed: when there is no such port or it has a hub.
        """
        parent, port = self._locate(bus, path)
        if port in parent.children:
            raise _refuse(f"Duplicate USB hub on bus {bus} port {format_port(path)}")
        parent.busy |= 1 << port - 1
        parent.children[port] = _Hub(HUB_PORTS)

    def reserve(self, bus: int, path: tuple[int, ...]) -> None:
        """Reserve a port of the document.

        :raises ValidationFailed: when there is no such port or it is in use.
        """
        hub, port = self._locate(bus, path)
        if hub.busy >> port - 1 & 1:
            raise _refuse(f"Duplicate USB address bus {bus} port {format_port(path)}")
        hub.busy |= 1 << port - 1

    def reserve_next(self, bus: int | None = None) -> tuple[int, tuple[int, ...]]:
        """Reserve a free port: root ports first, then those of hubs, breadth being bus order.

        :param bus: the bus it has to be on; None for any.
        :returns: the bus and the path.
        :raises ValidationFailed: when there is no such bus or no free port.
        """
        if bus is not None and bus not in self._buses:
            raise _refuse(f"USB bus {bus} requested but no controller with that index is present")
        for index in sorted(self._buses) if bus is None else (bus,):
            path = self._buses[index].find()
            if path is not None:
                hub, port = self._locate(index, path)
                hub.busy |= 1 << port - 1
                return index, path
        raise ValidationFailed([Issue.internal("No free USB ports")])

    def release(self, bus: int, path: tuple[int, ...]) -> None:
        """Give a port back.

        :raises ValidationFailed: when there is no such port.
        """
        hub, port = self._locate(bus, path)
        hub.busy &= ~(1 << port - 1)

    def _locate(self, bus: int, path: tuple[int, ...]) -> tuple[_Hub, int]:
        hub = self._buses.get(bus)
        if hub is None:
            raise _refuse(f"Missing USB bus {bus}")
        text = format_port(path)
        *above, last = path
        for port in above:
            where = f"in USB address bus: {bus} port: {text}"
            if not 0 < port <= hub.ports:
                raise _refuse(f"port {port} out of range {where}")
            child = hub.children.get(port)
            if child is None:
                raise _refuse(f"there is no hub at port {port} {where}")
            hub = child
        if not 0 < last <= hub.ports:
            raise _refuse(f"requested USB port {text} not present on USB bus {bus}")
        return hub, last
