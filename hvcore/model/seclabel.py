"""The <seclabel> section."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Literal

from hvcore.errors import ErrorClass
from hvcore.xml.codecs import ENUM
from hvcore.xml.codecs import NONEMPTY
from hvcore.xml.codecs import YESNO
from hvcore.xml.fields import Element
from hvcore.xml.fields import attr
from hvcore.xml.fields import element
from hvcore.xml.fields import text

if TYPE_CHECKING:
    from lxml.etree import _Element as XmlElement

    from hvcore.xml.context import ParseContext

SeclabelType = Literal["none", "dynamic", "static"]


@element("seclabel")
class Seclabel(Element):
    """How a security driver confines the guest."""

    type: SeclabelType = attr("@type", ENUM(SeclabelType), default="dynamic")
    model: str | None = attr("@model", NONEMPTY, doc="security driver")
    relabel: bool | None = attr("@relabel", YESNO, doc="whether resources get the label as well")
    label: str | None = text("label", NONEMPTY)
    imagelabel: str | None = text("imagelabel", NONEMPTY, show="live")
    baselabel: str | None = text("baselabel", NONEMPTY)

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Complete the relabelling, and refuse combinations without meaning."""
        relabel = self.relabel if self.relabel is not None else self.type == "dynamic"
        if self.type == "dynamic" and not relabel:
            ctx.issue(
                el,
                "dynamic label type must use resource relabeling",
                kind=ErrorClass.CONFIG_UNSUPPORTED,
            )
        if self.type == "none" and relabel:
            ctx.issue(
                el,
                "resource relabeling is not compatible with 'none' label type",
                kind=ErrorClass.CONFIG_UNSUPPORTED,
            )
        if self.model == "none":
            # Older configurations have other types with this model.
            self.type = "none"
        if self.type == "static" and self.label is None:
            ctx.issue(el, "security label is missing")
        if self.type != "dynamic":
            self.baselabel = None
        self.relabel = None if self.type == "none" else relabel
        if self.type == "none":
            self.label = None
