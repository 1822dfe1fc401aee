"""The <rng> element."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import ClassVar
from typing import Final
from typing import Literal

from hvcore.model.devices.base import VirtioDevice
from hvcore.model.devices.chardev_source import SOURCES
from hvcore.model.devices.chardev_source import ChardevType
from hvcore.model.devices.chardev_source import CharSource
from hvcore.model.devices.chardev_source import Protocol
from hvcore.model.devices.chardev_source import check_chardev
from hvcore.model.devices.chardev_source import written_sources
from hvcore.xml.codecs import ENUM
from hvcore.xml.codecs import NONEMPTY
from hvcore.xml.codecs import ONOFF
from hvcore.xml.codecs import UINT
from hvcore.xml.codecs import absent_if
from hvcore.xml.fields import Element
from hvcore.xml.fields import attr
from hvcore.xml.fields import choice
from hvcore.xml.fields import element
from hvcore.xml.fields import text

if TYPE_CHECKING:
    from lxml.etree import _Element as XmlElement

    from hvcore.xml.context import ParseContext

RngModel = Literal["virtio", "virtio-transitional", "virtio-non-transitional"]


@element("backend")
class RngBackend(Element):
    """Where the random bytes come from."""

    selector: ClassVar[str | None] = "model"
    model: ClassVar[str]


@element("backend")
class RandomBackend(RngBackend):
    """A device of the host that is read."""

    model: ClassVar[str] = "random"

    path: str | None = text("", NONEMPTY)


@element("backend", paired=True)
class EgdBackend(RngBackend):
    """A daemon that speaks the protocol of the entropy gathering daemon."""

    model: ClassVar[str] = "egd"

    type: ChardevType = attr(
        "@type",
        ENUM(ChardevType),
        required=True,
        missing="missing EGD backend type",
        refused="unsupported configuration: unknown backend type '{value}' for egd",
    )
    sources: list[CharSource] = choice(
        "source", "type", SOURCES, many=True, written=written_sources
    )
    protocol: Protocol | None = attr("protocol/@type", ENUM(Protocol), doc="type tcp")
    log_file: str | None = attr("log/@file", doc="file that gets a copy of the traffic")
    log_append: bool | None = attr("log/@append", ONOFF)

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Check the source."""
        check_chardev(self, el, ctx)


@element("backend")
class BuiltinBackend(RngBackend):
    """The hypervisor's own source, which is the host's getrandom."""

    model: ClassVar[str] = "builtin"


BACKENDS: Final[dict[str, type[Element]]] = {
    cls.model: cls for cls in (RandomBackend, EgdBackend, BuiltinBackend)
}


@element("rng")
class Rng(VirtioDevice):
    """A source of random bytes for the guest."""

    model: RngModel = attr("@model", ENUM(RngModel), required=True)
    rate_bytes: int | None = attr(
        "rate/@bytes", UINT, omit=(0,), refused="invalid RNG rate bytes value", doc="in a period"
    )
    rate_period: int | None = attr(
        "rate/@period",
        absent_if(UINT, ""),
        omit=(0,),
        refused="invalid RNG rate period value",
        doc="ms",
    )
    backend: RngBackend = choice("backend", "@model", BACKENDS)

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Require one backend; a period needs a rate."""
        if not self.rate_bytes:
            self.rate_period = None
        if len(el.findall("backend")) != 1:
            ctx.issue(el, "only one RNG backend is supported")
