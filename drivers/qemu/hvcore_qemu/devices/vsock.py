"""<vsock> in QEMU: defaults, validation and command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore.errors import Issue
from hvcore.model.devices.vsock import Vsock
from hvcore.rules.base import Rules
from hvcore_qemu.props import add_device
from hvcore_qemu.props import address_props
from hvcore_qemu.props import virtio_props

if TYPE_CHECKING:
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore.rules.base import Issues
    from hvcore_qemu.command import Command
    from hvcore_qemu.prepare import Preparation

rules = Rules()


@rules.post_parse(Vsock)
def _model(domain: Domain, device: Vsock, ctx: Context) -> None:
    """Name the model."""
    del domain, ctx
    if device.model is None:
        device.model = "virtio"


@rules.check(Vsock)
def _supported(domain: Domain, device: Vsock, ctx: Context) -> Issues:
    """Require vhost-vsock."""
    del domain, device
    if "vhost-vsock" not in ctx.caps:
        yield Issue.unsupported("vsock device is not supported with this QEMU binary")


def prepare(work: Preparation) -> None:
    """Open vhost-vsock, which hands out the guest's identifier."""
    for device in work.domain.devices.vsocks:
        assert device.alias is not None  # aliases are assigned before
        wanted = None if device.auto_cid else device.guest_cid
        fd, device.guest_cid = work.host.vhost_vsock(wanted)
        work.resources.vhost_fds[device.alias] = fd


def command(cmd: Command) -> None:
    """Append the device with its open vhost descriptor."""
    for device in cmd.domain.devices.vsocks:
        assert device.alias is not None  # aliases are assigned before
        add_device(
            cmd,
            device,
            {
                **virtio_props("vhost-vsock", device, cmd.caps),
                "id": device.alias,
                "guest-cid": device.guest_cid,
                "vhostfd": cmd.descriptor(
                    cmd.resources.vhost_fds[device.alias], f"vhost-{device.alias}"
                ),
                **address_props(cmd.domain, device),
            },
        )
