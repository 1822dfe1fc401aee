"""The conversation that finds out what a QEMU can do, without any I/O.

A conversation is a generator: it yields a batch of QMP commands and receives their replies, whole,
in the same order; it returns the capabilities. Commands of a batch do not depend on each other, so
whoever drives it may send them all at once. The commands, their order and what is concluded from
the replies are libvirt's (``virQEMUCapsInitQMPMonitor``), so that a recorded libvirt probe replays.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING
from typing import Any
from typing import Final
from typing import TypeAlias

import attrs

from hvcore.capabilities import Deferred
from hvcore.capabilities import join_version
from hvcore.errors import ErrorClass
from hvcore.errors import ProbeError
from hvcore_qemu.capabilities import Accelerator
from hvcore_qemu.capabilities import CpuModel
from hvcore_qemu.capabilities import CpuProperty
from hvcore_qemu.capabilities import Gic
from hvcore_qemu.capabilities import HostCpu
from hvcore_qemu.capabilities import Machine
from hvcore_qemu.capabilities import QemuCapabilities
from hvcore_qemu.capabilities import Sev
from hvcore_qemu.capabilities import Sgx
from hvcore_qemu.capabilities import SgxSection
from hvcore_qemu.capabilities import feature_from_qemu
from hvcore_qemu.flags import UNASKED
from hvcore_qemu.flags import Way
from hvcore_qemu.flags import flags
from hvcore_qemu.qapi import Schema

if TYPE_CHECKING:
    from collections.abc import Generator
    from collections.abc import Iterable
    from collections.abc import Iterator

Command: TypeAlias = dict[str, Any]
Reply: TypeAlias = Mapping[str, Any]

MINIMUM: Final = (6, 2, 0)

#: device types whose properties are asked for, with the flag they need; the order is libvirt's,
#: which asks for virtio-blk-ccw twice
_DEVICES: Final = (
    ("virtio-blk-pci", None),
    ("virtio-net-pci", "virtio-net"),
    ("virtio-scsi-pci", "virtio-scsi-pci"),
    ("virtio-blk-ccw", "virtio-ccw"),
    ("virtio-net-ccw", "virtio-net"),
    ("virtio-scsi-ccw", "virtio-scsi-pci"),
    ("vfio-pci", "vfio-pci"),
    ("scsi-hd", None),
    ("ide-hd", None),
    ("PIIX4_PM", None),
    ("usb-redir", "usb-redir"),
    ("usb-storage", "usb-storage"),
    ("kvm-pit", None),
    ("VGA", "VGA"),
    ("vmware-svga", "vmware-svga"),
    ("qxl", "qxl"),
    ("virtio-gpu-pci", "virtio-gpu"),
    ("virtio-gpu-device", "virtio-gpu"),
    ("ICH9-LPC", None),
    ("virtio-balloon-pci", None),
    ("virtio-balloon-ccw", None),
    ("virtio-balloon-device", None),
    ("intel-iommu", "intel-iommu"),
    ("spapr-pci-host-bridge", "spapr-pci-host-bridge"),
    ("virtio-gpu-ccw", "virtio-gpu-ccw"),
    ("mch", "mch"),
    ("nvdimm", "nvdimm"),
    ("pcie-root-port", "pcie-root-port"),
    ("usb-host", None),
    ("vhost-user-fs-device", "vhost-user-fs"),
    ("virtio-mem-pci", "virtio-mem-pci"),
    ("virtio-iommu-pci", "virtio-iommu-pci"),
    ("virtio-blk-ccw", "virtio-ccw"),
)
_OBJECTS: Final = (
    ("memory-backend-file", None),
    ("memory-backend-memfd", "memory-backend-memfd"),
    ("max-x86_64-cpu", "x86-max-cpu"),
    ("max-arm-cpu", "arm-max-cpu"),
)
_MACHINES: Final = ("pseries", "virt", "none", "generic-pc")

#: QEMU's target names that libvirt spells in another way
_ARCH_OF_TARGET: Final = MappingProxyType({"i386": "i686", "arm": "armv7l", "or32": "openrisc"})

#: the machine that libvirt prefers whatever QEMU's default is; a change would alter guests
_PREFERRED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "alpha": "clipper",
        "armv6l": "integratorcp",
        "cris": "axis-dev88",
        "i686": "pc",
        "lm32": "lm32-evr",
        "m68k": "mcf5208evb",
        "microblaze": "petalogix-s3adsp1800",
        "microblazeel": "petalogix-s3adsp1800",
        "openrisc": "or1k-sim",
        "ppcemb": "bamboo",
        "s390x": "s390-ccw-virtio",
        "sparc": "SS-5",
        "sparc64": "sun4u",
        "unicore32": "puv3",
        "x86_64": "pc",
        **dict.fromkeys(("aarch64", "armv7l", "armv7b", "loongarch64"), "virt"),
        **dict.fromkeys(("riscv32", "riscv64"), "virt"),
        **dict.fromkeys(("mips", "mipsel", "mips64", "mips64el"), "malta"),
        **dict.fromkeys(("ppc", "ppcle"), "g3beige"),
        **dict.fromkeys(("ppc64", "ppc64le"), "pseries"),
        **dict.fromkeys(("sh4", "sh4eb"), "shix"),
        **dict.fromkeys(("xtensa", "xtensaeb"), "sim"),
    }
)

#: CPU models of the CPU map, whose capitals QEMU dropped in 2.11
_PPC64_MODELS: Final = MappingProxyType(
    {
        name.lower(): name
        for name in (
            "POWER6",
            "POWER7",
            "POWER8",
            "POWER9",
            "POWER10",
            "POWERPC_e5500",
            "POWERPC_e6500",
        )
    }
)

#: Hyper-V enlightenments in libvirt's order
HYPERV: Final = (
    "relaxed",
    "vapic",
    "spinlocks",
    "vpindex",
    "runtime",
    "synic",
    "stimer",
    "reset",
    "vendor_id",
    "frequencies",
    "reenlightenment",
    "tlbflush",
    "ipi",
    "evmcs",
    "avic",
    "emsr_bitmap",
    "xmm_input",
)

_X86: Final = frozenset({"i686", "x86_64"})
_ARM: Final = frozenset({"armv6l", "armv7l", "armv7b", "aarch64"})
_LONG: Final = range(-(1 << 63), 1 << 63)


@attrs.frozen(slots=True, kw_only=True)
class _Answers:
    """What was answered so far, in the form in which ways ask for it."""

    schema: Schema
    types: frozenset[str]
    devices: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict)
    objects: Mapping[str, Iterable[str]] = attrs.field(factory=dict)
    machines: Mapping[str, Iterable[str]] = attrs.field(factory=dict)
    options: Mapping[str, Iterable[str]] = attrs.field(factory=dict)
    migration: Iterable[str] = ()
    tpm_models: Iterable[str] = ()
    tpm_types: Iterable[str] = ()

    def flags(self) -> set[str]:
        """Return the flags of which one way at least is satisfied."""
        return {
            name
            for name, ways in flags().items()
            if any(
                way.kind not in UNASKED and self._satisfied(way, subject)
                for way in ways
                for subject in way.subjects
            )
        }

    def _satisfied(self, way: Way, subject: str) -> bool:
        match way.kind:
            case "type":
                return subject in self.types
            case "schema":
                return self.schema.has(subject)
            case "device":
                found = self.devices.get(subject, {}).get(way.detail)
                if found is None:
                    return False
                return found.get("default-value") is False if way.default_off else True
            case "object":
                return way.detail in self.objects.get(subject, ())
            case "machine":
                return way.detail in self.machines.get(subject, ())
            case "option":
                parameters = self.options.get(subject)
                return parameters is not None and (not way.detail or way.detail in parameters)
            case "migration":
                return subject in self.migration
            case "tpm-model":
                return subject in self.tpm_models
            case "tpm-type":
                return subject in self.tpm_types
        raise AssertionError(way.kind)


def ask(
    binary: str, *, hvf: bool = False
) -> Generator[list[Command], list[Reply], QemuCapabilities]:
    """Find out everything that depends on the accelerator the binary has chosen by itself.

    :param hvf: whether the host has macOS's hypervisor framework, which QMP cannot tell.
    :raises ProbeError: when a reply is an error that is not foreseen, or lacks what it must have.
    """
    replies = yield [
        _command("query-version"),
        _command("query-target"),
        _command("query-qmp-schema"),
        _command("query-kvm"),
        _command("qom-list-types"),
    ]
    with _reading("query-version", replies[0]) as version:
        parts = tuple(version["qemu"][name] for name in ("major", "minor", "micro"))
        package = str(version.get("package", ""))
    _check_version(parts)
    with _reading("query-target", replies[1]) as target:
        arch = _ARCH_OF_TARGET.get(target["arch"], str(target["arch"]))
    with _reading("query-qmp-schema", replies[2]) as entries:
        schema = Schema(entries)
    with _reading("query-kvm", replies[3]) as state:
        kvm = bool(state["present"] and state["enabled"])
    with _reading("qom-list-types", replies[4]) as types:
        answers = _Answers(schema=schema, types=frozenset(entry["name"] for entry in types))

    accelerator = "kvm" if kvm else "hvf" if hvf else "tcg"
    answers, machines = yield from _ask_properties(answers, arch)
    names = answers.flags() | {name for name, has in (("kvm", kvm), ("hvf", hvf)) if has}
    caps = QemuCapabilities(binary=binary, arch=arch, version=join_version(*parts), package=package)
    answers, cpus, caps = yield from _ask_rest(answers, names, caps, machines)
    names |= answers.flags()
    if caps.sev is None:
        names -= {"sev-guest", "sev-snp-guest"}
    if caps.sgx is None:
        names.discard("sgx-epc")
    if any(cpu.name == "max" for cpu in cpus or ()):
        names.add("cpu-max")
    names |= _derived(names, arch, schema)

    # As in libvirt, "host" is asked for even without acceleration; QEMU then refuses, and there
    # is no host CPU. What TCG could emulate is only asked of a binary that can do more.
    host_cpu = yield from _ask_host_cpu(names, arch, model="host")
    hyperv = None
    if arch in _X86 | _ARM and "query-cpu-model-expansion" in names:
        hyperv = yield from _ask_hyperv()
    answered = Accelerator(
        deferred_machines=Deferred.of(machines),
        deferred_cpus=Deferred.of(cpus),
        deferred_host_cpu=Deferred.of(host_cpu),
    )
    return attrs.evolve(
        caps,
        names=frozenset(names),
        hyperv=hyperv,
        accelerators={"tcg": Accelerator(), accelerator: answered},
    )


def ask_tcg(
    caps: QemuCapabilities,
) -> Generator[list[Command], list[Reply], QemuCapabilities]:
    """Add what the binary answers without acceleration, from a second process with ``accel=tcg``.

    :raises ProbeError: as for `ask`.
    """
    cpus: tuple[CpuModel, ...] | None = None
    if "query-cpu-definitions" in caps.names:
        (reply,) = yield [_command("query-cpu-definitions")]
        cpus = _cpu_models(reply, caps.arch)
    host_cpu = yield from _ask_host_cpu(caps.names, caps.arch, model="max")
    (reply,) = yield [_command("query-machines")]
    answered = Accelerator(
        deferred_machines=Deferred.of(_machine_types(reply, caps.arch)),
        deferred_cpus=Deferred.of(cpus),
        deferred_host_cpu=Deferred.of(host_cpu),
    )
    caps = attrs.evolve(caps, accelerators={**caps.accelerators, "tcg": answered})
    return caps.replace(add=["cpu-max"] if any(cpu.name == "max" for cpu in cpus or ()) else [])


# -- the parts of the conversation ------------------------------------------------------------


def _ask_properties(
    answers: _Answers, arch: str
) -> Generator[list[Command], list[Reply], tuple[_Answers, tuple[Machine, ...]]]:
    """Ask for properties of devices and objects, and for the machine types."""
    known = answers.flags()
    devices = [name for name, needs in _DEVICES if needs is None or needs in known]
    objects = [name for name, needs in _OBJECTS if needs is None or needs in known]
    replies = yield [
        *(_command("device-list-properties", typename=name) for name in devices),
        *(_command("qom-list-properties", typename=name) for name in objects),
        _command("query-machines"),
    ]
    found: dict[str, Mapping[str, Any]] = {}
    for name, reply in zip(devices, replies, strict=False):
        with _reading("device-list-properties", reply, "DeviceNotFound") as properties:
            # Of a type that is asked for twice the first answer counts.
            found.setdefault(name, {entry["name"]: entry for entry in properties or ()})
    answers = attrs.evolve(
        answers,
        devices=found,
        objects={
            name: _property_names(reply)
            for name, reply in zip(objects, replies[len(devices) :], strict=False)
        },
    )
    return answers, _machine_types(replies[-1], arch)


def _ask_rest(
    answers: _Answers, names: set[str], caps: QemuCapabilities, machines: tuple[Machine, ...]
) -> Generator[
    list[Command], list[Reply], tuple[_Answers, tuple[CpuModel, ...] | None, QemuCapabilities]
]:
    """Ask for all that the machine types and the flags so far decide about."""
    canonical = {machine.alias: machine.name for machine in machines if machine.alias}
    existing = {machine.name for machine in machines} | {"none"}
    existing |= {"generic-pc"} if caps.arch in _X86 else set()
    types = {name: canonical.get(name, name) for name in _MACHINES}
    types = {name: real for name, real in types.items() if real in existing}
    conditions = {
        "query-cpu-definitions": "query-cpu-definitions" in names,
        "query-tpm-models": True,
        "query-tpm-types": answers.schema.has("query-tpm-models"),
        "query-command-line-options": True,
        "query-migrate-capabilities": True,
        "query-gic-capabilities": caps.arch in {"aarch64", "armv6l", "armv7l"},
        "query-sev-capabilities": not names.isdisjoint({"sev-guest", "sev-snp-guest"}),
        "query-sgx-capabilities": "sgx-epc" in names,
    }
    asked = [name for name, needed in conditions.items() if needed]
    replies = yield [
        *(_command("qom-list-properties", typename=f"{real}-machine") for real in types.values()),
        *map(_command, asked),
    ]
    of = dict(zip(asked, replies[len(types) :], strict=True))
    with _reading("query-command-line-options", of["query-command-line-options"]) as options:
        parameters = {
            entry["option"]: [parameter["name"] for parameter in entry["parameters"]]
            for entry in options
        }
    with _reading("query-migrate-capabilities", of["query-migrate-capabilities"]) as entries:
        migration = [entry["capability"] for entry in entries]
    answers = attrs.evolve(
        answers,
        machines={
            name: _property_names(reply) for name, reply in zip(types, replies, strict=False)
        },
        options=parameters,
        migration=migration,
        tpm_models=_strings(of, "query-tpm-models"),
        tpm_types=_strings(of, "query-tpm-types"),
    )
    cpus = _cpu_models(of[asked[0]], caps.arch) if conditions[asked[0]] else None
    return answers, cpus, attrs.evolve(caps, gic=_gic(of), sev=_sev(of), sgx=_sgx(of))


def _ask_host_cpu(
    names: Iterable[str], arch: str, *, model: str
) -> Generator[list[Command], list[Reply], HostCpu | None]:
    """Ask what a CPU model consists of: the host's, or all that can be emulated (``max``)."""
    if "query-cpu-model-expansion" not in names:
        return None
    plain = {"name": model}
    # Static expansion names features in QEMU's canonical spelling only; before QEMU reported
    # unavailable-features, all spellings are had by expanding its result once more.
    kinds = ["full"] if arch in _ARM else ["static"]
    if arch in _X86 and "canonical-cpu-features" not in names:
        kinds = ["static", "full"]
    found = yield from _expand(kinds, plain, arch)
    if found is None:
        return None
    migratability = False
    if arch in _X86:
        other = yield from _expand(kinds, {**plain, "props": {"migratable": False}}, arch)
        if other is not None:
            migratability = True
            found = attrs.evolve(found, properties=tuple(_migratability(found, other)))
    deprecated = found.deprecated
    if "query-cpu-model-expansion.deprecated-props" in names:
        full = yield from _expand(["full"], plain, arch)
        if full is not None and full.deprecated is not None:
            deprecated = full.deprecated
    return attrs.evolve(found, migratability=migratability, deprecated=deprecated)


def _expand(
    kinds: Iterable[str], model: Mapping[str, Any], arch: str
) -> Generator[list[Command], list[Reply], HostCpu | None]:
    """Expand a model, then the result of that, and so on; None where QEMU cannot."""
    name = "query-cpu-model-expansion"
    result: Any = {"model": model}
    for kind in kinds:
        (reply,) = yield [_command(name, type=kind, model=result["model"])]
        with _reading(name, reply, "GenericError") as result:
            if result is None:
                return None
            # Old s390x models have no properties at all; elsewhere that is an error.
            properties = result["model"].get("props", {} if arch.startswith("s390") else None)
            deprecated = result.get("deprecated-props")
            found = HostCpu(
                model=result["model"]["name"],
                properties=tuple(
                    CpuProperty(prop, value)
                    for prop, value in properties.items()
                    if isinstance(value, bool | str) or (isinstance(value, int) and value in _LONG)
                ),
                deprecated=None if deprecated is None else tuple(deprecated),
            )
    return found


def _ask_hyperv() -> Generator[list[Command], list[Reply], tuple[str, ...] | None]:
    """Ask which Hyper-V enlightenments KVM has here; None where QEMU cannot tell."""
    model = {"name": "host", "props": {"migratable": False, "hv-passthrough": True}}
    found = yield from _expand(["full"], model, "")
    if found is None:
        return None
    there = set()
    for prop in found.properties:
        if prop.name.startswith("hv-"):
            on = prop.value > 0 if isinstance(prop.value, int) else True
            # libvirt's XML has an underscore where QEMU has a hyphen (vendor_id).
            there |= {prop.name[3:].replace("-", "_")} if on else set()
    return tuple(name for name in HYPERV if name in there) or None


# -- reading replies --------------------------------------------------------------------------


def _command(name: str, **arguments: Any) -> Command:
    return {"execute": name, **({"arguments": arguments} if arguments else {})}


@contextlib.contextmanager
def _reading(name: str, reply: Reply, *tolerated: str) -> Iterator[Any]:
    """Give what a command returned, or None for an error of a tolerated class.

    :raises ProbeError: for any other error, and when the block finds the value malformed.
    """
    error = reply.get("error")
    if error is not None and error.get("class") not in tolerated:
        text = error.get("desc", "unexpected error")
        raise ProbeError(f"unable to execute QEMU command '{name}': {text}")
    try:
        yield None if error is not None else reply["return"]
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        shown = str(dict(reply))[:200]
        raise ProbeError(f"{name} reply data was malformed: {problem!r} in {shown}") from problem


def _check_version(parts: tuple[int, ...]) -> None:
    if parts < MINIMUM:
        raise ProbeError(
            "QEMU version >= {}.{}.{} is required, but {}.{}.{} found".format(*MINIMUM, *parts),
            kind=ErrorClass.CONFIG_UNSUPPORTED,
        )


def _property_names(reply: Reply) -> frozenset[str]:
    with _reading("qom-list-properties", reply, "DeviceNotFound") as properties:
        return frozenset(entry["name"] for entry in properties or ())


def _strings(of: Mapping[str, Reply], name: str) -> frozenset[str]:
    if name not in of:
        return frozenset()
    with _reading(name, of[name], "CommandNotFound") as values:
        return frozenset(values or ())


def _derived(names: Iterable[str], arch: str, schema: Schema) -> set[str]:
    """Return flags that follow from others."""
    found = set()
    if "cpu-unavailable-features" in names:
        found.add("canonical-cpu-features")
    # "esp" is built into these machines and cannot be asked for as a type.
    if arch in {"sparc", "m68k", "mips"}:
        found.add("ncr53c90")
    if all(schema.has(f"{job}/arg-type/backing-mask-protocol") for job in _MASKING_JOBS):
        found.add("blockjob.backing-mask-protocol")
    return found


_MASKING_JOBS: Final = ("block-commit", "block-stream")


def _machine_types(reply: Reply, arch: str) -> tuple[Machine, ...]:
    """Return the machine types, libvirt's preferred one first."""
    with _reading("query-machines", reply) as entries:
        machines = [
            Machine(
                name=entry["name"],
                alias=entry.get("alias"),
                max_cpus=entry.get("cpu-max", 0),
                hotplug_cpus=entry.get("hotpluggable-cpus", False),
                qemu_default=entry.get("is-default", False),
                default_cpu=entry.get("default-cpu-type"),
                numa_mem_supported=entry.get("numa-mem-supported", True),
                default_ram_id=entry.get("default-ram-id"),
                deprecated=entry.get("deprecated", False),
                acpi=entry.get("acpi"),
            )
            for entry in entries
            if entry["name"] != "none"
        ]
    wanted = _PREFERRED.get(arch)
    preferred = [m for m in machines if wanted is not None and wanted in {m.alias, m.name}]
    first = (preferred or [m for m in machines if m.qemu_default])[-1:]
    return (*first, *(machine for machine in machines if machine not in first))


def _cpu_models(reply: Reply, arch: str) -> tuple[CpuModel, ...] | None:
    # Some targets have the command only to say that they do not support it.
    with _reading("query-cpu-definitions", reply, "GenericError") as entries:
        if entries is None:
            return None
        return tuple(_cpu_model(entry, arch) for entry in entries)


def _cpu_model(entry: Mapping[str, Any], arch: str) -> CpuModel:
    name = entry["name"]
    blockers = entry.get("unavailable-features")
    return CpuModel(
        name=_PPC64_MODELS.get(name.lower(), name) if arch.startswith("ppc64") else name,
        typename=entry.get("typename") or None,
        usable=None if blockers is None else not blockers,
        deprecated=entry.get("deprecated", False),
        blockers=tuple(feature_from_qemu(arch, blocker) for blocker in blockers or ()),
    )


def _migratability(found: HostCpu, other: HostCpu) -> Iterator[CpuProperty]:
    """Join a CPU's properties with those it has when it need not be migratable."""
    unrestricted = {prop.name: prop.value for prop in other.properties}
    for prop in found.properties:
        value = unrestricted.get(prop.name)
        if not isinstance(prop.value, bool) or not isinstance(value, bool):
            yield prop
        elif prop.value:
            yield attrs.evolve(prop, migratable=True)
        else:
            yield CpuProperty(prop.name, True, False) if value else prop


def _gic(of: Mapping[str, Reply]) -> tuple[Gic, ...]:
    name = "query-gic-capabilities"
    if name not in of:
        return ()
    with _reading(name, of[name], "CommandNotFound") as entries:
        return tuple(
            Gic(entry["version"], kernel=entry["kernel"], emulated=entry["emulated"])
            for entry in entries or ()
        )


def _sev(of: Mapping[str, Reply]) -> Sev | None:
    name = "query-sev-capabilities"
    if name not in of:
        return None
    with _reading(name, of[name], "GenericError") as entry:
        if entry is None:
            return None  # built with it, but the host has none
        return Sev(
            cbitpos=entry["cbitpos"],
            reduced_phys_bits=entry["reduced-phys-bits"],
            pdh=entry["pdh"],
            cert_chain=entry["cert-chain"],
            cpu0_id=entry.get("cpu0-id"),
        )


def _sgx(of: Mapping[str, Reply]) -> Sgx | None:
    name = "query-sgx-capabilities"
    if name not in of:
        return None
    with _reading(name, of[name], "GenericError") as entry:
        if entry is None or "sections" not in entry:
            return None  # the host has none, or QEMU is too old to list its sections
        sections = tuple(SgxSection(s["node"], s["size"] // 1024) for s in entry["sections"])
        # QEMU 8.0 dropped the sum, which it had deprecated.
        total = entry["section-size"] // 1024 if "section-size" in entry else None
        return Sgx(
            flc=entry["flc"],
            sgx1=entry["sgx1"],
            sgx2=entry["sgx2"],
            section_size=sum(s.size for s in sections) if total is None else total,
            sections=sections,
        )
