"""What all devices have in common: where they sit, options of virtio, the usual words."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Final

import attrs

from hvcore.abi.table import HEX
from hvcore.abi.table import NUMBER
from hvcore.abi.table import SWITCH
from hvcore.abi.table import Compared
from hvcore.abi.table import Kind
from hvcore.abi.table import Parts
from hvcore.abi.table import Table
from hvcore.abi.table import differences
from hvcore.errors import Issue
from hvcore.xml.fields import fields_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator

    from hvcore.model.devices.base import Device
    from hvcore.model.devices.base import VirtioDevice

_ADDRESSES: Final[dict[str, Table]] = {
    # Ports of USB, registers of sPAPR and slots of virtio-mmio are not compared.
    "pci": (
        Compared(
            "domain bus slot function",
            "Target device PCI address {target} does not match source {source}",
            Parts("{:04x}:{:02x}:{:02x}.{}", (NUMBER,) * 4),
        ),
    ),
    "drive": (
        Compared(
            "controller bus unit",
            "Target device drive address {target} does not match source {source}",
            Parts("{}:{}:{}", (NUMBER,) * 3),
        ),
    ),
    "virtio-serial": (
        Compared(
            "controller bus port",
            "Target device virtio serial address {target} does not match source {source}",
            Parts("{}:{}:{}", (NUMBER,) * 3),
        ),
    ),
    "ccid": (
        Compared(
            "controller slot",
            "Target device ccid address {target} does not match source {source}",
            Parts("{}:{}", (NUMBER,) * 2),
        ),
    ),
    "isa": (
        Compared(
            "iobase irq",
            "Target device isa address {target} does not match source {source}",
            Parts("{}:{}", (NUMBER,) * 2),
        ),
    ),
    "dimm": (
        Compared("slot", "Target device dimm slot {target} does not match source {source}", NUMBER),
        Compared(
            "base",
            "Target device dimm base address '{target}' does not match source '{source}'",
            HEX,
        ),
    ),
    "ccw": (
        Compared(
            "cssid ssid devno",
            "Target device CCW address {target} does not match source {source}",
            Parts("{:x}.{:x}.{:04x}", (NUMBER,) * 3),
        ),
    ),
}
_ADDRESS_TYPE: Final = Compared(
    "address",
    "Target device address type {target} does not match source {source}",
    get=lambda device: "none" if device.address is None else device.address.type,
)
_ACPI_INDEX: Final = Compared(
    "acpi_index", "Target ACPI index '{target}' does not match source '{source}'", NUMBER
)


def info(source: Device, target: Device) -> Iterator[Issue]:
    """Compare where two devices sit."""
    other = _ADDRESS_TYPE.difference(source, target)
    if other is not None:
        yield other
    elif source.address is not None:
        table = _ADDRESSES.get(source.address.type, ())
        for issue in differences(table, source.address, target.address):
            yield attrs.evolve(issue, line=target.line, path=f"address/{issue.path}")
    yield from differences((_ACPI_INDEX,), source, target)


_VIRTIO: Final[Table] = tuple(
    Compared(
        name, f"Target device {name} option '{{target}}' does not match source '{{source}}'", SWITCH
    )
    for name in ("iommu", "ats", "packed", "page_per_vq")
)


def _has_driver(device: VirtioDevice) -> bool:
    """Tell whether a device has a <driver>: libvirt reads the options of virtio from any."""
    if getattr(device, "host_driver", None) is not None:
        return True
    return any(
        getattr(device, name) not in (None, [], *spec.omit)
        for name, spec in fields_of(type(device))
        if spec.steps[:1] == ("driver",)
    )


def virtio(source: VirtioDevice, target: VirtioDevice) -> Iterator[Issue]:
    """Compare the options of the transport."""
    was, now = _has_driver(source), _has_driver(target)
    if was and now:
        yield from differences(_VIRTIO, source, target)
    elif was != now:
        yield Issue.unsupported(
            "Target device virtio options don't match the source", line=target.line
        )


# -- the usual words -------------------------------------------------------------------------------


def differs(what: str, kind: Kind = NUMBER, *, quoted: bool = False) -> Callable[[str], Compared]:
    """Return what makes a row of the usual words."""
    words = f"Target {what} '{{target}}' does not match source '{{source}}'"
    if not quoted:
        words = words.replace("'", "")
    return lambda names: Compared(names, words, kind)


def unlike(what: str, names: str, kind: Kind = NUMBER, *, about: str = "source") -> Compared:
    """Return a row of the words that younger checks have."""
    return Compared(names, f"Target {what} '{{target}}' does not match {about} '{{source}}'", kind)
