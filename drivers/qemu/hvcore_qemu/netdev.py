"""The host's end of interfaces: what is opened for each, and QEMU's ``-netdev`` for it."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from collections.abc import Mapping
from typing import TYPE_CHECKING
from typing import Any
from typing import Final

import attrs

from hvcore.errors import Issue
from hvcore.hostnet import TapOptions
from hvcore.model.devices.interface import BridgeSource
from hvcore.model.devices.interface import DirectSource
from hvcore.model.devices.interface import NetworkSource
from hvcore.model.devices.interface import ServerSource
from hvcore.model.devices.interface import SocketSource
from hvcore.model.devices.interface import UdpSource
from hvcore.model.devices.interface import VdpaSource
from hvcore_qemu.props import refuse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hvcore.hostnet import Tap
    from hvcore.model.devices.interface import Interface
    from hvcore_qemu.command import Command
    from hvcore_qemu.prepare import Preparation
    from hvcore_qemu.resources import FdSet
    from hvcore_qemu.resources import Resources

Props = dict[str, Any]

PASST_RECONNECT: Final = 5
"""Seconds after which QEMU tries to reach passt again."""
_TUN: Final = "/dev/net/tun"
_WITH_HEADER: Final = frozenset({"e1000e", "igb", "vmxnet3"})
"""Models besides virtio whose packets carry offload headers."""
TAPS: Final = frozenset({"network", "bridge", "direct", "ethernet"})
"""Types (of the port, where a network has one) behind which there is a tap."""


@attrs.frozen(kw_only=True)
class Connection:
    """What was opened for one interface.

    :ivar taps: a descriptor for each pair of queues.
    :ivar vhosts: as many of vhost-net, unless QEMU itself moves the packets.
    :ivar vdpa: the device, which QEMU opens as a file.
    """

    taps: tuple[int, ...] = ()
    vhosts: tuple[int, ...] = ()
    vdpa: FdSet | None = None


def passt_socket(work: Preparation | Command, device: Interface) -> str:
    """Return the path of the socket on which passt serves an interface."""
    short = work.resources.short_name
    return f"{work.config.passt_state_dir}/{short}-{device.alias}.socket"


def connect(work: Preparation, device: Interface) -> Connection:
    """Open what stands behind ``device``, and name the host's interface after what it became.

    :raises ValidationFailed: when vhost is required but impossible.
    :raises HvError: when the host does not have it.
    """
    kind = device.port.type
    source = device.port.source
    if kind in TAPS:
        tap = _open_tap(work, device)
        device.target = tap.name
        return Connection(taps=tap.fds, vhosts=tuple(_vhost(work, device)))
    if device.backend == "passt":
        work.host.passt(passt_socket(work, device))
    if kind == "vdpa":
        assert isinstance(source, VdpaSource)
        fd = work.host.vdpa(source.dev or "")
        return Connection(vdpa=work.resources.new_fd_set([(fd, f"{device.alias}-vdpa")]))
    return Connection()


def _open_tap(work: Preparation, device: Interface) -> Tap:
    source, host, options = device.port.source, work.host, _tap_options(device)
    if device.backend_tap is not None and not work.config.privileged:
        refuse(Issue.unsupported("cannot use custom tap device in session mode"))
    if isinstance(source, DirectSource) or device.port.type == "direct":
        assert isinstance(source, (DirectSource, NetworkSource))
        return host.macvtap(device.target, source.dev or "", source.mode or "vepa", options)
    if isinstance(source, (BridgeSource, NetworkSource)):
        if source.bridge is None:
            refuse(Issue.internal("Missing bridge name"))
        return host.bridge_tap(device.target, source.bridge, options)
    if device.target_managed is False:
        if device.target is None:
            refuse(Issue.internal("target dev must be supplied when managed='no'"))
        if not host.interface_exists(device.target):
            refuse(Issue.internal("target managed='no' but specified dev doesn't exist"))
    return host.tap(device.target, options)


def _tap_options(device: Interface) -> TapOptions:
    port = device.port
    source = port.source
    found = {
        "bandwidth limits": port.bandwidth is not None,
        "a filter": device.filter is not None,
        "a virtual port": port.virtualport is not None,
        "a VLAN": port.vlan is not None,
        "a script for their end": device.downscript is not None,
        "addresses of the host": source is not None and bool(source.ips or source.routes),
    }
    return TapOptions(
        queues=device.queues or 1,
        path=device.backend_tap or _TUN,
        vnet_header=device.is_virtio or device.model in _WITH_HEADER,
        mac=device.mac,
        mtu=device.mtu or None,
        existing=device.target_managed is False,
        isolated=bool(port.isolated),
        learning=getattr(source, "mac_table_manager", None) != "libvirt",
        rx_frames=device.rx_frames or None,
        script=device.script if port.type == "ethernet" else None,
        others=tuple(what for what, wanted in found.items() if wanted),
    )


def _vhost(work: Preparation, device: Interface) -> Sequence[int]:
    """Return descriptors of vhost-net, which only virtio interfaces can use."""
    if not device.is_virtio:
        return ()
    if not has_device(work.domain.os.arch if work.domain.os is not None else "", device):
        if device.driver == "vhost":
            refuse(Issue.unsupported("vhost-net is not supported with this QEMU binary"))
        return ()
    return work.host.vhost_net(
        device.backend_vhost,
        queues=device.queues or 1,
        kvm=work.domain.type == "kvm",
        driver=device.driver,
    )


def has_device(arch: str | None, device: Interface) -> bool:
    """Return whether ``-device`` makes the interface; on Arm boards some are part of them."""
    if arch not in ("armv6l", "armv7l", "aarch64"):
        return True
    return device.address is not None and device.address.type in ("virtio-mmio", "pci")


def netdev(cmd: Command, device: Interface) -> None:
    """Append ``-netdev`` for ``device``.

    :raises ValidationFailed: when QEMU has nothing of the kind.
    """
    kind = device.port.type
    if device.script is not None and kind != "ethernet":
        refuse(Issue.unsupported(f"scripts are not supported on interfaces of type {kind}"))
    make = _NETDEVS.get(kind)
    if make is None:
        refuse(
            Issue.unsupported(f"network device type '{kind}' is not supported by this hypervisor")
        )
    props = {**make(cmd, device), "id": f"host{device.alias}"}
    value = {name: value for name, value in props.items() if value is not None}
    if "netdev.json" in cmd.caps:
        cmd.option("-netdev", value)
    else:
        cmd.option("-netdev", _as_keys(value))


def _as_keys(props: Mapping[str, Any], prefix: str = "") -> str:
    """Return ``props`` for a QEMU that does not take JSON here."""
    parts = []
    for name, value in props.items():
        if isinstance(value, Mapping):
            parts.append(_as_keys(value, f"{prefix}{name}."))
        elif name == "type" and not prefix:
            parts.append(str(value))
        elif isinstance(value, bool):
            parts.append(f"{prefix}{name}={'on' if value else 'off'}")
        else:
            parts.append(f"{prefix}{name}={str(value).replace(',', ',,')}")
    return ",".join(parts)


def connection_of(resources: Resources, device: Interface) -> Connection:
    """Return what was opened for ``device``."""
    found = resources.by_alias[device.alias or ""]
    assert isinstance(found, Connection)
    return found


def _tap(cmd: Command, device: Interface) -> Props:
    connection = connection_of(cmd.resources, device)
    taps = _given(cmd, connection.taps, f"tap-{device.alias}")
    vhosts = _given(cmd, connection.vhosts, f"vhost-{device.alias}")
    return {
        "type": "tap",
        "fds" if len(taps) > 1 else "fd": ":".join(taps),
        "vhost": bool(vhosts) or None,
        "vhostfds" if len(vhosts) > 1 else "vhostfd": ":".join(vhosts) or None,
        "sndbuf": device.sndbuf,
    }


def _given(cmd: Command, fds: tuple[int, ...], name: str) -> list[str]:
    return [cmd.descriptor(fd, f"{name}-{position}") for position, fd in enumerate(fds)]


def _socket(role: str) -> Callable[[Command, Interface], Props]:
    def make(cmd: Command, device: Interface) -> Props:
        del cmd
        source = device.source
        assert isinstance(source, (SocketSource, ServerSource))
        return {"type": "socket", role: f"{source.address or ''}:{source.port}"}

    return make


def _udp(cmd: Command, device: Interface) -> Props:
    del cmd
    source = device.source
    assert isinstance(source, UdpSource)
    return {
        "type": "socket",
        "udp": f"{source.address}:{source.port}",
        "localaddr": f"{source.local_address}:{source.local_port}",
    }


def _user(cmd: Command, device: Interface) -> Props:
    if device.backend == "passt":
        return _passt(cmd, device)
    props: Props = {"type": "user"}
    for ip in device.ips:
        if ipaddress.ip_address(ip.address or "").version == 4:
            props["net"] = f"{ip.address}/{ip.prefix}" if ip.prefix else ip.address
        else:
            props["ipv6-prefix"] = ip.address
            props["ipv6-prefixlen"] = ip.prefix or None
    return props


def _passt(cmd: Command, device: Interface) -> Props:
    props: Props = {
        "type": "stream",
        "addr": {"type": "unix", "path": passt_socket(cmd, device)},
        "server": False,
    }
    if "netdev.stream.reconnect" in cmd.caps:
        if "netdev-stream-reconnect-miliseconds" in cmd.caps:
            props["reconnect-ms"] = PASST_RECONNECT * 1000
        else:
            props["reconnect"] = PASST_RECONNECT
    return props


def _internal(cmd: Command, device: Interface) -> Props:
    del cmd, device
    return {"type": "user"}


def _more_queues(device: Interface) -> int | None:
    return device.queues if (device.queues or 0) > 1 else None


def _vhost_user(cmd: Command, device: Interface) -> Props:
    del cmd
    return {
        "type": "vhost-user",
        "chardev": f"char{device.alias}",
        "queues": _more_queues(device),
    }


def _vdpa(cmd: Command, device: Interface) -> Props:
    fd_set = connection_of(cmd.resources, device).vdpa
    assert fd_set is not None
    return {"type": "vhost-vdpa", "vhostdev": fd_set.path, "queues": _more_queues(device)}


_NETDEVS: Final[Mapping[str, Callable[[Command, Interface], Props]]] = {
    **dict.fromkeys(TAPS, _tap),
    "client": _socket("connect"),
    "server": _socket("listen"),
    "mcast": _socket("mcast"),
    "udp": _udp,
    "user": _user,
    "internal": _internal,
    "vhostuser": _vhost_user,
    "vdpa": _vdpa,
}
"""The other types (host devices, null, those of other hypervisors) have no netdev."""
