"""What one QEMU binary can do: flags, machines, CPU models, and what libvirt concludes from them.

Invariant: a value is sealed. The bulky parts (CPU models, host CPU) are decoded on first use, and
all lookups are dictionaries. Names of virtualization types are those of ``<domain type=...>``:
``kvm`` and ``hvf`` select their accelerator's answers, everything else means TCG.
"""

from __future__ import annotations

import functools
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING
from typing import Any
from typing import Final
from typing import final

import attrs

from hvcore.capabilities import Capabilities
from hvcore.capabilities import Deferred

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Mapping

#: accelerators in the order libvirt lists and prefers them
ACCELERATORS: Final = ("kvm", "hvf", "tcg")

#: libvirt's (left) and QEMU's spelling of x86 CPU features where they differ
X86_FEATURE_SPELLING: Final[Mapping[str, str]] = MappingProxyType(
    {
        "cmp_legacy": "cmp-legacy",
        "ds_cpl": "ds-cpl",
        "fxsr_opt": "fxsr-opt",
        "kvm_pv_eoi": "kvm-pv-eoi",
        "kvm_pv_unhalt": "kvm-pv-unhalt",
        "lahf_lm": "lahf-lm",
        "nodeid_msr": "nodeid-msr",
        "pclmuldq": "pclmulqdq",
        "perfctr_core": "perfctr-core",
        "perfctr_nb": "perfctr-nb",
        "tsc_adjust": "tsc-adjust",
        "vmx-invvpid-single-context-noglobals": "vmx-invept-single-context-noglobals",
        "hv-vendor_id": "hv-vendor-id",
        "hv-emsr_bitmap": "hv-emsr-bitmap",
        "hv-xmm_input": "hv-xmm-input",
    }
)
_X86_FEATURE_OF_QEMU: Final = {qemu: name for name, qemu in X86_FEATURE_SPELLING.items()}

#: emulated architectures that a binary of another architecture runs as well
_ALSO_RUNS: Final[Mapping[str, str]] = MappingProxyType(
    {"x86_64": "i686", "aarch64": "armv7l", "armv7l": "armv6l", "ppc64": "ppc64le"}
)

#: machines on which s390x KVM guests can only have the host's CPU, whatever QEMU's version
_S390_PASSTHROUGH_ONLY: Final = frozenset(
    f"s390-ccw-virtio-{version}" for version in ("2.4", "2.5", "2.6", "2.7")
)


def feature_to_qemu(arch: str, name: str) -> str:
    """Return QEMU's spelling of a CPU feature."""
    return X86_FEATURE_SPELLING.get(name, name) if arch in {"i686", "x86_64"} else name


def feature_from_qemu(arch: str, name: str) -> str:
    """Return libvirt's spelling of a CPU feature."""
    return _X86_FEATURE_OF_QEMU.get(name, name) if arch in {"i686", "x86_64"} else name


def is_native(host: str, guest: str) -> bool:
    """Return whether a host of one architecture runs guests of another without emulation."""
    return (
        host == guest
        or (host, guest) in {("x86_64", "i686"), ("aarch64", "armv7l")}
        or {host, guest} <= {"ppc64", "ppc64le"}
    )


@final
@attrs.frozen(slots=True)
class Machine:
    """One machine type.

    :param acpi: None where QEMU does not say (before 8.0).
    :param default_cpu: QOM type of the CPU, as QEMU names it (``qemu64-x86_64-cpu``).
    :param qemu_default: QEMU's own default; libvirt's is the first machine of the list.
    """

    name: str
    alias: str | None = None
    max_cpus: int = 0
    hotplug_cpus: bool = False
    qemu_default: bool = False
    default_cpu: str | None = None
    numa_mem_supported: bool = False
    default_ram_id: str | None = None
    deprecated: bool = False
    acpi: bool | None = None


@final
@attrs.frozen(slots=True)
class CpuModel:
    """A CPU model that QEMU knows.

    :param typename: QOM type.
    :param usable: whether the host can run it with all its features; None where QEMU cannot say.
    :param blockers: the features that keep it from being usable, in libvirt's spelling.
    """

    name: str
    typename: str | None = None
    usable: bool | None = None
    deprecated: bool = False
    blockers: tuple[str, ...] = ()


@final
@attrs.frozen(slots=True)
class CpuProperty:
    """One property of the expanded host CPU model.

    :param name: in QEMU's spelling.
    :param migratable: whether a guest that has it can be migrated; None where QEMU cannot say.
    """

    name: str
    value: bool | int | str
    migratable: bool | None = None


@final
@attrs.frozen(slots=True)
class HostCpu:
    """The host CPU as an accelerator presents it (``max`` for TCG).

    :param migratability: whether ``migratable`` of the properties was asked for.
    :param deprecated: names of features that QEMU advises to turn off; None when not asked.
    """

    model: str
    migratability: bool = False
    properties: tuple[CpuProperty, ...] = ()
    deprecated: tuple[str, ...] | None = None

    @functools.cached_property
    def property_names(self) -> frozenset[str]:
        """Names of all properties, in QEMU's spelling."""
        return frozenset(prop.name for prop in self.properties)


@final
@attrs.frozen(slots=True)
class Gic:
    """One version of the ARM interrupt controller, and by whom it can be provided."""

    version: int
    kernel: bool
    emulated: bool


@final
@attrs.frozen(slots=True)
class Sev:
    """AMD SEV of the host, as QEMU tells it; how many guests it can have is `HostInfo`'s."""

    cbitpos: int
    reduced_phys_bits: int
    pdh: str
    cert_chain: str
    cpu0_id: str | None = None


@final
@attrs.frozen(slots=True)
class SgxSection:
    """One section of enclave memory: host NUMA node and size in KiB."""

    node: int
    size: int


@final
@attrs.frozen(slots=True)
class Sgx:
    """Intel SGX of the host; sizes in KiB."""

    flc: bool
    sgx1: bool
    sgx2: bool
    section_size: int
    sections: tuple[SgxSection, ...] = ()


@final
@attrs.frozen(slots=True, kw_only=True)
class Accelerator:
    """What QEMU answers when it runs with one accelerator.

    :ivar derived: what was concluded from these answers, by a key of whoever did; hundreds of
        features need not be gone through again for every guest.
    """

    deferred_machines: Deferred[tuple[Machine, ...]] = attrs.field(factory=lambda: Deferred.of(()))
    deferred_cpus: Deferred[tuple[CpuModel, ...] | None] = attrs.field(
        factory=lambda: Deferred.of(None)
    )
    deferred_host_cpu: Deferred[HostCpu | None] = attrs.field(factory=lambda: Deferred.of(None))
    derived: dict[Any, Any] = attrs.field(factory=dict, init=False, eq=False, repr=False)

    @property
    def machines(self) -> tuple[Machine, ...]:
        """All machine types; the first is libvirt's default."""
        return self.deferred_machines()

    @property
    def cpus(self) -> tuple[CpuModel, ...] | None:
        """All CPU models, or None where QEMU cannot list them."""
        return self.deferred_cpus()

    @property
    def host_cpu(self) -> HostCpu | None:
        """The host CPU model, or None where QEMU cannot expand it."""
        return self.deferred_host_cpu()

    @functools.cached_property
    def machine_of_name(self) -> Mapping[str, Machine]:
        """Machine types by name (not by alias)."""
        return {machine.name: machine for machine in reversed(self.machines)}

    @functools.cached_property
    def name_of_alias(self) -> Mapping[str, str]:
        """Names of machine types by their alias."""
        return {m.alias: m.name for m in reversed(self.machines) if m.alias is not None}

    @functools.cached_property
    def cpu_of_name(self) -> Mapping[str, CpuModel]:
        """CPU models by name."""
        return {cpu.name: cpu for cpu in reversed(self.cpus or ())}

    def strip_aliases(self) -> Accelerator:
        """Return it with every alias a machine of its own (see QemuCapabilities)."""
        renamed = [
            attrs.evolve(m, name=m.alias, alias=None) if m.alias is not None else m
            for m in self.machines
        ]
        versioned = [
            attrs.evolve(m, alias=None, qemu_default=False)
            for m in self.machines
            if m.alias is not None
        ]
        return attrs.evolve(self, deferred_machines=Deferred.of((*renamed, *versioned)))


@final
@attrs.frozen(slots=True, kw_only=True)
class QemuCapabilities(Capabilities):
    """The capabilities of one QEMU binary.

    :param binary: its path.
    :param package: the distributor's version text, None when it was never asked.
    :param accelerators: answers by accelerator; ``tcg`` is always there.
    :param hyperv: names of the Hyper-V enlightenments the host's KVM offers, in libvirt's order;
        None when not known.
    :param kernel_version: release of the host's kernel at the time of asking.
    :param cpu_data: the host's CPUID data as XML text.
    """

    binary: str = ""
    package: str | None = None
    accelerators: Mapping[str, Accelerator] = attrs.field(factory=dict, hash=False)
    gic: tuple[Gic, ...] = ()
    sev: Sev | None = None
    sgx: Sgx | None = None
    hyperv: tuple[str, ...] | None = None
    kvm_supports_nesting: bool = False
    kvm_supports_secure_guest: bool = False
    microcode_version: int = 0
    host_cpu_signature: str | None = None
    kernel_version: str | None = None
    cpu_data: str | None = None
    binary_ctime: int = 0
    module_dir_mtime: int = 0
    writer_ctime: int = 0
    writer_version: int = 0

    def accelerator(self, virt_type: str) -> Accelerator:
        """Return the answers that hold for a virtualization type."""
        name = virt_type if virt_type in {"kvm", "hvf"} else "tcg"
        return self.accelerators.get(name) or Accelerator()

    def supports_virt_type(self, virt_type: str) -> bool:
        """Return whether ``<domain type=...>`` can be had."""
        return {"qemu": "tcg", "kvm": "kvm", "hvf": "hvf"}.get(virt_type) in self.names

    @property
    def virt_type(self) -> str | None:
        """The best virtualization type there is."""
        for name in ("kvm", "hvf"):
            if name in self.names:
                return name
        return "qemu" if "tcg" in self.names else None

    def supports_arch(self, arch: str) -> bool:
        """Return whether guests of an architecture can be run."""
        return arch == self.arch or _ALSO_RUNS.get(self.arch) == arch

    # -- machines ---------------------------------------------------------------------------

    def machine(self, virt_type: str, name: str) -> Machine | None:
        """Return a machine type by its canonical name."""
        return self.accelerator(virt_type).machine_of_name.get(name)

    def canonical_machine(self, virt_type: str, name: str) -> str:
        """Return the versioned name of an alias; any other name as it is."""
        return self.accelerator(virt_type).name_of_alias.get(name, name)

    def default_machine(self, virt_type: str) -> str | None:
        """Return libvirt's preferred machine type, which may differ from QEMU's default."""
        machines = self.accelerator(virt_type).machines
        return machines[0].name if machines else None

    def is_machine_supported(self, virt_type: str, name: str) -> bool:
        """Return whether a canonical machine name exists."""
        return self.machine(virt_type, name) is not None

    def is_machine_deprecated(self, virt_type: str, name: str) -> bool:
        """Return whether QEMU advises against a machine type."""
        machine = self.machine(virt_type, name)
        return machine is not None and machine.deprecated

    def machine_max_cpus(self, virt_type: str, name: str) -> int:
        """Return how many CPUs a machine type can have; 0 when not known."""
        machine = self.machine(virt_type, name)
        return machine.max_cpus if machine else 0

    def machine_hotplug_cpus(self, virt_type: str, name: str) -> bool:
        """Return whether CPUs of a machine type can be plugged at run time."""
        machine = self.machine(virt_type, name)
        return machine is not None and machine.hotplug_cpus

    def machine_default_cpu(self, virt_type: str, name: str) -> str | None:
        """Return the name of the CPU model that a machine type has without ``-cpu``."""
        machine = self.machine(virt_type, name)
        if machine is None or machine.default_cpu is None:
            return None
        for cpu in self.accelerator(virt_type).cpus or ():
            if cpu.typename == machine.default_cpu:
                return cpu.name
        return None

    def machine_default_ram_id(self, virt_type: str, name: str) -> str | None:
        """Return the id that main memory has in a machine type's migration stream."""
        machine = self.machine(virt_type, name)
        return machine.default_ram_id if machine else None

    def machine_numa_mem_supported(self, virt_type: str, name: str) -> bool:
        """Return whether ``-numa node,mem=`` can still be used with a machine type."""
        machine = self.machine(virt_type, name)
        return machine is not None and machine.numa_mem_supported

    def machine_acpi(self, virt_type: str, name: str) -> bool | None:
        """Return whether a machine type has ACPI; None when QEMU does not say."""
        machine = self.machine(virt_type, name)
        return machine.acpi if machine else None

    # -- CPUs -------------------------------------------------------------------------------

    def cpu_model(self, virt_type: str, name: str) -> CpuModel | None:
        """Return a CPU model by name."""
        return self.accelerator(virt_type).cpu_of_name.get(name)

    def cpu_features(self, virt_type: str, *, migratable: bool) -> tuple[str, ...] | None:
        """Return the feature names QEMU knows, in libvirt's spelling; None when not known.

        :param migratable: leave out those with which a guest cannot be migrated.
        """
        accelerator = self.accelerator(virt_type)
        host_cpu = accelerator.host_cpu
        if host_cpu is None:
            return None
        key = ("features", self.arch, migratable)
        names: tuple[str, ...] | None = accelerator.derived.get(key)
        if names is None:
            names = accelerator.derived[key] = tuple(
                feature_from_qemu(self.arch, prop.name)
                for prop in host_cpu.properties
                if not (migratable and prop.migratable is False)
            )
        return names

    def passthrough_only(self, virt_type: str, machine: str | None) -> bool:
        """Return whether a machine can have no CPU but the host's."""
        return (
            self.arch in {"s390", "s390x"}
            and virt_type == "kvm"
            and machine in _S390_PASSTHROUGH_ONLY
        )

    def supports_cpu_mode(
        self, host_arch: str, virt_type: str, mode: str, machine: str | None = None
    ) -> bool:
        """Return whether ``<cpu mode=...>`` can be had.

        ``host-model`` additionally needs a host model that the CPU map can express; here it only
        means that QEMU gave the data for one.
        """
        if mode != "host-passthrough" and self.passthrough_only(virt_type, machine):
            return False
        match mode:
            case "host-passthrough":
                return virt_type != "qemu" and is_native(host_arch, self.arch)
            case "host-model":
                return self.accelerator(virt_type).host_cpu is not None
            case "custom":
                return bool(self.accelerator(virt_type).cpus)
            case "maximum":
                return "cpu-max" in self.names
            case _:
                return False

    # -- the rest ---------------------------------------------------------------------------

    def supports_gic(self, virt_type: str, version: int) -> bool:
        """Return whether a GIC version can be had: in the kernel for KVM, emulated for TCG."""
        return any(
            gic.version == version
            and ((virt_type == "kvm" and gic.kernel) or (virt_type == "qemu" and gic.emulated))
            for gic in self.gic
        )

    def with_gic(self, versions: Iterable[int]) -> QemuCapabilities:
        """Return it with exactly these GIC versions, each both in the kernel and emulated."""
        return attrs.evolve(
            self, gic=tuple(Gic(version, kernel=True, emulated=True) for version in versions)
        )

    def strip_machine_aliases(self) -> QemuCapabilities:
        """Return it with aliases made machines of their own.

        A machine that has an alias takes the alias as its name and keeps its place; a copy under
        the versioned name, without alias and not the default, goes to the end. Names then stay
        as they are written, whatever version of QEMU is behind them.
        """
        return attrs.evolve(
            self,
            accelerators={name: acc.strip_aliases() for name, acc in self.accelerators.items()},
        )

    # -- storage ----------------------------------------------------------------------------

    @classmethod
    def load(cls, source: bytes | Path) -> QemuCapabilities:
        """Read libvirt's capability XML.

        :param source: the text, or the file that has it.
        :raises ProbeError: when it is not such a document.
        """
        from hvcore_qemu import capsxml  # noqa: PLC0415 - lxml is only needed for XML

        return capsxml.read(source.read_bytes() if isinstance(source, Path) else source)

    def to_xml(self) -> str:
        """Return libvirt's capability XML."""
        from hvcore_qemu import capsxml  # noqa: PLC0415 - see load

        return capsxml.write(self)

    def to_sections(self) -> dict[str, Any]:
        """Return plain JSON values, by section, for `from_sections`."""
        facts = {
            field.name: getattr(self, field.name)
            for field in attrs.fields(QemuCapabilities)
            if field.name not in {"names", "accelerators", "gic", "sev", "sgx"}
        }
        sections: dict[str, Any] = {
            "facts": {
                **facts,
                "names": sorted(self.names),
                "gic": [attrs.astuple(gic) for gic in self.gic],
                "sev": attrs.astuple(self.sev) if self.sev else None,
                "sgx": attrs.astuple(self.sgx) if self.sgx else None,
                "accelerators": list(self.accelerators),
            }
        }
        for name, acc in self.accelerators.items():
            sections[f"{name}.machines"] = [attrs.astuple(machine) for machine in acc.machines]
            sections[f"{name}.cpus"] = (
                None if acc.cpus is None else [attrs.astuple(cpu) for cpu in acc.cpus]
            )
            sections[f"{name}.host_cpu"] = attrs.astuple(acc.host_cpu) if acc.host_cpu else None
        return sections

    @classmethod
    def from_sections(cls, sections: Any) -> QemuCapabilities:
        """Make it from what `to_sections` returned; accelerators are decoded on first use.

        :param sections: anything that maps section names to values, decoded when looked up.
        """
        facts = dict(sections["facts"])
        names = facts.pop("accelerators")
        sev, sgx, hyperv = facts.pop("sev"), facts.pop("sgx"), facts.pop("hyperv")
        return cls(
            names=frozenset(facts.pop("names")),
            accelerators={name: _accelerator(sections, name) for name in names},
            gic=tuple(Gic(*gic) for gic in facts.pop("gic")),
            sev=Sev(*sev) if sev else None,
            sgx=_sgx(*sgx) if sgx else None,
            hyperv=None if hyperv is None else tuple(hyperv),
            **facts,
        )


def _accelerator(sections: Any, name: str) -> Accelerator:
    return Accelerator(
        deferred_machines=Deferred(lambda: _machines(sections[f"{name}.machines"])),
        deferred_cpus=Deferred(lambda: _cpus(sections[f"{name}.cpus"])),
        deferred_host_cpu=Deferred(lambda: _host_cpu(sections[f"{name}.host_cpu"])),
    )


def _sgx(flc: bool, sgx1: bool, sgx2: bool, size: int, sections: list[Any]) -> Sgx:
    return Sgx(flc, sgx1, sgx2, size, tuple(SgxSection(*section) for section in sections))


def _machines(rows: list[Any]) -> tuple[Machine, ...]:
    return tuple(Machine(*row) for row in rows)


def _cpus(rows: list[Any] | None) -> tuple[CpuModel, ...] | None:
    if rows is None:
        return None
    return tuple(
        CpuModel(name, typename, usable, deprecated, tuple(blockers))
        for name, typename, usable, deprecated, blockers in rows
    )


def _host_cpu(row: list[Any] | None) -> HostCpu | None:
    if row is None:
        return None
    model, migratability, properties, deprecated = row
    return HostCpu(
        model,
        migratability,
        tuple(CpuProperty(*prop) for prop in properties),
        None if deprecated is None else tuple(deprecated),
    )
