"""The <cputune> section: shares, bandwidth, pinning, scheduling, cache and memory bandwidth."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import Final
from typing import Literal

from hvcore.model.memory import scale_attribute
from hvcore.model.types import NodeSet
from hvcore.model.vcpu import refuse_empty_set
from hvcore.xml.codecs import ENUM
from hvcore.xml.codecs import INT
from hvcore.xml.codecs import LONG
from hvcore.xml.codecs import NODESET
from hvcore.xml.codecs import POSITIVE
from hvcore.xml.codecs import STR
from hvcore.xml.codecs import UINT
from hvcore.xml.codecs import ULONG
from hvcore.xml.fields import Element
from hvcore.xml.fields import attr
from hvcore.xml.fields import child
from hvcore.xml.fields import children
from hvcore.xml.fields import element
from hvcore.xml.fields import text

if TYPE_CHECKING:
    from lxml.etree import _Element as XmlElement

    from hvcore.xml.context import ParseContext

Scheduler = Literal["batch", "idle", "fifo", "rr"]
CacheType = Literal["both", "code", "data"]

MONITORED_LEVEL: Final = 3
"""The only cache level whose occupation can be monitored."""


def _refuse_no_cpu(self: Any, el: XmlElement, ctx: ParseContext) -> None:
    """Refuse an empty set."""
    refuse_empty_set(el, ctx, "cpuset", self.cpuset)


@element("vcpupin")
class VcpuPin(Element):
    """Host CPUs that one virtual CPU may run on."""

    vcpu: int = attr("@vcpu", UINT, required=True)
    cpuset: NodeSet | None = attr("@cpuset", NODESET, doc="may only lack where there is no CPU")
    parsed = _refuse_no_cpu


@element("emulatorpin")
class EmulatorPin(Element):
    """Host CPUs that the hypervisor's other threads may run on."""

    cpuset: NodeSet = attr(
        "@cpuset", NODESET, required=True, missing="internal error: missing cpuset for emulatorpin"
    )
    parsed = _refuse_no_cpu


@element("iothreadpin")
class IOThreadPin(Element):
    """Host CPUs that one I/O thread may run on."""

    iothread: int = attr("@iothread", POSITIVE, required=True)
    cpuset: NodeSet = attr(
        "@cpuset", NODESET, required=True, missing="internal error: missing cpuset for iothreadpin"
    )
    parsed = _refuse_no_cpu


def _require_priority(self: Any, el: XmlElement, ctx: ParseContext) -> None:
    """Require a priority exactly where one has a meaning: for the real-time schedulers."""
    if self.scheduler not in ("fifo", "rr"):
        self.priority = None
    elif "priority" not in el.attrib:
        ctx.issue(
            el, f"Missing required attribute 'priority' in element '{el.tag}'",
            attribute="priority",
        )  # fmt: skip


def _listed(element: XmlElement, ctx: ParseContext, name: str, value: NodeSet | None) -> None:
    if value is not None and not value:
        ctx.issue(
            element,
            f"unsupported configuration: '{name}' scheduler bitmap '{element.get(name)}' is empty",
            attribute=name,
        )


@element("emulatorsched")
class EmulatorSched(Element):
    """Scheduler of the hypervisor's other threads."""

    scheduler: Scheduler = attr("@scheduler", ENUM(Scheduler), required=True)
    priority: int | None = attr("@priority", INT)
    parsed = _require_priority


@element("vcpusched")
class VcpuSched(Element):
    """Scheduler of some virtual CPUs."""

    vcpus: NodeSet = attr(
        "@vcpus", NODESET, required=True,
        missing="Missing attribute 'vcpus' in element 'vcpusched'",
    )  # fmt: skip
    scheduler: Scheduler = attr("@scheduler", ENUM(Scheduler), required=True)
    priority: int | None = attr("@priority", INT)

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Refuse an empty set and a missing priority."""
        _listed(el, ctx, "vcpus", self.vcpus)
        _require_priority(self, el, ctx)


@element("iothreadsched")
class IOThreadSched(Element):
    """Scheduler of some I/O threads."""

    iothreads: NodeSet = attr(
        "@iothreads", NODESET, required=True,
        missing="Missing attribute 'iothreads' in element 'iothreadsched'",
    )  # fmt: skip
    scheduler: Scheduler = attr("@scheduler", ENUM(Scheduler), required=True)
    priority: int | None = attr("@priority", INT)

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Refuse an empty set and a missing priority."""
        _listed(el, ctx, "iothreads", self.iothreads)
        _require_priority(self, el, ctx)


@element("cache")
class CacheShare(Element):
    """How much of one host cache is reserved."""

    id: int = attr("@id", UINT, required=True, doc="of the host's cache")
    level: int = attr("@level", UINT, required=True)
    type: CacheType = attr("@type", ENUM(CacheType), required=True)
    size: int = attr(
        "@size", ULONG, required=True, missing="missing element or attribute './@size'",
        refused="Invalid value '{value}' for element or attribute './@size'", doc="in ``unit``",
    )  # fmt: skip
    unit: str = attr("@unit", STR, default="KiB")

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Write the size in the largest unit that divides it."""
        size = scale_attribute(el, ctx, self.size, el.get("unit"), unit_kept="B")
        for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB"):
            if unit == "PiB" or size % 1024 or size == 0:
                self.size, self.unit = size, unit
                return
            size //= 1024


@element("monitor")
class CacheMonitor(Element):
    """Virtual CPUs whose cache occupation is measured together."""

    level: int = attr("@level", UINT, required=True)
    vcpus: NodeSet = attr(
        "@vcpus", NODESET, required=True, missing="Missing monitor attribute 'vcpus'",
        refused="Invalid monitor attribute 'vcpus' value '{value}'",
    )  # fmt: skip

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Refuse the levels that cannot be measured."""
        if self.level is not None and self.level != MONITORED_LEVEL:
            ctx.issue(el, f"Invalid monitor cache level '{self.level}'", attribute="level")


@element("monitor")
class BandwidthMonitor(Element):
    """Virtual CPUs whose memory bandwidth is measured together."""

    vcpus: NodeSet = attr(
        "@vcpus", NODESET, required=True, missing="Missing monitor attribute 'vcpus'",
        refused="Invalid monitor attribute 'vcpus' value '{value}'",
    )  # fmt: skip


@element("node")
class BandwidthShare(Element):
    """How much of one host node's memory bandwidth is given, in percent."""

    id: int = attr("@id", UINT, required=True, doc="of the host's node")
    bandwidth: int = attr("@bandwidth", UINT, required=True)


@element("cachetune", omit_empty=True)
class CacheTune(Element):
    """Host cache reserved for some virtual CPUs."""

    vcpus: NodeSet = attr(
        "@vcpus", NODESET, required=True, missing="Missing cachetune attribute 'vcpus'",
        refused="Invalid cachetune attribute 'vcpus' value '{value}'",
    )  # fmt: skip
    id: str | None = attr("@id", STR, show="live", doc="name of the resctrl group")
    caches: list[CacheShare] = children("cache", CacheShare)
    monitors: list[CacheMonitor] = children("monitor", CacheMonitor)


@element("memorytune", omit_empty=True)
class MemoryTune(Element):
    """Memory bandwidth of some virtual CPUs."""

    vcpus: NodeSet = attr(
        "@vcpus", NODESET, required=True, missing="Missing memorytune attribute 'vcpus'",
        refused="Invalid memorytune attribute 'vcpus' value '{value}'",
    )  # fmt: skip
    id: str | None = attr("@id", STR, show="live", doc="name of the resctrl group")
    nodes: list[BandwidthShare] = children("node", BandwidthShare)
    monitors: list[BandwidthMonitor] = children("monitor", BandwidthMonitor)


def _period(path: str, what: str) -> int | None:
    found: int | None = text(
        path, ULONG, omit=(0,), refused=f"can't parse cputune {what} period value",
        doc="microseconds",
    )  # fmt: skip
    return found


def _quota(path: str, what: str) -> int | None:
    found: int | None = text(
        path, LONG, omit=(0,), refused=f"can't parse cputune {what} quota value",
        doc="microseconds of each period; negative: unlimited",
    )  # fmt: skip
    return found


@element("cputune", omit_empty=True)
class CpuTune(Element):
    """Shares, bandwidth, pinning and scheduling of the guest's threads."""

    shares: int | None = text("shares", ULONG, refused="can't parse cputune shares value")
    period: int | None = text(
        "period", ULONG, omit=(0,), refused="can't parse cputune period value"
    )
    quota: int | None = text("quota", LONG, omit=(0,), refused="can't parse cputune quota value")
    global_period: int | None = _period("global_period", "global")
    global_quota: int | None = _quota("global_quota", "global")
    emulator_period: int | None = _period("emulator_period", "emulator")
    emulator_quota: int | None = _quota("emulator_quota", "emulator")
    iothread_period: int | None = _period("iothread_period", "iothread")
    iothread_quota: int | None = _quota("iothread_quota", "iothread")
    vcpupins: list[VcpuPin] = children("vcpupin", VcpuPin)
    emulatorpin: EmulatorPin | None = child("emulatorpin", EmulatorPin)
    iothreadpins: list[IOThreadPin] = children("iothreadpin", IOThreadPin)
    emulatorsched: EmulatorSched | None = child("emulatorsched", EmulatorSched)
    vcpuscheds: list[VcpuSched] = children("vcpusched", VcpuSched)
    iothreadscheds: list[IOThreadSched] = children("iothreadsched", IOThreadSched)
    cachetunes: list[CacheTune] = children("cachetune", CacheTune)
    memorytunes: list[MemoryTune] = children("memorytune", MemoryTune)

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Refuse what may stand here only once."""
        for name in ("emulatorpin", "emulatorsched"):
            if len(el.findall(name)) > 1:
                ctx.issue(el, f"only one {name} is supported")
