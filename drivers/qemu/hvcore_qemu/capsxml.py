"""libvirt's XML of a QEMU's capabilities (``<qemuCaps>``): reading and writing.

Writing what was read gives the same bytes. CPU models and the host CPU, nine tenths of such a
file, are only turned into objects when they are looked at.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING
from typing import Any
from typing import Final
from typing import NoReturn
from typing import TypeVar

from lxml import etree

from hvcore.capabilities import Deferred
from hvcore.errors import ErrorClass
from hvcore.errors import ProbeError
from hvcore_qemu.capabilities import ACCELERATORS
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
from hvcore_qemu.capabilities import feature_to_qemu
from hvcore_qemu.flags import order

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator

    Element = etree._Element  # noqa: SLF001 - lxml has no public name for the class

T = TypeVar("T")

_ESCAPES: Final = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", "'": "&apos;", '"': "&quot;"}
)
_YES: Final = {"yes": True, "no": False}


def read(text: bytes) -> QemuCapabilities:
    """Read a ``<qemuCaps>`` document.

    :raises ProbeError: when it is not well-formed or lacks what libvirt requires.
    """
    parser = etree.XMLParser(resolve_entities=False, no_network=True, remove_comments=True)
    try:
        root = etree.fromstring(text, parser)
    except etree.XMLSyntaxError as error:
        _fail(f"QEMU capabilities XML: {error.msg}", ErrorClass.XML_DETAIL)
    if root.tag != "qemuCaps":
        _fail(f"unexpected root element <{root.tag}>, expecting <qemuCaps>", ErrorClass.XML)
    with _malformed():
        return _read(root)


def _read(root: Element) -> QemuCapabilities:
    children: dict[str, list[Element]] = {}
    for child in root:
        children.setdefault(str(child.tag), []).append(child)
    one = {tag: elements[0] for tag, elements in children.items()}
    arch = _text(one, "arch", "missing arch in QEMU capabilities cache")
    names = frozenset(_flags(children.get("flag", [])))
    found = [name for name in ACCELERATORS if name == "tcg" or name in names]
    return QemuCapabilities(
        binary=_text(one, "emulator", "missing emulator in QEMU capabilities cache"),
        arch=arch,
        names=names,
        version=_number(one, "version", "missing version in QEMU capabilities cache"),
        package=(one["package"].text or "") if "package" in one else None,
        accelerators={name: _accelerator(children, arch, name) for name in found},
        gic=tuple(
            Gic(
                int(_attribute(e, "version")),
                _YES[_attribute(e, "kernel")],
                _YES[_attribute(e, "emulated")],
            )
            for e in children.get("gic", [])
        ),
        sev=_sev(one) if "sev-guest" in names else None,
        sgx=_sgx(one) if "sgx-epc" in names else None,
        hyperv=_hyperv(one),
        kvm_supports_nesting="kvmSupportsNesting" in one,
        kvm_supports_secure_guest="kvmSupportsSecureGuest" in one,
        microcode_version=_number(
            one, "microcodeVersion", "missing microcode version in QEMU capabilities cache"
        ),
        host_cpu_signature=_optional(one, "hostCPUSignature"),
        kernel_version=_optional(one, "kernelVersion"),
        cpu_data=_fragment(one.get("cpudata")),
        binary_ctime=_number(one, "qemuctime", "missing qemuctime in QEMU capabilities XML"),
        module_dir_mtime=int(_optional(one, "qemumoddirmtime") or 0),
        writer_ctime=_number(one, "selfctime", "missing selfctime in QEMU capabilities XML"),
        writer_version=_number(one, "selfvers", "missing selfvers in QEMU capabilities XML"),
    )


def _fail(message: str, kind: ErrorClass = ErrorClass.INTERNAL) -> NoReturn:
    raise ProbeError(message, kind=kind)


def _attribute(element: Element, name: str) -> str:
    value = element.get(name)
    if value is None:
        raise KeyError(f"<{element.tag}> has no attribute {name}")
    return value


@contextlib.contextmanager
def _malformed() -> Iterator[None]:
    """Report a missing attribute or a number that is none."""
    try:
        yield
    except (KeyError, ValueError) as error:
        raise ProbeError(f"malformed QEMU capabilities XML: {error}") from error


def _optional(one: dict[str, Element], tag: str) -> str | None:
    return (one[tag].text or None) if tag in one else None


def _text(one: dict[str, Element], tag: str, missing: str) -> str:
    text = _optional(one, tag)
    if text is None:
        _fail(missing)
    return text


def _number(one: dict[str, Element], tag: str, missing: str) -> int:
    text = _optional(one, tag)
    if text is None or not text.strip().isdecimal():
        _fail(missing)
    return int(text)


def _flags(elements: list[Element]) -> Iterator[str]:
    known = order()
    for element in elements:
        name = element.get("name")
        if name is None:
            _fail("missing flag name in QEMU capabilities cache")
        if name not in known:
            _fail(f"Unknown qemu capabilities flag {name}")
        yield name


def _accelerator(children: dict[str, list[Element]], arch: str, name: str) -> Accelerator:
    def of(tag: str) -> list[Element]:
        return [e for e in children.get(tag, []) if e.get("type") == name]

    machines, cpus, host_cpus = of("machine"), of("cpu"), of("hostCPU")

    def checked(make: Callable[[], T]) -> Deferred[T]:
        def run() -> T:
            with _malformed():
                return make()

        return Deferred(run)

    return Accelerator(
        deferred_machines=checked(lambda: tuple(_machine(e) for e in machines)),
        deferred_cpus=checked(lambda: tuple(_cpu(e, arch) for e in cpus) if cpus else None),
        deferred_host_cpu=checked(lambda: _host_cpu(host_cpus[0]) if host_cpus else None),
    )


def _machine(element: Element) -> Machine:
    get = element.get
    return Machine(
        name=_attribute(element, "name"),
        alias=get("alias"),
        max_cpus=int(get("maxCpus", "0")),
        hotplug_cpus=get("hotplugCpus") == "yes",
        qemu_default=get("default") == "yes",
        default_cpu=get("defaultCPU"),
        numa_mem_supported=get("numaMemSupported") == "yes",
        default_ram_id=get("defaultRAMid"),
        deprecated=get("deprecated") == "yes",
        acpi=_YES.get(get("acpi", "")),
    )


def _cpu(element: Element, arch: str) -> CpuModel:
    get = element.get
    return CpuModel(
        name=_attribute(element, "name"),
        typename=get("typename"),
        usable=_YES.get(get("usable", "")),
        deprecated=get("deprecated") == "yes",
        blockers=tuple(feature_from_qemu(arch, _attribute(e, "name")) for e in element),
    )


def _host_cpu(element: Element) -> HostCpu:
    deprecated = element.find("deprecatedFeatures")
    return HostCpu(
        model=_attribute(element, "model"),
        migratability=element.get("migratability") == "yes",
        properties=tuple(_property(e) for e in element.iterchildren("property")),
        deprecated=None if deprecated is None else tuple(_attribute(e, "name") for e in deprecated),
    )


def _property(element: Element) -> CpuProperty:
    value: bool | int | str = _attribute(element, "value")
    match element.get("type"):
        case "boolean":
            value = value == "true"
        case "number":
            value = int(value)
    return CpuProperty(_attribute(element, "name"), value, _YES.get(element.get("migratable", "")))


def _sev(one: dict[str, Element]) -> Sev:
    if "sev" not in one:
        _fail("missing SEV platform data in QEMU capabilities cache", ErrorClass.XML)
    parts = {str(child.tag): child for child in one["sev"]}

    def missing(name: str) -> str:
        return f"missing or malformed SEV {name} information in QEMU capabilities cache"

    return Sev(
        cbitpos=_number(parts, "cbitpos", missing("cbitpos")),
        reduced_phys_bits=_number(parts, "reducedPhysBits", missing("reducedPhysBits")),
        pdh=_text(parts, "pdh", "missing SEV pdh information in QEMU capabilities cache"),
        cert_chain=_text(
            parts, "certChain", "missing SEV certChain information in QEMU capabilities cache"
        ),
        cpu0_id=_optional(parts, "cpu0Id"),
    )


def _sgx(one: dict[str, Element]) -> Sgx:
    if "sgx" not in one:
        _fail("missing SGX platform data in QEMU capabilities cache", ErrorClass.XML)
    parts = {str(child.tag): child for child in one["sgx"]}
    switches: dict[str, Any] = {}
    for name in ("flc", "sgx1", "sgx2"):
        text = _optional(parts, name)
        if text not in _YES:
            _fail(
                f"missing or invalid SGX platform {name} in QEMU capabilities cache",
                ErrorClass.XML,
            )
        switches[name] = _YES[text]
    return Sgx(
        **switches,
        section_size=_number(
            parts,
            "section_size",
            "missing or malformed SGX platform section_size in QEMU capabilities cache",
        ),
        sections=tuple(
            SgxSection(int(_attribute(e, "node")), int(_attribute(e, "size")))
            for e in parts.get("sections", ())
        ),
    )


def _hyperv(one: dict[str, Element]) -> tuple[str, ...] | None:
    element = one.get("hypervCapabilities")
    return None if element is None else tuple(_attribute(cap, "name") for cap in element)


def _fragment(element: Element | None) -> str | None:
    """Return an element and its children as text, a line each, quoted as libvirt does."""
    if element is None:
        return None

    def start(part: Element) -> str:
        return f"<{part.tag}{_attributes(**{str(k): str(v) for k, v in part.items()})}"

    inner = [f"  {start(child)}/>" for child in element]
    return "\n".join([f"{start(element)}>", *inner, f"</{element.tag}>"])


# -- writing ----------------------------------------------------------------------------------


def write(caps: QemuCapabilities) -> str:
    """Return the document, with libvirt's order and layout."""
    number = order()
    lines = [f"<emulator>{_escape(caps.binary)}</emulator>"]
    lines.append(f"<qemuctime>{caps.binary_ctime}</qemuctime>")
    if caps.module_dir_mtime:
        lines.append(f"<qemumoddirmtime>{caps.module_dir_mtime}</qemumoddirmtime>")
    lines.append(f"<selfctime>{caps.writer_ctime}</selfctime>")
    lines.append(f"<selfvers>{caps.writer_version}</selfvers>")
    # Names that plugins added have no number in libvirt's order: they follow, sorted.
    names = sorted(caps.names, key=lambda name: (number.get(name, len(number)), name))
    lines += [f"<flag name='{_escape(name)}'/>" for name in names]
    lines.append(f"<version>{caps.version}</version>")
    lines.append(f"<microcodeVersion>{caps.microcode_version}</microcodeVersion>")
    for tag, text in (
        ("hostCPUSignature", caps.host_cpu_signature),
        ("package", caps.package),
        ("kernelVersion", caps.kernel_version),
    ):
        if text is not None:
            lines.append(f"<{tag}>{_escape(text)}</{tag}>")
    if caps.cpu_data is not None:
        lines += caps.cpu_data.split("\n")
    lines.append(f"<arch>{caps.arch}</arch>")
    for name in ACCELERATORS:
        if name in caps.accelerators and (name == "tcg" or name in caps.names):
            lines += _accelerator_lines(caps.arch, name, caps.accelerators[name])
    for gic in caps.gic:
        marks = _attributes(version=str(gic.version), kernel=gic.kernel, emulated=gic.emulated)
        lines.append(f"<gic{marks}/>")
    lines += _sev_lines(caps.sev) if caps.sev else []
    lines += _sgx_lines(caps.sgx) if caps.sgx else []
    if caps.hyperv is not None:
        lines.append("<hypervCapabilities supported='yes'>")
        lines += [f"  <cap name='{name}'/>" for name in caps.hyperv]
        lines.append("</hypervCapabilities>")
    lines += ["<kvmSupportsNesting/>"] if caps.kvm_supports_nesting else []
    lines += ["<kvmSupportsSecureGuest/>"] if caps.kvm_supports_secure_guest else []
    return "<qemuCaps>\n" + "".join(f"  {line}\n" for line in lines) + "</qemuCaps>\n"


def _escape(text: str) -> str:
    return text.translate(_ESCAPES)


def _attributes(**values: str | bool | None) -> str:
    """Return attributes; None is left out."""
    return "".join(
        f" {name}='{('yes' if value else 'no') if isinstance(value, bool) else _escape(value)}'"
        for name, value in values.items()
        if value is not None
    )


def _accelerator_lines(arch: str, name: str, acc: Accelerator) -> Iterator[str]:
    if acc.host_cpu is not None:
        yield from _host_cpu_lines(name, acc.host_cpu)
    for cpu in acc.cpus or ():
        marks = _attributes(
            type=name,
            name=cpu.name,
            typename=cpu.typename,
            usable=cpu.usable,
            deprecated=cpu.deprecated or None,
        )
        if not cpu.blockers:
            yield f"<cpu{marks}/>"
            continue
        yield f"<cpu{marks}>"
        for blocker in cpu.blockers:
            yield f"  <blocker name='{feature_to_qemu(arch, blocker)}'/>"
        yield "</cpu>"
    for machine in acc.machines:
        marks = _attributes(
            type=name,
            name=machine.name,
            alias=machine.alias,
            hotplugCpus=machine.hotplug_cpus or None,
            maxCpus=str(machine.max_cpus),
            default=machine.qemu_default or None,
            defaultCPU=machine.default_cpu,
            numaMemSupported=machine.numa_mem_supported or None,
            defaultRAMid=machine.default_ram_id,
            deprecated=machine.deprecated or None,
            acpi=machine.acpi,
        )
        yield f"<machine{marks}/>"


def _host_cpu_lines(name: str, host_cpu: HostCpu) -> Iterator[str]:
    head = _attributes(type=name, model=host_cpu.model, migratability=host_cpu.migratability)
    yield f"<hostCPU{head}>"
    for prop in host_cpu.properties:
        match prop.value:
            case bool():
                kind, value = "boolean", "true" if prop.value else "false"
            case int():
                kind, value = "number", str(prop.value)
            case _:
                kind, value = "string", prop.value
        marks = _attributes(name=prop.name, type=kind, value=value, migratable=prop.migratable)
        yield f"  <property{marks}/>"
    if host_cpu.deprecated is not None:
        yield "  <deprecatedFeatures>"
        for feature in host_cpu.deprecated:
            yield f"    <property name='{feature}'/>"
        yield "  </deprecatedFeatures>"
    yield "</hostCPU>"


def _sev_lines(sev: Sev) -> list[str]:
    values = {
        "cbitpos": str(sev.cbitpos),
        "reducedPhysBits": str(sev.reduced_phys_bits),
        "pdh": sev.pdh,
        "certChain": sev.cert_chain,
        "cpu0Id": sev.cpu0_id,
    }
    inner = [f"  <{tag}>{_escape(text)}</{tag}>" for tag, text in values.items() if text]
    return ["<sev>", *inner, "</sev>"]


def _sgx_lines(sgx: Sgx) -> list[str]:
    lines = ["<sgx supported='yes'>"]
    for tag, switch in (("flc", sgx.flc), ("sgx1", sgx.sgx1), ("sgx2", sgx.sgx2)):
        lines.append(f"  <{tag}>{'yes' if switch else 'no'}</{tag}>")
    lines.append(f"  <section_size unit='KiB'>{sgx.section_size}</section_size>")
    if sgx.sections:
        lines.append("  <sections>")
        lines += [
            f"    <section node='{s.node}' size='{s.size}' unit='KiB'/>" for s in sgx.sections
        ]
        lines.append("  </sections>")
    return [*lines, "</sgx>"]
