"""Rules of <serial>, <parallel>, <console> and <channel> that hold for every driver."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import Final

from hvcore.errors import ErrorClass
from hvcore.errors import Issue
from hvcore.model.devices.chardev import Channel
from hvcore.model.devices.chardev import Console
from hvcore.model.devices.chardev import Parallel
from hvcore.model.devices.chardev import Serial
from hvcore.model.devices.chardev_source import source_of
from hvcore.rules.base import Rules

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Sequence

    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore.rules.base import Issues

rules = Rules()

_X86: Final = ("i686", "x86_64")
_CHANNEL_CHARACTERS: Final = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-."
)
_ISA_PORTS: Final = 4
_NO_CONSOLE: Final = ("pci-serial", "usb-serial", "isa-debug")
"""Serial ports that are no console unless the document says so."""


# -- post-parse ----------------------------------------------------------------------------------


def backends(domain: Domain) -> Iterator[Any]:
    """Yield everything that has a character device of the host as its other end."""
    devices = domain.devices
    for family in (devices.serials, devices.parallels, devices.channels, devices.consoles):
        yield from family
    yield from (card for card in devices.smartcards if card.mode == "passthrough")
    yield from devices.redirdevs
    yield from (rng.backend for rng in devices.rngs if rng.backend.model == "egd")


@rules.post_parse_early
def _forget_live_state(domain: Domain, ctx: Context) -> None:
    """Forget the pseudo terminals of the last run, unless the domain is running."""
    if ctx.active:
        return
    for backend in backends(domain):
        for source in backend.sources:
            if backend.type == "pty":
                source.path, source.seclabels = None, []
            else:
                _forget_skipped_labels(source)
    for channel in domain.devices.channels:
        channel.state = None


def _forget_skipped_labels(source: Any) -> None:
    """Forget labels of which a run only notes that they could not be set."""
    labels = getattr(source, "seclabels", [])
    for label in labels:
        if label.labelskip:
            label.labelskip = None
            label.relabel = True if label.relabel is None else label.relabel
    labels[:] = [label for label in labels if not label.empty]


def _next_port(family: Sequence[Any]) -> int:
    ports = (each.target_port for each in family)
    return max((port for port in ports if port is not None), default=-1) + 1


@rules.post_parse_early
def _number(domain: Domain, ctx: Context) -> None:
    """Give parallel ports the next number, and consoles that of their place."""
    del ctx
    devices = domain.devices
    for parallel in devices.parallels:
        if parallel.target_port is None:
            parallel.target_port = _next_port(devices.parallels)
    for place, console in enumerate(devices.consoles):
        console.target_port = place


@rules.post_parse_early
def _first_console(domain: Domain, ctx: Context) -> Issues:
    """Pair the first console of a full guest with its first serial port.

    Early versions knew one <console>, another name for the serial port. So a guest with such a
    console has a serial port as well, and one with a serial port has such a console.
    """
    if not ctx.stub_console:
        return
    devices = domain.devices
    consoles, serials = devices.consoles, devices.serials
    if any(console.target_type in ("serial", None) for console in consoles[1:]):
        yield Issue.unsupported("Only the first console can be a serial port")
        return
    if domain.os is None or domain.os.type != "hvm":
        return
    if consoles and consoles[0].target_type in ("serial", None):
        if not serials:
            serials.append(_serial_of(consoles[0]))
        del consoles[0]
    elif not serials or serials[0].target_type in _NO_CONSOLE:
        return
    consoles.insert(0, Console(type="null", target_type="serial", is_serial=True))
    for place, console in enumerate(consoles):
        console.target_port = place


@rules.post_parse_early
def _isa_ports(domain: Domain, ctx: Context) -> Issues:
    """Give ISA serial ports one of the few numbers there are."""
    del ctx
    ports = [each for each in domain.devices.serials if each.target_type == "isa-serial"]
    numbers = [each.target_port for each in ports if each.target_port is not None]
    if len(ports) > _ISA_PORTS or any(number >= _ISA_PORTS for number in numbers):
        yield Issue.internal(f"Maximum supported number of ISA serial ports is '{_ISA_PORTS}'")
        return
    for number in numbers:
        if numbers.count(number) > 1:
            yield Issue.internal(f"target port '{number}' already allocated")
            return
    free = iter(sorted({*range(_ISA_PORTS)} - {*numbers}))
    for port in ports:
        if port.target_port is None:
            port.target_port = next(free)


def _serial_of(console: Console) -> Serial:
    return Serial(
        type=console.type,
        sources=console.sources,
        protocol=console.protocol,
        log_file=console.log_file,
        log_append=console.log_append,
        target_port=0,
        alias=console.alias,
        address=console.address,
    )


@rules.post_parse(Serial, Parallel, Console)
def _complete(domain: Domain, device: Any, ctx: Context) -> Issues:
    """Choose number and kind of target where they are left open."""
    del ctx
    devices = domain.devices
    if isinstance(device, Console) and device.target_type is None:
        device.target_type = "serial"
    arch = domain.os.arch if domain.os is not None else None
    if isinstance(device, Serial) and device.target_type == "isa-debug" and arch not in _X86:
        yield Issue.unsupported("isa-debug serial type only valid on x86 architecture")
        return
    if device.target_port is None:
        families: dict[type[Any], Sequence[Any]] = {
            Serial: devices.serials,
            Parallel: devices.parallels,
            Console: devices.consoles,
        }
        device.target_port = _next_port(families[type(device)])


# -- validation ----------------------------------------------------------------------------------


@rules.check(Serial, Parallel, Console, Channel)
def _source(domain: Domain, device: Any, ctx: Context) -> Issues:
    """Require what the source of a device needs."""
    del ctx
    yield from check_source(domain, device)


def check_source(domain: Domain, owner: Any) -> Issues:
    """Yield what is wrong with the source of ``owner``, which has ``type`` and ``sources``."""
    source = source_of(owner)
    check = _SOURCES.get(owner.type)
    found = list(check(owner, source)) if check is not None else []
    yield from found
    if not found:
        yield from check_device_labels(domain, getattr(source, "seclabels", ()))


def check_device_labels(domain: Domain, labels: Sequence[Any]) -> Issues:
    """Yield an issue for labels of a model that the domain does not let relabel."""
    fixed = {label.model for label in domain.seclabels if not label.relabel}
    if any(label.model in fixed for label in labels):
        yield Issue.unsupported(
            "label overrides require relabeling to be enabled at the domain level"
        )


def _missing(what: str) -> Issue:
    return Issue.internal(f"Missing source {what} attribute for char device")


def _path(owner: Any, source: Any) -> Issues:
    del owner
    if source is None or source.path is None:
        yield _missing("path")


def _nmdm(owner: Any, source: Any) -> Issues:
    del owner
    if (source.master is None) != (source.slave is None):
        yield Issue.internal("Should define both master and slave path attributes for nmdm device")


def _tcp(owner: Any, source: Any) -> Issues:
    del owner
    if source.host is None:
        yield _missing("host")
    elif source.service is None:
        yield _missing("service")
    else:
        yield from _reconnect(source)


def _reconnect(source: Any) -> Issues:
    if source.mode == "bind" and source.reconnect is not None:
        yield Issue.internal("chardev reconnect is possible only for connect mode")


def _udp(owner: Any, source: Any) -> Issues:
    del owner
    if source is None or source.service is None:
        yield _missing("service")


def _unix(owner: Any, source: Any) -> Issues:
    # Paths of such channels are generated at the start.
    generated = isinstance(owner, Channel) and owner.target_type in ("virtio", "xen")
    if source.path is None and not generated:
        yield _missing("path")
    else:
        yield from _reconnect(source)


def _channel(owner: Any, source: Any) -> Issues:
    del owner
    if source.channel is None:
        yield Issue.unsupported("Missing source channel attribute for char device")
    elif not _CHANNEL_CHARACTERS.issuperset(source.channel):
        yield Issue("Invalid character in source channel for char device", ErrorClass.INVALID_ARG)


_SOURCES: Final = {
    "file": _path,
    "dev": _path,
    "pipe": _path,
    "nmdm": _nmdm,
    "tcp": _tcp,
    "udp": _udp,
    "unix": _unix,
    "spiceport": _channel,
    "dbus": _channel,
}
