"""Persistent memory: a file of the host, mapped into the guest as virtio-pmem."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import Final

from hvcore.errors import Issue
from hvcore.model.devices.memory import MemoryDevice
from hvcore.rules.base import Rules
from hvcore_ch.accepts import ANY
from hvcore_ch.accepts import one_of
from hvcore_ch.command import present
from hvcore_ch.devices.info import place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore_ch.accepts import Accepts
    from hvcore_ch.command import Command

rules = Rules()

_ALIGNMENT: Final = 2048
"""KiB; the size of a page that the file is mapped with."""

ACCEPTS: Accepts = {
    MemoryDevice: {
        "model": one_of("virtio-pmem"),
        "access": ANY,
        "path": ANY,
        "size": ANY,
    },
}


@rules.check(MemoryDevice)
def _size(domain: Domain, device: MemoryDevice, ctx: Context) -> Iterator[Issue]:
    del domain, ctx
    if device.model == "virtio-pmem" and device.size % _ALIGNMENT:
        yield Issue.unsupported(
            f"Cloud-Hypervisor supports persistent memory in multiples of {_ALIGNMENT} KiB",
            path="target/size",
        )


def pmem_config(device: MemoryDevice) -> dict[str, Any]:
    """Return the ``PmemConfig``."""
    return present(
        {
            "file": device.path,
            "size": device.size * 1024,
            **place(device),
        }
    )


def command(vm: Command) -> None:
    """Describe the devices."""
    for device in vm.domain.devices.memories:
        vm.add("pmem", pmem_config(device))
