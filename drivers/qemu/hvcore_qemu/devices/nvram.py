"""<nvram> of <devices> in QEMU: validation and command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore.errors import Issue
from hvcore.model.devices.base import SpaprVioAddress
from hvcore.model.devices.nvram import Nvram
from hvcore.rules.base import Rules
from hvcore_qemu.machines import machine_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore_qemu.command import Command

rules = Rules()


@rules.check(Nvram)
def _machine(domain: Domain, device: Nvram, ctx: Context) -> Iterator[Issue]:
    """Require a pSeries guest and a register on its bus."""
    if not machine_of(domain).pseries:
        yield Issue.unsupported("nvram device is only supported for PPC64", line=device.line)
        return
    if "nvram" not in ctx.caps:
        yield Issue.unsupported("nvram device is not supported by this QEMU binary")
    address = device.address
    if not isinstance(address, SpaprVioAddress) or address.reg is None:
        yield Issue.xml("nvram address type must be spaprvio", line=device.line)


def command(cmd: Command) -> None:
    """Say where the memory is; the machine has it anyway."""
    for device in cmd.domain.devices.nvrams:
        if isinstance(device.address, SpaprVioAddress):
            cmd.option("-global", f"spapr-nvram.reg=0x{device.address.reg or 0:x}")
