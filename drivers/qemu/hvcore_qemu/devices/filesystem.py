"""<filesystem> in QEMU: validation and command line of 9p, virtiofs and MTP."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Final

from hvcore.errors import Issue
from hvcore.model.devices.base import PciAddress
from hvcore.model.devices.filesystem import Filesystem
from hvcore.rules.base import Rules
from hvcore_qemu.chardev import socket_at
from hvcore_qemu.command import escape_comma
from hvcore_qemu.props import add_device
from hvcore_qemu.props import address_props
from hvcore_qemu.props import boot_index
from hvcore_qemu.props import positive
from hvcore_qemu.props import virtio_props
from hvcore_qemu.sharing import shared_memory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore_qemu.command import Command
    from hvcore_qemu.prepare import Preparation

rules = Rules()

_SECURITY: Final = {"mapped": "mapped", "passthrough": "passthrough", "squash": "none"}


@rules.check(Filesystem)
def _common(domain: Domain, device: Filesystem, ctx: Context) -> Iterator[Issue]:
    """Check what holds for all ways of sharing files."""
    del domain
    if device.type != "mount":
        yield Issue.unsupported("only supports mount filesystem type", line=device.line)
    if device.space_hard_limit or device.space_soft_limit:
        yield Issue.unsupported("filesystem usage limits are not supported with QEMU")
    if device.multidevs not in (None, "default") and "fsdev.multidevs" not in ctx.caps:
        yield Issue.unsupported("multidevs is not supported with this QEMU binary")
    if (device.fmode or device.dmode) and device.accessmode != "mapped":
        yield Issue.unsupported("fmode and dmode must be used with accessmode=mapped")


@rules.check(Filesystem)
def _by_driver(domain: Domain, device: Filesystem, ctx: Context) -> Iterator[Issue]:
    """Check what each way of sharing files can do."""
    match device.driver_type:
        case "handle":
            if device.accessmode != "passthrough":
                yield Issue.unsupported("only supports passthrough accessmode")
        case "loop" | "nbd" | "ploop":
            yield Issue.unsupported("Filesystem driver type not supported", line=device.line)
        case "virtiofs":
            yield from _virtiofs_issues(domain, device, ctx)
        case "mtp":
            if "usb-mtp" not in ctx.caps:
                yield Issue.unsupported("mtp is not supported with this QEMU binary")
            elif device.accessmode != "passthrough":
                yield Issue.unsupported("mtp only supports passthrough accessmode")


def _virtiofs_issues(domain: Domain, device: Filesystem, ctx: Context) -> Iterator[Issue]:
    if device.socket is None:
        if device.accessmode != "passthrough":
            yield Issue.unsupported("virtiofs only supports passthrough accessmode")
        if device.wrpolicy not in (None, "default"):
            yield Issue.unsupported("virtiofs does not support wrpolicy")
    if device.model is not None:
        yield Issue.unsupported("virtiofs does not support model")
    if device.format is not None:
        yield Issue.unsupported("virtiofs does not support format")
    if "vhost-user-fs" not in ctx.caps:
        yield Issue.unsupported("virtiofs is not supported with this QEMU binary")
    if device.multidevs not in (None, "default"):
        yield Issue.unsupported("virtiofs does not support multidevs")
    if device.fmode or device.dmode:
        yield Issue.unsupported("virtiofs does not support fmode and dmode")
    yield from shared_memory(domain, "virtiofs")
    if device.boot_order:
        if "vhost-user-fs.bootindex" not in ctx.caps:
            yield Issue.unsupported(
                "setting virtiofs boot order is not supported with this QEMU binary"
            )
        elif not isinstance(device.address, PciAddress | None):
            yield Issue.unsupported("setting virtiofs boot order is supported only with PCI bus")


def prepare(work: Preparation) -> None:
    """Start the process that serves each directory of virtiofs.

    :raises HvError: when the host cannot.
    """
    for device in work.domain.devices.filesystems:
        if device.driver_type == "virtiofs" and device.socket is None:
            work.host.virtiofsd(_socket(device, work.resources.domain_dir))


def _socket(device: Filesystem, domain_dir: str) -> str:
    return device.socket or f"{domain_dir}/{device.alias}-fs.sock"


def command(cmd: Command) -> None:
    """Append the shared directories."""
    for device in cmd.domain.devices.filesystems:
        if device.driver_type == "virtiofs":
            _virtiofs(cmd, device)
        elif device.driver_type == "mtp":
            _mtp(cmd, device)
        else:
            _9p(cmd, device)


def _virtiofs(cmd: Command, device: Filesystem) -> None:
    chardev = f"chr-vu-{device.alias}"
    socket_at(cmd, chardev, _socket(device, cmd.resources.domain_dir))
    add_device(
        cmd,
        device,
        {
            **virtio_props("vhost-user-fs", device, cmd.caps),
            "id": device.alias,
            "chardev": chardev,
            "queue-size": positive(device.queue),
            "tag": device.target,
            "bootindex": boot_index(device),
            **address_props(cmd.domain, device),
        },
    )


def _mtp(cmd: Command, device: Filesystem) -> None:
    add_device(
        cmd,
        device,
        {
            "driver": "usb-mtp",
            "id": device.alias,
            "rootdir": device.path,
            "desc": device.target,
            "readonly": device.readonly,
            **address_props(cmd.domain, device),
        },
    )


def _9p(cmd: Command, device: Filesystem) -> None:
    fsdev = f"fsdev-{device.alias}"
    if device.driver_type == "handle":
        options = ["handle"]
    else:
        options = ["local", f"security_model={_SECURITY[device.accessmode or 'passthrough']}"]
        if device.multidevs not in (None, "default"):
            options.append(f"multidevs={device.multidevs}")
        for name in ("fmode", "dmode"):
            mode = getattr(device, name)
            if mode:
                options.append(f"{name}={mode:04o}")
    if device.wrpolicy not in (None, "default"):
        options.append(f"writeout={device.wrpolicy}")
    options += [f"id={fsdev}", f"path={escape_comma(device.path or '')}"]
    if device.readonly:
        options.append("readonly")
    cmd.option("-fsdev", ",".join(options))
    add_device(
        cmd,
        device,
        {
            **virtio_props("virtio-9p", device, cmd.caps),
            "id": device.alias,
            "fsdev": fsdev,
            "mount_tag": device.target,
            **address_props(cmd.domain, device),
        },
    )
