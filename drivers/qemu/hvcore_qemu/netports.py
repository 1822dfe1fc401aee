"""Interfaces of virtual networks: what a network's port turns out to be."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING
from typing import Final

from hvcore.errors import Issue
from hvcore.errors import ValidationFailed
from hvcore.model.devices.interface import ActualPort
from hvcore.model.devices.interface import HostdevInterfaceSource
from hvcore.model.devices.interface import NetworkSource
from hvcore.model.networkport import NetworkPort
from hvcore.rules.hostdev import host_devices
from hvcore.rules.hostdev import same_pci
from hvcore.xml.context import FormatContext
from hvcore.xml.context import ParseContext
from hvcore.xml.reader import read
from hvcore_qemu.devices.hostdev import choose_driver
from hvcore_qemu.props import refuse

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Mapping

    from hvcore.model.devices.interface import Interface
    from hvcore.model.devices.interface import InterfaceType
    from hvcore.model.domain import Domain
    from hvcore_qemu.prepare import Preparation

_PLUGS: Final[Mapping[str | None, InterfaceType]] = {
    None: "user",
    "network": "network",
    "bridge": "bridge",
    "direct": "direct",
    "hostdev-pci": "hostdev",
}
_UUID_BYTES: Final = 16


def is_host_device(
    interface: Interface, network_forward: Callable[[str], str | None] | None
) -> bool:
    """Return whether ``interface`` is a device of the host, or a network will make it one.

    :param network_forward: returns how a virtual network forwards.
    """
    port = interface.port
    if port.type != "network" or network_forward is None:
        return port.type == "hostdev"
    source = port.source
    return (
        isinstance(source, NetworkSource)
        and source.network is not None
        and network_forward(source.network) == "hostdev"
    )


def request(work: Preparation, device: Interface) -> NetworkPort:
    """Return the port that is asked of the network."""
    source = device.source
    assert isinstance(source, NetworkSource)
    drawn = work.host.random_bytes(_UUID_BYTES)
    return NetworkPort(
        uuid=str(uuid.UUID(bytes=drawn, version=4)),
        owner=work.domain.name,
        owner_uuid=work.domain.uuid,
        group=source.portgroup,
        mac=device.mac,
        virtualport=device.virtualport,
        bandwidth=device.bandwidth,
        vlan=device.vlan,
        isolated=device.isolated,
        trust_guest_rx_filters=device.trust_guest_rx_filters,
    )


def allocate(work: Preparation, device: Interface) -> None:
    """Make a port of the network for ``device``, which then knows what it really is.

    :raises HvError: when the network does not exist or has no port left.
    :raises ValidationFailed: when the device of the host is already the guest's.
    """
    source = device.source
    assert isinstance(source, NetworkSource)
    binding = work.registry.binding
    wanted = binding.format(request(work, device), FormatContext())
    answer = work.host.network_port(source.network or "", wanted)
    ctx = ParseContext()
    root = read(answer, "networkport", source="networkport_definition")
    port: NetworkPort = binding.parse(NetworkPort, root, ctx)
    if ctx.issues:
        raise ValidationFailed(ctx.issues)
    source.portid = port.uuid
    device.actual = _actual(source, port)
    if device.actual.type == "hostdev":
        _claim(work.domain, device, source)
        choose_driver(work, device)


def _actual(source: NetworkSource, port: NetworkPort) -> ActualPort:
    kind = _PLUGS[port.plug]
    shown: NetworkSource | HostdevInterfaceSource
    if kind == "hostdev":
        shown = HostdevInterfaceSource(address=port.address)
    else:
        shown = NetworkSource(
            network=source.network,
            portgroup=source.portgroup,
            portid=port.uuid,
            bridge=port.bridge,
            mac_table_manager=port.mac_table_manager,
            dev=port.dev,
            mode=(port.mode or "vepa") if kind == "direct" else None,
        )
    class_id = None
    if port.bandwidth is not None:
        class_id, port.bandwidth.class_id = port.bandwidth.class_id, None
    return ActualPort(
        type=kind,
        source=shown,
        managed=port.managed,
        host_driver=port.host_driver,
        host_driver_model=port.host_driver_model,
        vlan=port.vlan,
        # A network's own bridge has no switch behind it that would have to be told.
        virtualport=port.virtualport if kind in ("bridge", "direct", "hostdev") else None,
        bandwidth=port.bandwidth,
        isolated=port.isolated,
        class_id=class_id,
    )


def _claim(domain: Domain, device: Interface, source: NetworkSource) -> None:
    """Make sure that the guest does not have the device already."""
    address = device.source_pci
    assert address is not None  # the port has one
    others = [*host_devices(domain)]
    others += [
        each for each in domain.devices.interfaces if each is not device and each.actual is not None
    ]
    for other in others:
        if other.source_pci is not None and same_pci(other.source_pci, address):
            refuse(
                Issue.internal(
                    f"PCI device {address} allocated from network {source.network} is already in"
                    f" use by domain {domain.name}"
                )
            )
