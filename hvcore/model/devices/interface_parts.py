"""What interfaces share with other network devices: addresses, VLANs, bandwidth, virtual ports."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING
from typing import Final
from typing import Literal

from hvcore.errors import ErrorClass
from hvcore.xml.codecs import ENUM
from hvcore.xml.codecs import INTEGER
from hvcore.xml.codecs import POSITIVE
from hvcore.xml.codecs import UINT
from hvcore.xml.codecs import ULONG
from hvcore.xml.codecs import UUID
from hvcore.xml.codecs import YESNO
from hvcore.xml.codecs import Codec
from hvcore.xml.fields import Element
from hvcore.xml.fields import attr
from hvcore.xml.fields import child
from hvcore.xml.fields import children
from hvcore.xml.fields import element

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Mapping

    from lxml.etree import _Element as XmlElement

    from hvcore.xml.context import FormatContext
    from hvcore.xml.context import ParseContext

VirtualPortType = Literal["802.1Qbg", "802.1Qbh", "openvswitch", "midonet"]
NativeMode = Literal["tagged", "untagged"]
TeamingType = Literal["persistent", "transient"]
Protocol = Literal["tcp", "udp"]

_OCTETS: Final = re.compile(r"[0-9a-fA-F]{1,2}(:[0-9a-fA-F]{1,2}){5}\Z")


def parse_mac(text: str) -> str:
    """Return a MAC address as six pairs of lower-case digits.

    :raises ValueError: when ``text`` is not one.
    """
    if _OCTETS.match(text) is None:
        raise ValueError(text)
    return ":".join(f"{int(octet, 16):02x}" for octet in text.split(":"))


MAC: Final = Codec(
    "MAC address",
    convert=parse_mac,
    rng='<data type="string"><param name="pattern">'
    "[0-9a-fA-F]{1,2}(:[0-9a-fA-F]{1,2}){5}</param></data>",
)


def parse_ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return the IP address that ``text`` is.

    :raises ValueError: when it is none.
    """
    return ipaddress.ip_address(text)


def _ip_text(text: str) -> str:
    return str(parse_ip(text))


IP: Final = Codec("IP address", convert=_ip_text)


_OTHER: Final = {4: "ipv6", 6: "ipv4"}
"""What the family of an address is not; libvirt ignores all other words."""


@element("ip")
class IpAddress(Element):
    """An address of an interface."""

    address: str | None = attr("@address")
    family: str | None = attr("@family")
    prefix: int | None = attr(
        "@prefix", UINT, omit=(0,), refused="Invalid prefix value '{value}' in <ip>"
    )
    peer: str | None = attr("@peer")

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Check the addresses against the family, which follows from them if it is not given."""
        if self.address is None:
            ctx.issue(el, "Missing required address in <ip>")
            return
        try:
            address = parse_ip(self.address)
        except ValueError:
            address = None
        if address is None or self.family == _OTHER[address.version]:
            ctx.issue(el, f"Invalid address '{self.address}' in <ip>", attribute="address")
            return
        self.address = str(address)
        self.family = f"ipv{address.version}"
        if self.prefix is not None and self.prefix > address.max_prefixlen:
            ctx.issue(el, f"Invalid prefix value '{self.prefix}' in <ip>", attribute="prefix")
        if self.peer is not None:
            try:
                peer = parse_ip(self.peer)
            except ValueError:
                peer = None
            if peer is None or peer.version != address.version:
                ctx.issue(
                    el,
                    f"Invalid peer '{self.peer}' in <ip>",
                    kind=ErrorClass.INVALID_ARG,
                    attribute="peer",
                )
            else:
                self.peer = str(peer)


@element("route")
class Route(Element):
    """A route of an interface."""

    family: str | None = attr("@family")
    address: str | None = attr("@address", doc="the network")
    netmask: str | None = attr("@netmask")
    prefix: int | None = attr("@prefix", UINT)
    gateway: str | None = attr("@gateway")
    metric: int | None = attr("@metric", POSITIVE)

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Check that network, mask and gateway belong together."""
        # On the host's side it stands in <source>.
        parent = el.getparent()
        inside = None if parent is None else parent.tag
        owner = {"source": "interface host IP", "hostdev": "Domain hostdev device"}.get(
            str(inside), "guest interface"
        )
        try:
            self._check()
        except ValueError as error:
            ctx.issue(el, f"{owner}: {error}")

    def _check(self) -> None:
        """Complete the values.

        :raises ValueError: with libvirt's words.
        """
        here = "in route definition"
        for name in ("address", "gateway"):
            if getattr(self, name) is None:
                raise ValueError(f"Missing required {name} attribute {here}")
        address = _route_ip(self.address, "network")
        gateway = _route_ip(self.gateway, "gateway")
        if self.family not in (None, "ipv4", "ipv6"):
            raise ValueError(f"Unrecognized family '{self.family}' {here}")
        if self.family == "ipv6":
            self._check_ipv6(address, gateway)
        else:
            self._check_ipv4(address, gateway)
        mask = self.netmask if self.netmask is not None else self.prefix or 0
        network = ipaddress.ip_network(f"{address}/{mask}", strict=False)
        if network.network_address != address:
            raise ValueError(f"Address '{self.address}' {here} is not a network address")
        self.address, self.gateway = str(address), str(gateway)

    def _check_ipv4(self, address: _Ip, gateway: _Ip) -> None:
        here = "in route definition"
        said = "No family" if self.family is None else "IPv4 family"
        if address.version != 4:
            raise ValueError(f"{said} specified for non-IPv4 address '{self.address}' {here}")
        if gateway.version != 4:
            raise ValueError(f"{said} specified for non-IPv4 gateway '{self.address}' {here}")
        if self.netmask is not None:
            mask = _route_ip(self.netmask, "netmask")
            if mask.version != 4:
                raise ValueError(
                    f"Invalid netmask '{self.netmask}' for address '{self.address}'"
                    " (both must be IPv4)"
                )
            if self.prefix is not None:
                raise ValueError("Route definition cannot have both a prefix and a netmask")
        if (self.prefix or 0) > 32:
            raise ValueError(f"Invalid prefix {self.prefix} specified {here}, must be 0 - 32")

    def _check_ipv6(self, address: _Ip, gateway: _Ip) -> None:
        here = "in route definition"
        if address.version != 6:
            raise ValueError(f"ipv6 family specified for non-IPv6 address '{self.address}' {here}")
        if self.netmask is not None:
            raise ValueError(f"Specifying netmask invalid for IPv6 address '{self.address}' {here}")
        if gateway.version != 6:
            raise ValueError(f"ipv6 specified for non-IPv6 gateway address '{self.gateway}' {here}")
        if (self.prefix or 0) > 128:
            raise ValueError(f"Invalid prefix {self.prefix} specified {here}, must be 0 - 128")


_Ip = ipaddress.IPv4Address | ipaddress.IPv6Address


def _route_ip(text: str | None, what: str) -> _Ip:
    try:
        return parse_ip(text or "")
    except ValueError:
        raise ValueError(f"Bad {what} address '{text}' in route definition") from None


@element("tag")
class VlanTag(Element):
    """One VLAN."""

    id: int | None = attr("@id", UINT, required=True, doc="0 to 4095")
    native_mode: NativeMode | None = attr(
        "@nativeMode", ENUM(NativeMode), doc="how frames of the native VLAN are sent"
    )


@element("vlan", omit_empty=True)
class Vlan(Element):
    """The VLANs an interface is in."""

    trunk: str | None = attr(
        "@trunk",
        written=lambda vlan, _: "yes" if vlan.is_trunk else None,
        doc="yes for frames with their tags",
    )
    tags: list[VlanTag] = children("tag", VlanTag)

    @property
    def is_trunk(self) -> bool:
        """Whether frames keep their tags."""
        if self.trunk is not None:
            return self.trunk.lower() == "yes"
        return len(self.tags) > 1

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Check the tags, and that a single access VLAN is the only other way."""
        if not self.tags:
            ctx.issue(
                el,
                "missing tag id - each <vlan> must have at least one <tag id='n'/> subelement",
            )
            return
        natives = [tag for tag in self.tags if tag.native_mode is not None]
        for tag in self.tags:
            if (tag.id or 0) > 4095:
                ctx.issue(el, f"vlan tag id {tag.id} too large (maximum 4095)")
        if len(natives) > 1:
            ctx.issue(el, "duplicate native vlan setting")
        if self.trunk is None or self.is_trunk:
            return
        if len(self.tags) > 1:
            ctx.issue(
                el,
                f"invalid \"trunk='{self.trunk}'\" in <vlan> - trunk='yes' is required for more"
                " than one vlan tag",
            )
        elif natives:
            ctx.issue(
                el,
                "invalid configuration in <vlan> - \"trunk='no'\" is not allowed with a native"
                " vlan id",
            )
        elif self.trunk.lower() != "no":
            ctx.issue(el, f"invalid \"trunk='{self.trunk}'\" in <vlan> - must be yes or no")


_ANY32: Final = INTEGER(0, 2**32 - 1, base=0)
_PORT_LIMITS: Final = (
    # attribute, what libvirt calls it, highest value, how libvirt says that
    ("managerid", 0xFF, "value of managerid out of range"),
    ("typeid", 0xFFFFFF, "value for typeid out of range"),
    ("typeidversion", 0xFF, "value of typeidversion out of range"),
)
_PORT_EXTRAS: Final[Mapping[str, tuple[str, ...]]] = {
    "802.1Qbg": ("profileid", "interfaceid"),
    "802.1Qbh": ("managerid", "typeid", "typeidversion", "instanceid", "interfaceid"),
    "openvswitch": ("managerid", "typeid", "typeidversion", "instanceid"),
}
"""Parameters that each type does not have; the first one given is refused."""
PORT_REQUIRED: Final[Mapping[str, tuple[str, ...]]] = {
    "802.1Qbg": ("managerid", "typeid", "typeidversion", "instanceid"),
    "802.1Qbh": ("profileid",),
    "openvswitch": ("interfaceid",),
    "midonet": ("interfaceid",),
}
"""Parameters that each type needs."""
GENERATED_IDS: Final[Mapping[str, tuple[str | None, ...]]] = {
    "instanceid": ("802.1Qbg", None),
    "interfaceid": ("openvswitch", None),
}
"""Identifiers that are drawn where they are not given, with the types that have them."""
# A network's port group may add what an interface of the network leaves out.
_COMPLETE: Final = frozenset({"bridge", "direct", "hostdev"})
_PROFILE_LENGTH: Final = 39  # bytes, less the terminating zero


def _unless_midonet(port: VirtualPort, ctx: FormatContext) -> str | None:
    del ctx
    return None if port.type == "midonet" else port.profileid


@element("virtualport", omit_empty=True)
class VirtualPort(Element):
    """What a switch is told of the interface (802.1Qbg, 802.1Qbh, Open vSwitch, MidoNet)."""

    type: VirtualPortType | None = attr(
        "@type", ENUM(VirtualPortType),
        refused="unsupported configuration: unknown virtualport type {value}",
    )  # fmt: skip
    managerid: int | None = attr(
        "parameters/@managerid", _ANY32, refused="cannot parse value of managerid parameter"
    )
    typeid: int | None = attr(
        "parameters/@typeid", _ANY32, refused="cannot parse value of typeid parameter"
    )
    typeidversion: int | None = attr(
        "parameters/@typeidversion", _ANY32,
        refused="cannot parse value of typeidversion parameter",
    )  # fmt: skip
    instanceid: str | None = attr(
        "parameters/@instanceid", UUID, refused="cannot parse instanceid parameter as a uuid"
    )
    interfaceid: str | None = attr(
        "parameters/@interfaceid", UUID, refused="cannot parse interfaceid parameter as a uuid"
    )
    profileid: str | None = attr("parameters/@profileid", written=_unless_midonet)

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Check the ranges, and which parameters the type needs and does not have."""
        for name, highest, message in _PORT_LIMITS:
            value = getattr(self, name)
            if value is not None and value > highest:
                ctx.issue(el, message)
        if len((self.profileid or "").encode()) > _PROFILE_LENGTH:
            ctx.issue(el, "profileid parameter too long")
        self.profileid = self.profileid or None
        parent = el.getparent()
        if parent is not None and parent.get("type") in _COMPLETE:
            for name in PORT_REQUIRED.get(self.type or "", ()):
                if getattr(self, name) is None and self.type not in GENERATED_IDS.get(name, ()):
                    ctx.issue(el, f"missing {name} in <virtualport type='{self.type}'>")
                    return
        for name in _PORT_EXTRAS.get(self.type or "", ()):
            if getattr(self, name) is not None:
                ctx.issue(el, f"extra {name} unsupported in <virtualport type='{self.type}'>")
                break


@element("inbound")
class Rate(Element):
    """How much traffic there may be in one direction."""

    average: int | None = attr("@average", ULONG, omit=(0,), doc="KiB/s")
    peak: int | None = attr("@peak", ULONG, omit=(0,), doc="KiB/s")
    floor: int | None = attr("@floor", ULONG, omit=(0,), doc="KiB/s that are guaranteed")
    burst: int | None = attr("@burst", ULONG, omit=(0,), doc="KiB at peak speed")

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Check which attributes stand together."""
        if self.average is None and self.floor is None:
            ctx.issue(
                el, "Missing mandatory average or floor attributes", kind=ErrorClass.XML_DETAIL
            )
        elif self.average is None and (self.peak is not None or self.burst is not None):
            ctx.issue(
                el,
                "'peak' and 'burst' require 'average' attribute",
                kind=ErrorClass.CONFIG_UNSUPPORTED,
            )
        elif self.floor is not None and not _floor_allowed(el):
            ctx.issue(
                el,
                "floor attribute is not supported for this config",
                kind=ErrorClass.CONFIG_UNSUPPORTED,
            )


def _floor_allowed(el: XmlElement) -> bool:
    """Return whether a guaranteed rate may stand here: inbound, from a virtual network."""
    parent = el.getparent()
    owner = None if parent is None else parent.getparent()
    if el.tag != "inbound" or owner is None:
        return False
    return owner.tag == "networkport" or owner.get("type") == "network"


def _limited(name: str) -> Callable[[Bandwidth, FormatContext], Rate | None]:
    def written(bandwidth: Bandwidth, ctx: FormatContext) -> Rate | None:
        del ctx
        rate: Rate | None = getattr(bandwidth, name)
        return rate if rate is not None and (rate.average or rate.floor) else None

    return written


@element("bandwidth", omit_empty=True)
class Bandwidth(Element):
    """Limits on the traffic of an interface."""

    class_id: int | None = attr("@classID", UINT)
    inbound: Rate | None = child("inbound", Rate, written=_limited("inbound"))
    outbound: Rate | None = child("outbound", Rate, written=_limited("outbound"))

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Refuse what only ports of networks have."""
        parent = el.getparent()
        if self.class_id is not None and (parent is None or parent.tag != "networkport"):
            ctx.issue(
                el,
                "classID attribute not supported on <bandwidth> in this usage context",
                kind=ErrorClass.XML_DETAIL,
            )


@element("range", omit_empty=True)
class PortRange(Element):
    """A range of ports that are forwarded."""

    start: int | None = attr("@start", POSITIVE)
    end: int | None = attr("@end", POSITIVE)
    to: int | None = attr("@to", POSITIVE, doc="first port in the guest, if it differs")
    exclude: bool | None = attr("@exclude", YESNO, doc="these are not forwarded")


@element("portForward")
class PortForward(Element):
    """Ports of the host that lead to the guest."""

    proto: Protocol = attr("@proto", ENUM(Protocol), required=True)
    address: str | None = attr("@address", IP, refused="Invalid address '{value}' in <portForward>")
    dev: str | None = attr("@dev", doc="interface of the host to listen on")
    ranges: list[PortRange] = children("range", PortRange)


@element("parameter")
class FilterParameter(Element):
    """A value for a variable of a filter."""

    name: str | None = attr("@name")
    value: str | None = attr("@value")


_VARIABLE: Final = re.compile(r"[a-zA-Z0-9_]*\Z", re.ASCII)
_VARIABLE_VALUE: Final = re.compile(r"[a-zA-Z0-9_.:]+\Z", re.ASCII)


def _by_name(ref: FilterRef, ctx: FormatContext) -> list[FilterParameter]:
    del ctx
    return sorted(ref.parameters, key=lambda parameter: parameter.name or "")


@element("filterref")
class FilterRef(Element):
    """The network filter of an interface."""

    filter: str | None = attr("@filter")
    parameters: list[FilterParameter] = children("parameter", FilterParameter, written=_by_name)

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Forget parameters that cannot be, as libvirt does."""
        del el, ctx
        self.parameters = [
            each
            for each in self.parameters
            if each.name is not None
            and _VARIABLE.match(each.name)
            and _VARIABLE_VALUE.match(each.value or "")
        ]
