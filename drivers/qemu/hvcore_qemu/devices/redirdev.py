"""<redirdev> and <redirfilter> in QEMU: validation and command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore.errors import Issue
from hvcore.model.devices.redirdev import Redirdev
from hvcore.rules.base import Rules
from hvcore_qemu import chardev
from hvcore_qemu.props import add_device
from hvcore_qemu.props import address_props
from hvcore_qemu.props import boot_index

if TYPE_CHECKING:
    from hvcore.model.devices.redirdev import UsbFilter
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore.rules.base import Issues
    from hvcore_qemu.command import Command

rules = Rules()


@rules.check(Redirdev)
def _supported(domain: Domain, device: Redirdev, ctx: Context) -> Issues:
    """Refuse what this QEMU lacks."""
    found = list(chardev.check(domain, device, ctx))
    yield from found
    if found:
        return
    if "usb-redir" not in ctx.caps:
        yield Issue.unsupported("USB redirection is not supported by this version of QEMU")
    elif _filters(domain) and "usb-redir.filter" not in ctx.caps:
        yield Issue.unsupported("USB redirection filter is not supported by this version of QEMU")


def command(cmd: Command) -> None:
    """Append the redirected USB devices, each with the same filter."""
    filters = _filters(cmd.domain)
    for device in cmd.domain.devices.redirdevs:
        name = chardev.command(cmd, device, device.alias or "", spicevmc="usbredir")
        props = {
            "driver": "usb-redir",
            "chardev": name,
            "id": device.alias,
            "filter": "|".join(map(_rule, filters)) or None,
            "bootindex": boot_index(device),
        }
        add_device(cmd, device, {**props, **address_props(cmd.domain, device)})


def _filters(domain: Domain) -> list[UsbFilter]:
    return [rule for each in domain.devices.redirfilters for rule in each.usbdevs]


def _rule(rule: UsbFilter) -> str:
    """Return a rule as ``class:vendor:product:version:allow``, -1 matching anything."""
    numbers = ((rule.usb_class, 2), (rule.vendor, 4), (rule.product, 4), (rule.version, 4))
    parts = [
        "-1" if value is None or value < 0 else f"0x{value:0{digits}X}" for value, digits in numbers
    ]
    return ":".join([*parts, str(int(rule.allow))])
