"""The <features> section in QEMU: defaults and validation."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from typing import Final

from hvcore.errors import Issue
from hvcore.model.features import Features
from hvcore.rules.base import Rules
from hvcore.rules.os import os_of
from hvcore.rules.vcpu import max_vcpus
from hvcore_qemu.machines import X86
from hvcore_qemu.machines import machine_of
from hvcore_qemu.sections.machine import features_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore.rules.base import Issues
    from hvcore_qemu.capabilities import QemuCapabilities
    from hvcore_qemu.machines import Machine

rules = Rules()

VCPUS_WITHOUT_EIM: Final = 255
"""APIC identifiers have 8 bits unless the IOMMU extends them."""

Check = Callable[["Domain", Features, "QemuCapabilities"], str | None]


# -- post-parse -------------------------------------------------------------------------------


@rules.post_parse_domain
def _gic(domain: Domain, ctx: Context) -> Issues:
    """Every virt machine of ARM has a GIC; choose the newest version there is.

    Emulated version 3 has no MSI controller, which PCIe needs, so TCG guests get version 2.
    """
    if ctx.caps is None:
        return ()
    features = features_of(domain)
    wanted = features.gic_version is None if features.gic else machine_of(domain).arm_virt
    if not wanted:
        return ()
    domain.features = features
    features.gic = True
    if domain.type != "qemu" and ctx.caps.supports_gic(domain.type, 3):
        features.gic_version = "3"
    else:
        features.gic_version = "2"
    return ()


@rules.post_parse_domain
def _tseg(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Refuse a size of SMM's memory that cannot be had."""
    if ctx.caps is None or features_of(domain).tseg is None:
        return
    if not machine_of(domain).q35:
        yield Issue.unsupported("SMM TSEG is only supported with q35 machine type")
    elif "mch.extended-tseg-mbytes" not in ctx.caps:
        yield Issue.unsupported("Setting TSEG size is not supported with this QEMU binary")
    elif (features_of(domain).tseg or 0) % 2**20:
        yield Issue.unsupported("SMM TSEG size must be divisible by 1 MiB")


def needs_eim(domain: Domain) -> bool:
    """Return whether a guest has more CPUs than interrupts can address without an IOMMU."""
    machine = machine_of(domain)
    return machine.q35 and machine.arch in X86 and max_vcpus(domain) > VCPUS_WITHOUT_EIM


@rules.post_parse_late
def _ioapic_of_iommu(domain: Domain, ctx: Context) -> Issues:
    """Leave the I/O APIC to QEMU where the IOMMU remaps its interrupts."""
    if ctx.caps is None:
        return ()
    features = features_of(domain)
    remaps = any(iommu.intremap for iommu in domain.devices.iommus)
    if features.ioapic is None and (remaps or (domain.devices.iommus and needs_eim(domain))):
        domain.features = features
        features.ioapic = "qemu"
    return ()


# -- validation -------------------------------------------------------------------------------


def _elsewhere(domain: Domain, name: str) -> str:
    os = os_of(domain)
    return (
        f"The '{name}' feature is not supported for architecture '{os.arch}' "
        f"or machine type '{os.machine}'"
    )


def _apic(domain: Domain, features: Features, caps: QemuCapabilities) -> str | None:
    del caps
    if features.apic_eoi is None or os_of(domain).arch in X86:
        return None
    return _elsewhere(domain, "apic").replace("The 'apic'", "The 'eoi' attribute of the 'apic'")


def _hyperv(domain: Domain, features: Features, caps: QemuCapabilities) -> str | None:
    del caps
    os = os_of(domain)
    if features.hyperv is None or os.arch in X86 or machine_of(domain).arm_virt:
        return None
    return (
        f"Hyperv features are not supported for architecture '{os.arch}' "
        f"or machine type '{os.machine}'"
    )


def _pvspinlock(domain: Domain, features: Features, caps: QemuCapabilities) -> str | None:
    del caps
    if features.pvspinlock is None or os_of(domain).arch in X86:
        return None
    return _elsewhere(domain, "pvspinlock")


def _pmu(domain: Domain, features: Features, caps: QemuCapabilities) -> str | None:
    del caps
    arch = os_of(domain).arch
    if features.pmu is False and arch in ("ppc64", "ppc64le"):
        return f"PMU is always enabled for architecture '{arch}'"
    return None


def _is_pc(machine: Machine) -> bool:
    return machine.i440fx or machine.q35 or machine.name == "isapc"


def has_ps2_switch(machine: Machine, caps: QemuCapabilities) -> bool:
    """Return whether guests of a machine type can go without a PS/2 controller."""
    return "machine-i8042-opt" in caps and (_is_pc(machine) or machine.xenfv)


def _vmport(domain: Domain, features: Features, caps: QemuCapabilities) -> str | None:
    if features.vmport is None:
        return None
    if "machine-vmport-opt" not in caps or not _is_pc(machine_of(domain)):
        return "vmport is not available with this QEMU binary"
    if features.vmport and features.ps2 is False:
        return "vmport feature requires the ps2 feature not to be disabled"
    return None


def _gic_machine(domain: Domain, features: Features, caps: QemuCapabilities) -> str | None:
    del caps
    if features.gic and not machine_of(domain).arm_virt:
        return _elsewhere(domain, "gic")
    return None


def _ioapic(domain: Domain, features: Features, caps: QemuCapabilities) -> str | None:
    del caps
    if features.ioapic is None or os_of(domain).arch in X86:
        return None
    return _elsewhere(domain, "ioapic")


def _pseries(name: str, *fields: str) -> Check:
    """Return the check of a feature that only pSeries machines have."""

    def check(domain: Domain, features: Features, caps: QemuCapabilities) -> str | None:
        del caps
        given = any(getattr(features, field) is not None for field in fields)
        return _elsewhere(domain, name) if given and not machine_of(domain).pseries else None

    return check


def _vmcoreinfo(domain: Domain, features: Features, caps: QemuCapabilities) -> str | None:
    del domain
    if features.vmcoreinfo and "vmcoreinfo" not in caps:
        return "vmcoreinfo is not available with this QEMU binary"
    return None


def _tcg(domain: Domain, features: Features, caps: QemuCapabilities) -> str | None:
    del caps
    if not features.tcg_tb_cache:
        return None
    if domain.type != "qemu":
        return f"TCG features are incompatible with domain type '{domain.type}'"
    if features.tcg_tb_cache % 1024:
        return "tb-cache size must be an integer multiple of MiB"
    return None


def _async_teardown(domain: Domain, features: Features, caps: QemuCapabilities) -> str | None:
    del domain
    if features.async_teardown and "run-with.async-teardown" not in caps:
        return "asynchronous teardown is not available with this QEMU binary"
    return None


def _ras(domain: Domain, features: Features, caps: QemuCapabilities) -> str | None:
    if features.ras is None:
        return None
    if not machine_of(domain).arm_virt:
        return "ras feature is only supported with ARM Virt machines"
    if "machine.virt.ras" not in caps:
        return "ras feature is not available with this QEMU binary"
    return None


def _ps2(domain: Domain, features: Features, caps: QemuCapabilities) -> str | None:
    if features.ps2 is None:
        return None
    machine = machine_of(domain)
    if "i8042" not in caps or not (_is_pc(machine) or machine.xenfv):
        return "ps2 feature is not available with this QEMU binary"
    if not has_ps2_switch(machine, caps):
        return "ps2 feature state cannot be controlled with this QEMU binary"
    return None


def _aia(domain: Domain, features: Features, caps: QemuCapabilities) -> str | None:
    if features.aia is None:
        return None
    if not machine_of(domain).riscv_virt:
        return "aia feature is only supported with RISC-V Virt machines"
    if "machine.virt.aia" not in caps:
        return "aia feature is not available with this QEMU binary"
    return None


CHECKS: Final[tuple[Check, ...]] = (
    _apic,
    _hyperv,
    _pvspinlock,
    _pmu,
    _vmport,
    _gic_machine,
    _ioapic,
    _pseries("hpt", "hpt_resizing", "hpt_maxpagesize"),
    _vmcoreinfo,
    _pseries("htm", "htm"),
    _pseries("nested-hv", "nested_hv"),
    _pseries("ccf-assist", "ccf_assist"),
    _pseries("cfpc", "cfpc"),
    _pseries("sbbc", "sbbc"),
    _pseries("ibs", "ibs"),
    _tcg,
    _async_teardown,
    _ras,
    _ps2,
    _aia,
)
"""What is wrong with a feature on this machine, in the order in which libvirt looks."""


@rules.check_domain
def _check(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Refuse features that the machine or the binary does not have."""
    features = domain.features
    if features is None or ctx.caps is None:
        return
    for check in CHECKS:
        message = check(domain, features, ctx.caps)
        if message is not None:
            yield Issue.unsupported(message, line=features.line)
