"""The <hostdev> element, and the parts of the host that it and interfaces name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from typing import Any
from typing import ClassVar
from typing import Final
from typing import Literal
from typing import get_args

import attrs

from hvcore.errors import ErrorClass
from hvcore.model.devices.base import Device
from hvcore.model.devices.interface_parts import IpAddress
from hvcore.model.devices.interface_parts import Route
from hvcore.model.devices.interface_parts import TeamingType
from hvcore.model.devices.storage import Auth
from hvcore.model.devices.storage import Host
from hvcore.xml.codecs import ENUM
from hvcore.xml.codecs import HEX
from hvcore.xml.codecs import INTEGER
from hvcore.xml.codecs import NONEMPTY
from hvcore.xml.codecs import ONOFF
from hvcore.xml.codecs import UUID
from hvcore.xml.codecs import YESNO
from hvcore.xml.codecs import Codec
from hvcore.xml.fields import Element
from hvcore.xml.fields import attr
from hvcore.xml.fields import child
from hvcore.xml.fields import children
from hvcore.xml.fields import choice
from hvcore.xml.fields import custom
from hvcore.xml.fields import element
from hvcore.xml.fields import flag
from hvcore.xml.fields import text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lxml.etree import _Element as XmlElement

    from hvcore.xml.context import FormatContext
    from hvcore.xml.context import ParseContext

HostdevMode = Literal["subsystem", "capabilities"]
HostdevType = Literal["usb", "pci", "scsi", "scsi_host", "mdev", "storage", "misc", "net"]
StartupPolicy = Literal["mandatory", "requisite", "optional"]
GuestReset = Literal["off", "uninitialized", "on"]
Sgio = Literal["filtered", "unfiltered"]
PciDriver = Literal["kvm", "vfio", "xen"]
ScsiProtocol = Literal["adapter", "iscsi"]
ScsiHostProtocol = Literal["vhost"]

SUBSYSTEM: Final = frozenset({"usb", "pci", "scsi", "scsi_host", "mdev"})
"""Types of mode ``subsystem``; the other ones are those of ``capabilities``."""

MODELS: Final[Mapping[str, frozenset[str]]] = {
    "scsi_host": frozenset({"default", "virtio", "virtio-transitional", "virtio-non-transitional"}),
    "mdev": frozenset({"vfio-pci", "vfio-ccw", "vfio-ap"}),
}
"""Models by type; the other types have none."""

_ANY32: Final = INTEGER(0, 2**32 - 1, base=0, expected="Expected non-negative integer value")
_ANY64: Final = INTEGER(0, 2**64 - 1, base=0, expected="Expected non-negative integer value")
_USB_ID: Final = INTEGER(
    0, 2**32 - 1, base=0, form="#06x", expected="Expected non-negative integer value"
)
_VENDOR_ID: Final = INTEGER(
    0, 2**32 - 1, base=0, form="#06x", expected="Expected non-negative integer value", zero=False
)
LENIENT: Final = Codec(
    "yes/no",
    convert={"yes": True, "no": False}.get,
    write={True: "yes", False: "no"}.__getitem__,
    rng="<choice><value>yes</value><value>no</value></choice>",
    json={"type": "boolean"},
)
"""As YESNO, but libvirt ignores other values."""
_WWN: Final = re.compile(r"naa\.[0-9a-fA-F]{16}\Z")


@element("address")
class HostPciAddress(Element):
    """A PCI device of the host."""

    selector: ClassVar[str | None] = "type"

    domain: int = attr("@domain", HEX(4), default=0)
    bus: int = attr("@bus", HEX(2), default=0)
    slot: int = attr("@slot", HEX(2), default=0)
    function: int = attr("@function", INTEGER(0, 2**32 - 1, base=0, form="#x"), default=0)

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Refuse numbers that do not exist."""
        if not (self.domain or self.bus or self.slot):
            return  # libvirt takes that for no address at all
        if self.bus > 0xFF:
            ctx.issue(el, f"Invalid PCI address bus='{self.bus:#x}', must be <= 0xFF")
        elif self.slot > 0x1F:
            ctx.issue(el, f"Invalid PCI address slot='{self.slot:#x}', must be <= 0x1F")
        elif self.function > 7:
            ctx.issue(el, f"Invalid PCI address function={self.function:#x}, must be <= 7")

    def __str__(self) -> str:
        return f"{self.domain:04x}:{self.bus:02x}:{self.slot:02x}.{self.function:x}"


@element("address")
class HostUsbAddress(Element):
    """A USB device of the host, by where it is plugged in."""

    selector: ClassVar[str | None] = "type"

    bus: int = attr("@bus", _ANY32, required=True)
    device: int = attr("@device", _ANY32, required=True)


@element("address")
class HostScsiAddress(Element):
    """A SCSI device of the host, below its adapter."""

    selector: ClassVar[str | None] = "type"

    bus: int = attr("@bus", _ANY32, required=True)
    target: int = attr("@target", _ANY32, required=True)
    unit: int = attr("@unit", _ANY64, required=True)


@element("source")
class HostdevSource(Element):
    """Which part of the host is given to the guest."""


class _OriginalStates:
    """Forgets <origstates>, in which libvirt keeps how devices were before a guest had them."""

    tags: tuple[str, ...] = ("origstates",)
    rng: str = "<element name='origstates'><text/></element>"

    def __init__(self) -> None:
        self.json: Mapping[str, Any] = {"type": "null"}

    def parse(self, elements: list[XmlElement], ctx: ParseContext, owner: Any) -> None:
        """Return nothing."""

    def format(
        self, value: Any, out: list[str], indent: str, ctx: FormatContext, owner: Any
    ) -> None:
        """Write nothing."""

    def clone(self, value: Any) -> Any:
        """Return ``value``."""
        return value


@element("source", omit_empty=True)
class PciSource(HostdevSource):
    """A PCI device."""

    write_filtering: bool | None = attr(
        "@writeFiltering", YESNO, doc="Xen: let the guest write only what is harmless"
    )
    address: HostPciAddress | None = child("address", HostPciAddress)
    original_states: None = custom(_OriginalStates())

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Take an address that is left out for the first one there is."""
        del el, ctx
        if self.address is None:
            self.address = HostPciAddress()


def _auto_address(source: UsbSource, ctx: FormatContext) -> bool | None:
    return True if source.auto_address and ctx.migratable else None


@element("source", omit_empty=True)
class UsbSource(HostdevSource):
    """A USB device: by its identity, its place, or both."""

    startup_policy: StartupPolicy | None = attr("@startupPolicy", ENUM(StartupPolicy))
    auto_address: bool | None = attr(
        "@autoAddress", YESNO, written=_auto_address, doc="the place was found by the identity"
    )
    missing: bool | None = attr(
        "@missing", YESNO, omit=(False,), show="live", doc="the guest runs without the device"
    )
    guest_reset: GuestReset | None = attr(
        "@guestReset", ENUM(GuestReset), doc="whether resets by the guest reach the device"
    )
    vendor: int | None = attr("vendor/@id", _VENDOR_ID)
    product: int | None = attr("product/@id", _USB_ID)
    address: HostUsbAddress | None = child("address", HostUsbAddress)

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Check that vendor and product are both there or both not."""
        vendor, product = el.find("vendor"), el.find("product")
        if vendor is not None and vendor.get("id") is None:
            ctx.issue(vendor, "Missing required attribute 'id' in element 'vendor'")
        elif vendor is not None and product is None:
            ctx.issue(el, "internal error: missing product")
        elif product is not None and product.get("id") is None:
            ctx.issue(product, "Missing required attribute 'id' in element 'product'")
        elif product is not None and vendor is None:
            ctx.issue(el, "internal error: missing vendor")
        if self.address is not None and not (self.address.bus or self.address.device):
            self.address = None


@element("source")
class ScsiSource(HostdevSource):
    """A SCSI device: below an adapter of the host, or a logical unit of an iSCSI server."""

    protocol: ScsiProtocol | None = attr("@protocol", ENUM(ScsiProtocol), omit=("adapter",))
    name: str | None = attr("@name", NONEMPTY, doc="iSCSI: qualified name and unit")
    adapter: str | None = attr("adapter/@name", NONEMPTY, doc="such as scsi_host0")
    hosts: list[Host] = children("host", Host)
    auth: Auth | None = child("auth", Auth)
    initiator: str | None = attr("initiator/iqn/@name", doc="our iSCSI name")
    address: HostScsiAddress | None = child("address", HostScsiAddress)

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Check that the device is fully named, and forget what the protocol does not read."""
        if self.protocol == "iscsi":
            self.adapter = self.address = None
            self._check_iscsi(el, ctx)
            return
        self.name = self.auth = self.initiator = None
        self.hosts = []
        if self.address is None:
            ctx.issue(el, "'address' must be specified for scsi hostdev source")
        elif self.adapter is None:
            ctx.issue(el, "'adapter' name must be specified for scsi hostdev source")

    def _check_iscsi(self, el: XmlElement, ctx: ParseContext) -> None:
        if self.name is None:
            ctx.issue(el, "missing iSCSI hostdev source path name")
        elif not self.hosts:
            ctx.issue(el, "missing the host address for the iSCSI hostdev")
        elif len(self.hosts) > 1:
            ctx.issue(el, "only one source host address may be specified for the iSCSI hostdev")
        secret = self.auth.secret if self.auth is not None else None
        if secret is not None and secret.type != "iscsi":
            ctx.issue(el, f"internal error: hostdev invalid secret type '{secret.type}'")


@element("source")
class ScsiHostSource(HostdevSource):
    """A target of the kernel's SCSI server."""

    protocol: ScsiHostProtocol = attr("@protocol", ENUM(ScsiHostProtocol), required=True)
    wwpn: str | None = attr("@wwpn", doc="name of the target, naa. and 16 digits")

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Check the name."""
        if self.wwpn is None:
            ctx.issue(el, "missing vhost-scsi hostdev source wwpn")
        elif _WWN.match(self.wwpn) is None:
            ctx.issue(el, "malformed 'wwpn' value", attribute="wwpn")


@element("source")
class MdevSource(HostdevSource):
    """A mediated device, which a driver of the host made."""

    uuid: str | None = attr(
        "address/@uuid", UUID,
        refused="internal error: Cannot parse uuid attribute of element <address>",
    )  # fmt: skip

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Check that the device is named."""
        address = el.find("address")
        if address is None:
            ctx.issue(el, "Missing <address> element", kind=ErrorClass.CONFIG_UNSUPPORTED)
        elif address.get("uuid") is None:
            ctx.issue(
                address,
                "Missing 'uuid' attribute for element <address>",
                kind=ErrorClass.CONFIG_UNSUPPORTED,
            )


@element("source")
class StorageSource(HostdevSource):
    """A block device for a container."""

    block: str | None = text("block", NONEMPTY)


@element("source")
class MiscSource(HostdevSource):
    """A character device for a container."""

    char: str | None = text("char", NONEMPTY)


@element("source")
class NetSource(HostdevSource):
    """A network interface for a container."""

    interface: str | None = text("interface", NONEMPTY)


HOSTDEV_SOURCES: Final[Mapping[str, type[Element]]] = {
    "pci": PciSource,
    "usb": UsbSource,
    "scsi": ScsiSource,
    "scsi_host": ScsiHostSource,
    "mdev": MdevSource,
    "storage": StorageSource,
    "misc": MiscSource,
    "net": NetSource,
}
_CONTAINER: Final = (
    # type, attribute of the source, the refusal when it is missing
    ("storage", "block", "Missing <block> element in hostdev storage device"),
    ("misc", "char", "Missing <char> element in hostdev character device"),
    ("net", "interface", "Missing <interface> element in hostdev net device"),
)


def _managed(device: Hostdev, ctx: FormatContext) -> bool | None:
    del ctx
    return bool(device.managed) if device.mode == "subsystem" else None


@element("hostdev")
class Hostdev(Device):
    """A device of the host that the guest has to itself."""

    mode: HostdevMode = attr("@mode", ENUM(HostdevMode), default="subsystem")
    type: HostdevType = attr("@type", ENUM(HostdevType), required=True)
    managed: bool | None = attr(
        "@managed",
        LENIENT,
        written=_managed,
        doc="take the device from its driver and give it back",
    )
    sgio: Sgio | None = attr("@sgio", ENUM(Sgio))
    rawio: bool | None = attr("@rawio", YESNO)
    model: str | None = attr("@model", omit=("default",), doc="see MODELS")
    display: bool | None = attr("@display", ONOFF, doc="show what the device draws")
    ramfb: bool | None = attr("@ramfb", ONOFF, doc="show what firmware draws")
    host_driver: str | None = attr("driver/@name", doc="kvm, vfio or xen")
    host_driver_model: str | None = attr("driver/@model", doc="kernel module of the host")
    source: HostdevSource | None = choice("source", "type", HOSTDEV_SOURCES)
    ips: list[IpAddress] = children("ip", IpAddress)
    routes: list[Route] = children("route", Route)
    teaming: TeamingType | None = attr(
        "teaming/@type", ENUM(TeamingType),
        refused="unsupported configuration: unknown teaming type '{value}'",
    )  # fmt: skip
    teaming_persistent: str | None = attr(
        "teaming/@persistent", NONEMPTY, doc="alias of the virtio interface that stands in"
    )
    readonly: bool = flag("readonly")
    shareable: bool = flag("shareable")
    scsi_generic: str | None = attrs.field(default=None, eq=False, repr=False)
    """Of a running domain: the generic SCSI node of the device, such as ``sg0``."""

    @property
    def source_pci(self) -> HostPciAddress | None:
        """The PCI device of the host, if it is one."""
        return self.source.address if isinstance(self.source, PciSource) else None

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Check what libvirt's parser checks, and forget what it does not read for the type."""
        if (self.type in SUBSYSTEM) != (self.mode == "subsystem"):
            ctx.issue(
                el,
                f"Invalid value for attribute 'type' in element 'hostdev': '{self.type}'.",
                attribute="type",
            )
            return
        if self.source is None:
            ctx.issue(el, "Missing <source> element in hostdev device")
            return
        for kind, name, message in _CONTAINER:
            if self.type == kind and getattr(self.source, name) is None:
                ctx.issue(el, message)
        if self.mode == "subsystem":
            self._check_subsystem(el, ctx)
            self._check_driver(el, ctx)
        else:
            self.sgio = self.rawio = self.model = self.display = self.ramfb = None
        self._forget()

    def _check_subsystem(self, el: XmlElement, ctx: ParseContext) -> None:
        source = el.find("source")
        if self.type != "usb" and source is not None and source.get("startupPolicy"):
            ctx.issue(
                el,
                "Setting startupPolicy is only allowed for USB devices",
                kind=ErrorClass.CONFIG_UNSUPPORTED,
            )
        for name in ("sgio", "rawio"):
            if self.type != "scsi" and getattr(self, name) is not None:
                ctx.issue(el, f"{name} is only supported for scsi host device")
        models = MODELS.get(self.type)
        if models is None:
            if self.model is not None:
                ctx.issue(
                    el,
                    f"'model' attribute in <hostdev> is only supported when type='{self.type}'",
                )
        elif self.model is None and self.type == "mdev":
            ctx.issue(
                el, "Missing required attribute 'model' in element 'hostdev'", attribute="model"
            )
        elif self.model is not None and self.model not in models:
            ctx.issue(
                el,
                f"Invalid value for attribute 'model' in element 'hostdev': '{self.model}'.",
                attribute="model",
            )

    def _check_driver(self, el: XmlElement, ctx: ParseContext) -> None:
        """Check the driver of PCI devices; libvirt reads no other one."""
        if self.type == "pci" and self.host_driver not in (None, *get_args(PciDriver)):
            ctx.issue(
                el,
                f"Invalid value for attribute 'name' in element 'driver': '{self.host_driver}'.",
                attribute="name",
            )

    def _forget(self) -> None:
        if self.type not in ("mdev", "pci"):
            self.display = self.ramfb = None
        if self.type != "pci":
            self.host_driver = self.host_driver_model = None
        if self.type != "scsi":
            self.readonly = self.shareable = False
        if self.type != "net":
            self.ips, self.routes = [], []
