"""The <vcpu> and <vcpus> sections: how many virtual CPUs, and where they may run."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Final
from typing import Literal

from hvcore.errors import ErrorClass
from hvcore.model.types import NodeSet
from hvcore.xml.codecs import ENUM
from hvcore.xml.codecs import NODESET
from hvcore.xml.codecs import UINT
from hvcore.xml.codecs import YESNO
from hvcore.xml.fields import Element
from hvcore.xml.fields import attr
from hvcore.xml.fields import element
from hvcore.xml.fields import text

if TYPE_CHECKING:
    from lxml.etree import _Element as XmlElement

    from hvcore.xml.context import ParseContext

Placement = Literal["static", "auto"]

_EVERY_CPU: Final = NodeSet.from_mask((1 << NodeSet.LIMIT) - 1)


def refuse_empty_set(
    element: XmlElement, ctx: ParseContext, name: str, value: NodeSet | None
) -> None:
    """Report a set that is written correctly but turns out empty, such as ``0,^0``."""
    if value is not None and not value:
        ctx.issue(
            element,
            f"Invalid value of '{name}': {element.get(name)}",
            kind=ErrorClass.CONFIG_UNSUPPORTED,
            attribute=name,
        )


@element("vcpu")
class Vcpu(Element):
    """How many virtual CPUs, and the host CPUs they may run on unless pinned."""

    placement: Placement | None = attr(
        "@placement", ENUM(Placement), doc="auto: numad chooses the host's nodes at start"
    )
    cpuset: NodeSet | None = attr("@cpuset", NODESET, omit=(_EVERY_CPU,), doc="host CPUs")
    current: int | None = attr("@current", UINT, doc="how many of them are online at start")
    count: int = text(
        "", UINT, default=1, refused="maximum vcpus count must be an integer",
        doc="how many there can be",
    )  # fmt: skip

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Drop the set where numad chooses; refuse an empty one."""
        if self.placement == "auto":
            self.cpuset = None
        refuse_empty_set(el, ctx, "cpuset", self.cpuset)


@element("vcpu")
class VcpuState(Element):
    """One virtual CPU below <vcpus>."""

    id: int = attr("@id", UINT, required=True)
    enabled: bool = attr("@enabled", YESNO, required=True)
    hotpluggable: bool | None = attr("@hotpluggable", YESNO)
    order: int | None = attr("@order", UINT, omit=(0,), doc="in which the CPUs were added")
