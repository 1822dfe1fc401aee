"""The <input> element."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import ClassVar
from typing import Literal

from hvcore.model.devices.base import VIRTIO_OPTIONS
from hvcore.model.devices.base import UsbAddress
from hvcore.model.devices.base import VirtioDevice
from hvcore.xml.codecs import ENUM
from hvcore.xml.codecs import ONOFF
from hvcore.xml.fields import attr
from hvcore.xml.fields import element

if TYPE_CHECKING:
    from lxml.etree import _Element as XmlElement

    from hvcore.xml.context import ParseContext

InputType = Literal["mouse", "tablet", "keyboard", "passthrough", "evdev"]
InputBus = Literal["ps2", "usb", "xen", "parallels", "virtio", "none"]
InputModel = Literal["virtio", "virtio-transitional", "virtio-non-transitional"]
GrabToggle = Literal[
    "ctrl-ctrl", "alt-alt", "shift-shift", "meta-meta", "scrolllock", "ctrl-scrolllock"
]
Grab = Literal["all"]


@element("input")
class Input(VirtioDevice):
    """A keyboard or pointer, or one of the host's passed through."""

    leading: ClassVar[tuple[str, ...]] = VIRTIO_OPTIONS

    type: InputType = attr(
        "@type",
        ENUM(InputType),
        required=True,
        missing="internal error: missing input device type",
        refused="unsupported configuration: unknown input device type '{value}'",
    )
    bus: InputBus | None = attr(
        "@bus",
        ENUM(InputBus),
        omit=("none",),
        refused="unsupported configuration: unknown input bus type '{value}'",
    )
    model: InputModel | None = attr(
        "@model",
        ENUM(InputModel),
        refused="unsupported configuration: unknown input model '{value}'",
    )
    source_dev: str | None = attr("source/@dev", doc="type evdev: device node of the host")
    source_evdev: str | None = attr("source/@evdev", doc="passthrough: device node of the host")
    grab: Grab | None = attr("source/@grab", ENUM(Grab))
    grab_toggle: GrabToggle | None = attr("source/@grabToggle", ENUM(GrabToggle))
    repeat: bool | None = attr("source/@repeat", ONOFF, doc="host sends key repeats")

    @property
    def implied(self) -> bool:
        """Whether it comes with the machine, so that documents for other hosts leave it out."""
        return self.type == "keyboard" and self.bus in ("ps2", "xen")

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Refuse what libvirt's parser refuses: a wrong address, a source without a path."""
        if self.bus == "usb" and self.address and not isinstance(self.address, UsbAddress):
            ctx.issue(el, "Invalid address for a USB device")
        path = self.source_dev if self.type == "evdev" else self.source_evdev
        if self.type in ("passthrough", "evdev") and el.find("source") is not None and not path:
            ctx.issue(el, "Missing evdev path for input device")
