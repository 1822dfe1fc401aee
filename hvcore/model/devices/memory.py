"""The <memory> device: a module that can be plugged, persistent memory, or an SGX enclave."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Final
from typing import Literal

from hvcore.errors import ErrorClass
from hvcore.model.devices.base import Device
from hvcore.model.memory import MemoryAccess
from hvcore.model.types import NodeSet
from hvcore.xml.codecs import ENUM
from hvcore.xml.codecs import INTEGER
from hvcore.xml.codecs import NODESET
from hvcore.xml.codecs import STR
from hvcore.xml.codecs import UUID
from hvcore.xml.codecs import YESNO
from hvcore.xml.fields import attr
from hvcore.xml.fields import element
from hvcore.xml.fields import flag
from hvcore.xml.fields import scaled
from hvcore.xml.fields import text

if TYPE_CHECKING:
    from lxml.etree import _Element as XmlElement

    from hvcore.xml.context import ParseContext

MemoryModel = Literal["dimm", "nvdimm", "virtio-pmem", "virtio-mem", "sgx-epc"]

_LABEL_MIN: Final = 128
_BASE: Final = INTEGER(
    0, 2**64 - 1, base=16, form="#x", expected="Expected non-negative integer value"
)

_PARTS: Final[dict[str, frozenset[str]]] = {
    "dimm": frozenset({"nodemask", "page_size"}),
    "nvdimm": frozenset({"uuid", "path", "align_size", "pmem", "label_size", "readonly"}),
    "virtio-pmem": frozenset({"path", "base"}),
    "virtio-mem": frozenset(
        {
            "nodemask", "page_size", "block_size", "requested_size", "current_size", "base",
            "dynamic_memslots",
        }
    ),
    "sgx-epc": frozenset({"nodemask"}),
}  # fmt: skip
_OPTIONAL: Final = frozenset().union(*_PARTS.values())


@element("memory")
class MemoryDevice(Device):
    """Memory that belongs to the guest as a device."""

    model: MemoryModel = attr("@model", ENUM(MemoryModel), required=True)
    access: MemoryAccess | None = attr("@access", ENUM(MemoryAccess))
    discard: bool | None = attr("@discard", YESNO)
    uuid: str | None = text("uuid", UUID, refused="internal error: malformed uuid element")
    nodemask: NodeSet | None = text("source/nodemask", NODESET, doc="host NUMA nodes")
    page_size: int | None = scaled("source/pagesize", omit=(0,))
    path: str | None = text("source/path", STR, doc="file of persistent memory")
    align_size: int | None = scaled("source/alignsize", omit=(0,))
    pmem: bool = flag("source/pmem", doc="the file is real persistent memory")
    dynamic_memslots: bool | None = attr("target/@dynamicMemslots", YESNO)
    size: int = scaled("target/size", doc="label included")
    node: int | None = text(
        "target/node", INTEGER(0, 2**31 - 1), refused="invalid value of memory device node",
        doc="guest NUMA node",
    )  # fmt: skip
    label_size: int | None = scaled("target/label/size", omit=(0,))
    readonly: bool = flag("target/readonly")
    block_size: int | None = scaled("target/block", omit=(0,), doc="in which it can be resized")
    requested_size: int | None = scaled("target/requested")
    current_size: int | None = scaled("target/current", show="live")
    base: int | None = attr("target/address/@base", _BASE, omit=(0,), doc="guest physical address")

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Require a size; drop what has no meaning for the model."""
        if el.find("target") is None:
            ctx.issue(el, "missing <target> element for <memory> device")
        elif el.find("target/size") is None:
            ctx.issue(el, "missing element or attribute './size'")
        self.size = self.size or 0
        for name in _OPTIONAL - _PARTS.get(self.model, _OPTIONAL):
            setattr(self, name, False if name in ("pmem", "readonly") else None)
        if self.nodemask is not None and not self.nodemask:
            ctx.issue(
                el,
                f"Invalid value of 'nodemask': {el.findtext('source/nodemask')}",
                kind=ErrorClass.CONFIG_UNSUPPORTED,
            )
        if self.label_size and self.label_size < _LABEL_MIN:
            ctx.issue(el, f"nvdimm label must be at least {_LABEL_MIN}KiB")
        elif self.label_size and self.label_size >= self.size:
            ctx.issue(el, "label size must be smaller than NVDIMM size")
        if self.block_size:
            self.requested_size = self.requested_size or 0
            self.current_size = self.current_size or 0
        else:
            self.requested_size = self.current_size = None
