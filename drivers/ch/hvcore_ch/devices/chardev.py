"""The serial port, the virtio console, and the port for messages of firmware.

There is one of each. As libvirt's driver has it, a ``<console>`` is the virtio console whatever its
target says: documents without a ``<serial>`` rely on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import Final

from hvcore.errors import Issue
from hvcore.model.devices.base import IsaAddress
from hvcore.model.devices.base import VirtioSerialAddress
from hvcore.model.devices.chardev import Console
from hvcore.model.devices.chardev import Serial
from hvcore.model.devices.chardev_source import FileSource
from hvcore.model.devices.chardev_source import PtySource
from hvcore.model.devices.chardev_source import UnixSource
from hvcore.rules.base import Rules
from hvcore_ch.accepts import ANY
from hvcore_ch.accepts import one_of
from hvcore_ch.command import present
from hvcore_ch.devices.info import place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore_ch.accepts import Accepts
    from hvcore_ch.command import Command

rules = Rules()

MODES: Final = {"pty": "Pty", "file": "File", "stdio": "Tty", "unix": "Socket", "null": "Null"}
"""What the other end is, by libvirt's name."""
_DEBUG: Final = "isa-debug"
_DEBUG_PORT: Final = 0xE9

ACCEPTS: Accepts = {
    Serial: {
        "type": one_of(*MODES),
        "sources": ANY,
        "target_type": one_of("isa-serial", "system-serial", _DEBUG),
        "target_model": one_of("isa-serial", "pl011", "isa-debugcon"),
        "target_port": ANY,
        "address": one_of("isa"),
    },
    Console: {
        "type": one_of("pty", "file", "stdio", "null"),
        "sources": ANY,
        "target_type": one_of("serial", "virtio"),
        "target_port": one_of(0),
        "address": one_of("pci", "virtio-serial"),
    },
    VirtioSerialAddress: {"controller": one_of(0), "bus": one_of(0), "port": ANY},
    IsaAddress: {"iobase": ANY},
    PtySource: {"path": ANY},
    FileSource: {"path": ANY, "append": one_of(False)},
    UnixSource: {"path": ANY, "mode": one_of("bind")},
}


def serial_ports(domain: Domain) -> list[Serial]:
    """Return the serial ports proper."""
    return [port for port in domain.devices.serials if port.target_type != _DEBUG]


def debug_ports(domain: Domain) -> list[Serial]:
    """Return the ports for messages of firmware."""
    return [port for port in domain.devices.serials if port.target_type == _DEBUG]


@rules.check_domain
def _one_of_each(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """There is one of each kind."""
    del ctx
    for kind, found in (
        ("console", domain.devices.consoles),
        ("serial", serial_ports(domain)),
        ("debug console", debug_ports(domain)),
    ):
        if len(found) > 1:
            yield Issue.internal(
                f"Only a single {kind} can be configured for this domain", line=found[1].line
            )


@rules.check(Serial)
def _places(domain: Domain, port: Serial, ctx: Context) -> Iterator[Issue]:
    """Only the port for messages can be elsewhere, and it has no socket."""
    del domain, ctx
    if port.target_type == _DEBUG:
        if port.type == "unix":
            yield Issue.unsupported(
                "Cloud-Hypervisor doesn't support type 'unix' for an isa-debug serial port"
            )
    elif isinstance(port.address, IsaAddress) and port.address.iobase not in (None, 0x3F8):
        yield Issue.unsupported(
            "Cloud-Hypervisor has its serial port at 0x3f8 only", path="address/@iobase"
        )


def end(device: Serial | Console) -> dict[str, Any]:
    """Return the members that say what the other end is."""
    path = getattr(device.source, "path", None)
    return present(
        {
            "mode": MODES[device.type],
            "file": path if device.type == "file" else None,
            "socket": path if device.type == "unix" else None,
        }
    )


def command(vm: Command) -> None:
    """Describe all three: what is not said would be there by default."""
    serials, consoles = serial_ports(vm.domain), vm.domain.devices.consoles
    vm.set("serial", end(serials[0]) if serials else {"mode": "Off"})
    if consoles:
        vm.set("console", present({**end(consoles[0]), **place(consoles[0])}))
    else:
        vm.set("console", {"mode": "Off"})
    for port in debug_ports(vm.domain):
        address = port.address
        base = address.iobase if isinstance(address, IsaAddress) else None
        vm.set("debug_console", {**end(port), "iobase": base or _DEBUG_PORT})
