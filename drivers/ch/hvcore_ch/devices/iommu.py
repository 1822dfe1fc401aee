"""The guest's IOMMU; devices say themselves whether they are behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore.errors import Issue
from hvcore.model.devices.base import VirtioDevice
from hvcore.model.devices.iommu import Iommu
from hvcore.rules.base import Rules
from hvcore_ch.accepts import one_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore_ch.accepts import Accepts
    from hvcore_ch.command import Command

rules = Rules()

ACCEPTS: Accepts = {Iommu: {"model": one_of("virtio"), "address": frozenset()}}


@rules.check_domain
def _behind(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Require the IOMMU that a device is behind."""
    del ctx
    for device in domain.devices.walk() if not domain.devices.iommus else ():
        if isinstance(device, VirtioDevice) and device.iommu:
            yield Issue.unsupported(
                "Cloud-Hypervisor needs an <iommu> device for a device behind it",
                path="driver/@iommu",
                line=device.line,
            )


def command(vm: Command) -> None:
    """Describe the IOMMU."""
    if vm.domain.devices.iommus:
        vm.set("iommu", True)
