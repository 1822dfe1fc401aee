"""<pstore> in QEMU: defaults, validation and command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore.errors import Issue
from hvcore.model.devices.base import PciAddress
from hvcore.model.devices.pstore import Pstore
from hvcore.rules.base import Rules
from hvcore_qemu.props import add_device
from hvcore_qemu.props import address_props

if TYPE_CHECKING:
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore.rules.base import Issues
    from hvcore_qemu.command import Command

rules = Rules()


@rules.post_parse(Pstore)
def _path(domain: Domain, device: Pstore, ctx: Context) -> None:
    """Keep the contents beside the firmware's variables."""
    if device.path is None:
        device.path = f"{ctx.config.nvram_dir}/{domain.name}_PSTORE.raw"


@rules.check(Pstore)
def _supported(domain: Domain, device: Pstore, ctx: Context) -> Issues:
    """Require the device and a PCI address."""
    del domain
    if "acpi-erst" not in ctx.caps:
        yield Issue.unsupported("acpi-erst backend of pstore device is not supported")
    if device.address is not None and not isinstance(device.address, PciAddress):
        yield Issue.unsupported("ACPI ERST device must reside on a PCI bus")


def command(cmd: Command) -> None:
    """Append the device and the file behind it."""
    for device in cmd.domain.devices.pstores:
        memory = f"mem{device.alias}"
        cmd.object(
            {
                "qom-type": "memory-backend-file",
                "id": memory,
                "mem-path": device.path,
                "size": (device.size or 0) * 1024,
                "share": True,
            }
        )
        add_device(
            cmd,
            device,
            {
                "driver": "acpi-erst",
                "id": device.alias,
                "memdev": memory,
                **address_props(cmd.domain, device),
            },
        )
