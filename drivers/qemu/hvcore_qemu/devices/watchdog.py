"""<watchdog> in QEMU: defaults, validation and command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore.errors import Issue
from hvcore.model.devices.base import PciAddress
from hvcore.model.devices.watchdog import Watchdog
from hvcore.rules.base import Rules
from hvcore_qemu.machines import S390
from hvcore_qemu.machines import machine_of
from hvcore_qemu.props import add_device
from hvcore_qemu.props import address_props

if TYPE_CHECKING:
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore.rules.base import Issues
    from hvcore_qemu.command import Command

rules = Rules()


@rules.post_parse_domain
def _default(domain: Domain, ctx: Context) -> None:
    """Show the iTCO watchdog, which every q35 has."""
    del ctx
    found = domain.devices.watchdogs
    if machine_of(domain).q35 and all(device.model != "itco" for device in found):
        action = found[0].action if found else "reset"
        found.append(Watchdog(model="itco", action=action))


@rules.check(Watchdog)
def _placement(domain: Domain, device: Watchdog, ctx: Context) -> Issues:
    """Require one action for all, and for each model the machine and bus it lives on."""
    del ctx
    machine = machine_of(domain)
    model = device.model
    if any(each.action != device.action for each in domain.devices.watchdogs[:1]):
        yield Issue.unsupported(
            "watchdogs with different actions are not supported with this QEMU binary"
        )
    if model == "i6300esb":
        if device.address is not None and not isinstance(device.address, PciAddress):
            yield Issue.unsupported(f"{model} model of watchdog can go only on PCI bus")
    elif model == "ib700":
        if not machine.i440fx:
            yield Issue.unsupported(
                f"{model} model of watchdog cannot be used with this machine type"
            )
        if device.address is not None:
            yield Issue.unsupported(
                f"{model} model of watchdog does not support configuring the address"
            )
    elif model == "diag288":
        if device.address is not None:
            yield Issue.unsupported(
                f"{model} model of watchdog is virtual and cannot go on any bus."
            )
        if machine.arch not in S390:
            yield Issue.unsupported(f"{model} model of watchdog is allowed for s390 and s390x only")
    else:
        if device.address is not None:
            yield Issue.unsupported(
                f"{model} model of watchdog is part of the machine and cannot have any address set."
            )
        if not machine.q35:
            yield Issue.unsupported(f"{model} model of watchdog is only part of q35 machine")


def command(cmd: Command) -> None:
    """Append the watchdogs and their common action."""
    found = cmd.domain.devices.watchdogs
    if not found:
        return
    for device in found:
        if device.model != "itco":
            add_device(
                cmd,
                device,
                {
                    "driver": device.model,
                    "id": device.alias,
                    **address_props(cmd.domain, device),
                },
            )
    if any(device.model == "itco" for device in found):
        # The chipset's own watchdog only works once its strap pin says so.
        cmd.option("-global", "ICH9-LPC.noreboot=off")
    action = found[-1].action
    # QEMU cannot dump by itself: it pauses, and the manager dumps on the event.
    cmd.option("-watchdog-action", "pause" if action == "dump" else action)
