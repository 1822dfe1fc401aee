"""What a hypervisor offers to guests of one kind: the document of ``virsh domcapabilities``.

A driver fills a :class:`DomainCapabilities`; names and order of fields are those of libvirt's
elements, so that one short writer serves all sections. Invariant: a section or list that a driver
knows nothing of stays None and is not written, which is different from "not supported" and from
a list without values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import Final
from typing import final

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Iterator

    from hvcore.cpu.spec import CpuSpec

Values = tuple[str, ...]
"""Values that may be used in a document, in libvirt's order."""

_ESCAPES: Final = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", "'": "&apos;", '"': "&quot;"}
)
_ELEMENT: Final = "element"
_USABLE: Final = {True: "yes", False: "no", None: "unknown"}


def _named(element: str) -> Any:
    """Declare a field whose element is not spelled like the field."""
    return attrs.field(default=None, metadata={_ELEMENT: element})


@attrs.frozen(kw_only=True)
class Section:
    """One part of the document; lists of values are fields of the subclasses.

    :param supported: None when nothing is known.
    """

    supported: bool | None = None


@final
@attrs.frozen(kw_only=True)
class Loader(Section):
    """Firmware images.

    :param paths: images that are installed.
    """

    paths: Values = ()
    type: Values | None = None
    readonly: Values | None = None
    secure: Values | None = None


@final
@attrs.frozen(kw_only=True)
class Os(Section):
    """How guests boot.

    :param firmware: kinds that are chosen automatically.
    """

    firmware: Values | None = None
    loader: Loader = Loader()


@final
@attrs.frozen(kw_only=True)
class CpuModel:
    """A named CPU model.

    :param usable: whether the host can run it; None when not known.
    :param canonical: the versioned model that this name stands for.
    :param blockers: features that keep it from being usable.
    """

    name: str
    usable: bool | None = None
    deprecated: bool = False
    vendor: str | None = None
    canonical: str | None = None
    blockers: Values = ()


@final
@attrs.frozen(kw_only=True)
class Cpu:
    """Modes of ``<cpu>``.

    :param host_passthrough: values of ``migratable``; None where the mode cannot be had.
    :param maximum: the same of the mode ``maximum``.
    :param host_model: what that mode gives a guest; None where it cannot be had.
    :param address_bits: physical address bits of the host's CPU, 0 when not known.
    :param custom: the models that can be named.
    """

    host_passthrough: Values | None = None
    maximum: Values | None = None
    host_model: CpuSpec | None = None
    address_bits: int = 0
    custom: tuple[CpuModel, ...] = ()


@final
@attrs.frozen(kw_only=True)
class MemoryBacking(Section):
    """``<memoryBacking>``."""

    source_type: Values | None = None


@final
@attrs.frozen(kw_only=True)
class Disk(Section):
    """``<disk>``."""

    disk_device: Values | None = None
    bus: Values | None = None
    model: Values | None = None


@final
@attrs.frozen(kw_only=True)
class Graphics(Section):
    """``<graphics>``."""

    type: Values | None = None


@final
@attrs.frozen(kw_only=True)
class Video(Section):
    """``<video>``."""

    model_type: Values | None = None


@final
@attrs.frozen(kw_only=True)
class Hostdev(Section):
    """``<hostdev>``."""

    mode: Values | None = None
    startup_policy: Values | None = None
    subsys_type: Values | None = None
    caps_type: Values | None = None
    pci_backend: Values | None = None


@final
@attrs.frozen(kw_only=True)
class Rng(Section):
    """``<rng>``."""

    model: Values | None = None
    backend_model: Values | None = None


@final
@attrs.frozen(kw_only=True)
class Filesystem(Section):
    """``<filesystem>``."""

    driver_type: Values | None = None


@final
@attrs.frozen(kw_only=True)
class Tpm(Section):
    """``<tpm>``."""

    model: Values | None = None
    backend_model: Values | None = None
    backend_version: Values | None = None


@final
@attrs.frozen(kw_only=True)
class Redirdev(Section):
    """``<redirdev>``."""

    bus: Values | None = None


@final
@attrs.frozen(kw_only=True)
class Channel(Section):
    """``<channel>``."""

    type: Values | None = None


@final
@attrs.frozen(kw_only=True)
class Crypto(Section):
    """``<crypto>``."""

    model: Values | None = None
    type: Values | None = None
    backend_model: Values | None = None


@final
@attrs.frozen(kw_only=True)
class Interface(Section):
    """``<interface>``."""

    backend_type: Values | None = None


@final
@attrs.frozen(kw_only=True)
class Panic(Section):
    """``<panic>``."""

    model: Values | None = None


@final
@attrs.frozen(kw_only=True)
class Devices:
    """All families of devices, in the order of the document."""

    disk: Disk = Disk()
    graphics: Graphics = Graphics()
    video: Video = Video()
    hostdev: Hostdev = Hostdev()
    rng: Rng = Rng()
    filesystem: Filesystem = Filesystem()
    tpm: Tpm = Tpm()
    redirdev: Redirdev = Redirdev()
    channel: Channel = Channel()
    crypto: Crypto = Crypto()
    interface: Interface = Interface()
    panic: Panic = Panic()


@final
@attrs.frozen(kw_only=True)
class Gic(Section):
    """Versions of ARM's interrupt controller."""

    version: Values | None = None


@final
@attrs.frozen(kw_only=True)
class Hyperv(Section):
    """Hyper-V enlightenments."""

    features: Values | None = None


@final
@attrs.frozen(kw_only=True)
class LaunchSecurity(Section):
    """Protection from the host."""

    sectype: Values | None = None


@final
@attrs.frozen(kw_only=True)
class Sev:
    """What AMD SEV of the host needs and how many guests can have it."""

    cbitpos: int
    reduced_phys_bits: int
    max_guests: int = 0
    max_es_guests: int = 0
    cpu0_id: str | None = None


@final
@attrs.frozen(kw_only=True)
class Sgx:
    """Enclave memory of Intel SGX.

    :param section_size: of all sections together, in KiB.
    :param sections: host NUMA node and KiB of each.
    """

    flc: bool
    sgx1: bool
    sgx2: bool
    section_size: int
    sections: tuple[tuple[int, int], ...] = ()


@final
@attrs.frozen(kw_only=True)
class Features:
    """Everything else, in the order of the document; flags are None when nothing is known."""

    gic: Gic = Gic()
    vmcoreinfo: bool | None = None
    genid: bool | None = None
    backing_store_input: bool | None = None
    backup: bool | None = None
    async_teardown: bool | None = _named("async-teardown")
    s390_pv: bool | None = _named("s390-pv")
    ps2: bool | None = None
    sev: Sev | None = None
    sgx: Sgx | None = None
    hyperv: Hyperv = Hyperv()
    launch_security: LaunchSecurity = LaunchSecurity()


@final
@attrs.frozen(kw_only=True)
class DomainCapabilities:
    """What guests of one emulator, virtualization type, architecture and machine type can have.

    :param path: of the emulator.
    :param domain: virtualization type, as in ``<domain type=...>``.
    :param machine: canonical name; None where the hypervisor has no machine types.
    :param max_vcpus: 0 when not known.
    """

    path: str
    domain: str
    machine: str | None = None
    arch: str
    max_vcpus: int = 0
    iothreads: bool | None = None
    os: Os = Os()
    cpu: Cpu = Cpu()
    memory_backing: MemoryBacking = MemoryBacking()
    devices: Devices = Devices()
    features: Features = Features()

    def to_xml(self) -> str:
        """Return libvirt's ``<domainCapabilities>`` document."""
        lines = [f"<path>{_escaped(self.path)}</path>", f"<domain>{self.domain}</domain>"]
        if self.machine is not None:
            lines.append(f"<machine>{_escaped(self.machine)}</machine>")
        lines.append(f"<arch>{self.arch}</arch>")
        if self.max_vcpus:
            lines.append(f"<vcpu max='{self.max_vcpus}'/>")
        lines += _flag("iothreads", self.iothreads)
        lines += _section("os", self.os, _section("loader", self.os.loader, ()))
        lines += _block("cpu", _cpu_lines(self.cpu))
        lines += _section("memoryBacking", self.memory_backing)
        lines += ["<devices>", *(f"  {line}" for line in _members(self.devices)), "</devices>"]
        lines += _block("features", _members(self.features))
        return "".join(f"{line}\n" for line in _block("domainCapabilities", lines))

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values, under the names of the fields."""
        return attrs.asdict(self)


# -- writing ------------------------------------------------------------------------------------


def _escaped(text: str) -> str:
    return text.translate(_ESCAPES)


def _element_of(field: attrs.Attribute[Any]) -> str:
    """Return how libvirt spells a field: given, or in camel case."""
    first, *rest = field.name.split("_")
    spelled: str = field.metadata.get(_ELEMENT, first + "".join(part.title() for part in rest))
    return spelled


def _block(name: str, lines: Iterable[str], attributes: str = "") -> Iterator[str]:
    inner = [f"  {line}" for line in lines]
    if not inner:
        yield f"<{name}{attributes}/>"
        return
    yield f"<{name}{attributes}>"
    yield from inner
    yield f"</{name}>"


def _enum(name: str, values: Values) -> Iterator[str]:
    return _block("enum", (f"<value>{value}</value>" for value in values), f" name='{name}'")


def _flag(name: str, supported: bool | None) -> Iterator[str]:
    if supported is not None:
        yield f"<{name} supported='{_USABLE[supported]}'/>"


def _section(name: str, section: Section, more: Iterable[str] = ()) -> Iterator[str]:
    """Yield a section with its lists; one that is supported is never written as an empty tag."""
    if not section.supported:
        yield from _flag(name, section.supported)
        return
    yield f"<{name} supported='yes'>"
    for field in attrs.fields(type(section)):
        values = getattr(section, field.name)
        if field.name == "paths":
            yield from (f"  <value>{_escaped(path)}</value>" for path in values)
        elif isinstance(values, tuple):
            yield from (f"  {line}" for line in _enum(_element_of(field), values))
    yield from (f"  {line}" for line in more)
    yield f"</{name}>"


def _members(group: Devices | Features) -> Iterator[str]:
    for field in attrs.fields(type(group)):
        name, value = _element_of(field), getattr(group, field.name)
        if isinstance(value, Section):
            yield from _section(name, value)
        elif field.name == "sev":
            yield from _sev_lines(value)
        elif field.name == "sgx":
            yield from _sgx_lines(value)
        else:
            yield from _flag(name, value)


def _cpu_lines(cpu: Cpu) -> Iterator[str]:
    for mode, name, values in (
        ("host-passthrough", "hostPassthroughMigratable", cpu.host_passthrough),
        ("maximum", "maximumMigratable", cpu.maximum),
    ):
        yield from _mode(mode, None if values is None else _enum(name, values))
    model = cpu.host_model
    yield from _mode("host-model", None if model is None else _model_lines(model, cpu))
    yield from _mode("custom", _custom_lines(cpu.custom) if cpu.custom else None)


def _mode(name: str, lines: Iterable[str] | None) -> Iterator[str]:
    attributes = f" name='{name}' supported='{_USABLE[lines is not None]}'"
    return _block("mode", lines or (), attributes)


def _model_lines(spec: CpuSpec, cpu: Cpu) -> Iterator[str]:
    yield f"<model fallback='{spec.fallback}'>{spec.model}</model>"
    if spec.vendor is not None:
        yield f"<vendor>{spec.vendor}</vendor>"
    if cpu.address_bits:
        yield f"<maxphysaddr mode='passthrough' limit='{cpu.address_bits}'/>"
    for name, policy in spec.features.items():
        yield f"<feature policy='{policy}' name='{name}'/>"


def _custom_lines(models: Iterable[CpuModel]) -> Iterator[str]:
    for model in models:
        marks = f" usable='{_USABLE[model.usable]}'"
        marks += " deprecated='yes'" if model.deprecated else ""
        marks += f" vendor='{model.vendor or 'unknown'}'"
        marks += f" canonical='{model.canonical}'" if model.canonical else ""
        yield f"<model{marks}>{model.name}</model>"
        if model.blockers:
            inner = (f"<feature name='{name}'/>" for name in model.blockers)
            yield from _block("blockers", inner, f" model='{model.name}'")


def _sev_lines(sev: Sev | None) -> Iterator[str]:
    if sev is None:
        yield from _flag("sev", False)
        return
    facts: dict[str, object] = {
        "cbitpos": sev.cbitpos,
        "reducedPhysBits": sev.reduced_phys_bits,
        "maxGuests": sev.max_guests,
        "maxESGuests": sev.max_es_guests,
        "cpu0Id": sev.cpu0_id,
    }
    inner = (f"<{name}>{fact}</{name}>" for name, fact in facts.items() if fact is not None)
    yield from _block("sev", inner, " supported='yes'")


def _sgx_lines(sgx: Sgx | None) -> Iterator[str]:
    if sgx is None:
        yield from _flag("sgx", False)
        return
    lines = [f"<{name}>{_USABLE[getattr(sgx, name)]}</{name}>" for name in ("flc", "sgx1", "sgx2")]
    lines.append(f"<section_size unit='KiB'>{sgx.section_size}</section_size>")
    if sgx.sections:
        inner = (f"<section node='{n}' size='{size}' unit='KiB'/>" for n, size in sgx.sections)
        lines += _block("sections", inner)
    yield from _block("sgx", lines, " supported='yes'")
