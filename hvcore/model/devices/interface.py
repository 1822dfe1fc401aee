"""The <interface> element."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from typing import Any
from typing import Final
from typing import Literal

import attrs

from hvcore.errors import ErrorClass
from hvcore.model.devices.base import VirtioDevice
from hvcore.model.devices.hostdev import LENIENT
from hvcore.model.devices.hostdev import HostPciAddress
from hvcore.model.devices.hostdev import HostUsbAddress
from hvcore.model.devices.interface_parts import MAC
from hvcore.model.devices.interface_parts import Bandwidth
from hvcore.model.devices.interface_parts import FilterRef
from hvcore.model.devices.interface_parts import IpAddress
from hvcore.model.devices.interface_parts import PortForward
from hvcore.model.devices.interface_parts import Route
from hvcore.model.devices.interface_parts import TeamingType
from hvcore.model.devices.interface_parts import VirtualPort
from hvcore.model.devices.interface_parts import Vlan
from hvcore.xml.codecs import ENUM
from hvcore.xml.codecs import INT
from hvcore.xml.codecs import INTEGER
from hvcore.xml.codecs import NONEMPTY
from hvcore.xml.codecs import ONOFF
from hvcore.xml.codecs import UINT
from hvcore.xml.codecs import ULONG
from hvcore.xml.codecs import UUID
from hvcore.xml.codecs import YESNO
from hvcore.xml.codecs import Codec
from hvcore.xml.codecs import escape
from hvcore.xml.fields import Element
from hvcore.xml.fields import attr
from hvcore.xml.fields import child
from hvcore.xml.fields import children
from hvcore.xml.fields import choice
from hvcore.xml.fields import custom
from hvcore.xml.fields import element
from hvcore.xml.fields import text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lxml.etree import _Element as XmlElement

    from hvcore.xml.context import FormatContext
    from hvcore.xml.context import ParseContext

InterfaceType = Literal[
    "user", "ethernet", "vhostuser", "server", "client", "mcast", "network", "bridge", "internal",
    "direct", "hostdev", "udp", "vdpa", "null", "vds",
]  # fmt: skip
MacType = Literal["generated", "static"]
MacvtapMode = Literal["vepa", "private", "bridge", "passthrough"]
MacTableManager = Literal["kernel", "libvirt"]
VhostUserMode = Literal["client", "server"]
NetBackend = Literal["default", "passt"]
TxMode = Literal["iothread", "timer"]
LinkState = Literal["up", "down"]

MODELS: Final = (
    "netfront", "rtl8139", "virtio", "e1000", "e1000e", "igb", "virtio-transitional",
    "virtio-non-transitional", "usb-net", "spapr-vlan", "lan9118", "scm91c111", "vlance",
    "vmxnet", "vmxnet2", "vmxnet3", "Am79C970A", "Am79C973", "82540EM", "82545EM", "82543GC",
)  # fmt: skip
"""Models whose names libvirt knows, in any case; others are passed on as they are."""
VIRTIO_MODELS: Final = frozenset({"virtio", "virtio-transitional", "virtio-non-transitional"})
GENERATED_NAMES: Final = ("vnet", "macvtap", "macvlan")
"""How interfaces of the host are called that nobody chose a name for."""

_CANONICAL: Final = {name.lower(): name for name in MODELS}
_MODEL: Final = re.compile(r"[a-zA-Z0-9_-]*\Z")
_NO_MAC: Final = "00:00:00:00:00:00"


def _model(name: str) -> str | None:
    known = _CANONICAL.get(name.lower())
    if known is not None:
        return known
    if _MODEL.match(name) is None:
        raise ValueError(name)
    # The name of libvirt's own value for no model at all.
    return None if name.lower() in ("", "unknown") else name


def _sanitized(path: str) -> str | None:
    """Return ``path`` with single slashes and none behind; two in front mean something."""
    head = "//" if path.startswith("//") and path[2:3] != "/" else ""
    clean = re.sub("/+", "/", path[len(head) :])
    if len(head) + len(clean) > 1:
        clean = clean.removesuffix("/")
    return head + clean or None


_PATH: Final = Codec("path", convert=_sanitized, escaped=True)
_INT64: Final = INTEGER(-(2**63), 2**63 - 1, base=0, expected="Expected long long integer value")


@element("source")
class InterfaceSource(Element):
    """What an interface is connected to; the class tells the kind."""

    ips: list[IpAddress] = children("ip", IpAddress, doc="addresses of the host's end")
    routes: list[Route] = children("route", Route)


@element("source", omit_empty=True)
class PlainSource(InterfaceSource):
    """Of types that need no more than the host's addresses."""


@element("source", omit_empty=True)
class UserSource(InterfaceSource):
    """Of user networking."""

    dev: str | None = attr("@dev", NONEMPTY, doc="passt: interface of the host to copy")


@element("source")
class NetworkSource(InterfaceSource):
    """A virtual network; in a running domain also what its port turned out to be."""

    network: str | None = attr("@network", required=True)
    portgroup: str | None = attr("@portgroup")
    portid: str | None = attr("@portid", UUID, show="live", doc="the network's port")
    bridge: str | None = attr("@bridge", show="live")
    mac_table_manager: MacTableManager | None = attr(
        "@macTableManager", ENUM(MacTableManager), show="live"
    )
    dev: str | None = attr("@dev", show="live")
    mode: MacvtapMode | None = attr("@mode", ENUM(MacvtapMode), show="live")


@element("source")
class BridgeSource(InterfaceSource):
    """A bridge of the host."""

    bridge: str | None = attr("@bridge", required=True)


@element("source")
class DirectSource(InterfaceSource):
    """An interface of the host that a macvtap is put on."""

    dev: str | None = attr("@dev", required=True)
    mode: MacvtapMode = attr("@mode", ENUM(MacvtapMode), default="vepa")


@element("source", omit_empty=True)
class VhostUserSource(InterfaceSource):
    """A process that moves packets, behind a unix socket."""

    type: str | None = attr("@type")
    path: str | None = attr("@path", NONEMPTY, doc="of the socket")
    mode: VhostUserMode | None = attr("@mode", ENUM(VhostUserMode), doc="which end QEMU is")
    dev: str | None = attr("@dev", NONEMPTY, doc="passt: interface of the host to copy")
    reconnect: bool | None = attr("reconnect/@enabled", YESNO)
    reconnect_timeout: int | None = attr("reconnect/@timeout", UINT, doc="seconds")

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Check the kind of socket, and that reconnecting says when."""
        if self.type not in (None, "unix"):
            ctx.issue(
                el,
                f"Type='{self.type}' unsupported for <interface type='vhostuser'>",
                kind=ErrorClass.CONFIG_UNSUPPORTED,
            )
        if self.reconnect and self.reconnect_timeout is None:
            ctx.issue(el, "Missing required attribute 'timeout' in element 'reconnect'")
        if not self.reconnect:
            self.reconnect_timeout = None


@element("source")
class SocketSource(InterfaceSource):
    """The other end of a connection between two QEMU processes."""

    address: str | None = attr("@address", required=True)
    port: int = attr("@port", INT, required=True)


@element("source")
class ServerSource(InterfaceSource):
    """Where QEMU listens for another one."""

    address: str | None = attr("@address")
    port: int = attr("@port", INT, required=True)


@element("source")
class UdpSource(InterfaceSource):
    """The two ends of a UDP tunnel."""

    address: str | None = attr("@address", required=True)
    port: int = attr("@port", INT, required=True)
    local_address: str | None = attr("local/@address")
    local_port: int | None = attr("local/@port", INT)

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Check that our own end is there."""
        local = el.find("local")
        if local is None:
            ctx.issue(el, "'<local>' element missing for 'udp' socket interface")
            return
        for name in ("address", "port"):
            if local.get(name) is None:
                ctx.issue(local, f"Missing required attribute '{name}' in element 'local'")


@element("source")
class InternalSource(InterfaceSource):
    """A network inside the hypervisor."""

    name: str | None = attr("@name", required=True)


@element("source")
class VdpaSource(InterfaceSource):
    """A device that moves packets in hardware."""

    dev: str | None = attr("@dev", required=True, doc="such as /dev/vhost-vdpa-0")


@element("source")
class VdsSource(InterfaceSource):
    """A port of a VMware distributed switch."""

    switchid: str | None = attr("@switchid", UUID, required=True)
    portid: int = attr("@portid", _INT64, default=0)
    portgroupid: str | None = attr("@portgroupid")
    connectionid: int = attr("@connectionid", _INT64, default=0)


@element("source")
class HostdevInterfaceSource(InterfaceSource):
    """A network card of the host."""

    write_filtering: bool | None = attr("@writeFiltering", YESNO)
    vendor: int | None = attr("vendor/@id", INTEGER(1, 2**32 - 1, base=0, form="#06x"))
    product: int | None = attr("product/@id", INTEGER(0, 2**32 - 1, base=0, form="#06x"))
    address: HostPciAddress | HostUsbAddress | None = choice(
        "address", "@type", {"pci": HostPciAddress, "usb": HostUsbAddress},
        missing="unsupported configuration: unknown host device source address type '(null)'",
        refused="unsupported configuration: unknown host device source address type '{value}'",
    )  # fmt: skip

    @property
    def is_usb(self) -> bool:
        """Whether it is a USB device, by its place or identity."""
        return self.vendor is not None or isinstance(self.address, HostUsbAddress)


SOURCES: Final[Mapping[str, type[Element]]] = {
    "user": UserSource,
    "ethernet": PlainSource,
    "vhostuser": VhostUserSource,
    "server": ServerSource,
    "client": SocketSource,
    "mcast": SocketSource,
    "network": NetworkSource,
    "bridge": BridgeSource,
    "internal": InternalSource,
    "direct": DirectSource,
    "hostdev": HostdevInterfaceSource,
    "udp": UdpSource,
    "vdpa": VdpaSource,
    "null": PlainSource,
    "vds": VdsSource,
}
_NEED_SOURCE: Final = frozenset(
    {
        "network", "vds", "internal", "bridge", "direct", "vdpa", "client", "server", "mcast",
        "udp",
    }
)  # fmt: skip
_FILTERED: Final = frozenset({"network", "bridge", "ethernet"})
_WITH_PORT: Final = frozenset({"network", "bridge", "direct", "hostdev"})
"""Types that a <virtualport> may say more about."""


@attrs.define(kw_only=True)
class ActualPort:
    """What a port of a virtual network turned out to be, of a running domain.

    :ivar source: the interface's source with the port's parts, or the host's device.
    :ivar class_id: of the port's traffic on the bridge.
    """

    type: InterfaceType
    source: InterfaceSource
    managed: bool | None = None
    host_driver: str | None = None
    host_driver_model: str | None = None
    vlan: Vlan | None = None
    virtualport: VirtualPort | None = None
    bandwidth: Bandwidth | None = None
    isolated: bool | None = None
    class_id: int | None = None


class _HostDriver:
    """Writes <driver> of a host device, which stands before the source instead of far behind.

    Reading is left to the fields of the one behind.
    """

    tags: tuple[str, ...] = ()
    rng: str = "<empty/>"

    def __init__(self) -> None:
        self.json: Mapping[str, Any] = {"type": "null"}

    def parse(self, elements: list[XmlElement], ctx: ParseContext, owner: Any) -> bool:
        """Return that there is something to look at when writing."""
        del elements, ctx, owner
        return True

    def format(
        self, value: Any, out: list[str], indent: str, ctx: FormatContext, owner: Any
    ) -> None:
        """Write the element of a host device that has one."""
        del value
        port = owner.shown(ctx)
        if port.type == "hostdev":
            name, model = port.host_driver, port.host_driver_model
            attributes = f" name='{name}'" if name else ""
            attributes += f" model='{escape(model)}'" if model else ""
            if attributes:
                out.append(f"{indent}<driver{attributes}/>\n")

    def clone(self, value: Any) -> Any:
        """Return ``value``."""
        return value


def _of_port(name: str) -> Any:
    """Return how an attribute is written that a network's port can change."""
    return lambda interface, ctx: getattr(interface.shown(ctx), name)


def _written_managed(interface: Interface, ctx: FormatContext) -> bool | None:
    port = interface.shown(ctx)
    return True if port.type == "hostdev" and port.managed else None


def _written_target(interface: Interface, ctx: FormatContext) -> str | None:
    name = interface.target
    if name and ctx.inactive and interface.target_managed is not False:
        return None if name.startswith(GENERATED_NAMES) else name
    return name


def _written_driver(interface: Interface, ctx: FormatContext) -> str | None:
    del ctx
    return interface.driver if interface.is_virtio else None


def _switch(path: str, doc: str = "") -> Any:
    return attr(path, ONOFF, doc=doc)


@element("interface")
class Interface(VirtioDevice):
    """A network interface of the guest."""

    type: InterfaceType = attr(
        "@type", ENUM(InterfaceType), default="user", written=_of_port("type")
    )
    managed: bool | None = attr("@managed", LENIENT, written=_written_managed)
    trust_guest_rx_filters: bool | None = attr("@trustGuestRxFilters", YESNO)
    mac: str | None = attr(
        "mac/@address", MAC, refused="unable to parse mac address '{value}'", doc="unicast"
    )
    mac_type: MacType | None = attr("mac/@type", ENUM(MacType))
    mac_check: bool | None = attr("mac/@check", YESNO)
    mac_current: str | None = attr(
        "mac/@currentAddress", MAC, show="live", doc="what the guest made of the address"
    )
    host_driver_written: bool = custom(_HostDriver(), default=True)
    source: InterfaceSource | None = choice("source", "type", SOURCES, written=_of_port("source"))
    vlan: Vlan | None = child("vlan", Vlan, written=_of_port("vlan"))
    virtualport: VirtualPort | None = choice(
        "virtualport", "type", dict.fromkeys(_WITH_PORT, VirtualPort),
        written=_of_port("virtualport"),
    )  # fmt: skip
    bandwidth: Bandwidth | None = child("bandwidth", Bandwidth, written=_of_port("bandwidth"))
    isolated: bool | None = attr(
        "port/@isolated", YESNO, written=_of_port("isolated"),
        doc="cannot talk to other isolated ones of the bridge",
    )  # fmt: skip
    ips: list[IpAddress] = children("ip", IpAddress, doc="addresses of the guest's end")
    routes: list[Route] = children("route", Route)
    port_forwards: list[PortForward] = children("portForward", PortForward)
    script: str | None = attr("script/@path", NONEMPTY)
    downscript: str | None = attr("downscript/@path", NONEMPTY)
    backend_domain: str | None = attr("backenddomain/@name", NONEMPTY, doc="Xen")
    target: str | None = attr(
        "target/@dev", NONEMPTY, written=_written_target, doc="interface of the host"
    )
    target_managed: bool | None = attr("target/@managed", YESNO, doc="no for one that exists")
    guest_dev: str | None = attr("guest/@dev", NONEMPTY, doc="containers: name inside")
    guest_actual: str | None = attr("guest/@actual", NONEMPTY)
    model: str | None = attr(
        "model/@type",
        Codec("model", convert=_model, escaped=True),
        refused="invalid argument: Model name contains invalid characters",
        doc="see MODELS",
    )
    driver: str | None = attr("driver/@name", written=_written_driver, doc="qemu or vhost")
    txmode: TxMode | None = attr("driver/@txmode", ENUM(TxMode))
    ioeventfd: bool | None = _switch("driver/@ioeventfd")
    event_idx: bool | None = _switch("driver/@event_idx")
    queues: int | None = attr("driver/@queues", UINT, omit=(0,), doc="pairs of queues")
    rx_queue_size: int | None = attr("driver/@rx_queue_size", UINT, omit=(0,))
    tx_queue_size: int | None = attr("driver/@tx_queue_size", UINT, omit=(0,))
    rss: bool | None = _switch("driver/@rss", "receive-side scaling")
    rss_hash_report: bool | None = _switch("driver/@rss_hash_report")
    host_csum: bool | None = _switch("driver/host/@csum", "checksums are left to the host")
    host_gso: bool | None = _switch("driver/host/@gso")
    host_tso4: bool | None = _switch("driver/host/@tso4")
    host_tso6: bool | None = _switch("driver/host/@tso6")
    host_ecn: bool | None = _switch("driver/host/@ecn")
    host_ufo: bool | None = _switch("driver/host/@ufo")
    host_mrg_rxbuf: bool | None = _switch("driver/host/@mrg_rxbuf")
    guest_csum: bool | None = _switch("driver/guest/@csum", "checksums are left to the guest")
    guest_tso4: bool | None = _switch("driver/guest/@tso4")
    guest_tso6: bool | None = _switch("driver/guest/@tso6")
    guest_ecn: bool | None = _switch("driver/guest/@ecn")
    guest_ufo: bool | None = _switch("driver/guest/@ufo")
    host_driver_model: str | None = attr(
        "driver/@model", written=lambda *_: None, doc="host device: kernel module of the host"
    )
    backend: NetBackend | None = attr("backend/@type", ENUM(NetBackend), omit=("default",))
    backend_tap: str | None = attr("backend/@tap", _PATH, doc="path of the tap device")
    backend_vhost: str | None = attr("backend/@vhost", _PATH, doc="path of the vhost device")
    backend_log: str | None = attr("backend/@logFile", NONEMPTY)
    filter: FilterRef | None = child("filterref", FilterRef)
    sndbuf: int | None = text(
        "tune/sndbuf", ULONG, refused="sndbuf must be a positive integer", doc="bytes"
    )
    teaming: TeamingType | None = attr(
        "teaming/@type", ENUM(TeamingType),
        refused="unsupported configuration: unknown teaming type '{value}'",
    )  # fmt: skip
    teaming_persistent: str | None = attr(
        "teaming/@persistent", NONEMPTY, doc="alias of the virtio interface that stands in"
    )
    link: LinkState | None = attr(
        "link/@state", ENUM(LinkState),
        refused="unsupported configuration: unknown interface link state '{value}'",
    )  # fmt: skip
    mtu: int | None = attr("mtu/@size", UINT, omit=(0,), refused="malformed mtu size")
    rx_frames: int | None = attr(
        "coalesce/rx/frames/@max", ULONG, omit=(0,),
        refused="cannot parse value '{value}' for coalesce parameter",
        doc="packets that the host collects at most",
    )  # fmt: skip
    host_driver: str | None = attrs.field(default=None, eq=False)
    """For host devices what ``driver`` says."""
    actual: ActualPort | None = attrs.field(default=None, eq=False, repr=False)
    """Of a running domain: what the port of the virtual network is."""

    @property
    def is_virtio(self) -> bool:
        """Whether the guest sees a virtio device."""
        return self.model in VIRTIO_MODELS

    @property
    def port(self) -> Interface | ActualPort:
        """The interface as it really is: the network's port, where there is one."""
        return self if self.actual is None else self.actual

    @property
    def source_pci(self) -> HostPciAddress | None:
        """The PCI device of the host, if it is one."""
        source = self.port.source
        if isinstance(source, HostdevInterfaceSource) and isinstance(
            source.address, HostPciAddress
        ):
            return source.address
        return None

    def shown(self, ctx: FormatContext) -> Interface | ActualPort:
        """Return what is written: the port itself only in active output."""
        return self if ctx.inactive or ctx.migratable else self.port

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Check what libvirt's parser checks, and forget what it does not read for the type."""
        self._check_source(el, ctx)
        if self.type not in _WITH_PORT and el.find("virtualport") is not None:
            ctx.issue(
                el,
                f"<virtualport> element unsupported for <interface type='{self.type}'>",
                kind=ErrorClass.CONFIG_UNSUPPORTED,
            )
        elif (
            self.virtualport is not None
            and self.virtualport.type is None
            and self.type != "network"
        ):
            ctx.issue(el, "missing required virtualport type")
        if self.mac == _NO_MAC:
            self.mac = None
        if self.mac is not None and int(self.mac[:2], 16) & 1:
            given = el.find("mac")
            assert given is not None
            ctx.issue(
                given,
                f"expected unicast mac address, found multicast '{given.get('address')}'",
                attribute="address",
            )
        if self.type not in _FILTERED or (self.filter is not None and self.filter.filter is None):
            self.filter = None
        if (self.rx_frames or 0) > 2**32 - 1:
            ctx.issue(
                el,
                f"value '{self.rx_frames}' is too big for coalesce parameter, maximum is"
                " '4294967295'",
                kind=ErrorClass.OVERFLOW,
            )
        if self.teaming is None and self.teaming_persistent is not None:
            ctx.issue(el, "unknown teaming type '(null)'", kind=ErrorClass.CONFIG_UNSUPPORTED)
        self._settle_driver(el, ctx)

    def _check_source(self, el: XmlElement, ctx: ParseContext) -> None:
        if self.source is None and self.type in _NEED_SOURCE:
            ctx.issue(el, f"interface type='{self.type}' requires a 'source' element")
        if self.type == "hostdev":
            self._check_host_device(el, ctx)
        else:
            self.managed = None
        if self.type == "vhostuser":
            if self.source is None:
                self.source = VhostUserSource()
            assert isinstance(self.source, VhostUserSource)
            if self.backend == "passt":
                # Everything about the socket follows from passt.
                self.source.type = self.source.path = self.source.mode = None
                self.source.reconnect = self.source.reconnect_timeout = None
            else:
                self.source.type = "unix"
                self.source.mode = self.source.mode or "client"
        if isinstance(self.source, (UserSource, VhostUserSource)) and self.backend != "passt":
            self.source.dev = None

    def _check_host_device(self, el: XmlElement, ctx: ParseContext) -> None:
        source = self.source
        if source is None:
            ctx.issue(
                el,
                "unknown host device source address type '(null)'",
                kind=ErrorClass.CONFIG_UNSUPPORTED,
            )
            return
        assert isinstance(source, HostdevInterfaceSource)
        inside = el.find("source")
        if inside is not None and inside.get("startupPolicy") and not source.is_usb:
            ctx.issue(
                el,
                "Setting startupPolicy is only allowed for USB devices",
                kind=ErrorClass.CONFIG_UNSUPPORTED,
            )
        if source.address is None and source.vendor is None and el.find("source/address") is None:
            ctx.issue(
                el,
                "unknown host device source address type '(null)'",
                kind=ErrorClass.CONFIG_UNSUPPORTED,
            )

    def _settle_driver(self, el: XmlElement, ctx: ParseContext) -> None:
        """Keep what <driver> says only where it means something."""
        known: tuple[str, ...] = ()
        if self.type == "hostdev":
            known = ("kvm", "vfio", "xen") if self.source_pci is not None else ()
        elif self.is_virtio:
            known = ("qemu", "vhost")
        if known and self.driver is not None and self.driver not in known:
            ctx.issue(
                el,
                f"Invalid value for attribute 'name' in element 'driver': '{self.driver}'.",
                attribute="name",
            )
        if not known:
            self.driver = None
        if self.type == "hostdev":
            self.host_driver, self.driver = self.driver, None
        else:
            self.host_driver_model = None
        if self.type == "hostdev" or not self.is_virtio:
            for name in _VIRTIO_ONLY:
                setattr(self, name, None)
            self.backend_vhost = None
        if self.queues == 1:
            self.queues = None  # there is always one pair


_VIRTIO_ONLY: Final = (
    "txmode", "ioeventfd", "event_idx", "queues", "rx_queue_size", "tx_queue_size", "rss",
    "rss_hash_report", "host_csum", "host_gso", "host_tso4", "host_tso6", "host_ecn", "host_ufo",
    "host_mrg_rxbuf", "guest_csum", "guest_tso4", "guest_tso6", "guest_ecn", "guest_ufo",
)  # fmt: skip
"""Attributes that libvirt does not even read for other models."""
