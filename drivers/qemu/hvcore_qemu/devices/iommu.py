"""<iommu> in QEMU: defaults, validation and command line."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Final

from hvcore.errors import Issue
from hvcore.model.devices.base import PciAddress
from hvcore.model.devices.iommu import Iommu
from hvcore.model.features import Features
from hvcore.rules.base import Rules
from hvcore.rules.vcpu import max_vcpus
from hvcore_qemu.machines import X86
from hvcore_qemu.machines import Machine
from hvcore_qemu.machines import machine_of
from hvcore_qemu.props import address_props
from hvcore_qemu.props import switch

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Mapping

    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore.rules.base import Issues
    from hvcore_qemu.command import Command

rules = Rules()

_MOST_VCPUS: Final = 255
"""How many vCPUs are reached by interrupts without extended interrupt mode."""
_IMPLICIT: Final = ("intel-iommu", "intel-iommu.intremap", "intel-iommu.eim")
_MACHINES: Final[Mapping[str, tuple[Callable[[Machine], bool], str]]] = {
    # model: where it can be, and how libvirt calls that
    "intel": (lambda machine: machine.q35, "Q35 machines"),
    "smmuv3": (lambda machine: machine.arm_virt, "ARM Virt machines"),
    "virtio": (lambda machine: machine.q35 or machine.arm_virt, "Q35 and ARM Virt machines"),
}
_CAPABILITIES: Final[Mapping[str, tuple[str, ...]]] = {
    "intel": ("intel-iommu",),
    "smmuv3": ("machine.virt.iommu",),
    "virtio": ("virtio-iommu-pci", "virtio-iommu.boot-bypass"),
}
_SETTINGS: Final = (
    # attribute, capability, how libvirt calls it
    ("intremap", "intel-iommu.intremap", "interrupt remapping is"),
    ("caching_mode", "intel-iommu.caching-mode", "caching mode is"),
    ("eim", "intel-iommu.eim", "eim is"),
    ("iotlb", "intel-iommu.device-iotlb", "device IOTLB is"),
    ("aw_bits", "intel-iommu.aw-bits", "aw_bits is"),
    ("dma_translation", "intel-iommu.dma-translation", "updating dma translation is"),
)


def _needs_eim(domain: Domain) -> bool:
    return machine_of(domain).q35 and max_vcpus(domain) > _MOST_VCPUS


@rules.post_parse_domain
def _implicit(domain: Domain, ctx: Context) -> Issues:
    """Add an IOMMU where interrupts need one, and give remapping the I/O APIC it needs."""
    machine = machine_of(domain)
    iommus = domain.devices.iommus
    if _needs_eim(domain) and not iommus and all(flag in (ctx.caps or ()) for flag in _IMPLICIT):
        iommus.append(Iommu(model="intel", intremap=True, eim=True))
    if iommus and (iommus[0].intremap or (machine.arch in X86 and _needs_eim(domain))):
        if domain.features is None:
            domain.features = Features()
        domain.features.ioapic = domain.features.ioapic or "qemu"
    return ()


@rules.post_parse(Iommu)
def _improve(domain: Domain, device: Iommu, ctx: Context) -> Issues:
    """Switch extended interrupt mode on for new guests that need it."""
    if ctx.abi_update and device.model == "intel" and _needs_eim(domain):
        for name in ("intremap", "eim"):
            if getattr(device, name) is None and f"intel-iommu.{name}" in (ctx.caps or ()):
                setattr(device, name, True)
    return ()


@rules.check(Iommu)
def _supported(domain: Domain, device: Iommu, ctx: Context) -> Issues:
    """Check machine, QEMU, and what a virtio IOMMU needs."""
    suits, where = _MACHINES[device.model]
    what = f"IOMMU device: '{device.model}'"
    if not suits(machine_of(domain)):
        yield Issue.unsupported(f"{what} is only supported with {where}")
        return
    if any(flag not in ctx.caps for flag in _CAPABILITIES[device.model]):
        yield Issue.unsupported(f"{what} is not supported with this QEMU binary")
    if device.pci_bus is not None:
        # An SMMU of its own for one bus came with QEMU 10.2; ours is an option of the machine.
        yield Issue.unsupported(f"{what} for a single bus is not supported with this QEMU binary")
    if device.model == "virtio":
        if domain.features is None or not domain.features.acpi:
            yield Issue.unsupported(f"{what} requires ACPI")
        if device.address is not None and not isinstance(device.address, PciAddress):
            yield Issue.unsupported(f"{what} needs a PCI address")
    for name, flag, called in _SETTINGS:
        value = getattr(device, name)
        given = value is not None and (value != 0 or value is False)
        if given and flag not in ctx.caps:
            yield Issue.unsupported(f"iommu: {called} not supported with this QEMU binary")


def command(cmd: Command) -> None:
    """Append the device; an SMMU is an option of the machine."""
    for device in cmd.domain.devices.iommus:
        if device.model == "intel":
            props = {
                "driver": "intel-iommu",
                "id": device.alias,
                "intremap": switch(device.intremap),
                "caching-mode": device.caching_mode,
                "eim": switch(device.eim),
                "device-iotlb": device.iotlb,
                "aw-bits": device.aw_bits or None,
                "dma-translation": device.dma_translation,
            }
        elif device.model == "virtio":
            props = {
                "driver": "virtio-iommu",
                "id": device.alias,
                **address_props(cmd.domain, device),
            }
        else:
            continue
        cmd.features(device)
        cmd.device(props)
