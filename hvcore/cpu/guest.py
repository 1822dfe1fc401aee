"""What a hypervisor driver does with a guest's CPU before a start, on any architecture."""

from __future__ import annotations

import functools
import json
from importlib import resources
from typing import TYPE_CHECKING
from typing import Final

from hvcore.cpu import ppc64
from hvcore.cpu import x86
from hvcore.cpu.spec import CpuSpec
from hvcore.cpu.spec import incompatible
from hvcore.cpu.spec import unsupported
from hvcore.cpu.spec import unsupported_model
from hvcore.errors import ErrorClass
from hvcore.errors import HvError
from hvcore.model.cpu import CpuFeature

if TYPE_CHECKING:
    from hvcore.cpu.spec import Models
    from hvcore.model.cpu import Cpu
    from hvcore.model.cpu import FeaturePolicy

X86: Final = frozenset({"i686", "x86_64"})
PPC64: Final = frozenset({"ppc64", "ppc64le"})
S390: Final = frozenset({"s390", "s390x"})
ARM: Final = frozenset({"armv6l", "armv7b", "armv7l", "aarch64"})


@functools.cache
def _arm_features() -> frozenset[str]:
    text = resources.files("hvcore.cpu").joinpath("data/arm.json").read_text("utf-8")
    return frozenset(json.loads(text)["features"])


def spec_of(cpu: Cpu) -> CpuSpec:
    """Return the model and features of a guest's <cpu>."""
    return CpuSpec(
        model=cpu.model,
        vendor=cpu.vendor,
        vendor_id=cpu.vendor_id,
        features={feature.name: feature.policy for feature in cpu.features},
        fallback=cpu.fallback or "allow",
    )


def put(spec: CpuSpec, cpu: Cpu) -> None:
    """Write model and features back into a guest's <cpu>."""
    cpu.model, cpu.vendor, cpu.vendor_id = spec.model, spec.vendor, spec.vendor_id
    cpu.features = [CpuFeature(name=name, policy=p) for name, p in spec.features.items()]


def check_features(arch: str, cpu: Cpu) -> None:
    """Refuse features that the architecture does not have.

    :raises HvError: naming the first.
    """
    if arch in X86:
        x86.check_features(spec_of(cpu))
    for feature in cpu.features:
        if arch in S390 and feature.policy == "optional":
            unsupported(
                "only cpu feature policies 'require' and 'disable' are supported for "
                f"{feature.name}"
            )
        if arch in ARM and feature.name not in _arm_features():
            unsupported(f"unknown CPU feature: {feature.name}")


def compare(arch: str, host: CpuSpec | None, cpu: Cpu) -> None:
    """Make sure that ``host`` can provide the CPU of a guest.

    :raises HvError: when it cannot, or when a model or feature is unknown.
    """
    spec = spec_of(cpu)
    if arch in X86:
        found, reason = x86.compare(host, spec, strict=cpu.match == "strict")
    elif arch in PPC64:
        found, reason = ppc64.compare(host, spec, mode=cpu.mode or "custom")
    else:
        return  # elsewhere QEMU does all checking
    if found == "incompatible":
        raise incompatible(reason)


def needs_compare(arch: str, model: str) -> bool:
    """Return whether a model is compared feature by feature rather than by QEMU's word for it.

    :raises HvError: when the model is unknown.
    """
    if arch not in X86:
        return True
    known = x86.cpu_map().model(model)
    if known is None:
        raise x86.unknown_model(model)
    return known.compat_check


def is_relative(cpu: Cpu) -> bool:
    """Return whether what the guest gets depends on the host."""
    if cpu.mode == "host-model" or cpu.match == "minimum":
        return True
    return any(feature.policy == "optional" for feature in cpu.features)


def update(arch: str, cpu: Cpu, host: CpuSpec | None, removed: FeaturePolicy) -> None:
    """Decide what depends on the host; host-model becomes a model with features.

    :param removed: policy of features that models once had.
    :raises HvError: when the host's model is not known, or the policies are not possible.
    """
    if arch in X86:
        spec = spec_of(cpu)
        match = cpu.match or "exact"
        x86.update(spec, host, mode=cpu.mode or "custom", match=match, removed=removed)
        put(spec, cpu)
        if cpu.mode == "host-model" or match == "minimum":
            cpu.mode, cpu.match = "custom", "exact"
    elif arch in PPC64:
        if cpu.mode == "custom":
            cpu.match = "exact"
    elif arch in S390 | ARM:
        _replace(arch, cpu, host)


def _replace(arch: str, cpu: Cpu, host: CpuSpec | None) -> None:
    """Put the host's model in the place of host-model."""
    if cpu.mode != "host-model":
        if arch in S390 and cpu.match == "minimum":
            unsupported(f"match mode {cpu.match} not supported")
        if arch in S390 and any(feature.policy == "optional" for feature in cpu.features):
            unsupported("optional CPU features are not supported")
        return
    if host is None:
        unsupported("unknown host CPU model")
    spec = host.copy()
    if arch in S390:
        spec.features |= {feature.name: feature.policy for feature in cpu.features}
    put(spec, cpu)
    cpu.mode, cpu.match = "custom", "exact"


def translate(arch: str, cpu: Cpu, models: Models | None) -> None:
    """Express a model that the hypervisor lacks by one that it has.

    :raises HvError: when that is impossible or not permitted.
    """
    if cpu.mode != "custom" or models is None or cpu.model in models:
        return
    if arch not in X86:
        if (cpu.fallback or "allow") != "allow":
            unsupported_model(cpu.model)
        raise HvError(
            f"cannot translate CPU model {cpu.model} to a supported model",
            kind=ErrorClass.NO_SUPPORT,
        )
    spec = spec_of(cpu)
    x86.translate(spec, models)
    put(spec, cpu)
