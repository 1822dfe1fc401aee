"""What every device shares: alias, boot order, ROM, address."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from typing import ClassVar
from typing import Final
from typing import Literal

import attrs

from hvcore.xml.codecs import HEX
from hvcore.xml.codecs import INTEGER
from hvcore.xml.codecs import NON_NEGATIVE
from hvcore.xml.codecs import ONOFF
from hvcore.xml.codecs import POSITIVE
from hvcore.xml.codecs import STR
from hvcore.xml.codecs import UINT
from hvcore.xml.codecs import UINT0
from hvcore.xml.codecs import YESNO
from hvcore.xml.codecs import Codec
from hvcore.xml.fields import Element
from hvcore.xml.fields import attr
from hvcore.xml.fields import choice
from hvcore.xml.fields import element

if TYPE_CHECKING:
    from lxml.etree import _Element as XmlElement

    from hvcore.xml.context import ParseContext

AddressType = Literal[
    "pci", "drive", "virtio-serial", "ccid", "usb", "spapr-vio", "virtio-s390", "ccw",
    "virtio-mmio", "isa", "dimm", "unassigned",
]  # fmt: skip


@element("address")
class Address(Element):
    """Where a device sits; the class tells the kind of bus."""

    selector: ClassVar[str | None] = "type"
    type: ClassVar[str]


@element("address")
class PciAddress(Address):
    """An address on a PCI or PCIe bus; all zero means not yet assigned."""

    type: ClassVar[str] = "pci"

    domain: int | None = attr("@domain", HEX(4), doc="PCI domain (segment), 0 to 0xffff")
    bus: int | None = attr("@bus", HEX(2), doc="index of the PCI controller")
    slot: int | None = attr("@slot", HEX(2), doc="slot on the bus, 0 to 31")
    function: int | None = attr(
        "@function",
        INTEGER(0, 2**32 - 1, base=0, form="#x", expected=NON_NEGATIVE),
        doc="function of the slot, 0 to 7",
    )
    multifunction: bool | None = attr("@multifunction", ONOFF, doc="more functions follow")
    zpci_uid: int | None = attr("zpci/@uid", HEX(4), doc="s390x: user-defined identifier")
    zpci_fid: int | None = attr("zpci/@fid", HEX(8), doc="s390x: function identifier")

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Complete an address that is given in part; one of zeros is none."""
        domain, bus, slot = self.domain or 0, self.bus or 0, self.slot or 0
        function = self.function or 0
        if not (domain or bus or slot):
            self.domain = self.bus = self.slot = self.function = None
            return
        self.domain, self.bus, self.slot, self.function = domain, bus, slot, function
        if bus > 0xFF:
            ctx.issue(el, f"Invalid PCI address bus='{bus:#x}', must be <= 0xFF")
        elif slot > 0x1F:
            ctx.issue(el, f"Invalid PCI address slot='{slot:#x}', must be <= 0x1F")
        elif function > 7:
            ctx.issue(el, f"Invalid PCI address function={function:#x}, must be <= 7")


@element("address")
class DriveAddress(Address):
    """A place on the bus of a disk controller."""

    type: ClassVar[str] = "drive"

    controller: int | None = attr("@controller", UINT, default=0)
    bus: int | None = attr("@bus", UINT, default=0)
    target: int | None = attr("@target", UINT, default=0)
    unit: int | None = attr("@unit", UINT, default=0)


@element("address")
class VirtioSerialAddress(Address):
    """A port of a virtio-serial controller."""

    type: ClassVar[str] = "virtio-serial"

    controller: int | None = attr("@controller", UINT, default=0)
    bus: int | None = attr("@bus", UINT, default=0)
    port: int | None = attr("@port", UINT, default=0)


@element("address")
class CcidAddress(Address):
    """A slot of a smartcard controller."""

    type: ClassVar[str] = "ccid"

    controller: int | None = attr("@controller", UINT, default=0)
    slot: int | None = attr("@slot", UINT, default=0)


_USB_PORT: Final = re.compile(r"[0-9]+(\.[0-9]+){0,3}\Z", re.ASCII)


@element("address")
class UsbAddress(Address):
    """A port of a USB controller or hub; ``port`` is a path such as ``1.2``."""

    type: ClassVar[str] = "usb"

    bus: int | None = attr("@bus", UINT, default=0)
    port: str | None = attr("@port", STR)
    device: int | None = attr("@device", UINT)

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Refuse ports that are no path of up to four numbers."""
        if self.port is not None and _USB_PORT.match(self.port) is None:
            ctx.issue(el, "internal error: Cannot parse <address> 'port' attribute")


@element("address")
class SpaprVioAddress(Address):
    """A register of the pSeries virtual I/O bus."""

    type: ClassVar[str] = "spapr-vio"

    reg: int | None = attr("@reg", INTEGER(0, 2**64 - 1, base=16, form="#010x"))


@element("address")
class CcwAddress(Address):
    """A channel subsystem address of s390x."""

    type: ClassVar[str] = "ccw"

    cssid: int | None = attr("@cssid", HEX(1), doc="channel subsystem image, 0 to 0xfe")
    ssid: int | None = attr("@ssid", HEX(1), doc="subchannel set, 0 to 3")
    devno: int | None = attr("@devno", HEX(4), doc="device number, 0 to 0xffff")

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Refuse numbers that do not exist and addresses that are given in part."""
        parts = (self.cssid, self.ssid, self.devno)
        cssid, ssid, devno = (part or 0 for part in parts)
        if cssid > 0xFE or ssid > 3 or devno > 0xFFFF:
            ctx.issue(
                el,
                "internal error: Invalid specification for virtio ccw address:"
                f" cssid='{cssid:#x}' ssid='{ssid:#x}' devno='0x{devno:04x}'",
            )
        elif None in parts and parts != (None, None, None):
            ctx.issue(el, "internal error: Invalid partial specification for virtio ccw address")


@element("address")
class VirtioMmioAddress(Address):
    """A transport in memory-mapped I/O, chosen by the machine."""

    type: ClassVar[str] = "virtio-mmio"


@element("address")
class VirtioS390Address(Address):
    """The former virtio transport of s390x, which has no addresses."""

    type: ClassVar[str] = "virtio-s390"

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Refuse it."""
        ctx.issue(el, "virtio-s390 bus doesn't have an address")


_HEXADECIMAL: Final = INTEGER(0, 2**32 - 1, base=16, form="#x", expected=NON_NEGATIVE)


@element("address")
class IsaAddress(Address):
    """Ports and interrupt of an ISA device."""

    type: ClassVar[str] = "isa"

    iobase: int | None = attr("@iobase", _HEXADECIMAL)
    irq: int | None = attr("@irq", _HEXADECIMAL)


@element("address")
class DimmAddress(Address):
    """A slot for a memory module, and where it is mapped."""

    type: ClassVar[str] = "dimm"

    slot: int | None = attr("@slot", UINT, default=0)
    base: int | None = attr(
        "@base",
        INTEGER(0, 2**64 - 1, base=16, form="#x", expected=NON_NEGATIVE),
        omit=(0,),
    )


@element("address")
class UnassignedAddress(Address):
    """The device is deliberately not part of the guest."""

    type: ClassVar[str] = "unassigned"


ADDRESSES: dict[str, type[Element]] = {
    cls.type: cls
    for cls in (
        PciAddress, DriveAddress, VirtioSerialAddress, CcidAddress, UsbAddress, SpaprVioAddress,
        VirtioS390Address, CcwAddress, VirtioMmioAddress, IsaAddress, DimmAddress,
        UnassignedAddress,
    )
}  # fmt: skip


_LOADPARM_MAX: Final = 8


def _loadparm(text: str) -> str:
    """Return the parameter as the boot loader compares it (IPL, characters of code page 500)."""
    value = text.upper()
    if not 1 <= len(value) <= _LOADPARM_MAX:
        raise ValueError(
            f"loadparm value '{value}' must be between 1 and {_LOADPARM_MAX} characters"
        )
    if not all(c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789. " for c in value):
        raise ValueError(
            f"invalid loadparm value '{value}', "
            "expecting chars in set of [a-zA-Z0-9.] and blank spaces"
        )
    return value


_LOADPARM: Final = Codec("loader parameter", convert=_loadparm, escaped=True)


@element("")
class Device(Element):
    """Base of all devices."""

    boot_order: int | None = attr(
        "boot/@order", POSITIVE, required=True, doc="position in the boot order, from 1"
    )
    boot_loadparm: str | None = attr(
        "boot/@loadparm",
        _LOADPARM,
        refused="internal error: {cause}",
        doc="s390x: parameter of the loader",
    )
    alias: str | None = attr("alias/@name", STR, doc="identifier of the device in the monitor")
    master_startport: int | None = attr(
        "master/@startport", UINT, bare=0, doc="first port of a USB companion"
    )
    rom_enabled: bool | None = attr("rom/@enabled", YESNO)
    rom_bar: bool | None = attr("rom/@bar", ONOFF)
    rom_file: str | None = attr("rom/@file", STR)
    acpi_index: int | None = attr("acpi/@index", UINT0, omit=(0,))
    address: Address | None = choice("address", "@type", ADDRESSES)
    effective_boot_order: int | None = attrs.field(default=None, eq=False, repr=False)
    """Of a running domain: the place that <boot dev=> of <os> gives the first of a kind."""


@element("")
class VirtioDevice(Device):
    """Base of devices that may be virtio: the options of the transport, in <driver>."""

    iommu: bool | None = attr("driver/@iommu", ONOFF, doc="DMA goes through the IOMMU")
    ats: bool | None = attr("driver/@ats", ONOFF, doc="address translation service")
    packed: bool | None = attr("driver/@packed", ONOFF, doc="packed virtqueues")
    page_per_vq: bool | None = attr("driver/@page_per_vq", ONOFF, doc="a page for each doorbell")


VIRTIO_OPTIONS: Final = ("iommu", "ats", "packed", "page_per_vq")
"""For :attr:`Element.trailing` of families whose <driver> stands after the address."""
