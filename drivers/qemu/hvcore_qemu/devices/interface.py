"""<interface> in QEMU: defaults, validation and command line."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING
from typing import Any
from typing import Final

from hvcore.errors import Issue
from hvcore.errors import ValidationFailed
from hvcore.model.devices.base import CcwAddress
from hvcore.model.devices.interface import Interface
from hvcore.model.devices.interface import VhostUserSource
from hvcore.rules.base import Rules
from hvcore.rules.interface import check_actual
from hvcore_qemu.chardev import socket_at
from hvcore_qemu.machines import ARM
from hvcore_qemu.machines import S390
from hvcore_qemu.machines import machine_of
from hvcore_qemu.netdev import PASST_RECONNECT
from hvcore_qemu.netdev import TAPS
from hvcore_qemu.netdev import connect
from hvcore_qemu.netdev import connection_of
from hvcore_qemu.netdev import has_device
from hvcore_qemu.netdev import netdev
from hvcore_qemu.netdev import passt_socket
from hvcore_qemu.netports import allocate
from hvcore_qemu.netports import is_host_device
from hvcore_qemu.props import add_device
from hvcore_qemu.props import address_props
from hvcore_qemu.props import boot_index
from hvcore_qemu.props import rom_props
from hvcore_qemu.props import virtio_props
from hvcore_qemu.sharing import shared_memory

if TYPE_CHECKING:
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore.rules.base import Issues
    from hvcore_qemu.command import Command
    from hvcore_qemu.prepare import Preparation

rules = Rules()

_USUAL: Final = (
    # capability, model; the first that QEMU has, most widely supported by guests first
    ("rtl8139", "rtl8139"),
    ("e1000", "e1000"),
    ("virtio-net", "virtio"),
)
_WITH_MTU: Final = frozenset({"network", "bridge", "ethernet", "vhostuser"})
_WITH_QUEUES: Final = TAPS | {"vhostuser", "vdpa"}
_FILTERED: Final = frozenset({"network", "bridge", "ethernet"})
_TRANSMIT: Final = {"iothread": "bh", "timer": "timer"}


def default_model(domain: Domain, caps: Any) -> str | None:
    """Return the model of interfaces that name none; None when it depends on unknown caps."""
    machine = machine_of(domain)
    if machine.arch in S390 or machine.loongarch_virt or machine.riscv_virt or machine.arm_virt:
        return "virtio"
    if machine.arch in ARM:
        return "scm91c111" if machine.name == "versatilepb" else "lan9118"
    if caps is None:
        return None
    return next((model for flag, model in _USUAL if flag in caps), "rtl8139")


@rules.post_parse(Interface)
def _defaults(domain: Domain, device: Interface, ctx: Context) -> Issues:
    """Choose the model, and passt where QEMU itself cannot do user networking."""
    if device.model is None:
        if device.type in ("vdpa", "vhostuser"):
            device.model = "virtio"
        elif not is_host_device(device, ctx.network_forward):
            device.model = default_model(domain, ctx.caps)
    if (
        device.type == "user"
        and device.backend in (None, "default")
        and ctx.caps is not None
        and "netdev.user" not in ctx.caps
        and "netdev.stream" in ctx.caps
    ):
        device.backend = "passt"
    return ()


@rules.check(Interface)
def _addresses(domain: Domain, device: Interface, ctx: Context) -> Issues:
    """Check what the guest is told of its addresses."""
    del domain
    if device.routes:
        yield Issue.unsupported(
            "Invalid attempt to set network interface guest-side IP route, not supported by QEMU"
        )
    passt = device.backend == "passt"
    if device.type == "user" or (device.type == "vhostuser" and passt):
        if ("netdev.stream" if passt else "netdev.user") not in ctx.caps:
            yield Issue.unsupported(
                f"the '{device.backend or 'default'}' network backend is not supported with this"
                " QEMU binary"
            )
        yield from _user_addresses(device)
    elif device.ips:
        yield Issue.unsupported(
            "Invalid attempt to set network interface guest-side IP address info, not supported"
            " by QEMU"
        )


def _user_addresses(device: Interface) -> Issues:
    seen: set[int] = set()
    for ip in device.ips:
        if ip.peer is not None:
            yield Issue.unsupported("Invalid attempt to set peer IP for guest")
        version = ipaddress.ip_address(ip.address or "").version
        if version in seen:
            yield Issue.unsupported(f"Only one IPv{version} address per interface is allowed")
        seen.add(version)
        prefix = ip.prefix or 0
        if version == 4 and prefix and not 4 <= prefix <= 27:
            yield Issue.xml("invalid prefix, must be in range of 4-27")
        if version == 6 and prefix and prefix != 64:
            yield Issue.unsupported(f"unsupported IPv6 address prefix='{prefix}' - must be 64")


@rules.check(Interface)
def _vhost(domain: Domain, device: Interface, ctx: Context) -> Issues:
    """Check interfaces whose packets do not go through QEMU."""
    if device.type == "vdpa" and "netdev.vhost-vdpa" not in ctx.caps:
        yield Issue.unsupported("vDPA devices are not supported with this QEMU binary")
    if isinstance(device.source, VhostUserSource):
        if device.source.path is None and device.backend != "passt":
            yield Issue.xml("Missing required attribute 'path' in element 'source'")
        if device.source.mode == "server" and device.source.reconnect:
            yield Issue.unsupported(
                "'reconnect' attribute is not supported when source mode='server' for <interface"
                " type='vhostuser'>"
            )
        yield from shared_memory(domain, "interface")
    if device.type in ("vdpa", "vhostuser") and not device.is_virtio:
        yield Issue.unsupported(
            f"invalid model for interface of type '{device.type}': '{device.model}' - must be"
            " 'virtio'"
        )


@rules.check(Interface)
def _driver(domain: Domain, device: Interface, ctx: Context) -> Issues:
    """Check the options of virtio interfaces."""
    del domain
    if not device.is_virtio:
        return
    for name in ("rx_queue_size", "tx_queue_size"):
        size = getattr(device, name) or 0
        if size & (size - 1):
            yield Issue.unsupported(f"{name} has to be a power of two")
    for name, what in (("rss", "rss"), ("rss_hash_report", "rss hash report")):
        if getattr(device, name) is not None and "virtio-net.rss" not in ctx.caps:
            yield Issue.unsupported(f"virtio {what} is not supported with this QEMU binary")


@rules.check(Interface)
def _link(domain: Domain, device: Interface, ctx: Context) -> Issues:
    """Check MTU, teams and coalescing, which not every type has."""
    del domain, ctx
    passt = device.type == "user" and device.backend == "passt"
    if device.mtu and device.type not in _WITH_MTU and not passt:
        yield Issue.unsupported(f"setting MTU on interface type {device.type} is not supported yet")
    if device.teaming == "persistent" and not device.is_virtio:
        yield Issue.unsupported(
            "virtio-net teaming persistent interface must be <model type='virtio'/>, not"
            f" '{device.model or '(null)'}'"
        )
    if device.teaming == "transient" and device.type not in ("hostdev", "network"):
        yield Issue.unsupported(
            f"virtio-net teaming transient interface must be type='hostdev', not '{device.type}'"
        )
    if device.rx_frames is not None and device.type not in ("network", "bridge"):
        yield Issue.unsupported(
            f"coalesce settings on interface type {device.type} are not supported"
        )


def _check_port(device: Interface) -> Issues:
    """Check the interface as it really is, see :func:`hvcore.rules.interface.check_actual`."""
    yield from check_actual(device)
    port = device.port
    where = f"interface {device.mac}"
    if device.queues and port.type not in _WITH_QUEUES:
        yield Issue.unsupported(
            f"{where} - multiqueue is not supported for network interfaces of type {port.type}"
        )
    if device.filter is not None:
        virtual = port.virtualport.type if port.virtualport is not None else None
        if port.type not in _FILTERED:
            yield Issue.unsupported(
                f"{where} - filterref is not supported for network interfaces of type {port.type}"
            )
        elif virtual is not None:
            yield Issue.unsupported(
                f"{where} - filterref is not supported for network interfaces with virtualport"
                f" type {virtual}"
            )
    if device.backend_tap is not None and port.type not in _FILTERED:
        yield Issue.unsupported(
            f"{where} - custom tap device path is not supported for network interfaces of type"
            f" {port.type}"
        )
    if device.teaming == "transient" and port.type != "hostdev":
        yield Issue.unsupported(
            f"{where} - teaming transient device must be type='hostdev', not '{port.type}'"
        )


def prepare(work: Preparation) -> None:
    """Get ports of networks, and settle what follows from passt.

    :raises HvError: when a network does not exist or has no port left.
    :raises ValidationFailed: when a network gives a device that the guest already has.
    """
    for device in work.domain.devices.interfaces:
        if device.type == "network":
            allocate(work, device)
        if isinstance(device.source, VhostUserSource) and device.backend == "passt":
            device.source.path = passt_socket(work, device)
            device.source.reconnect = True
            device.source.reconnect_timeout = PASST_RECONNECT


def prepare_host(work: Preparation) -> None:
    """Open what stands behind each interface.

    :raises ValidationFailed: when an interface turns out to be of a kind that cannot be.
    :raises HvError: when the host does not have what is asked for.
    """
    for device in work.domain.devices.interfaces:
        issues = [*_check_port(device)]
        if issues:
            raise ValidationFailed(issues)
        assert device.alias is not None  # aliases are assigned before
        if device.port.type != "hostdev":
            work.resources.by_alias[device.alias] = connect(work, device)
        if isinstance(device.source, VhostUserSource) and device.backend != "passt":
            found = work.host.vhost_user_interface(
                device.source.path or "", server=device.source.mode == "server"
            )
            device.target = found or device.target


def command(cmd: Command) -> None:
    """Append each interface: the host's end, then the guest's.

    :raises ValidationFailed: when QEMU has nothing of the kind.
    """
    for device in cmd.domain.devices.interfaces:
        if device.port.type == "hostdev":
            continue  # built with the other host devices
        if isinstance(device.source, VhostUserSource):
            _chardev(cmd, device, device.source)
        fd_set = connection_of(cmd.resources, device).vdpa
        if fd_set is not None:
            cmd.pass_fds(fd_set)
        netdev(cmd, device)
        if has_device(machine_of(cmd.domain).arch, device):
            add_device(cmd, device, _nic(cmd, device))
        else:
            model = f",model={device.model}" if device.model else ""
            cmd.option(
                "-net",
                f"nic,macaddr={device.mac},netdev=host{device.alias}{model},id={device.alias}",
            )


def _chardev(cmd: Command, device: Interface, source: VhostUserSource) -> None:
    seconds = None
    if source.reconnect is not None:
        seconds = source.reconnect_timeout or 0 if source.reconnect else 0
    socket_at(
        cmd,
        f"char{device.alias}",
        source.path or "",
        server=source.mode == "server",
        reconnect=seconds,
    )


def _nic(cmd: Command, device: Interface) -> dict[str, Any]:
    props = _virtio(cmd, device) if device.is_virtio else {"driver": device.model}
    loadparm = device.boot_loadparm if "virtio-ccw.loadparm" in cmd.caps else None
    return {
        **props,
        "netdev": f"host{device.alias}",
        "id": device.alias,
        "mac": device.mac,
        "bootindex": boot_index(device),
        "loadparm": loadparm,
        **address_props(cmd.domain, device),
        **rom_props(device),
    }


def _virtio(cmd: Command, device: Interface) -> dict[str, Any]:
    queues = device.queues or 0
    # Channel I/O has an interrupt for each queue anyway.
    on_channel = isinstance(device.address, CcwAddress)
    return {
        **virtio_props("virtio-net", device, cmd.caps),
        "tx": _TRANSMIT.get(device.txmode or ""),
        "ioeventfd": device.ioeventfd,
        "event_idx": device.event_idx,
        "csum": device.host_csum,
        "gso": device.host_gso,
        "host_tso4": device.host_tso4,
        "host_tso6": device.host_tso6,
        "host_ecn": device.host_ecn,
        "host_ufo": device.host_ufo,
        "mrg_rxbuf": device.host_mrg_rxbuf,
        "guest_csum": device.guest_csum,
        "guest_tso4": device.guest_tso4,
        "guest_tso6": device.guest_tso6,
        "guest_ecn": device.guest_ecn,
        "guest_ufo": device.guest_ufo,
        "mq": True if queues > 1 else None,
        # A vector for each queue in each direction, one for control and one for configuration.
        "vectors": 2 * queues + 2 if queues > 1 and not on_channel else None,
        "rx_queue_size": device.rx_queue_size or None,
        "tx_queue_size": device.tx_queue_size or None,
        "rss": device.rss,
        "hash": device.rss_hash_report,
        "host_mtu": device.mtu or None,
        "failover": True if device.teaming == "persistent" else None,
    }
