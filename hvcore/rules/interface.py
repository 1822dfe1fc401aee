"""Rules of <interface> that hold for every driver."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING
from typing import Final

from hvcore.errors import ErrorClass
from hvcore.errors import Issue
from hvcore.model.devices.interface import GENERATED_NAMES
from hvcore.model.devices.interface import Interface
from hvcore.model.devices.interface import NetworkSource
from hvcore.model.devices.interface import UserSource
from hvcore.model.devices.interface_parts import GENERATED_IDS
from hvcore.rules.base import Rules

if TYPE_CHECKING:
    from hvcore.model.devices.base import VirtioDevice
    from hvcore.model.devices.interface_parts import Bandwidth
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore.rules.base import Issues

rules = Rules()

MAC_PREFIX: Final = "52:54:00"
"""How generated MAC addresses begin: the range that QEMU's guests use."""

_FASTEST: Final = 1 << 54
_LARGEST_BURST: Final = (2**32 - 1) >> 10
_RATES: Final = (
    ("average", _FASTEST),
    ("peak", _FASTEST),
    ("burst", _LARGEST_BURST),
    ("floor", _FASTEST),
)
"""Highest values that the kernel's traffic control takes."""
_ONLY_VIRTIO: Final = {
    "iommu": "iommu driver option is only supported for virtio devices",
    "ats": "ats driver option is only supported for virtio devices",
    "packed": "packed driver option is only supported for virtio devices",
    "page_per_vq": "page_per_vq option is only supported for virtio devices",
}
_LIVE: Final = ("portid", "bridge", "mac_table_manager", "dev", "mode")


def absent_virtio_options(device: VirtioDevice) -> Issues:
    """Yield an issue for each option of the virtio transport that is set."""
    for name, message in _ONLY_VIRTIO.items():
        if getattr(device, name) is not None:
            yield Issue.unsupported(message)


@rules.post_parse(Interface)
def _generate(domain: Domain, device: Interface, ctx: Context) -> None:
    """Draw the addresses that are not given, and forget what only a running domain has."""
    del domain
    if device.mac is None:
        octets = [ctx.random_bytes(1)[0] for _ in range(3)]
        device.mac = ":".join((MAC_PREFIX, *(f"{octet:02x}" for octet in octets)))
    if device.virtualport is not None:
        for name, types in GENERATED_IDS.items():
            if getattr(device.virtualport, name) is None and device.virtualport.type in types:
                drawn = uuid.UUID(bytes=ctx.random_bytes(16), version=4)
                setattr(device.virtualport, name, str(drawn))
    if ctx.active:
        return
    if isinstance(device.source, NetworkSource):
        for name in _LIVE:
            setattr(device.source, name, None)
    if device.target_managed is not False and (device.target or "").startswith(GENERATED_NAMES):
        device.target = None


@rules.check(Interface)
def _host_side(domain: Domain, device: Interface, ctx: Context) -> Issues:
    """Check what is said about the host's end."""
    del domain, ctx
    source = device.source
    if source is not None and (source.ips or source.routes) and device.type != "ethernet":
        yield Issue.unsupported(
            "Invalid attempt to set network interface host-side IP route and/or address info on"
            f" interface of type '{device.type}'. This is only supported on interfaces of type"
            " 'ethernet'"
        )
    if device.target_managed is False and device.type != "ethernet":
        yield Issue.unsupported(
            f"unmanaged target dev is not supported on interfaces of type '{device.type}'"
        )


@rules.check(Interface)
def _teaming(domain: Domain, device: Interface, ctx: Context) -> Issues:
    """Check that the transient one of a team, and only that, names the other."""
    del domain, ctx
    if device.teaming == "transient" and device.teaming_persistent is None:
        yield Issue.unsupported(
            "teaming persistent attribute must be set if teaming type is 'transient'"
        )
    elif device.teaming == "persistent" and device.teaming_persistent is not None:
        yield Issue.unsupported(
            f"teaming persistent attribute not allowed if teaming type is '{device.teaming}'"
        )


def check_isolation(device: Interface) -> Issues:
    """Check that an isolated port is on a bridge of Linux."""
    port = device.port
    if not port.isolated:
        return
    what = f"interface {device.mac} - <port isolated='yes'/> is not supported for network"
    if port.type not in ("network", "bridge"):
        yield Issue.unsupported(f"{what} interfaces with type='{port.type}'")
    elif port.virtualport is not None and port.virtualport.type is not None:
        yield Issue.unsupported(
            f"{what} interfaces with virtualport type='{port.virtualport.type}'"
        )


def check_bandwidth(bandwidth: Bandwidth | None) -> Issues:
    """Check that the kernel can count that far."""
    if bandwidth is None:
        return
    for rate in (bandwidth.inbound, bandwidth.outbound):
        for name, limit in _RATES if rate is not None else ():
            value = getattr(rate, name)
            if value is not None and value > limit:
                yield Issue(
                    f"value '{value}' is too big for '{name}' parameter, maximum is '{limit}'",
                    ErrorClass.OVERFLOW,
                )


@rules.check(Interface)
def _settings(domain: Domain, device: Interface, ctx: Context) -> Issues:
    """Check isolation, options of the transport, passt and bandwidth."""
    del domain, ctx
    yield from check_isolation(device)
    if not device.is_virtio:
        yield from absent_virtio_options(device)
    yield from _passt(device)
    yield from check_bandwidth(device.bandwidth)


def _passt(device: Interface) -> Issues:
    types = "interface type='user' or type='vhostuser'"
    can = device.type in ("user", "vhostuser")
    if device.backend == "passt" and not can:
        yield Issue.unsupported(f"The 'passt' backend can only be used with {types}")
    if isinstance(device.source, UserSource) and device.source.dev and device.backend != "passt":
        yield Issue.unsupported(
            "The 'dev' attribute of the <source> element can only be used with <interface>"
            " type='user' or type='vhostuser' if the <backend> type='passt'"
        )
    if device.port_forwards and not (can and device.backend == "passt"):
        yield Issue.unsupported(
            f"The <portForward> element can only be used with the 'passt' backend of {types}"
        )
        return
    for forward in device.port_forwards:
        for ports in forward.ranges:
            given = (ports.end, ports.to, ports.exclude)
            if not ports.start and any(value is not None for value in given):
                yield Issue.unsupported(
                    "The 'range' of a 'portForward' requires 'start' attribute if 'end', 'to', or"
                    " 'exclude' is specified"
                )
                return


def check_actual(device: Interface) -> Issues:
    """Check an interface as it really is, after a network gave it a port."""
    port = device.port
    where = f"interface {device.mac}"
    virtual = port.virtualport.type if port.virtualport is not None else None
    if port.vlan is not None and not (
        port.type == "hostdev"
        or (port.type == "direct" and getattr(port.source, "mode", None) == "passthrough")
        or (port.type == "bridge" and (port.virtualport is None or virtual == "openvswitch"))
    ):
        yield Issue.unsupported(f"{where} - vlan tag not supported for this connection type")
    if port.bandwidth is not None and port.type == "hostdev":
        yield Issue.unsupported(
            f"{where} - bandwidth settings are not supported for hostdev interfaces"
        )
    yield from check_bandwidth(port.bandwidth)
    yield from check_isolation(device)
