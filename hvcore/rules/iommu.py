"""Rules of <iommu> that hold for every driver."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Final

from hvcore.errors import Issue
from hvcore.model.devices.iommu import Iommu
from hvcore.rules.base import Rules

if TYPE_CHECKING:
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore.rules.base import Issues

rules = Rules()

_SETTINGS: Final = ("intremap", "caching_mode", "eim", "iotlb", "dma_translation")


rules.only_one("iommus", "IOMMU")


@rules.check(Iommu)
def _by_model(domain: Domain, device: Iommu, ctx: Context) -> Issues:
    """Refuse what the model does not have."""
    del domain, ctx
    given = [getattr(device, name) is not None for name in _SETTINGS]
    if device.model != "intel" and (any(given) or device.aw_bits):
        yield Issue.xml(f"iommu model '{device.model}' doesn't support additional attributes")
    if device.pci_bus is not None and device.model != "smmuv3":
        yield Issue.unsupported(
            f"iommu model '{device.model}' doesn't support the pciBus attribute"
        )
    if device.model != "virtio" and device.address is not None:
        yield Issue.xml(f"iommu model '{device.model}' can't have address")


@rules.check_domain
def _interrupts(domain: Domain, ctx: Context) -> Issues:
    """Check what interrupt remapping needs."""
    del ctx
    for device in domain.devices.iommus:
        ioapic = domain.features.ioapic if domain.features is not None else None
        if device.intremap and ioapic != "qemu":
            yield Issue.unsupported(
                "IOMMU interrupt remapping requires split I/O APIC (ioapic driver='qemu')",
                line=device.line,
            )
        if device.eim and not device.intremap:
            yield Issue.unsupported(
                "IOMMU eim requires interrupt remapping to be enabled", line=device.line
            )
