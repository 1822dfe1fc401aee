"""The CPU in QEMU: default model, validation and ``-cpu``."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Final

from hvcore.cpu import guest
from hvcore.cpu import ppc64
from hvcore.cpu import x86
from hvcore.cpu.spec import check_forbidden
from hvcore.errors import ErrorClass
from hvcore.errors import HvError
from hvcore.errors import Issue
from hvcore.errors import ValidationFailed
from hvcore.model.cpu import Cpu
from hvcore.model.cpu import CpuFeature
from hvcore.model.features import ENLIGHTENMENTS
from hvcore.rules.base import Rules
from hvcore.rules.cpu import has_model
from hvcore_qemu.capabilities import feature_to_qemu
from hvcore_qemu.hostcpu import IGNORED_FEATURES
from hvcore_qemu.hostcpu import host_models
from hvcore_qemu.hostcpu import known_models
from hvcore_qemu.machines import ARM
from hvcore_qemu.machines import LOONGARCH
from hvcore_qemu.machines import PPC64
from hvcore_qemu.machines import S390
from hvcore_qemu.machines import X86

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.model.clock import Timer
    from hvcore.model.cpu import FeaturePolicy
    from hvcore.model.domain import Domain
    from hvcore.model.features import Features
    from hvcore.pipeline import Context
    from hvcore_qemu.command import Command
    from hvcore_qemu.hostcpu import HostModels
    from hvcore_qemu.prepare import Preparation

rules = Rules()

SUPPORTED_ARCHES: Final = X86 | PPC64 | S390 | ARM | LOONGARCH | {"riscv64"}
"""Architectures whose CPU models are understood at all."""
# Elsewhere the default that QEMU reports is right for emulation only.
_DEFAULT_FOR_ALL: Final = X86 | S390 | PPC64
_BY_ITSELF: Final = ("host-passthrough", "maximum")


def arch_of(domain: Domain) -> str:
    """Return the guest's architecture, the empty string where it is not known."""
    return "" if domain.os is None else domain.os.arch or ""


@rules.post_parse_domain
def _default_model(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Name the model that QEMU takes for this machine when nobody asks for another."""
    arch = arch_of(domain)
    if has_model(domain.cpu) or arch not in SUPPORTED_ARCHES or domain.os is None:
        return
    if arch not in _DEFAULT_FOR_ALL and domain.type != "qemu":
        return
    model = ctx.caps.machine_default_cpu(domain.type, domain.os.machine or "")
    if model is None:
        return
    if domain.cpu is None:
        domain.cpu = Cpu()
    cpu = domain.cpu
    if model != "host":
        # Such a model may have features that the host lacks; QEMU leaves them out.
        cpu.check, cpu.mode, cpu.match, cpu.fallback = "none", "custom", "exact", "forbid"
        cpu.model = model
        return
    if domain.type != "kvm":
        yield Issue.internal(
            'QEMU reports invalid default CPU model "host" for non-kvm domain virt type'
        )
    host_arch = "" if ctx.host is None else ctx.host.arch
    wants_model = arch in S390 and ctx.caps.supports_cpu_mode(
        host_arch, domain.type, "host-model", domain.os.machine
    )
    cpu.mode = "host-model" if wants_model else "host-passthrough"


@rules.post_parse_domain
def _details(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Turn SVE on where its vector lengths are given; decide on migration and checking."""
    cpu = domain.cpu
    if cpu is None:
        return
    yield from _sve(cpu)
    if not ctx.active and cpu.mode == "host-passthrough" and cpu.migratable is None:
        if "cpu.migratable" in ctx.caps:
            cpu.migratable = True
        elif arch_of(domain) in X86:
            cpu.migratable = False
    if not has_model(cpu) or cpu.check is not None:
        return
    if cpu.mode in _BY_ITSELF or (cpu.mode == "custom" and domain.type == "qemu"):
        cpu.check = "none"
    else:
        cpu.check = "partial"


def _sve(cpu: Cpu) -> Iterator[Issue]:
    if not any(f.name.startswith("sve") and f.name != "sve" for f in cpu.features):
        return
    sve = next((feature for feature in cpu.features if feature.name == "sve"), None)
    if sve is None:
        cpu.features.append(CpuFeature(name="sve", policy="require"))
    elif sve.policy in ("disable", "forbid"):
        yield Issue.unsupported("SVE disabled, but SVE vector lengths provided")
    else:
        sve.policy = "require"


# -- validation ---------------------------------------------------------------------------------


@rules.check_domain
def _checks(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Check what is said of the CPU against architecture, mode and QEMU."""
    cpu = domain.cpu
    if cpu is None:
        return
    yield from _address(cpu, arch_of(domain))
    yield from _cache(cpu, arch_of(domain))
    if cpu.mode == "host-passthrough" and cpu.migratable and "cpu.migratable" not in ctx.caps:
        yield Issue.unsupported(
            "Migratable attribute for host-passthrough CPU is not supported by this QEMU binary"
        )
    if cpu.mode == "maximum" and "cpu-max" not in ctx.caps:
        yield Issue.unsupported("maximum CPU is not supported by QEMU binary")


def _address(cpu: Cpu, arch: str) -> Iterator[Issue]:
    if cpu.addr_mode is None:
        return
    if arch not in X86:
        yield Issue.unsupported(
            "CPU maximum physical address bits specification is not supported for "
            f"'{arch}' architecture"
        )
    elif cpu.addr_mode == "passthrough" and cpu.addr_bits is not None:
        yield Issue.unsupported(
            "CPU maximum physical address bits number specification cannot be used with "
            f"mode='{cpu.addr_mode}'"
        )


def _cache(cpu: Cpu, arch: str) -> Iterator[Issue]:
    mode = cpu.cache_mode
    if mode is None:
        return
    if arch not in X86:
        yield Issue.unsupported(
            f"CPU cache specification is not supported for '{arch}' architecture"
        )
    elif mode == "emulate":
        if cpu.cache_level != 3:
            yield Issue.unsupported(f"CPU cache mode '{mode}' can only be used with level='3'")
    elif mode == "passthrough" and cpu.mode not in _BY_ITSELF:
        yield Issue.unsupported(
            f"CPU cache mode '{mode}' can only be used with 'host-passthrough' / 'maximum' CPUs"
        )
    elif cpu.cache_level is not None:
        yield Issue.unsupported(f"unsupported CPU cache level for mode '{mode}'")


# -- before a start -----------------------------------------------------------------------------


def validate_start(work: Preparation) -> None:
    """Refuse features that nobody knows.

    :raises HvError: naming the first.
    """
    if work.domain.cpu is not None:
        guest.check_features(arch_of(work.domain), work.domain.cpu)


def prepare(work: Preparation) -> None:
    """Make of what the document says the CPU that this QEMU gives on this host.

    :raises HvError: when the host cannot provide it.
    """
    domain, caps = work.domain, work.caps
    cpu, arch = domain.cpu, arch_of(domain)
    if cpu is None or not has_model(cpu):
        return
    if not work.new and arch in X86 and cpu.mode == "host-model" and cpu.model is not None:
        cpu.mode = "custom"  # the other side has replaced it already
    _supported(work, cpu)
    if arch not in SUPPORTED_ARCHES:
        raise HvError(
            f"'{arch}' architecture is not supported by CPU driver", kind=ErrorClass.NO_SUPPORT
        )
    if arch in PPC64:
        cpu.model = ppc64.convert_legacy(cpu.model)
    if cpu.check != "none" and any(feature.policy == "forbid" for feature in cpu.features):
        models = _models(work)
        if models is not None:
            check_forbidden(guest.spec_of(cpu), models.comparable)
    if cpu.mode not in _BY_ITSELF:
        if cpu.check == "partial":
            _check_partially(work, cpu)
        removed: FeaturePolicy = "disable" if work.new else "require"
        models = _models(work) if guest.is_relative(cpu) else None
        guest.update(arch, cpu, models.migratable if models else None, removed)
        guest.translate(arch, cpu, known_models(caps, domain.type))
        cpu.fallback = "forbid"
    if arch in X86:
        cpu.features = [f for f in cpu.features if f.name not in IGNORED_FEATURES]
    _deprecated(work, cpu)


def _models(work: Preparation) -> HostModels | None:
    """Return the host's CPU as QEMU sees it; costly the first time, so ask only if it matters."""
    return host_models(work.caps, work.domain.type, work.info)


def _supported(work: Preparation, cpu: Cpu) -> None:
    """Make sure that there can be a CPU of this mode.

    :raises HvError: when there cannot.
    """
    domain, caps = work.domain, work.caps
    arch = arch_of(domain)
    host_arch = work.info.arch if work.info is not None else arch
    machine = domain.os.machine if domain.os else None
    mode = cpu.mode or "custom"
    if mode == "host-model":
        supported = not caps.passthrough_only(domain.type, machine) and _models(work) is not None
    else:
        supported = caps.supports_cpu_mode(host_arch, domain.type, mode, machine)
    if not supported:
        raise HvError(
            f"CPU mode '{mode}' for {arch} {domain.type} domain on {host_arch} host is not "
            "supported by hypervisor",
            kind=ErrorClass.CONFIG_UNSUPPORTED,
        )


def _check_partially(work: Preparation, cpu: Cpu) -> None:
    """Compare with the host by QEMU's word where that is enough, else feature by feature.

    :raises HvError: when the host cannot provide the CPU.
    """
    arch = arch_of(work.domain)
    known = (known_models(work.caps, work.domain.type) or {}).get(cpu.model or "")
    if known is not None and known.usable and all(f.policy == "disable" for f in cpu.features):
        return
    models = _models(work)
    reported = models.reported if models is not None else None
    if (
        cpu.model is None
        or known is None
        or reported is None
        or reported.fallback != "forbid"
        or guest.needs_compare(arch, cpu.model)
    ):
        guest.compare(arch, models.comparable if models is not None else None, cpu)
    else:
        x86.check_unusable(reported, guest.spec_of(cpu), known.blockers)


def _deprecated(work: Preparation, cpu: Cpu) -> None:
    """Turn off the features that QEMU advises against, where the document wants that.

    :raises HvError: when this QEMU gives no such advice.
    """
    if cpu.deprecated_features is None:
        return
    if "query-cpu-model-expansion.deprecated-props" not in work.caps:
        raise HvError(
            "toggling deprecated features for CPU model is unsupported",
            kind=ErrorClass.CONFIG_UNSUPPORTED,
        )
    probed = work.caps.accelerator(work.domain.type).host_cpu
    if cpu.deprecated_features or probed is None:
        return
    spec = guest.spec_of(cpu)
    spec.features |= dict.fromkeys(probed.deprecated or (), "disable")
    guest.put(spec, cpu)


# -- command line -------------------------------------------------------------------------------


def cpu(cmd: Command) -> None:
    """Append ``-cpu`` with the model, its features and what else is a property of the CPU.

    :raises ValidationFailed: when properties are asked for and the model is not known.
    """
    domain = cmd.domain
    model = _model(cmd)
    properties = "".join(f",{one}" for one in _properties(cmd))
    if model is None and properties:
        model = {"i686": "qemu32", "x86_64": "qemu64"}.get(arch_of(domain))
        if model is None:
            raise ValidationFailed(
                [
                    Issue.unsupported(
                        "CPU flags requested but can't determine default CPU for arch "
                        f"{arch_of(domain)}"
                    )
                ]
            )
    if model is not None:
        cmd.option("-cpu", model + properties)


def _model(cmd: Command) -> str | None:
    """Return the model with its features; None for QEMU's default."""
    domain, found = cmd.domain, cmd.domain.cpu
    arch = arch_of(domain)
    if found is None or not has_model(found):
        emulator = domain.devices.emulator or ""
        kvm_binary = cmd.resources.host_arch == "x86_64" and "kvm" in emulator
        # A 64-bit QEMU would give a 32-bit guest a 64-bit CPU.
        return "qemu32" if arch == "i686" and (kvm_binary or "x86_64" in emulator) else None
    if found.mode in _BY_ITSELF:
        text = "max" if found.mode == "maximum" else "host"
        if arch == "armv7l" and cmd.resources.host_arch == "aarch64":
            text += ",aarch64=off"
        if found.migratable is not None and "cpu.migratable" in cmd.caps:
            text += f",migratable={_onoff(found.migratable)}"
    elif found.mode == "host-model":
        if arch not in PPC64:
            raise ValidationFailed(
                [Issue.internal(f"unexpected host-model CPU for {arch} architecture")]
            )
        text = "host"
    else:
        text = found.model or ""
    if found.features and arch in S390 | ARM and "query-cpu-model-expansion" not in cmd.caps:
        raise ValidationFailed(
            [Issue.internal(f"CPU features not supported by hypervisor for {arch} architecture")]
        )
    if found.vendor_id:
        text += f",vendor={found.vendor_id}"
    return text + _features(cmd, found, arch)


def _features(cmd: Command, found: Cpu, arch: str) -> str:
    if not found.features:
        return ""
    probed = cmd.caps.accelerator(cmd.domain.type).host_cpu if arch in X86 else None
    known = probed.property_names if probed is not None else None
    text = ""
    for feature in found.features:
        name = feature_to_qemu(arch, feature.name)
        if feature.policy in ("force", "require"):
            text += f",{name}=on"
        # What QEMU does not know it does not provide either.
        elif feature.policy in ("disable", "forbid") and (known is None or name in known):
            text += f",{name}=off"
    return text


def _properties(cmd: Command) -> Iterator[str]:
    """Yield the properties that come from elsewhere than the model, in libvirt's order."""
    domain = cmd.domain
    features = domain.features
    for timer in domain.clock.timers if domain.clock else ():
        yield from _timer(timer)
    if features is not None:
        if features.apic_eoi is not None:
            yield f"kvm-pv-eoi={_onoff(features.apic_eoi)}"
        if features.pvspinlock is not None:
            yield f"kvm-pv-unhalt={_onoff(features.pvspinlock)}"
        yield from _hyperv(features, arch_of(domain))
    if any(panic.model == "hyperv" for panic in domain.devices.panics):
        yield "hv-crash"
    if features is not None:
        yield from _kvm(features)
        if features.pmu is not None and arch_of(domain) not in PPC64:
            yield f"pmu={_onoff(features.pmu)}"
    if domain.cpu is not None:
        yield from _cache_properties(domain.cpu)
        yield from _address_properties(domain.cpu)


def _onoff(value: bool) -> str:
    return "on" if value else "off"


def _timer(timer: Timer) -> Iterator[str]:
    if timer.name == "kvmclock" and timer.present is not None:
        yield f"kvmclock={_onoff(timer.present)}"
    elif timer.name == "hypervclock" and timer.present:
        yield "hv-time=on"
    elif timer.name == "tsc" and timer.frequency:
        yield f"tsc-frequency={timer.frequency}"
    elif timer.name == "armvtimer" and timer.tickpolicy in ("delay", "discard"):
        yield f"kvm-no-adjvtime={_onoff(timer.tickpolicy == 'discard')}"


def _hyperv(features: Features, arch: str) -> Iterator[str]:
    hyperv = features.hyperv
    if hyperv is None:
        return
    if hyperv.mode == "passthrough":
        yield "hv-passthrough=on"
    for name in ENLIGHTENMENTS:
        if not getattr(hyperv, name):
            continue
        if name == "spinlocks":
            yield f"hv-spinlocks={hyperv.spinlocks_retries:#x}"
        elif name == "vendor_id":
            yield f"hv-vendor-id={hyperv.vendor_id_value}"
        else:
            yield f"{feature_to_qemu(arch, f'hv-{name}')}=on"
        if name == "stimer" and hyperv.stimer_direct:
            yield "hv-stimer-direct=on"
        if name == "tlbflush" and hyperv.tlbflush_direct:
            yield "hv-tlbflush-direct=on"
        if name == "tlbflush" and hyperv.tlbflush_extended:
            yield "hv-tlbflush-ext=on"


def _kvm(features: Features) -> Iterator[str]:
    kvm = features.kvm
    if kvm is None:
        return
    if kvm.hidden:
        yield "kvm=off"
    if kvm.hint_dedicated:
        yield "kvm-hint-dedicated=on"
    if kvm.poll_control:
        yield "kvm-poll-control=on"
    if kvm.pv_ipi is False:
        yield "kvm-pv-ipi=off"


def _cache_properties(found: Cpu) -> Iterator[str]:
    mode = found.cache_mode
    if mode == "emulate":
        yield "l3-cache=on"
    elif mode == "passthrough":
        yield "host-cache-info=on"
    if mode in ("emulate", "disable") and found.mode in _BY_ITSELF:
        yield "host-cache-info=off"
    if mode in ("passthrough", "disable"):
        yield "l3-cache=off"


def _address_properties(found: Cpu) -> Iterator[str]:
    if found.addr_mode == "passthrough":
        yield "host-phys-bits=on"
        if found.addr_limit:
            yield f"host-phys-bits-limit={found.addr_limit}"
    elif found.addr_mode == "emulate":
        yield f"phys-bits={found.addr_bits}" if found.addr_bits else "host-phys-bits=off"
