"""The <graphics> element: one class for each kind of display."""

from __future__ import annotations

import calendar
import datetime as dt
import re
from typing import TYPE_CHECKING
from typing import Any
from typing import ClassVar
from typing import Final
from typing import Literal

import attrs

from hvcore.model.devices.base import Device
from hvcore.xml.codecs import ENUM
from hvcore.xml.codecs import IGNORED
from hvcore.xml.codecs import INT
from hvcore.xml.codecs import NONEMPTY
from hvcore.xml.codecs import ONOFF
from hvcore.xml.codecs import POSITIVE
from hvcore.xml.codecs import YESNO
from hvcore.xml.codecs import Codec
from hvcore.xml.codecs import forgiving
from hvcore.xml.fields import Element
from hvcore.xml.fields import attr
from hvcore.xml.fields import children
from hvcore.xml.fields import element

if TYPE_CHECKING:
    from lxml.etree import _Element as XmlElement

    from hvcore.xml.context import FormatContext
    from hvcore.xml.context import ParseContext

ListenType = Literal["none", "address", "network", "socket"]
Connected = Literal["fail", "disconnect", "keep"]
SharePolicy = Literal["default", "allow-exclusive", "force-shared", "ignore"]
ChannelName = Literal[
    "main", "display", "inputs", "cursor", "playback", "record", "smartcard", "usbredir"
]
ChannelMode = Literal["any", "secure", "insecure"]
ImageCompression = Literal["auto_glz", "auto_lz", "quic", "glz", "lz", "off"]
WanCompression = Literal["auto", "never", "always"]
StreamingMode = Literal["filter", "all", "off"]
MouseMode = Literal["server", "client"]

CHANNELS: Final[tuple[ChannelName, ...]] = (
    "main", "display", "inputs", "cursor", "playback", "record", "smartcard", "usbredir",
)  # fmt: skip
"""Channels of SPICE in the order in which libvirt writes them."""

_LENIENT: Final = forgiving(YESNO)

_TIME: Final = re.compile(
    r"\s*([+-]?\d+)-\s*([+-]?\d+)-\s*([+-]?\d+)T\s*([+-]?\d+):\s*([+-]?\d+):\s*([+-]?\d+)\Z",
    re.ASCII,
)


def _time(text: str) -> int | None:
    match = _TIME.match(text)
    if match is None:
        return None
    year, month, day, hour, minute, second = map(int, match.groups())
    moment = dt.datetime(year, month, day, hour, minute, second, tzinfo=dt.UTC)
    return calendar.timegm(moment.timetuple())


def _time_text(seconds: int) -> str:
    moment = dt.datetime.fromtimestamp(seconds, dt.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S")


TIME: Final = Codec(
    "time",
    convert=_time,
    write=_time_text,
    rng="<data type='dateTime'/>",
    json={"type": "integer"},
)
"""A point in time (UTC), as seconds since the epoch; written ``2010-11-28T14:29:01``.

None for text that is no time; whether that matters depends on other values.
"""

_CONNECTED: Final = forgiving(ENUM(Connected))


@element("listen")
class Listen(Element):
    """Where a server waits for clients."""

    type: ListenType = attr("@type", ENUM(ListenType), required=True)
    address: str | None = attr(
        "@address",
        NONEMPTY,
        written=lambda o, ctx: (
            o.address if o.type == "address" or (o.type == "network" and not ctx.inactive) else None
        ),
    )
    network: str | None = attr("@network", NONEMPTY, doc="the address of this network's bridge")
    socket: str | None = attr(
        "@socket",
        NONEMPTY,
        written=lambda o, ctx: None if o.generated and ctx.migratable else o.socket,
        doc="path of a unix socket",
    )
    from_config: bool = attrs.field(default=False, eq=False, repr=False)
    """Of a running domain: chosen by the settings of the driver."""
    generated: bool = attrs.field(default=False, eq=False, repr=False)
    """Of a running domain: the path was generated."""

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Refuse what belongs to another type."""
        if self.network and self.type != "network":
            ctx.issue(el, "'network' attribute is valid only for listen type 'network'")
        if self.socket and self.type != "socket":
            ctx.issue(el, "'socket' attribute is valid only for listen type 'socket'")
        if self.type not in ("address", "network"):
            self.address = None


@element("graphics")
class Graphics(Device):
    """A display of the guest; the class tells how it is shown."""

    selector: ClassVar[str | None] = "type"
    type: ClassVar[str]


def _listens(owner: Any, ctx: FormatContext) -> list[Listen]:
    """Return the listens to write; a migration target chooses those of settings anew."""
    listens: list[Listen] = owner.listens
    if not ctx.migratable:
        return listens
    return [
        listen for listen in listens if not listen.from_config and not _compatible(owner, listen)
    ]


def _compatible(owner: Any, listen: Listen) -> bool:
    """Whether former versions, and hence migration, know the listen by attributes only."""
    if owner.type == "vnc":
        return listen.type == "socket" and bool(listen.socket) and not listen.generated
    return bool(owner.type == "spice" and listen.type == "none")


def _first(owner: Any) -> Listen | None:
    return owner.listens[0] if owner.listens else None


def _listen_attribute(owner: Any, ctx: FormatContext) -> str | None:
    """Return the address of the first listen, for readers that know only one."""
    first = _first(owner)
    if first is None or (ctx.migratable and first.from_config):
        return None
    if first.type == "network" and (ctx.inactive or ctx.migratable):
        return None
    return first.address if first.type in ("address", "network") else None


def _tcp(owner: Any) -> bool:
    """Whether the server has ports."""
    first = _first(owner)
    return first is not None and first.type in ("address", "network")


def _read_listens(owner: Any, el: XmlElement, ctx: ParseContext) -> None:
    """Merge the attributes ``listen`` and ``socket`` of <graphics> into the list."""
    listen, socket = el.get("listen"), el.get("socket")
    first = _first(owner)
    if first is not None:
        _merge(first, el, ctx)
    compatible = Listen(type="address", address=listen or None)
    if owner.type == "vnc" and socket is not None:
        compatible = Listen(type="socket", socket=socket)
    if first is None:
        owner.listens.append(compatible)
    elif compatible.type == "socket" and first.type in ("address", "network"):
        owner.listens[0] = compatible


def _merge(first: Listen, el: XmlElement, ctx: ParseContext) -> None:
    for kind, name in (("address", "listen"), ("socket", "socket")):
        listen = el.find("listen")
        outer, inner = el.get(name), None if listen is None else listen.get(kind)
        if first.type != kind or outer is None:
            continue
        if inner is None:
            setattr(first, kind, outer or None)
        elif inner != outer:
            ctx.issue(
                el,
                f"unsupported configuration: graphics '{name}' attribute '{outer}' must match"
                f" '{kind}' attribute of first listen element (found '{inner}')",
            )


@element("graphics")
class _Server(Graphics):
    """What the servers share: a password, and addresses to listen on."""

    username: str | None = attr("@username")
    password: str | None = attr("@passwd", show="secure")
    password_valid_to: int | None = attr("@passwdValidTo", TIME, doc="seconds since the epoch")
    connected: Connected | None = attr(
        "@connected", _CONNECTED, doc="what happens to clients when the password changes"
    )
    listens: list[Listen] = children("listen", Listen, written=_listens)

    def read_server(self, el: XmlElement, ctx: ParseContext) -> None:
        """Complete the listens; without a password nothing belonging to it counts."""
        _read_listens(self, el, ctx)
        if self.password is None:
            self.username = self.password_valid_to = self.connected = None
            return
        time, connected = el.get("passwdValidTo"), el.get("connected")
        if time is not None and self.password_valid_to is None:
            ctx.issue(
                el,
                f"internal error: cannot parse password validity time '{time}', expect"
                " YYYY-MM-DDTHH:MM:SS",
            )
        if connected is not None and self.connected is None:
            ctx.issue(el, f"unsupported configuration: unknown connected value {connected}")
        elif self.type == "vnc" and self.connected not in (None, "keep"):
            ctx.issue(el, "unsupported configuration: VNC supports connected='keep' only")


def _vnc_port(owner: Any, ctx: FormatContext) -> int | None:
    if not _tcp(owner):
        return None
    if owner.port and (not owner.autoport or not ctx.inactive):
        port: int = owner.port
        return port
    return -1 if owner.autoport else None


def _vnc_websocket(owner: Any, ctx: FormatContext) -> int | None:
    if not _tcp(owner):
        return None
    return -1 if owner.websocket_generated and ctx.inactive else owner.websocket


def _vnc_socket(owner: Any, ctx: FormatContext) -> str | None:
    first = _first(owner)
    if first is None or first.type != "socket":
        return None
    chosen = first.generated or first.from_config
    return None if chosen and ctx.migratable else first.socket


def _autoport(owner: Any, ctx: FormatContext) -> bool | None:
    del ctx
    return bool(owner.autoport) if _tcp(owner) else None


@element("graphics")
class VncGraphics(_Server):
    """A VNC server."""

    type: ClassVar[str] = "vnc"
    trailing: ClassVar[tuple[str, ...]] = ("audio",)

    socket: str | None = attr("@socket", written=_vnc_socket, doc="that of the first listen")
    port: int | None = attr(
        "@port", INT, written=_vnc_port, refused="internal error: cannot parse vnc port {value}"
    )
    autoport: bool | None = attr("@autoport", _LENIENT, written=_autoport)
    websocket: int | None = attr(
        "@websocket", INT, omit=(0,), written=_vnc_websocket, doc="port; -1 chooses one"
    )
    listen: str | None = attr("@listen", written=_listen_attribute, doc="that of the first listen")
    keymap: str | None = attr("@keymap")
    share_policy: SharePolicy | None = attr(
        "@sharePolicy", ENUM(SharePolicy), omit=("default",), doc="several clients at a time"
    )
    power_control: bool | None = attr(
        "@powerControl", YESNO, doc="clients may reset and power off the guest"
    )
    audio: int | None = attr(
        "audio/@id", POSITIVE, required=True, doc="id of the <audio> that clients hear"
    )
    websocket_generated: bool = attrs.field(default=False, eq=False, repr=False)
    """Of a running domain: the port was chosen at the start."""

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Complete port and listens."""
        automatic = self.port in (None, -1)
        self.autoport = automatic if self.autoport is None else self.autoport
        if automatic:
            self.port = None
        self.read_server(el, ctx)
        self.listen = self.socket = None


def _spice_port(name: str) -> Any:
    def written(owner: Any, ctx: FormatContext) -> int | None:
        del ctx
        return getattr(owner, name) if _tcp(owner) else None

    return written


def _spice_autoport(owner: Any, ctx: FormatContext) -> bool | None:
    first = _first(owner)
    if first is None or first.type in ("address", "network"):
        return bool(owner.autoport)
    if not ctx.migratable:
        return None
    # Former versions know neither type: no ports mean "none", and settings are applied anew.
    if first.type == "none":
        return False
    return True if first.from_config else None


@element("channel")
class SpiceChannel(Element):
    """Whether one of the channels of SPICE must or must not be encrypted."""

    name: ChannelName = attr("@name", ENUM(ChannelName), required=True)
    mode: ChannelMode = attr("@mode", ENUM(ChannelMode), required=True)


@element("graphics")
class SpiceGraphics(_Server):
    """A SPICE server."""

    type: ClassVar[str] = "spice"
    trailing: ClassVar[tuple[str, ...]] = (
        "channels", "image", "jpeg", "zlib", "playback", "streaming", "mouse", "copy_paste",
        "file_transfer", "gl", "render_node",
    )  # fmt: skip

    port: int | None = attr("@port", INT, omit=(0,), written=_spice_port("port"))
    tls_port: int | None = attr("@tlsPort", INT, omit=(0,), written=_spice_port("tls_port"))
    autoport: bool | None = attr("@autoport", YESNO, written=_spice_autoport)
    listen: str | None = attr("@listen", written=_listen_attribute, doc="that of the first listen")
    keymap: str | None = attr("@keymap")
    default_mode: ChannelMode | None = attr("@defaultMode", ENUM(ChannelMode), omit=("any",))
    channels: list[SpiceChannel] = children("channel", SpiceChannel)
    image: ImageCompression | None = attr(
        "image/@compression", ENUM(ImageCompression), required=True
    )
    jpeg: WanCompression | None = attr("jpeg/@compression", ENUM(WanCompression), required=True)
    zlib: WanCompression | None = attr("zlib/@compression", ENUM(WanCompression), required=True)
    playback: bool | None = attr(
        "playback/@compression", ONOFF, required=True, doc="sound is compressed"
    )
    streaming: StreamingMode | None = attr("streaming/@mode", ENUM(StreamingMode), required=True)
    mouse: MouseMode | None = attr("mouse/@mode", ENUM(MouseMode), required=True)
    copy_paste: bool | None = attr("clipboard/@copypaste", YESNO, required=True)
    file_transfer: bool | None = attr("filetransfer/@enable", YESNO, required=True)
    gl: bool | None = attr("gl/@enable", YESNO, required=True, doc="OpenGL on the host")
    render_node: str | None = attr("gl/@rendernode", doc="DRM device for OpenGL")

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Complete ports and listens; each channel counts once."""
        self.autoport = bool(self.autoport) or (self.port == -1 and self.tls_port == -1)
        modes = {channel.name: channel for channel in self.channels}
        self.channels = [
            modes[name] for name in CHANNELS if name in modes and modes[name].mode != "any"
        ]
        self.read_server(el, ctx)
        self.listen = None


def _rdp_port(owner: Any, ctx: FormatContext) -> int | None:
    del ctx
    return owner.port or (0 if owner.autoport else None)


@element("graphics")
class RdpGraphics(_Server):
    """An RDP server."""

    type: ClassVar[str] = "rdp"

    port: int | None = attr(
        "@port", INT, written=_rdp_port, refused="internal error: cannot parse rdp port {value}"
    )
    autoport: bool | None = attr("@autoport", _LENIENT, omit=(False,))
    replace_user: bool | None = attr("@replaceUser", _LENIENT, omit=(False,))
    multi_user: bool | None = attr("@multiUser", _LENIENT, omit=(False,))
    listen: str | None = attr("@listen", written=_listen_attribute, doc="that of the first listen")

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Complete port and listens."""
        self.autoport = bool(self.autoport) or self.port in (None, -1)
        self.read_server(el, ctx)
        self.listen = None


@element("graphics")
class SdlGraphics(Graphics):
    """A window on the host's X server."""

    type: ClassVar[str] = "sdl"

    display: str | None = attr("@display", doc="X display")
    xauth: str | None = attr("@xauth", doc="file of X authority")
    fullscreen: bool | None = attr("@fullscreen", YESNO, omit=(False,))
    gl: bool | None = attr("gl/@enable", YESNO, required=True, doc="OpenGL on the host")


@element("graphics")
class DesktopGraphics(Graphics):
    """A window of a desktop hypervisor."""

    type: ClassVar[str] = "desktop"

    display: str | None = attr("@display")
    fullscreen: bool | None = attr("@fullscreen", YESNO, omit=(False,))


@element("graphics")
class EglHeadlessGraphics(Graphics):
    """OpenGL on the host without a window; another display shows the result."""

    type: ClassVar[str] = "egl-headless"

    gl: None = attr("gl/@enable", IGNORED)
    render_node: str | None = attr("gl/@rendernode", doc="DRM device for OpenGL")


@element("graphics")
class DbusGraphics(Graphics):
    """A display for clients on a D-Bus."""

    type: ClassVar[str] = "dbus"

    p2p: bool | None = attr("@p2p", YESNO, omit=(False,), doc="clients connect directly")
    bus_address: str | None = attr("@address", doc="of the bus")
    gl: bool | None = attr("gl/@enable", YESNO, required=True, doc="OpenGL on the host")
    render_node: str | None = attr("gl/@rendernode", doc="DRM device for OpenGL")
    audio: int | None = attr(
        "audio/@id", POSITIVE, required=True, doc="id of the <audio> that clients hear"
    )


GRAPHICS: Final[dict[str, type[Element]]] = {
    cls.type: cls
    for cls in (
        SdlGraphics, VncGraphics, RdpGraphics, DesktopGraphics, SpiceGraphics,
        EglHeadlessGraphics, DbusGraphics,
    )
}  # fmt: skip
