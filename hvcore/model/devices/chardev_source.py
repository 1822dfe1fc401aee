"""What a character device is on the host: a <source> for each kind, and where its output goes.

Used by <serial>, <parallel>, <console>, <channel>, <smartcard>, <redirdev>, and inside <rng> and
<tpm>.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import ClassVar
from typing import Final
from typing import Literal

import attrs

from hvcore.model.devices.base import Device
from hvcore.model.devices.storage import DeviceSeclabel
from hvcore.model.devices.storage import check_seclabels
from hvcore.xml.codecs import ENUM
from hvcore.xml.codecs import ONOFF
from hvcore.xml.codecs import UINT
from hvcore.xml.codecs import YESNO
from hvcore.xml.fields import Element
from hvcore.xml.fields import attr
from hvcore.xml.fields import children
from hvcore.xml.fields import choice
from hvcore.xml.fields import element

if TYPE_CHECKING:
    from lxml.etree import _Element as XmlElement

    from hvcore.xml.context import FormatContext
    from hvcore.xml.context import ParseContext

ChardevType = Literal[
    "null", "vc", "pty", "dev", "file", "pipe", "stdio", "udp", "tcp", "unix", "spicevmc",
    "spiceport", "nmdm", "qemu-vdagent", "dbus",
]  # fmt: skip
SourceMode = Literal["connect", "bind"]
Protocol = Literal["raw", "telnet", "telnets", "tls"]
MouseMode = Literal["server", "client"]

UNKNOWN_TYPE: Final = (
    "unsupported configuration: unknown type presented to host for character device: {value}"
)


@element("source", omit_empty=True)
class CharSource(Element):
    """What all sources have: nothing but their place."""


@element("source", omit_empty=True)
class PathSource(CharSource):
    """A device node or a pair of named pipes of the host."""

    path: str | None = attr("@path")
    seclabels: list[DeviceSeclabel] = children("seclabel", DeviceSeclabel)

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Check the labels."""
        check_seclabels(self.seclabels, el, ctx)


@element("source", omit_empty=True)
class FileSource(CharSource):
    """A file that collects what the guest writes."""

    path: str | None = attr("@path")
    append: bool | None = attr("@append", ONOFF, doc="keep what the file holds at a start")
    seclabels: list[DeviceSeclabel] = children("seclabel", DeviceSeclabel)

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Check the labels."""
        check_seclabels(self.seclabels, el, ctx)


@element("source", omit_empty=True)
class PtySource(CharSource):
    """A pseudo terminal; the host chooses its path at each start."""

    path: str | None = attr("@path", show="live")
    seclabels: list[DeviceSeclabel] = children("seclabel", DeviceSeclabel, show="live")

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Check the labels; they need a path."""
        check_seclabels(self.seclabels, el, ctx)
        if self.path is None:
            self.seclabels = []


def _check_reconnect(source: Any, el: XmlElement, ctx: ParseContext) -> None:
    if not source.reconnect:
        source.reconnect_timeout = None
    elif source.reconnect_timeout is None:
        reconnect = el.find("reconnect")
        assert reconnect is not None  # it says that it is enabled
        ctx.issue(reconnect, "Missing required attribute 'timeout' in element 'reconnect'")


@element("source", omit_empty=True)
class UnixSource(CharSource):
    """A unix socket."""

    mode: SourceMode = attr("@mode", ENUM(SourceMode), default="connect")
    path: str | None = attr("@path")
    seclabels: list[DeviceSeclabel] = children("seclabel", DeviceSeclabel)
    reconnect: bool | None = attr("reconnect/@enabled", YESNO)
    reconnect_timeout: int | None = attr("reconnect/@timeout", UINT, doc="seconds")

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Check labels and reconnection."""
        check_seclabels(self.seclabels, el, ctx)
        _check_reconnect(self, el, ctx)


@element("source")
class TcpSource(CharSource):
    """A TCP connection."""

    mode: SourceMode = attr("@mode", ENUM(SourceMode), default="connect")
    host: str | None = attr("@host")
    service: str | None = attr("@service", doc="port")
    tls: bool | None = attr(
        "@tls",
        YESNO,
        written=lambda o, ctx: None if o.tls_from_config and ctx.migratable else o.tls,
    )
    reconnect: bool | None = attr("reconnect/@enabled", YESNO)
    reconnect_timeout: int | None = attr("reconnect/@timeout", UINT, doc="seconds")
    tls_from_config: bool = attrs.field(default=False, eq=False, repr=False)
    """Of a running domain: whether TLS is used was decided by the settings of the driver."""

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Check reconnection."""
        _check_reconnect(self, el, ctx)


@element("source", omit_empty=True)
class UdpSource(CharSource):
    """One end of UDP: where packets are sent to, or where they are received."""

    mode: SourceMode = attr("@mode", ENUM(SourceMode), default="connect")
    host: str | None = attr("@host")
    service: str | None = attr("@service", doc="port")


@element("source", omit_empty=True)
class ChannelSource(CharSource):
    """A named channel of SPICE or D-Bus."""

    channel: str | None = attr("@channel")


@element("source", omit_empty=True)
class NmdmSource(CharSource):
    """A null-modem pair of FreeBSD."""

    master: str | None = attr("@master")
    slave: str | None = attr("@slave")


@element("source", omit_empty=True)
class VdagentSource(CharSource):
    """QEMU's own agent for clipboard and pointer."""

    clipboard: bool | None = attr("clipboard/@copypaste", YESNO, required=True)
    mouse: MouseMode | None = attr("mouse/@mode", ENUM(MouseMode), required=True)


SOURCES: Final[dict[str, type[Element]]] = {
    "pty": PtySource,
    "dev": PathSource,
    "pipe": PathSource,
    "file": FileSource,
    "unix": UnixSource,
    "tcp": TcpSource,
    "udp": UdpSource,
    "spiceport": ChannelSource,
    "dbus": ChannelSource,
    "nmdm": NmdmSource,
    "qemu-vdagent": VdagentSource,
}
"""Type to the class of its <source>; the other types have none."""


def written_sources(owner: Any, ctx: FormatContext) -> list[CharSource]:
    """Return the <source> elements to write: of UDP the receiving end first."""
    del ctx
    sources: list[Any] = owner.sources
    if owner.type == "udp":
        ends = [end for end in sources if end.host is not None or end.service is not None]
        return sorted(ends, key=lambda end: end.mode != "bind")
    if owner.type == "unix":
        return [source for source in sources if source.path is not None]
    return sources


def check_chardev(owner: Any, el: XmlElement, ctx: ParseContext, *, labels: bool = False) -> None:
    """Complete and check the fields that every user of a source declares.

    :param owner: has ``type``, ``sources``, ``protocol``, ``log_file``, ``log_append``.
    :param labels: the source may have security labels of its own; otherwise they are dropped.
    """
    if not labels:
        for source in owner.sources:
            if getattr(source, "seclabels", None):
                source.seclabels = []
    counts = {tag: len(el.findall(tag)) for tag in ("source", "log", "protocol")}
    if counts["source"] > 1 and owner.type != "udp":
        ctx.issue(el, "only one source element is allowed for character device")
    elif counts["source"] > 2:
        ctx.issue(el, "only two source elements are allowed for character device")
    for tag in ("log", "protocol"):
        if counts[tag] > 1:
            ctx.issue(el, f"only one {tag} element is allowed for character device")
    if owner.type == "udp":
        # Of two ends of one kind the first counts.
        ends = {end.mode: end for end in reversed(owner.sources)}
        owner.sources = list(ends.values())
    elif owner.type in SOURCES and not owner.sources:
        owner.sources.append(SOURCES[owner.type]())
    if owner.type != "tcp":
        owner.protocol = None
    elif owner.protocol is None:
        owner.protocol = "raw"
    if owner.log_file is None:
        owner.log_append = None


@element("")
class CharDevice(Device):
    """Base of devices whose other end is a character device of the host."""

    leading: ClassVar[tuple[str, ...]] = ("type", "sources", "protocol", "log_file", "log_append")

    type: ChardevType = attr("@type", ENUM(ChardevType), default="pty", refused=UNKNOWN_TYPE)
    sources: list[CharSource] = choice(
        "source", "type", SOURCES, many=True, written=written_sources
    )
    protocol: Protocol | None = attr("protocol/@type", ENUM(Protocol), doc="type tcp")
    log_file: str | None = attr("log/@file", doc="file that gets a copy of the output")
    log_append: bool | None = attr("log/@append", ONOFF)

    @property
    def source(self) -> Any:
        """The <source>; None for types without one; of UDP the end that sends."""
        return source_of(self)


def source_of(owner: Any) -> Any:
    """Return the <source> of an object with ``type`` and ``sources``, or None."""
    if owner.type == "udp":
        return next((end for end in owner.sources if end.mode == "connect"), None)
    return owner.sources[0] if owner.sources else None
