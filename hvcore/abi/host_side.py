"""Devices with something of the host behind them, as the guest sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import Final

import attrs

from hvcore.abi.common import differs
from hvcore.abi.common import info
from hvcore.abi.common import virtio
from hvcore.abi.table import ANY
from hvcore.abi.table import NUMBER
from hvcore.abi.table import RAW_TEXT
from hvcore.abi.table import TEXT
from hvcore.abi.table import YES_NO
from hvcore.abi.table import Compared
from hvcore.abi.table import Kind
from hvcore.abi.table import Parts
from hvcore.abi.table import Table
from hvcore.abi.table import listed
from hvcore.abi.table import one_of
from hvcore.errors import Issue
from hvcore.model.devices.interface import HostdevInterfaceSource
from hvcore.model.devices.interface import Interface

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.model.devices.base import Device
    from hvcore.model.domain import Domain

# -- disks, controllers, interfaces ---------------------------------------------------------------


def _queue_size(source: Any, target: Any) -> Iterator[Issue]:
    """Compare the size of a disk's queues; libvirt shows their number instead."""
    size = Compared("queue_size", "", NUMBER)
    found = size.difference(source, target)
    if found is not None:
        message = (
            f"Target disk queue size {target.queues or 0} does not match source"
            f" {source.queues or 0}"
        )
        yield attrs.evolve(found, message=message)


DISK: Final[Table] = (
    differs("disk device", one_of("disk"))("device"),
    differs("disk bus", one_of("none"))("bus"),
    differs("disk", RAW_TEXT)("target"),
    differs("disk serial", TEXT)("serial"),
    differs("disk wwn", TEXT, quoted=True)("wwn"),
    Compared("readonly", "Target disk access mode does not match source"),
    differs("disk model", one_of("default"))("model"),
    Compared(
        "rotation_rate",
        "Target disk rotation rate {target} RPM does not match source {source} RPM",
        NUMBER,
    ),
    differs("disk queue count")("queues"),
    _queue_size,
    virtio,
    info,
    differs("disk logical_block_size")("logical_block_size"),
    differs("disk physical_block_size")("physical_block_size"),
    differs("disk discard_granularity")("discard_granularity"),
)

_CONTROLLER_MODELS: Final[dict[str, tuple[str, ...]]] = {
    # In the order of libvirt's enumerations: messages have the number of the model.
    "scsi": (
        "auto", "buslogic", "lsilogic", "lsisas1068", "vmpvscsi", "ibmvscsi", "virtio-scsi",
        "lsisas1078", "virtio-transitional", "virtio-non-transitional", "ncr53c90", "dc390",
        "am53c974",
    ),
    "usb": (
        "piix3-uhci", "piix4-uhci", "ehci", "ich9-ehci1", "ich9-uhci1", "ich9-uhci2",
        "ich9-uhci3", "vt82c686b-uhci", "pci-ohci", "nec-xhci", "qusb1", "qusb2", "qemu-xhci",
        "none",
    ),
    "pci": (
        "pci-root", "pcie-root", "pci-bridge", "dmi-to-pci-bridge", "pcie-to-pci-bridge",
        "pcie-root-port", "pcie-switch-upstream-port", "pcie-switch-downstream-port",
        "pci-expander-bus", "pcie-expander-bus",
    ),
    "ide": ("piix3", "piix4", "ich6"),
    "virtio-serial": ("virtio", "virtio-transitional", "virtio-non-transitional"),
}  # fmt: skip


def _controller_model(controller: Any) -> int:
    """Return the number of a model; -1 means none."""
    models = _CONTROLLER_MODELS.get(controller.type, ())
    return models.index(controller.model) if controller.model in models else -1


CONTROLLER: Final[Table] = (
    # The other values mean something else for another type.
    attrs.evolve(differs("controller type", one_of("ide"))("type"), decides=True),
    differs("controller index")("index"),
    attrs.evolve(differs("controller model")("model"), get=_controller_model),
    attrs.evolve(
        differs("controller ports", Kind(-1))("ports"),
        where=lambda source: source.type in ("virtio-serial", "usb"),
    ),
    attrs.evolve(
        differs("controller vectors", Kind(-1))("vectors"),
        where=lambda source: source.type == "virtio-serial",
    ),
    virtio,
    info,
)

FILESYSTEM: Final[Table] = (
    differs("filesystem guest target", RAW_TEXT)("target"),
    Compared("readonly", "Target filesystem access mode does not match source"),
    Compared("model", "Target filesystem model does not match source"),
    virtio,
    info,
)

_NIC_MODELS: Final = frozenset(
    {
        "netfront", "rtl8139", "virtio", "e1000", "e1000e", "igb", "virtio-transitional",
        "virtio-non-transitional", "usb-net", "spapr-vlan", "lan9118", "scm91c111", "vlance",
        "vmxnet", "vmxnet2", "vmxnet3", "Am79C970A", "Am79C973", "82540EM", "82545EM", "82543GC",
    }
)  # fmt: skip
"""Models that libvirt has a number for; others are kept as text."""


def _nic_model(source: Any, target: Any) -> Iterator[Issue]:
    """Compare models; one is shown as a text or by its number's name, whichever was kept."""
    was, now = source.model, target.model
    if was == now:
        return
    if {was, now} <= _NIC_MODELS | {None}:
        unknown = "unknown"
    else:
        was, now = (None if model in _NIC_MODELS else model for model in (was, now))
        unknown = "<null>"
    yield Issue.unsupported(
        f"Target network card model {now or unknown} does not match source {was or unknown}",
        line=target.line,
        path="model/@type",
    )


INTERFACE: Final[Table] = (
    differs("network card mac", RAW_TEXT)("mac"),
    _nic_model,
    differs("network card MTU")("mtu"),
    virtio,
    info,
)

# -- devices of the host --------------------------------------------------------------------------

_EXCHANGEABLE: Final = frozenset({"pci", "mdev"})
"""Whether a guest can go from one to the other only the hypervisor can tell."""


def host_devices(domain: Domain) -> list[Any]:
    """Return the devices of the host, those that are interfaces first."""
    interfaces = [each for each in domain.devices.interfaces if each.type == "hostdev"]
    return [*interfaces, *domain.devices.hostdevs]


def _mode(device: Any) -> str:
    mode: str = getattr(device, "mode", "subsystem")
    return mode


def _subsystem(device: Any) -> str:
    source = device.source
    if isinstance(source, HostdevInterfaceSource):
        return "usb" if source.is_usb else "pci"
    kind: str = device.type
    return kind


def _subsystems(source: Any, target: Any) -> Iterator[Issue]:
    """Compare what kind of device it is."""
    if _mode(source) != "subsystem" or _mode(target) != "subsystem":
        return
    was, now = _subsystem(source), _subsystem(target)
    if was != now and not {was, now} <= _EXCHANGEABLE:
        yield Issue.unsupported(
            f"Target host device subsystem type {now} is not compatible with source subsystem"
            f" type {was}",
            line=target.line,
            path="@type",
        )


def _host_info(source: Device, target: Device) -> Iterator[Issue]:
    """Compare addresses; those of interfaces were compared already."""
    if not (isinstance(source, Interface) and isinstance(target, Interface)):
        yield from info(source, target)


HOSTDEV: Final[Table] = (
    attrs.evolve(differs("host device mode", ANY)("mode"), get=_mode),
    _subsystems,
    _host_info,
)

# -- character devices ----------------------------------------------------------------------------

_PORT: Final = Kind(-1)

SERIAL: Final[Table] = (
    differs("serial type", one_of("none"))("target_type"),
    differs("serial model", one_of("none"))("target_model"),
    differs("serial port", _PORT)("target_port"),
    info,
)

PARALLEL: Final[Table] = (differs("parallel port", _PORT)("target_port"), info)


def _default_name(source: Any, target: Any) -> Iterator[Issue]:
    """Refuse a change of what a channel without a name is called by default."""
    named = source.target_name is not None or source.target_type not in ("xen", "virtio")
    if not named and (source.type == "spicevmc") != (target.type == "spicevmc"):
        yield Issue.unsupported(
            "Changing device type to/from spicevmc would change default target channel name",
            line=target.line,
            path="@type",
        )


CHANNEL: Final[Table] = (
    attrs.evolve(differs("channel type", one_of("none"))("target_type"), decides=True),
    attrs.evolve(
        differs("channel name", TEXT)("target_name"),
        where=lambda source: source.target_type in ("xen", "virtio"),
    ),
    _default_name,
    Compared(
        "target_address target_port",
        "Target channel addr {target} does not match source {source}",
        Parts("{}:{}", (Kind(), NUMBER)),
        where=lambda source: source.target_type == "guestfwd",
    ),
    info,
)


def _console_info(source: Any, target: Any) -> Iterator[Issue]:
    """Compare the address, unless the console stands for a serial port."""
    if not (source.is_serial or target.is_serial):
        yield from info(source, target)


CONSOLE: Final[Table] = (
    attrs.evolve(
        differs("console type", one_of("none"))("target_type"),
        get=lambda console: "serial" if console.is_serial else console.target_type,
    ),
    _console_info,
)

REDIRDEV: Final[Table] = (
    differs("redirected device bus", ANY)("bus"),
    Compared(
        "type",
        "Target redirected device source type {target} does not match source device source type"
        " {source}",
    ),
    info,
)

_ANY_DEVICE: Final = Kind(-1)

_USB_FILTER: Final[Table] = (
    Compared("usb_class", "Target USB Class code does not match source", _ANY_DEVICE),
    Compared("vendor", "Target USB vendor ID does not match source", _ANY_DEVICE),
    Compared("product", "Target USB product ID does not match source", _ANY_DEVICE),
    Compared("version", "Target USB version does not match source", _ANY_DEVICE),
    differs("USB allow", YES_NO, quoted=True)("allow"),
)

REDIRFILTER: Final[Table] = (
    listed(
        "usbdevs",
        _USB_FILTER,
        "Target USB redirection filter rule count {target} does not match source {source}",
    ),
)
