"""The <serial>, <parallel>, <console> and <channel> elements."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING
from typing import ClassVar
from typing import Final
from typing import Literal

import attrs

from hvcore.errors import ErrorClass
from hvcore.model.devices.base import UsbAddress
from hvcore.model.devices.chardev_source import CharDevice
from hvcore.model.devices.chardev_source import check_chardev
from hvcore.xml.codecs import ENUM
from hvcore.xml.codecs import IGNORED
from hvcore.xml.codecs import UINT
from hvcore.xml.codecs import absent_if
from hvcore.xml.codecs import forgiving
from hvcore.xml.fields import attr
from hvcore.xml.fields import element

if TYPE_CHECKING:
    from lxml.etree import _Element as XmlElement

    from hvcore.xml.context import FormatContext
    from hvcore.xml.context import ParseContext

SerialTarget = Literal[
    "none", "isa-serial", "usb-serial", "pci-serial", "spapr-vio-serial", "system-serial",
    "sclp-serial", "isa-debug",
]  # fmt: skip
SerialModel = Literal[
    "none", "isa-serial", "usb-serial", "pci-serial", "spapr-vty", "pl011", "sclpconsole",
    "sclplmconsole", "16550a", "isa-debugcon",
]  # fmt: skip
ConsoleTarget = Literal["none", "serial", "xen", "uml", "virtio", "lxc", "openvz", "sclp", "sclplm"]
ChannelTarget = Literal["none", "guestfwd", "virtio", "xen"]
ChannelState = Literal["connected", "disconnected"]

_STATE: Final = forgiving(ENUM(ChannelState))  # documents have those of former runs

_UNKNOWN_TARGET = (
    "unsupported configuration: unknown target type '{value}' specified for character device"
)
_UNKNOWN_MODEL = (
    "unsupported configuration: unknown target model '{value}' specified for character device"
)
_BAD_PORT = "Invalid port number: {value}"


PORT: Final = absent_if(UINT, "-1")
"""Number of a port; -1 leaves it open."""


_SPICEVMC: Final = {"channel": "virtio", "console": "xen", "serial": "usb-serial"}
"""The target by which libvirt lets the type spicevmc pass; of consoles and serial ports by chance,
since it compares the number of the target with that of virtio channels."""


def _check_spicevmc(device: CharDevice, el: XmlElement, ctx: ParseContext) -> None:
    target = getattr(device, "target_type", None)
    if device.type == "spicevmc" and target != _SPICEVMC.get(el.tag, ""):
        ctx.issue(
            el, "spicevmc device type only supports virtio", kind=ErrorClass.CONFIG_UNSUPPORTED
        )


@element("serial")
class Serial(CharDevice):
    """A serial port."""

    target_type: SerialTarget | None = attr(
        "target/@type",
        ENUM(SerialTarget),
        omit=("none",),
        refused=_UNKNOWN_TARGET,
        doc="what the port is attached to",
    )
    target_port: int | None = attr("target/@port", PORT, refused=_BAD_PORT, doc="its number")
    target_model: SerialModel | None = attr(
        "target/model/@name",
        ENUM(SerialModel),
        omit=("none",),
        refused=_UNKNOWN_MODEL,
        doc="which device the port is",
    )

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Check source and address."""
        check_chardev(self, el, ctx, labels=True)
        _check_spicevmc(self, el, ctx)
        if self.target_type == "none":
            self.target_type = None
        if self.target_model == "none":
            self.target_model = None
        address = self.address
        if self.target_type == "usb-serial" and not isinstance(address, UsbAddress | None):
            ctx.issue(
                el,
                "usb-serial requires address of usb type",
                kind=ErrorClass.CONFIG_UNSUPPORTED,
            )


@element("parallel")
class Parallel(CharDevice):
    """A parallel port."""

    target_type: None = attr("target/@type", IGNORED)
    target_port: int | None = attr("target/@port", PORT, refused=_BAD_PORT, doc="its number")

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Check the source."""
        check_chardev(self, el, ctx, labels=True)
        _check_spicevmc(self, el, ctx)


def _tty(console: Console, ctx: FormatContext) -> str | None:
    """Return the pseudo terminal of the first console, where former versions look for it."""
    if console.target_port or console.type != "pty" or ctx.inactive or not console.sources:
        return None
    path: str | None = console.source.path
    return path


@element("console")
class Console(CharDevice):
    """A console, for text to and from the operating system."""

    leading: ClassVar[tuple[str, ...]] = (
        "type", "tty", "sources", "protocol", "log_file", "log_append"
    )  # fmt: skip

    tty: None = attr("@tty", IGNORED, written=_tty, doc="path of the pseudo terminal")
    target_type: ConsoleTarget | None = attr(
        "target/@type", ENUM(ConsoleTarget), refused=_UNKNOWN_TARGET
    )
    target_port: int | None = attr("target/@port", PORT, refused=_BAD_PORT, doc="its number")
    is_serial: bool = attrs.field(default=False, eq=False, repr=False)
    """This is no device: it stands for the first serial port, as it has since early versions."""

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Check the source."""
        check_chardev(self, el, ctx, labels=True)
        _check_spicevmc(self, el, ctx)
        if self.target_type == "none":
            self.target_type = None

    def like(self, serial: Serial) -> Console:
        """Return a console for writing that has everything of ``serial``."""
        return Console(
            type=serial.type,
            sources=serial.sources,
            protocol=serial.protocol,
            log_file=serial.log_file,
            log_append=serial.log_append,
            target_type="serial",
            target_port=serial.target_port,
            alias=serial.alias,
            address=serial.address,
        )


@element("channel")
class Channel(CharDevice):
    """A private connection between host and guest."""

    target_type: ChannelTarget | None = attr(
        "target/@type", ENUM(ChannelTarget), refused=_UNKNOWN_TARGET
    )
    target_address: str | None = attr("target/@address", doc="guestfwd: IPv4 address in the guest")
    target_port: int | None = attr("target/@port", UINT, doc="guestfwd: port in the guest")
    target_name: str | None = attr("target/@name", doc="virtio, xen: name in the guest")
    state: ChannelState | None = attr(
        "target/@state", _STATE, show="live", doc="whether the guest has it open"
    )

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Check target and source."""
        target = el.find("target")
        if target is None:
            ctx.issue(el, "target type must be specified for channel device")
            return
        if target.get("type") is None:
            ctx.issue(target, _UNKNOWN_TARGET.format(value="(null)"))
            return
        if self.target_type == "guestfwd":
            self._check_guestfwd(target, ctx)
        else:
            self.target_address = self.target_port = None
        if self.target_type not in ("virtio", "xen"):
            self.target_name = None
        if self.target_type != "virtio":
            self.state = None
        check_chardev(self, el, ctx, labels=True)
        _check_spicevmc(self, el, ctx)

    def _check_guestfwd(self, target: XmlElement, ctx: ParseContext) -> None:
        if self.target_address is None:
            ctx.issue(target, "guestfwd channel does not define a target address")
            return
        try:
            address = ipaddress.ip_address(self.target_address)
        except ValueError:
            ctx.issue(
                target,
                f"Cannot parse socket address '{self.target_address}': Name or service not known",
                kind=ErrorClass.SYSTEM,
            )
            return
        if address.version != 4:
            ctx.issue(
                target,
                "guestfwd channel only supports IPv4 addresses",
                kind=ErrorClass.CONFIG_UNSUPPORTED,
            )
        if self.target_port is None and target.get("port") is None:
            ctx.issue(target, "Missing required attribute 'port' in element 'target'")
