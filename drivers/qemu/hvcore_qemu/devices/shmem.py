"""<shmem> in QEMU: defaults, validation and command line."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Final

from hvcore.errors import Issue
from hvcore.model.devices.base import PciAddress
from hvcore.model.devices.shmem import Shmem
from hvcore.model.devices.shmem import ShmemMsi
from hvcore.rules.base import Rules
from hvcore_qemu.chardev import socket_at
from hvcore_qemu.props import add_device
from hvcore_qemu.props import address_props
from hvcore_qemu.props import refuse
from hvcore_qemu.props import switch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore_qemu.command import Command
    from hvcore_qemu.prepare import Preparation

rules = Rules()

_DEFAULT_SIZE: Final = 4 << 20
_SMALLEST: Final = 1 << 20


@rules.post_parse(Shmem)
def _defaults(domain: Domain, device: Shmem, ctx: Context) -> Iterator[Issue]:
    """Choose the size; a server brings its own, and interrupts."""
    del domain, ctx
    if device.model != "ivshmem-doorbell" and not device.size:
        device.size = _DEFAULT_SIZE
    if device.model == "ivshmem":
        return
    name = f"shmem model '{device.model}'"
    if device.server is None:
        if device.model == "ivshmem-doorbell":
            yield Issue.unsupported(
                f"{name} is supported only with server option enabled", line=device.line
            )
        return
    if device.model == "ivshmem-plain":
        yield Issue.unsupported(
            f"{name} is supported only with server option disabled", line=device.line
        )
    elif device.size:
        yield Issue.unsupported(f"{name} does not support size setting", line=device.line)
    device.msi = device.msi or ShmemMsi()
    if device.msi.ioeventfd is None:
        device.msi.ioeventfd = True


@rules.check(Shmem)
def _check(domain: Domain, device: Shmem, ctx: Context) -> Iterator[Issue]:
    """Check the size, and that this QEMU has the device."""
    del domain
    size = device.size or 0
    if size and (size < _SMALLEST or size & (size - 1)):
        yield Issue.xml(
            "shmem size must be a power of 2 and at least 1 MiB (1024 KiB)", line=device.line
        )
    if device.model == "ivshmem":
        yield Issue.unsupported("ivshmem device is no longer supported", line=device.line)
    elif device.model not in ctx.caps:
        yield Issue.unsupported(
            f"shmem model '{device.model}' is not supported by this QEMU binary", line=device.line
        )


def prepare(work: Preparation) -> None:
    """Give servers without a path the usual one."""
    for device in work.domain.devices.shmems:
        if device.server is not None and device.server.path is None:
            device.server.path = f"/var/lib/libvirt/shmem-{device.name}-sock"


def command(cmd: Command) -> None:
    """Append the devices, each after its memory and before its server.

    :raises ValidationFailed: when a device has no PCI address.
    """
    for device in cmd.domain.devices.shmems:
        if not isinstance(device.address, PciAddress):
            refuse(
                Issue.unsupported("only 'pci' addresses are supported for the shared memory device")
            )
        memory = f"shmmem-{device.alias}"
        if device.server is None:
            cmd.object(
                {
                    "qom-type": "memory-backend-file",
                    "id": memory,
                    "mem-path": f"/dev/shm/{device.name}",  # noqa: S108 - guests meet here
                    "size": device.size,
                    "share": True,
                }
            )
        master = None if device.role is None else device.role == "master"
        msi = device.msi or ShmemMsi()
        add_device(
            cmd,
            device,
            {
                "driver": device.model,
                "id": device.alias,
                "chardev": f"char{device.alias}" if device.server else None,
                "memdev": None if device.server else memory,
                "master": None if device.server else switch(master),
                "vectors": msi.vectors or None,
                "ioeventfd": msi.ioeventfd,
                **address_props(cmd.domain, device),
            },
        )
        if device.server is not None:
            socket_at(cmd, f"char{device.alias}", device.server.path or "")
