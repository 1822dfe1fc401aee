"""From a sealed definition to a live one that a command line can be built from.

The steps stand in libvirt's order (qemuProcessPrepareDomain, then qemuProcessPrepareHost); each is
the ``prepare`` function of its family's module.
"""

from __future__ import annotations

import functools
from importlib import import_module
from typing import TYPE_CHECKING
from typing import Final

import attrs

from hvcore_qemu import addresses
from hvcore_qemu import aliases

if TYPE_CHECKING:
    from collections.abc import Callable

    from hvcore.hostinfo import HostInfo
    from hvcore.model.domain import Domain
    from hvcore.registry import Registry
    from hvcore_qemu.capabilities import QemuCapabilities
    from hvcore_qemu.config import QemuConfig
    from hvcore_qemu.resources import Host
    from hvcore_qemu.resources import Resources

STEPS: Final[tuple[str, ...]] = (
    "devices.graphics:prepare",
    "sections.cpu:validate_start",
    "sections.base:prepare",
    "images:prepare",
    "devices.hostdev:prepare",
    "devices.interface:prepare",
    "sections.numa:prepare",
    "sections.os:prepare_boot_order",
    "chardev:prepare",
    "devices.graphics:prepare_secrets",
    "devices.video:prepare",
    "sections.os:prepare_firmware",
    "sections.clock:prepare",
    "sections.os:prepare_variables",
    "devices.vsock:prepare",
    "images:prepare_host",
    "devices.filesystem:prepare",
    "chardev:prepare_host",
    "devices.tpm:prepare",
    "sections.memory:align_sizes",
    "sections.cpu:prepare",
    "devices.shmem:prepare",
    "sections.launchsecurity:prepare",
    "sections.base:check",
    "devices.hostdev:prepare_host",
    "devices.interface:prepare_host",
)
"""``module:function`` of each family that has something to prepare, in libvirt's order."""


@attrs.define(kw_only=True, eq=False)
class Preparation:
    """What the ``prepare`` functions work on.

    :ivar domain: the live copy; they may change it.
    :ivar info: what the host is; None where that is not known.
    :ivar new: the guest starts afresh (not an incoming migration).
    :ivar placed: the addresses were assigned for these very capabilities.
    """

    domain: Domain
    caps: QemuCapabilities
    config: QemuConfig
    host: Host
    registry: Registry
    resources: Resources
    info: HostInfo | None = None
    new: bool = True
    placed: bool = False


def prepare(work: Preparation) -> None:
    """Make ``work.domain`` and ``work.resources`` ready for the command line.

    :raises ValidationFailed: when an address cannot be assigned.
    """
    if not work.placed:
        addresses.assign(work.domain, work.caps, new_domain=work.new)
    aliases.assign(work.domain, work.caps, network_forward=work.host.network_forward)
    for step in _steps():
        step(work)


@functools.cache
def _steps() -> tuple[Callable[[Preparation], None], ...]:
    """Return the functions; their modules are imported at the first start."""
    names = [step.partition(":") for step in STEPS]
    return tuple(getattr(import_module(f"hvcore_qemu.{m}"), function) for m, _, function in names)
