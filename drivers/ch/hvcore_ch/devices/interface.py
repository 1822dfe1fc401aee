"""Network interfaces: virtio-net on a tap, macvtap or vhost-user process, vDPA, and VFIO.

A tap is opened by the manager, which may have privileges that the guest's process should not have,
and handed over as a descriptor. vm.create takes none, so such an interface is a request of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import Final

from hvcore.errors import Issue
from hvcore.model.devices.interface import BridgeSource
from hvcore.model.devices.interface import DirectSource
from hvcore.model.devices.interface import HostdevInterfaceSource
from hvcore.model.devices.interface import Interface
from hvcore.model.devices.interface import NetworkSource
from hvcore.model.devices.interface import PlainSource
from hvcore.model.devices.interface import VdpaSource
from hvcore.model.devices.interface import VhostUserSource
from hvcore.rules.base import Rules
from hvcore_ch.accepts import ANY
from hvcore_ch.accepts import one_of
from hvcore_ch.command import TapRequest
from hvcore_ch.command import present
from hvcore_ch.devices.hostdev import device_config
from hvcore_ch.devices.info import VIRTIO
from hvcore_ch.devices.info import behind_iommu
from hvcore_ch.devices.info import place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore_ch.accepts import Accepts
    from hvcore_ch.command import Command

rules = Rules()

_MODES: Final = {"client": "Client", "server": "Server"}
_OFFLOADS: Final = ("host_csum", "host_tso4", "host_tso6", "host_ufo", "guest_csum", "guest_tso4",
                    "guest_tso6", "guest_ufo")  # fmt: skip
MIN_MTU: Final = 1280
"""The smallest MTU that virtio has."""

ACCEPTS: Accepts = {
    Interface: {
        "type": one_of("ethernet", "bridge", "network", "direct", "vhostuser", "vdpa", "hostdev"),
        "managed": ANY,
        "mac": ANY,
        "source": ANY,
        "target": ANY,
        "target_managed": ANY,
        "model": VIRTIO,
        "isolated": ANY,
        "queues": ANY,
        "rx_queue_size": ANY,
        "tx_queue_size": ANY,
        "host_driver_written": ANY,
        "host_driver": one_of("vfio"),
        "link": one_of("up"),
        "mtu": ANY,
        **dict.fromkeys(_OFFLOADS, ANY),
    },
    PlainSource: {},
    BridgeSource: {"bridge": ANY},
    NetworkSource: {"network": ANY, "portgroup": ANY},
    DirectSource: {"dev": ANY, "mode": one_of("bridge", "private", "vepa")},
    VhostUserSource: {"type": one_of("unix"), "path": ANY, "mode": ANY},
    VdpaSource: {"dev": ANY},
    HostdevInterfaceSource: {"address": ANY},
}


@rules.check(Interface)
def _queue_sizes(domain: Domain, device: Interface, ctx: Context) -> Iterator[Issue]:
    """There is one size for both directions."""
    del domain, ctx
    received, sent = device.rx_queue_size or 0, device.tx_queue_size or 0
    if received != sent:
        yield Issue.unsupported(
            f"virtio rx_queue_size option {received} is not same with tx_queue_size {sent}"
        )


@rules.check(Interface)
def _mtu(domain: Domain, device: Interface, ctx: Context) -> Iterator[Issue]:
    del domain, ctx
    if device.mtu and device.mtu < MIN_MTU:
        yield Issue.unsupported(
            f"Cloud-Hypervisor doesn't support an MTU of less than {MIN_MTU}", path="mtu/@size"
        )
    if device.type == "vhostuser" and device.iommu:
        yield Issue.unsupported("Cloud-Hypervisor puts no vhost-user device behind an IOMMU")


@rules.check(Interface)
def _offloads(domain: Domain, device: Interface, ctx: Context) -> Iterator[Issue]:
    """One switch is for both directions and both versions of IP."""
    del domain, ctx
    for names in (("host_csum", "guest_csum"), ("host_ufo", "guest_ufo"),
                  ("host_tso4", "host_tso6", "guest_tso4", "guest_tso6")):  # fmt: skip
        if len({getattr(device, name) for name in names}) > 1:
            said = "', '".join(dict.fromkeys(name.partition("_")[2] for name in names))
            yield Issue.unsupported(
                f"Cloud-Hypervisor switches '{said}' of host and guest together", path="driver"
            )


@rules.check(Interface)
def _network(domain: Domain, device: Interface, ctx: Context) -> Iterator[Issue]:
    del domain, ctx
    if device.type == "hostdev" and device.source_pci is None:
        yield Issue.unsupported("Cloud-Hypervisor supports PCI devices of the host only")


def net_config(device: Interface) -> dict[str, Any]:
    """Return the ``NetConfig`` of an interface, without its tap."""
    members = {
        **place(device),
        "mac": device.mac,
        "mtu": device.mtu or None,
        "iommu": behind_iommu(device),
        "num_queues": 2 * device.queues if device.queues else None,
        "queue_size": device.rx_queue_size or None,
        "offload_csum": device.host_csum,
        "offload_tso": device.host_tso4,
        "offload_ufo": device.host_ufo,
    }
    if device.host_csum is False:
        # The others build on it.
        members["offload_tso"] = members["offload_ufo"] = False
    if isinstance(device.source, VhostUserSource):
        members |= {
            "vhost_user": True,
            "vhost_socket": device.source.path,
            "vhost_mode": _MODES[device.source.mode or "client"],
        }
    return present(members)


def vdpa_config(device: Interface) -> dict[str, Any]:
    """Return the ``VdpaConfig`` of an interface that a vDPA device is."""
    assert isinstance(device.source, VdpaSource)
    return present(
        {
            "path": device.source.dev,
            "num_queues": 2 * (device.queues or 1),
            "iommu": behind_iommu(device),
            **place(device),
        }
    )


def tap_request(device: Interface) -> TapRequest:
    """Return the tap that an interface wants."""
    source, link, mode = device.source, None, None
    kind = device.type
    if isinstance(source, BridgeSource):
        link = source.bridge
    elif isinstance(source, NetworkSource):
        kind, link = "network", source.network
    elif isinstance(source, DirectSource):
        link, mode = source.dev, source.mode
    assert device.alias is not None  # prepared
    return TapRequest(
        alias=device.alias,
        kind=kind,
        name=device.target,
        link=link,
        mode=mode,
        queues=device.queues or 1,
        mac=device.mac,
        mtu=device.mtu or None,
        existing=device.target_managed is False,
        isolated=bool(device.isolated),
    )


def command(vm: Command) -> None:
    """Describe the interfaces."""
    for device in vm.domain.devices.interfaces:
        if device.type == "hostdev":
            vm.add("devices", device_config(device))
        elif device.type == "vdpa":
            vm.add("vdpa", vdpa_config(device))
        elif device.type == "vhostuser":
            vm.add("net", net_config(device))
        else:
            vm.call("vm.add-net", net_config(device), tap_request(device))
