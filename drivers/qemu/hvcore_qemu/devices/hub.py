"""<hub> in QEMU: validation and command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore.errors import Issue
from hvcore.model.devices.hub import Hub
from hvcore.rules.base import Rules
from hvcore_qemu.props import add_device
from hvcore_qemu.props import address_props

if TYPE_CHECKING:
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore.rules.base import Issues
    from hvcore_qemu.command import Command

rules = Rules()


@rules.check(Hub)
def _supported(domain: Domain, device: Hub, ctx: Context) -> Issues:
    """Require usb-hub."""
    del domain, device
    if "usb-hub" not in ctx.caps:
        yield Issue.unsupported("usb-hub not supported by QEMU binary")


def command(cmd: Command) -> None:
    """Append the hubs."""
    for device in cmd.domain.devices.hubs:
        add_device(
            cmd,
            device,
            {"driver": "usb-hub", "id": device.alias, **address_props(cmd.domain, device)},
        )
