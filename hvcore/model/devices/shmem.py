"""The <shmem> device: memory shared between guests."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import Literal

from hvcore.errors import ErrorClass
from hvcore.model.devices.base import Device
from hvcore.xml.codecs import ENUM
from hvcore.xml.codecs import ONOFF
from hvcore.xml.codecs import STR
from hvcore.xml.codecs import UINT0
from hvcore.xml.codecs import unit_factor
from hvcore.xml.fields import Element
from hvcore.xml.fields import attr
from hvcore.xml.fields import child
from hvcore.xml.fields import custom
from hvcore.xml.fields import element

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lxml.etree import _Element as XmlElement

    from hvcore.xml.context import FormatContext
    from hvcore.xml.context import ParseContext

ShmemModel = Literal["ivshmem", "ivshmem-plain", "ivshmem-doorbell"]
ShmemRole = Literal["master", "peer"]


class _Size:
    """Reads a size in any unit as bytes, and writes it in MiB."""

    tags: tuple[str, ...] = ("size",)
    rng: str = (
        "<optional><element name='size'><optional><attribute name='unit'/></optional><text/>"
        "</element></optional>"
    )
    json: Mapping[str, Any] = {"type": "integer", "minimum": 0}

    def parse(self, elements: list[XmlElement], ctx: ParseContext, owner: Any) -> int | None:
        """Return bytes."""
        del owner
        if not elements:
            return None
        el = elements[0]
        digits = (el.text or "").strip()
        if not (digits.isascii() and digits.isdigit()):
            ctx.issue(el, f"Invalid value '{digits}' for element or attribute './size[1]'")
            return None
        try:
            return int(digits) * unit_factor(el.get("unit", "")) or None
        except ValueError as error:
            ctx.issue(el, str(error), kind=ErrorClass.INVALID_ARG, attribute="unit")
            return None

    def format(
        self, value: int, out: list[str], indent: str, ctx: FormatContext, owner: Any
    ) -> None:
        """Append the element."""
        del ctx, owner
        out.append(f"{indent}<size unit='M'>{value >> 20}</size>\n")

    def clone(self, value: int) -> int:
        """Return ``value``: numbers are immutable."""
        return value


@element("server")
class ShmemServer(Element):
    """The memory and its interrupts come from a server."""

    path: str | None = attr("@path", STR, doc="its unix socket")


@element("msi")
class ShmemMsi(Element):
    """Guests can interrupt each other."""

    vectors: int | None = attr("@vectors", UINT0, omit=(0,))
    ioeventfd: bool | None = attr("@ioeventfd", ONOFF)


@element("shmem")
class Shmem(Device):
    """Memory that guests share by its name."""

    name: str = attr(
        "@name", STR, required=True, missing="shmem element must contain 'name' attribute"
    )
    role: ShmemRole | None = attr("@role", ENUM(ShmemRole), doc="who survives a migration")
    model: ShmemModel = attr("model/@type", ENUM(ShmemModel), default="ivshmem")
    size: int | None = custom(_Size(), doc="bytes")
    server: ShmemServer | None = child("server", ShmemServer)
    msi: ShmemMsi | None = child("msi", ShmemMsi)

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Drop the role where there is none; interrupts need a server."""
        if self.model == "ivshmem":
            self.role = None
        if self.msi is not None and self.server is None:
            ctx.issue(el, "msi option is only supported with a server")
