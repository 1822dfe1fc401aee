"""The <lease> element."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore.model.devices.base import Device
from hvcore.xml.codecs import NONEMPTY
from hvcore.xml.codecs import ULONG
from hvcore.xml.fields import attr
from hvcore.xml.fields import element
from hvcore.xml.fields import text

if TYPE_CHECKING:
    from lxml.etree import _Element as XmlElement

    from hvcore.xml.context import ParseContext


@element("lease")
class Lease(Device):
    """A lock that the domain holds while it runs."""

    lockspace: str | None = text("lockspace", NONEMPTY)
    key: str | None = text("key", NONEMPTY)
    path: str | None = attr("target/@path", doc="file of the lock space")
    offset: int | None = attr("target/@offset", ULONG, omit=(0,), doc="bytes")

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Require all parts."""
        if self.key is None:
            ctx.issue(el, "Missing 'key' element for lease")
        elif self.lockspace is None:
            ctx.issue(el, "Missing 'lockspace' element for lease")
        elif el.find("target") is None:
            ctx.issue(el, "Missing 'target' element for lease")
        elif self.path is None:
            ctx.issue(el, "Missing 'path' attribute to 'target' element for lease")
