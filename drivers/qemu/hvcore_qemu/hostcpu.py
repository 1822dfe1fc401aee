"""What the host's CPU is to QEMU: the model a guest gets that asks for the host's.

QEMU tells features, not models; the CPU map says which model they are closest to. Results are kept
for as long as the capabilities they were concluded from.
"""

from __future__ import annotations

import functools
import weakref
from typing import TYPE_CHECKING
from typing import Final

import attrs

from hvcore.cpu import x86
from hvcore.cpu.spec import CpuSpec
from hvcore.errors import HvError
from hvcore_qemu.capabilities import feature_from_qemu
from hvcore_qemu.capabilities import is_native
from hvcore_qemu.machines import ARM
from hvcore_qemu.machines import LOONGARCH
from hvcore_qemu.machines import S390
from hvcore_qemu.machines import X86

if TYPE_CHECKING:
    from hvcore.cpu.spec import Models
    from hvcore.hostinfo import HostInfo
    from hvcore.hostinfo import Processor
    from hvcore_qemu.capabilities import Accelerator
    from hvcore_qemu.capabilities import HostCpu
    from hvcore_qemu.capabilities import QemuCapabilities

IGNORED_FEATURES: Final = frozenset(
    {
        "cmt", "mbm_total", "mbm_local",  # QEMU never had them
        "osxsave", "ospke",  # QEMU dropped them
        "vmx-ept-uc", "vmx-ept-wb", "vmx-invvpid-single-context",  # QEMU never had them
    }
)  # fmt: skip
"""Features of processors that are never told to QEMU."""

_ACCELERATED: Final = frozenset({"kvm", "hvf"})


@attrs.frozen
class HostModels:
    """The host's CPU as QEMU sees it.

    :ivar reported: with all that QEMU can give a guest.
    :ivar migratable: only with what a migration can take along.
    :ivar full: with what the processor has besides; None when that is not known.
    """

    reported: CpuSpec
    migratable: CpuSpec
    full: CpuSpec | None

    def without(self, names: frozenset[str]) -> HostModels:
        """Return them without features."""
        full = None if self.full is None else self.full.without(names)
        return HostModels(self.reported.without(names), self.migratable.without(names), full)

    @property
    def comparable(self) -> CpuSpec:
        """The CPU that guests are compared with."""
        return self.full or self.reported


def known_models(caps: QemuCapabilities, virt_type: str) -> Models | None:
    """Return QEMU's models by name; None where QEMU cannot list them."""
    accelerator = caps.accelerator(virt_type)
    return None if accelerator.cpus is None else accelerator.cpu_of_name


_KEPT: dict[
    tuple[int, int], tuple[weakref.ref[Accelerator], CpuSpec | None, HostModels | None]
] = {}


def host_models(caps: QemuCapabilities, virt_type: str, info: HostInfo | None) -> HostModels | None:
    """Return the models that describe the host, None where there are none."""
    if info is not None and not is_native(info.arch, caps.arch):
        return None
    accelerator = caps.accelerator(virt_type)
    host = _host_cpu(info)
    key = (id(accelerator), id(host))
    kept = _KEPT.get(key)
    if kept is not None and kept[0]() is accelerator:
        return kept[2]
    try:
        found = _conclude(caps, virt_type, host)
    except HvError:
        found = None  # no model fits: then there is none to be had
    # The host is kept as well, so that its id belongs to nothing else.
    _KEPT[key] = (weakref.ref(accelerator, lambda _: _KEPT.pop(key, None)), host, found)
    return found


def _host_cpu(info: HostInfo | None) -> CpuSpec | None:
    if info is None or info.cpu is not None or info.processor is None:
        return None if info is None else info.cpu
    return _processor_model(info.processor)


@functools.lru_cache(maxsize=4)
def _processor_model(processor: Processor) -> CpuSpec | None:
    try:
        return x86.from_linux(processor.vendor, processor.signature, processor.flags)
    except HvError:
        return None  # a processor that no model describes


def _conclude(caps: QemuCapabilities, virt_type: str, host: CpuSpec | None) -> HostModels | None:
    probed = caps.accelerator(virt_type).host_cpu
    if caps.arch in S390:
        return None if probed is None else _s390(caps, probed)
    if caps.arch in ARM | LOONGARCH:
        return None  # QEMU has no such model there
    if caps.arch not in X86 or probed is None:
        return None if host is None or host.model is None else _from_host(caps, host)
    models = known_models(caps, virt_type)
    reported = _decoded(caps, probed, models, migratable=False)
    if probed.migratability:
        migratable = _decoded(caps, probed, models, migratable=True)
    else:
        migratable = x86.copy_migratable(reported)
    full = None
    if host is not None and virt_type in _ACCELERATED:
        full = host.copy()
        for name, policy in x86.expand(reported).features.items():
            if policy == "require":
                full.features[name] = "require"
    return _distinguished(caps, HostModels(reported, migratable, full))


def _distinguished(caps: QemuCapabilities, found: HostModels) -> HostModels:
    """Return models without what is in MSRs where QEMU cannot tell which of it is unavailable."""
    if "cpu-unavailable-features" in caps:
        return found
    return found.without(frozenset(x86.cpu_map().msrs))


def _from_host(caps: QemuCapabilities, host: CpuSpec) -> HostModels:
    """Return the processor itself where QEMU told nothing."""
    if caps.arch not in X86:
        reported = attrs.evolve(host, features=dict(host.features), host=False)
        return HostModels(reported, reported.copy(), None)
    reported = attrs.evolve(host.without(IGNORED_FEATURES), host=False, fallback="allow")
    return _distinguished(caps, HostModels(reported, x86.copy_migratable(reported), None))


def _decoded(
    caps: QemuCapabilities, probed: HostCpu, models: Models | None, *, migratable: bool
) -> CpuSpec:
    names, numbers, vendor = [], {"family": 0, "model": 0, "stepping": 0}, None
    for prop in probed.properties:
        name = feature_from_qemu(caps.arch, prop.name)
        if prop.value is True:
            if not (migratable and prop.migratable is False):
                names.append(name)
        elif name == "vendor" and isinstance(prop.value, str):
            vendor = prop.value
        elif name in numbers and isinstance(prop.value, int):
            numbers[name] = prop.value
    data = x86.data_of(
        names,
        vendor=vendor,
        signature=(numbers["family"], numbers["model"], numbers["stepping"]),
    )
    return attrs.evolve(x86.decode(data, models=models), fallback="forbid")


def _s390(caps: QemuCapabilities, probed: HostCpu) -> HostModels:
    reported = _s390_model(caps, probed, migratable=False)
    if probed.migratability:
        return HostModels(reported, _s390_model(caps, probed, migratable=True), None)
    return HostModels(reported, reported.copy(), None)


def _s390_model(caps: QemuCapabilities, probed: HostCpu, *, migratable: bool) -> CpuSpec:
    spec = CpuSpec(model=probed.model, fallback="forbid")
    for prop in probed.properties:
        if isinstance(prop.value, bool):
            has = prop.value and not (migratable and prop.migratable is False)
            name = feature_from_qemu(caps.arch, prop.name)
            spec.features[name] = "require" if has else "disable"
    return spec
