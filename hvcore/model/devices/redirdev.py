"""The <redirdev> and <redirfilter> elements."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from typing import ClassVar
from typing import Final
from typing import Literal

import attrs

from hvcore.model.devices.base import UsbAddress
from hvcore.model.devices.chardev_source import CharDevice
from hvcore.model.devices.chardev_source import ChardevType
from hvcore.model.devices.chardev_source import check_chardev
from hvcore.xml.codecs import ENUM
from hvcore.xml.codecs import INTEGER
from hvcore.xml.codecs import YESNO
from hvcore.xml.codecs import Codec
from hvcore.xml.fields import Element
from hvcore.xml.fields import attr
from hvcore.xml.fields import children
from hvcore.xml.fields import element

if TYPE_CHECKING:
    from lxml.etree import _Element as XmlElement

    from hvcore.xml.context import ParseContext

RedirdevBus = Literal["usb"]

USB_REDIR_CHANNEL: Final = "org.qemu.usbredir"


@element("redirdev", paired=True)
class Redirdev(CharDevice):
    """A USB device that a client, not the host, plugs in."""

    leading: ClassVar[tuple[str, ...]] = ()

    bus: RedirdevBus = attr(
        "@bus",
        ENUM(RedirdevBus),
        default="usb",
        refused="unsupported configuration: unknown redirdev bus '{value}'",
    )
    type: ChardevType = attr(
        "@type",
        ENUM(ChardevType),
        required=True,
        missing="internal error: missing type in redirdev",
        refused="unsupported configuration: unknown redirdev character device type '{value}'",
    )

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Check source and address."""
        check_chardev(self, el, ctx)
        if self.type == "dbus" and self.source.channel is None:
            self.source.channel = USB_REDIR_CHANNEL
        if not isinstance(self.address, UsbAddress | None):
            ctx.issue(el, "Invalid address for a USB device")


def _hexadecimal(digits: int) -> Codec:
    number = INTEGER(-(2**31), 2**31 - 1, base=0)
    return attrs.evolve(number, write=lambda value: f"0x{value:0{digits}X}")


_VERSION: Final = re.compile(r"\s*0*(\d{1,2})\.(\d{1,2})\Z", re.ASCII)


def _version(text: str) -> int:
    if text == "-1":
        return -1
    match = _VERSION.match(text)
    if match is None:
        raise ValueError(text)
    major, minor = match.groups()
    # As in USB descriptors two decimal digits are a byte; 1.1 is 1.10, not 1.01.
    return int(major + minor.ljust(2, "0"), 16)


def _version_text(value: int) -> str:
    digits = f"{value:04x}"
    return f"{int(digits[:2])}.{digits[2:]}"


VERSION: Final = Codec(
    "USB version",
    convert=_version,
    write=_version_text,
    rng='<data type="string"><param name="pattern">-1|[0-9]{1,2}\\.[0-9]{1,2}</param></data>',
    json={"type": "integer"},
)
"""Version of a USB device such as ``1.10``, as in its descriptor: 0x0110."""


@element("usbdev")
class UsbFilter(Element):
    """One rule; a property that is -1 or absent matches any device."""

    usb_class: int | None = attr("@class", _hexadecimal(2), omit=(-1,))
    vendor: int | None = attr("@vendor", _hexadecimal(4), omit=(-1,))
    product: int | None = attr("@product", _hexadecimal(4), omit=(-1,))
    version: int | None = attr(
        "@version",
        VERSION,
        omit=(-1,),
        refused="Cannot parse USB device version {value}",
    )
    allow: bool = attr("@allow", YESNO, required=True)

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Refuse classes that do not exist."""
        value = self.usb_class
        if value is not None and value != -1 and value & ~0xFF:
            ctx.issue(el, f"internal error: Invalid USB Class code 0x{value & 0xFFFFFFFF:x}")


@element("redirfilter", omit_empty=True)
class RedirFilter(Element):
    """Which devices clients may plug in; the first rule that matches decides."""

    usbdevs: list[UsbFilter] = children("usbdev", UsbFilter)
