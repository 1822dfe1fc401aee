"""The <cpu> section: model, topology, features and NUMA cells of the guest's CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import ClassVar
from typing import Final
from typing import Literal

import attrs

from hvcore.model.memory import MemoryAccess
from hvcore.model.memory import scale_attribute
from hvcore.model.types import NodeSet
from hvcore.xml.codecs import ENUM
from hvcore.xml.codecs import INTEGER
from hvcore.xml.codecs import ONOFF
from hvcore.xml.codecs import POSITIVE
from hvcore.xml.codecs import STR
from hvcore.xml.codecs import UINT
from hvcore.xml.codecs import ULONG
from hvcore.xml.codecs import YESNO
from hvcore.xml.codecs import Codec
from hvcore.xml.fields import Element
from hvcore.xml.fields import FieldSpec
from hvcore.xml.fields import attr
from hvcore.xml.fields import child
from hvcore.xml.fields import children
from hvcore.xml.fields import custom
from hvcore.xml.fields import element
from hvcore.xml.fields import text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lxml.etree import _Element as XmlElement

    from hvcore.xml.context import FormatContext
    from hvcore.xml.context import ParseContext

CpuMode = Literal["custom", "host-model", "host-passthrough", "maximum"]
CpuMatch = Literal["exact", "minimum", "strict"]
CpuCheck = Literal["none", "partial", "full"]
CpuFallback = Literal["allow", "forbid"]
FeaturePolicy = Literal["force", "require", "optional", "disable", "forbid"]
CpuCacheMode = Literal["emulate", "passthrough", "disable"]
PhysAddrMode = Literal["emulate", "passthrough"]
CacheAssociativity = Literal["none", "direct", "full"]
CachePolicy = Literal["none", "writeback", "writethrough"]
AccessType = Literal["access", "read", "write"]

LOCAL_DISTANCE: Final = 10
"""Distance of a node to itself (ACPI 2.0, SLIT)."""
UNREACHABLE: Final = 255
"""The largest distance: there is no way."""

_VENDOR_ID_LENGTH: Final = 12
_NON_NEGATIVE: Final = INTEGER(0, 2**31 - 1, expected="Expected non-negative integer value")


@element("feature")
class CpuFeature(Element):
    """A single feature of the CPU, and whether the guest has it."""

    policy: FeaturePolicy = attr(
        "@policy", ENUM(FeaturePolicy), default="require",
        refused="unsupported configuration: Invalid CPU feature policy",
    )  # fmt: skip
    name: str = attr("@name", STR, required=True, missing="Invalid CPU feature name")

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Refuse an empty name."""
        if self.name == "":
            ctx.issue(el, "Invalid CPU feature name", attribute="name")


@element("sibling")
class NumaDistance(Element):
    """How far another node is, in the units of ACPI's SLIT."""

    id: int = attr("@id", UINT, required=True)
    value: int = attr("@value", UINT, required=True)


@element("cache")
class NumaCache(Element):
    """Memory-side cache of a node."""

    level: int = attr("@level", POSITIVE, required=True)
    associativity: CacheAssociativity = attr(
        "@associativity", ENUM(CacheAssociativity), required=True
    )
    policy: CachePolicy = attr("@policy", ENUM(CachePolicy), required=True)
    size: int = attr(
        "size/@value", ULONG,
        refused="Invalid value '{value}' for element or attribute './size/@value'", doc="KiB",
    )  # fmt: skip
    size_unit: str = attr("size/@unit", STR, default="KiB")
    line: int | None = attr(
        "line/@value", ULONG,
        refused="Invalid value '{value}' for element or attribute './line/@value'", doc="bytes",
    )  # fmt: skip
    line_unit: str | None = attr("line/@unit", STR)

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Require both numbers.

        libvirt looks for the units in ``size/unit`` and ``line/unit``, elements that nobody
        writes: the attributes have no effect, a size is KiB and a line bytes.
        """
        for name in ("size", "line"):
            if getattr(self, name) is None:
                ctx.issue(el, f"missing element or attribute './{name}/@value'")
        self.size_unit = "KiB"
        self.line = self.line or None
        self.line_unit = "B" if self.line else None


def _cpus(text: str) -> NodeSet:
    return NodeSet.parse(text) if text else NodeSet()


_CPUS: Final = Codec(
    "CPU set",
    convert=_cpus,
    write=str,
    rng='<data type="string"><param name="pattern">[0-9,\\-^ ]*</param></data>',
    json={"type": "string", "pattern": "^[0-9,^ -]*$"},
)
"""A set that may be empty, which libvirt refuses: KubeVirt's users write it for no CPUs."""


@element("cell")
class NumaCell(Element):
    """A NUMA node of the guest."""

    id: int | None = attr("@id", UINT, doc="position in the list when absent")
    cpus: NodeSet | None = attr("@cpus", _CPUS, doc="virtual CPUs; none when empty")
    memory: int = attr(
        "@memory", ULONG, required=True, missing="missing element or attribute './@memory'",
        refused="Invalid value '{value}' for element or attribute './@memory'", doc="KiB",
    )  # fmt: skip
    unit: str = attr("@unit", STR, default="KiB")
    mem_access: MemoryAccess | None = attr("@memAccess", ENUM(MemoryAccess))
    discard: bool | None = attr("@discard", YESNO)
    distances: list[NumaDistance] = children("distances/sibling", NumaDistance)
    caches: list[NumaCache] = children("cache", NumaCache)

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Keep the size in KiB; an empty set of CPUs is none."""
        self.memory = scale_attribute(el, ctx, self.memory, el.get("unit"))
        self.unit = "KiB"
        self.cpus = self.cpus or None
        if el.find("distances") is not None and not self.distances:
            ctx.issue(el, "NUMA distances defined without siblings")


@attrs.frozen(kw_only=True)
class Interconnect:
    """Latency (nanoseconds) or bandwidth (KiB a second) between two nodes.

    :ivar cache: level of the target's memory-side cache; 0 is the memory itself.
    """

    kind: Literal["latency", "bandwidth"]
    initiator: int
    target: int
    cache: int = 0
    type: AccessType
    value: int


def _part(name: str, codec: Codec, *, required: bool = True) -> FieldSpec:
    return FieldSpec(kind="attr", steps=(), attribute=name, codec=codec, required=required)


class _Interconnects:
    """Reads latencies and bandwidths, which may be mixed and keep their order."""

    tags: tuple[str, ...] = ("latency", "bandwidth")
    rng: str = (
        "<zeroOrMore><element><choice><name>latency</name><name>bandwidth</name></choice>"
        "<zeroOrMore><attribute><anyName/></attribute></zeroOrMore></element></zeroOrMore>"
    )
    json: Mapping[str, Any] = {"type": "array", "items": {"type": "object"}}
    parts: ClassVar[tuple[FieldSpec, ...]] = (
        _part("value", ULONG),
        _part("initiator", UINT),
        _part("target", UINT),
        _part("cache", UINT, required=False),
        _part("type", ENUM(AccessType)),
    )

    def parse(
        self, elements: list[XmlElement], ctx: ParseContext, owner: Any
    ) -> list[Interconnect] | None:
        """Return the interconnects in document order, None without any."""
        del owner
        if elements:
            parent = elements[0].getparent()
            assert parent is not None
            elements.sort(key=parent.index)
        found = [self._one(el, ctx) for el in elements]
        return [link for link in found if link is not None] or None

    def _one(self, el: XmlElement, ctx: ParseContext) -> Interconnect | None:
        values: dict[str, Any] = {}
        complete = True
        for spec in self.parts:
            assert spec.attribute is not None
            raw = el.get(spec.attribute)
            if raw is None:
                if spec.required:
                    complete = False
                    ctx.missing_attribute(el, spec)
                continue
            try:
                table = spec.codec.table
                value = spec.codec.convert(raw) if spec.codec.convert else (table or {})[raw]
            except (KeyError, ValueError):
                complete = False
                ctx.refused_attribute(el, spec, raw, None)
                continue
            values[spec.attribute] = value
        if not complete:
            return None
        if el.tag == "bandwidth":
            values["value"] = scale_attribute(el, ctx, values["value"], el.get("unit"))
            return Interconnect(kind="bandwidth", **values)
        return Interconnect(kind="latency", **values)

    def format(
        self, value: list[Interconnect], out: list[str], indent: str, ctx: FormatContext, owner: Any
    ) -> None:
        """Append one line for each."""
        del ctx, owner
        for link in value:
            cache = f" cache='{link.cache}'" if link.cache else ""
            unit = " unit='KiB'" if link.kind == "bandwidth" else ""
            out.append(
                f"{indent}<{link.kind} initiator='{link.initiator}' target='{link.target}'{cache}"
                f" type='{link.type}' value='{link.value}'{unit}/>\n"
            )

    def clone(self, value: list[Interconnect]) -> list[Interconnect]:
        """Return a copy of the list; its members are immutable."""
        return value[:]


_CONTIGUOUS: Final = (
    "Exactly one 'cell' element per guest NUMA cell allowed, non-contiguous ranges or ranges not "
    "starting from 0 are not allowed"
)


@element("numa", omit_empty=True)
class Numa(Element):
    """The guest's NUMA topology."""

    cells: list[NumaCell] = children("cell", NumaCell)
    interconnects: list[Interconnect] | None = custom(_Interconnects(), wrapper="interconnects")

    def arrange(self, el: XmlElement, ctx: ParseContext) -> None:
        """Put the cells in the order of their numbers; called when the CPU itself was read."""
        if not self.cells:
            ctx.issue(el, "NUMA topology defined without NUMA cells")
            return
        elements = el.findall("cell")
        seen: dict[int, NumaCell] = {}
        for position, cell in enumerate(self.cells):
            node = elements[position]
            if cell.id is None:
                cell.id = position
            if cell.id >= len(self.cells):
                ctx.issue(node, _CONTIGUOUS)
            elif cell.id in seen:
                ctx.issue(node, f"Duplicate NUMA cell info for cell id '{cell.id}'")
            self._overlap(cell, seen, node, ctx)
            seen[cell.id] = cell
        if len(seen) == len(self.cells) and max(seen) < len(seen):
            self.cells = [seen[number] for number in range(len(seen))]
            _complete_distances(self.cells, el, ctx)

    def _overlap(
        self, cell: NumaCell, seen: Mapping[int, NumaCell], node: XmlElement, ctx: ParseContext
    ) -> None:
        for number, other in sorted(seen.items()):
            if cell.cpus and other.cpus and cell.cpus & other.cpus:
                ctx.issue(
                    node,
                    f"unsupported configuration: NUMA cells {cell.id} and {number} have "
                    "overlapping vCPU ids",
                )


def _complete_distances(cells: list[NumaCell], el: XmlElement, ctx: ParseContext) -> None:
    """Fill in what follows from symmetry: both directions and the distance to oneself."""
    if ctx.issues:
        return  # numbers may be missing
    table: list[dict[int, int]] = [{} for _ in cells]
    for number, cell in enumerate(cells):
        for sibling in cell.distances:
            if sibling.id >= len(cells):
                ctx.issue(
                    el,
                    f"'sibling_id {sibling.id}' does not refer to a valid cell within NUMA "
                    f"'cell id {number}'",
                )
                return
            own = sibling.id == number
            if not LOCAL_DISTANCE <= sibling.value <= UNREACHABLE or own != (
                sibling.value == LOCAL_DISTANCE
            ):
                ctx.issue(
                    el,
                    f"'value {sibling.value}' is invalid for 'sibling id {sibling.id}' under NUMA "
                    f"'cell id {number}'",
                )
                return
            table[number].setdefault(number, LOCAL_DISTANCE)
            table[number][sibling.id] = sibling.value
            table[sibling.id].setdefault(sibling.id, LOCAL_DISTANCE)
            table[sibling.id].setdefault(number, sibling.value)
    for cell, distances in zip(cells, table, strict=True):
        cell.distances = [NumaDistance(id=i, value=distances[i]) for i in sorted(distances)]


@element("cpu", omit_empty=True)
class Cpu(Element):
    """Model, topology, features and NUMA cells of the guest's CPU.

    A CPU without a model, of which only the topology or cells are given, has no mode either: the
    hypervisor then takes its own default.
    """

    mode: CpuMode | None = attr(
        "@mode",
        ENUM(CpuMode),
        refused="unsupported configuration: Invalid mode attribute '{value}'",
    )
    match: CpuMatch | None = attr("@match", ENUM(CpuMatch), doc="only with mode custom")
    check: CpuCheck | None = attr(
        "@check", ENUM(CpuCheck), doc="how the realized CPU is compared with the one asked for"
    )
    migratable: bool | None = attr("@migratable", ONOFF)
    deprecated_features: bool | None = attr("@deprecated_features", ONOFF)
    fallback: CpuFallback | None = attr(
        "model/@fallback", ENUM(CpuFallback),
        refused="unsupported configuration: Invalid fallback attribute",
    )  # fmt: skip
    vendor_id: str | None = attr("model/@vendor_id", STR, doc="12 characters the guest sees")
    model: str | None = text("model", STR)
    vendor: str | None = text("vendor", STR, doc="the host must be of this vendor")
    sockets: int | None = attr("topology/@sockets", POSITIVE)
    dies: int | None = attr("topology/@dies", POSITIVE, doc="per socket")
    clusters: int | None = attr("topology/@clusters", POSITIVE, doc="per die")
    cores: int | None = attr("topology/@cores", POSITIVE, doc="per cluster")
    threads: int | None = attr("topology/@threads", POSITIVE, doc="per core")
    cache_level: int | None = attr("cache/@level", _NON_NEGATIVE)
    cache_mode: CpuCacheMode | None = attr("cache/@mode", ENUM(CpuCacheMode))
    addr_mode: PhysAddrMode | None = attr("maxphysaddr/@mode", ENUM(PhysAddrMode))
    addr_bits: int | None = attr("maxphysaddr/@bits", _NON_NEGATIVE)
    addr_limit: int | None = attr("maxphysaddr/@limit", POSITIVE)
    features: list[CpuFeature] = children("feature", CpuFeature)
    numa: Numa | None = child("numa", Numa)

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Bring the parts that depend on each other into one form."""
        self.model = self.model or None
        self.vendor = self.vendor or None
        if self.mode is None and (self.model or self.match):
            self.mode = "custom"
        _attributes(self, el, ctx)
        _model(self, el, ctx)
        _topology(self, el, ctx)
        _features(self, el, ctx)
        _caches(self, el, ctx)
        numa = el.find("numa")
        if self.numa is not None and numa is not None:
            self.numa.arrange(numa, ctx)


def _attributes(cpu: Cpu, el: XmlElement, ctx: ParseContext) -> None:
    if cpu.migratable is not None and cpu.mode not in ("host-passthrough", "maximum"):
        ctx.issue(
            el,
            "unsupported configuration: Attribute migratable is only allowed for "
            "'host-passthrough' / 'maximum' CPU mode",
        )


def _model(cpu: Cpu, el: XmlElement, ctx: ParseContext) -> None:
    if cpu.mode in ("host-passthrough", "maximum"):
        cpu.fallback = cpu.vendor_id = None
    elif cpu.vendor_id is not None:
        if len(cpu.vendor_id.encode()) != _VENDOR_ID_LENGTH:
            ctx.issue(el, f"vendor_id must be exactly {_VENDOR_ID_LENGTH} characters long")
        elif "," in cpu.vendor_id:
            ctx.issue(el, "vendor id is invalid")
    if cpu.vendor and not cpu.model:
        ctx.issue(el, "CPU vendor specified without CPU model")
    if cpu.model is None:
        cpu.fallback = None
    elif cpu.fallback is None:
        cpu.fallback = "allow"
    if cpu.mode in ("host-passthrough", "maximum"):
        # Neither is written for these modes, so neither may have an effect.
        cpu.model = cpu.fallback = cpu.vendor = None
    if cpu.mode != "custom":
        cpu.match = None
    elif cpu.match is None and cpu.model is not None:
        cpu.match = "exact"


def _topology(cpu: Cpu, el: XmlElement, ctx: ParseContext) -> None:
    topology = el.find("topology")
    if topology is None:
        return
    for name in ("sockets", "cores", "threads"):
        if name not in topology.attrib:
            ctx.issue(
                topology, f"Missing required attribute '{name}' in element 'topology'",
                attribute=name,
            )  # fmt: skip
    cpu.dies = cpu.dies or 1
    cpu.clusters = cpu.clusters or 1


def _features(cpu: Cpu, el: XmlElement, ctx: ParseContext) -> None:
    if cpu.features and not cpu.model and cpu.mode in (None, "custom"):
        ctx.issue(el, "Non-empty feature list specified without CPU model")
    seen: set[str] = set()
    for feature in cpu.features:
        if feature.name in seen:
            ctx.issue(el, f"CPU feature '{feature.name}' specified more than once")
        seen.add(feature.name)


def _caches(cpu: Cpu, el: XmlElement, ctx: ParseContext) -> None:
    caches = el.findall("cache")
    if len(caches) > 1:
        ctx.issue(el, "at most one CPU cache element may be specified")
    elif caches:
        if cpu.cache_level is not None and not 1 <= cpu.cache_level <= 3:
            ctx.issue(caches[0], "invalid CPU cache level, must be in range [1,3]")
        if "mode" not in caches[0].attrib:
            ctx.issue(caches[0], "Missing required attribute 'mode' in element 'cache'")
    address = el.find("maxphysaddr")
    if address is None:
        return
    if "mode" not in address.attrib:
        ctx.issue(address, "Missing required attribute 'mode' in element 'maxphysaddr'")
    elif cpu.addr_limit is not None and cpu.addr_mode == "emulate":
        ctx.issue(
            address,
            "unsupported configuration: attribute 'limit' is only supported for maxphysaddr mode "
            "'passthrough'",
        )
