"""The <video> element."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Literal

from hvcore.errors import ErrorClass
from hvcore.model.devices.base import VirtioDevice
from hvcore.xml.codecs import ENUM
from hvcore.xml.codecs import ONOFF
from hvcore.xml.codecs import UINT
from hvcore.xml.codecs import YESNO
from hvcore.xml.fields import attr
from hvcore.xml.fields import element

if TYPE_CHECKING:
    from lxml.etree import _Element as XmlElement

    from hvcore.xml.context import ParseContext

VideoType = Literal[
    "vga", "cirrus", "vmvga", "xen", "vbox", "qxl", "parallels", "virtio", "gop", "none", "bochs",
    "ramfb",
]  # fmt: skip
VgaConf = Literal["io", "on", "off"]
VideoBackend = Literal["qemu", "vhostuser"]


@element("video")
class Video(VirtioDevice):
    """A graphics adapter of the guest; sizes are in KiB."""

    # The transport's options come first in <driver>, so they are declared again here.
    iommu: bool | None = attr("driver/@iommu", ONOFF)
    ats: bool | None = attr("driver/@ats", ONOFF)
    packed: bool | None = attr("driver/@packed", ONOFF)
    page_per_vq: bool | None = attr("driver/@page_per_vq", ONOFF)
    vgaconf: VgaConf | None = attr("driver/@vgaconf", ENUM(VgaConf), doc="bhyve")
    backend: VideoBackend | None = attr("driver/@name", ENUM(VideoBackend))
    type: VideoType | None = attr("model/@type", ENUM(VideoType))
    ram: int | None = attr("model/@ram", UINT, omit=(0,), doc="qxl: primary bar")
    vram: int | None = attr("model/@vram", UINT, omit=(0,), doc="video memory")
    vram64: int | None = attr("model/@vram64", UINT, omit=(0,), doc="qxl: bar above 4 GiB")
    vgamem: int | None = attr("model/@vgamem", UINT, omit=(0,), doc="qxl: VGA framebuffer")
    heads: int | None = attr("model/@heads", UINT, default=1, omit=(0,), doc="number of screens")
    primary: bool | None = attr("model/@primary", YESNO, omit=(False,))
    blob: bool | None = attr("model/@blob", ONOFF, doc="virtio: resources shared with the host")
    accel3d: bool | None = attr("model/acceleration/@accel3d", YESNO)
    accel2d: bool | None = attr("model/acceleration/@accel2d", YESNO)
    rendernode: str | None = attr("model/acceleration/@rendernode")
    xres: int | None = attr("model/resolution/@x", UINT, required=True)
    yres: int | None = attr("model/resolution/@y", UINT, required=True)

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Refuse an acceleration that says nothing."""
        acceleration = el.find("model/acceleration")
        given = (self.accel3d, self.accel2d, self.rendernode)
        if acceleration is not None and given == (None, None, None):
            ctx.issue(
                acceleration,
                "missing values for acceleration",
                kind=ErrorClass.CONFIG_UNSUPPORTED,
            )
