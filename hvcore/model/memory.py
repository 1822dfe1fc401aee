"""The <memtune> and <memoryBacking> sections."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import Final
from typing import Literal

from hvcore.errors import ErrorClass
from hvcore.model.types import NodeSet
from hvcore.model.vcpu import refuse_empty_set
from hvcore.xml.codecs import ENUM
from hvcore.xml.codecs import NODESET
from hvcore.xml.codecs import STR
from hvcore.xml.codecs import UINT
from hvcore.xml.codecs import ULONG
from hvcore.xml.codecs import unit_factor
from hvcore.xml.fields import Element
from hvcore.xml.fields import attr
from hvcore.xml.fields import child
from hvcore.xml.fields import children
from hvcore.xml.fields import element
from hvcore.xml.fields import flag
from hvcore.xml.fields import scaled

if TYPE_CHECKING:
    from lxml.etree import _Element as XmlElement

    from hvcore.xml.context import ParseContext

MemorySource = Literal["file", "anonymous", "memfd"]
MemoryAccess = Literal["shared", "private"]
MemoryAllocation = Literal["immediate", "ondemand"]

UNLIMITED: Final = 9007199254740991
"""KiB that mean no limit in <memtune> (VIR_DOMAIN_MEMORY_PARAM_UNLIMITED)."""


def scale_attribute(
    element: XmlElement,
    ctx: ParseContext,
    amount: int | None,
    unit: str | None,
    *,
    default: str = "KiB",
    unit_kept: str | None = None,
) -> int:
    """Return ``amount`` of ``unit`` in ``unit_kept``, rounded up; issues go to ``ctx``.

    For sizes written as an attribute beside their unit; :func:`~hvcore.xml.fields.scaled` is for
    those written as text.

    :param default: the unit when ``unit`` is None.
    :param unit_kept: the unit of the result; that of ``default`` when None.
    """
    kept = unit_factor(unit_kept if unit_kept is not None else default)
    try:
        scaled_up = (amount or 0) * unit_factor(default if unit is None else unit)
    except ValueError as error:
        ctx.issue(element, str(error), kind=ErrorClass.INVALID_ARG, attribute="unit")
        return 0
    if scaled_up >= 2**63:
        ctx.issue(element, f"value too large: {amount}{unit or ''}", kind=ErrorClass.OVERFLOW)
        return 0
    return -(-scaled_up // kept)


def _limit(name: str, *, omit: int, doc: str = "") -> Any:
    """Declare a limit, refused with its place in the domain as libvirt names it."""
    place = f"./memtune/{name}[1]"
    return scaled(
        name,
        omit=(omit,),
        refused=f"Invalid value '{{value}}' for element or attribute '{place}'",
        doc=doc,
    )


@element("memtune", omit_empty=True)
class MemoryTuning(Element):
    """Limits of the host memory that the guest may use."""

    hard_limit: int | None = _limit("hard_limit", omit=UNLIMITED)
    soft_limit: int | None = _limit("soft_limit", omit=UNLIMITED)
    min_guarantee: int | None = _limit("min_guarantee", omit=0)
    swap_hard_limit: int | None = _limit(
        "swap_hard_limit", omit=UNLIMITED, doc="memory and swap together"
    )

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Cut off limits that are beyond what counts as unlimited."""
        del el, ctx
        for name in ("hard_limit", "soft_limit", "swap_hard_limit"):
            value = getattr(self, name)
            if value is not None:
                setattr(self, name, min(value, UNLIMITED))


@element("page")
class HugePage(Element):
    """Pages of one size, for all memory or for that of some guest nodes."""

    size: int = attr(
        "@size", ULONG, required=True, missing="missing element or attribute './@size'",
        refused="Invalid value '{value}' for element or attribute './@size'", doc="KiB",
    )  # fmt: skip
    unit: str = attr("@unit", STR, default="KiB")
    nodeset: NodeSet | None = attr("@nodeset", NODESET, doc="guest NUMA nodes")

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Keep the size in KiB; refuse nothing at all and no nodes at all."""
        self.size = scale_attribute(el, ctx, self.size, el.get("unit"))
        self.unit = "KiB"
        if self.size == 0:
            ctx.issue(el, "hugepage size can't be zero", kind=ErrorClass.XML_DETAIL)
        refuse_empty_set(el, ctx, "nodeset", self.nodeset)


@element("hugepages")
class HugePages(Element):
    """Memory from hugetlbfs; no page means the host's default size."""

    pages: list[HugePage] = children("page", HugePage)


@element("memoryBacking", omit_empty=True)
class MemoryBacking(Element):
    """Where guest memory comes from."""

    hugepages: HugePages | None = child("hugepages", HugePages)
    nosharepages: bool = flag("nosharepages", doc="the host must not merge equal pages")
    locked: bool = flag("locked", doc="never swapped out")
    source: MemorySource | None = attr(
        "source/@type", ENUM(MemorySource),
        refused="unsupported configuration: unknown memoryBacking/source/type '{value}'",
    )  # fmt: skip
    access: MemoryAccess | None = attr(
        "access/@mode", ENUM(MemoryAccess),
        refused="unsupported configuration: unknown memoryBacking/access/mode '{value}'",
    )  # fmt: skip
    allocation: MemoryAllocation | None = attr(
        "allocation/@mode", ENUM(MemoryAllocation),
        refused="unsupported configuration: unknown memoryBacking/allocation/mode '{value}'",
    )  # fmt: skip
    allocation_threads: int | None = attr(
        "allocation/@threads", UINT, omit=(0,), refused="Failed to parse memory allocation threads"
    )
    discard: bool = flag("discard", doc="the host's pages are given up at the end")
