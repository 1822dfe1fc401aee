"""<memballoon> in QEMU: defaults, validation and command line."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Final

from hvcore.errors import Issue
from hvcore.model.devices.memballoon import Memballoon
from hvcore.rules.base import Rules
from hvcore_qemu.machines import MIPS
from hvcore_qemu.machines import PPC
from hvcore_qemu.machines import RISCV
from hvcore_qemu.machines import S390
from hvcore_qemu.machines import X86
from hvcore_qemu.machines import machine_of
from hvcore_qemu.props import add_device
from hvcore_qemu.props import address_props
from hvcore_qemu.props import virtio_props

if TYPE_CHECKING:
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore.rules.base import Issues
    from hvcore_qemu.command import Command

rules = Rules()

_BY_DEFAULT: Final = (
    X86 | (PPC - {"ppcle"}) | RISCV | S390 | MIPS | {"alpha", "sh4", "sh4eb", "sparc64"}
)
"""Architectures whose guests get a balloon unless they say ``model='none'``."""


@rules.post_parse_domain
def _default(domain: Domain, ctx: Context) -> None:
    """Add a balloon where libvirt always had one."""
    del ctx
    if not domain.devices.memballoons and machine_of(domain).arch in _BY_DEFAULT:
        domain.devices.memballoons.append(Memballoon(model="virtio"))


@rules.check(Memballoon)
def _supported(domain: Domain, device: Memballoon, ctx: Context) -> Issues:
    """Refuse Xen's balloon and what this QEMU's cannot do."""
    del domain
    if device.model == "none":
        return
    if not device.model.startswith("virtio"):
        yield Issue.unsupported(
            f"Memory balloon device type '{device.model}' is not supported by this version of qemu"
        )
    if device.autodeflate is not None and "virtio-balloon-pci.deflate-on-oom" not in ctx.caps:
        yield Issue.unsupported("deflate-on-oom is not supported by this QEMU binary")
    reporting = "virtio-balloon.free-page-reporting"
    if device.free_page_reporting is not None and reporting not in ctx.caps:
        yield Issue.unsupported("freePageReporting is not supported by this QEMU binary")


def command(cmd: Command) -> None:
    """Append the balloon."""
    for device in cmd.domain.devices.memballoons:
        if device.model == "none":
            continue
        add_device(
            cmd,
            device,
            {
                **virtio_props("virtio-balloon", device, cmd.caps),
                "id": device.alias,
                "deflate-on-oom": device.autodeflate,
                "free-page-reporting": device.free_page_reporting,
                **address_props(cmd.domain, device),
            },
        )
