"""The <numatune> section: host NUMA nodes that guest memory comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Literal

from hvcore.model.types import NodeSet
from hvcore.model.vcpu import refuse_empty_set
from hvcore.xml.codecs import ENUM
from hvcore.xml.codecs import NODESET
from hvcore.xml.codecs import UINT
from hvcore.xml.fields import Element
from hvcore.xml.fields import attr
from hvcore.xml.fields import child
from hvcore.xml.fields import children
from hvcore.xml.fields import element

if TYPE_CHECKING:
    from lxml.etree import _Element as XmlElement

    from hvcore.xml.context import ParseContext

NumaMode = Literal["strict", "preferred", "interleave", "restrictive"]
NumaPlacement = Literal["default", "static", "auto"]


@element("memory", omit_empty=True)
class NumaMemory(Element):
    """Host nodes of all memory; static placement is told by the set alone."""

    mode: NumaMode | None = attr(
        "@mode", ENUM(NumaMode),
        refused="unsupported configuration: Unsupported NUMA memory tuning mode '{value}'",
    )  # fmt: skip
    nodeset: NodeSet | None = attr("@nodeset", NODESET, doc="host NUMA nodes")
    placement: NumaPlacement | None = attr(
        "@placement", ENUM(NumaPlacement), omit=("static", "default"),
        refused="unsupported configuration: Unsupported NUMA memory placement mode '{value}'",
        doc="auto: numad chooses the nodes at start",
    )  # fmt: skip

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Refuse an empty set."""
        refuse_empty_set(el, ctx, "nodeset", self.nodeset)


@element("memnode")
class NumaMemnode(Element):
    """Host nodes of the memory of one guest node."""

    cellid: int = attr("@cellid", UINT, required=True, doc="guest NUMA node")
    mode: NumaMode = attr("@mode", ENUM(NumaMode), default="strict")
    nodeset: NodeSet = attr(
        "@nodeset", NODESET, required=True,
        missing="Missing required nodeset attribute in memnode element", doc="host NUMA nodes",
    )  # fmt: skip

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Refuse an empty set."""
        refuse_empty_set(el, ctx, "nodeset", self.nodeset)


@element("numatune", omit_empty=True)
class NumaTune(Element):
    """Host NUMA nodes that guest memory comes from."""

    memory: NumaMemory | None = child("memory", NumaMemory)
    memnodes: list[NumaMemnode] = children("memnode", NumaMemnode)
