"""The <memballoon> element."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import ClassVar
from typing import Literal

from hvcore.model.devices.base import VIRTIO_OPTIONS
from hvcore.model.devices.base import VirtioDevice
from hvcore.xml.codecs import ENUM
from hvcore.xml.codecs import INT
from hvcore.xml.codecs import ONOFF
from hvcore.xml.fields import attr
from hvcore.xml.fields import element

if TYPE_CHECKING:
    from lxml.etree import _Element as XmlElement

    from hvcore.xml.context import ParseContext

MemballoonModel = Literal["virtio", "xen", "none", "virtio-transitional", "virtio-non-transitional"]


@element("memballoon")
class Memballoon(VirtioDevice):
    """A device by which the host takes memory from the guest and gives it back."""

    trailing: ClassVar[tuple[str, ...]] = VIRTIO_OPTIONS

    model: MemballoonModel = attr("@model", ENUM(MemballoonModel), required=True)
    autodeflate: bool | None = attr("@autodeflate", ONOFF, doc="deflate when the guest runs short")
    free_page_reporting: bool | None = attr(
        "@freePageReporting", ONOFF, doc="tell the host which pages are free"
    )
    stats_period: int | None = attr(
        "stats/@period", INT, omit=(0,), doc="seconds between two statistics of the guest"
    )

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Forget where one is that does not exist."""
        del el, ctx
        if self.model == "none":
            self.alias = self.address = None
