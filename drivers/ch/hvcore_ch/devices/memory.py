"""Memory as a device: a file of the host as virtio-pmem, and modules that come while it runs.

A module is no device of cloud-hypervisor's: the guest has so much more memory, which it keeps. What
is there at the start is there from the beginning.
"""

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
from hvcore_ch.sections.memory import system_memory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore_ch.accepts import Accepts
    from hvcore_ch.command import Command

rules = Rules()

_ALIGNMENT: Final = 2048
"""KiB; the size of a page that the file is mapped with."""

_MODULE: Final = 128 << 10
"""KiB; memory that comes later comes in multiples of it."""

ACCEPTS: Accepts = {
    MemoryDevice: {
        "model": one_of("virtio-pmem", "dimm"),
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


@rules.check(MemoryDevice)
def _module(domain: Domain, device: MemoryDevice, ctx: Context) -> Iterator[Issue]:
    del domain, ctx
    if device.model == "dimm" and device.size % _MODULE:
        yield Issue.unsupported(
            f"Cloud-Hypervisor supports memory modules in multiples of {_MODULE} KiB",
            path="target/size",
        )
    if device.model == "dimm" and device.access is not None:
        yield Issue.unsupported("Cloud-Hypervisor has one access mode for all memory")


def module_config(domain: Domain, device: MemoryDevice) -> dict[str, Any]:
    """Return the ``VmResize`` by which a guest gets a module more than it has."""
    return {"desired_ram": (system_memory(domain) + device.size) * 1024}


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
        if device.model == "dimm":
            continue  # a part of all memory
        vm.add("pmem", pmem_config(device))
