"""<graphics> in QEMU: ports and addresses, validation and command line."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import Final

import attrs

from hvcore.errors import Issue
from hvcore.model.devices.graphics import DbusGraphics
from hvcore.model.devices.graphics import DesktopGraphics
from hvcore.model.devices.graphics import EglHeadlessGraphics
from hvcore.model.devices.graphics import RdpGraphics
from hvcore.model.devices.graphics import SdlGraphics
from hvcore.model.devices.graphics import SpiceGraphics
from hvcore.model.devices.graphics import VncGraphics
from hvcore.rules.base import Rules
from hvcore_qemu.command import escape_comma
from hvcore_qemu.credentials import tls_credentials
from hvcore_qemu.credentials import tls_secret
from hvcore_qemu.devices.audio import audiodev
from hvcore_qemu.props import refuse
from hvcore_qemu.props import switch

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Generator
    from collections.abc import Iterable
    from collections.abc import Mapping

    from hvcore.model.devices.graphics import Graphics
    from hvcore.model.devices.graphics import Listen
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore.rules.base import Issues
    from hvcore_qemu.command import Command
    from hvcore_qemu.config import QemuConfig
    from hvcore_qemu.monitor import Command as MonitorCommand
    from hvcore_qemu.prepare import Preparation

rules = Rules()

_ALL: Final = (
    SdlGraphics, VncGraphics, RdpGraphics, DesktopGraphics, SpiceGraphics, EglHeadlessGraphics,
    DbusGraphics,
)  # fmt: skip

NEEDS: Final = {
    "sdl": "sdl",
    "vnc": "vnc",
    "rdp": "display-dbus",  # the RDP server is a client of QEMU's display on D-Bus
    "spice": "spice",
    "egl-headless": "egl-headless",
    "dbus": "display-dbus",
}
"""Type to the capability it needs; others are not for QEMU."""

_VNC_TLS: Final = "vnc-tls-creds0"
_VNC_PORTS: Final = range(5900, 65536)
_VNC_PASSWORD: Final = 8
"""The VNC protocol takes no more characters of a password."""


# -- post-parse ----------------------------------------------------------------------------------


@rules.post_parse_domain
def _generated_sockets(domain: Domain, ctx: Context) -> None:
    """Forget sockets that the setting ``vnc_auto_unix_socket`` once put in the document.

    Documents of versions before listens of type socket existed do not say that they did not come
    from the user.
    """
    for graphics in domain.devices.graphics:
        for listen in graphics.listens if isinstance(graphics, VncGraphics) else ():
            mine = listen.socket is not None and listen.socket.startswith(ctx.config.lib_dir)
            if listen.type != "socket" or not mine or listen.generated:
                continue
            if ctx.active:
                listen.from_config = True
            else:
                listen.socket = None
                listen.type = "address"


# -- validation ----------------------------------------------------------------------------------


@rules.check(*_ALL)
def _supported(domain: Domain, device: Graphics, ctx: Context) -> Issues:
    """Refuse displays that this QEMU has not, alone or together."""
    need = NEEDS.get(device.type)
    missing = need is None or need not in ctx.caps
    if missing or (device.type == "rdp" and ctx.config.qemu_rdp is None):
        yield Issue.unsupported(f"{device.type} graphics are not supported with this QEMU")
        return
    if all(other.type != "egl-headless" for other in domain.devices.graphics):
        return
    if device.type not in ("egl-headless", "vnc", "spice"):
        yield Issue.unsupported(
            "graphics type 'egl-headless' is only supported with one of: 'vnc', 'spice' graphics"
            " types"
        )
    elif isinstance(device, SpiceGraphics) and device.gl:
        yield Issue.unsupported("multiple OpenGL displays are not supported by QEMU")


@rules.check(SpiceGraphics)
def _spice(domain: Domain, device: SpiceGraphics, ctx: Context) -> Issues:
    del domain
    tcp = device.listens[0].type in ("address", "network")
    if tcp and (device.tls_port or 0) > 0 and not ctx.config.spice_tls:
        yield Issue.unsupported(
            "spice TLS port set in XML configuration, but TLS is disabled in qemu.conf"
        )
    if device.gl and "spice-gl" not in ctx.caps:
        yield Issue.unsupported("This QEMU doesn't support spice OpenGL")
    elif device.gl and device.render_node is not None and "spice-rendernode" not in ctx.caps:
        yield Issue.unsupported("This QEMU doesn't support spice OpenGL rendernode")


@rules.check(EglHeadlessGraphics)
def _egl_headless(domain: Domain, device: EglHeadlessGraphics, ctx: Context) -> Issues:
    del domain
    if device.render_node is not None and "egl-headless.rendernode" not in ctx.caps:
        yield Issue.unsupported(
            "This QEMU doesn't support OpenGL rendernode with egl-headless graphics type"
        )


@rules.check(VncGraphics)
def _vnc(domain: Domain, device: VncGraphics, ctx: Context) -> Issues:
    del domain
    if device.power_control is not None and "vnc-power-control" not in ctx.caps:
        yield Issue.unsupported("VNC power control is not available")
    length = len((device.password or "").encode())
    if length > _VNC_PASSWORD:
        yield Issue.unsupported(
            f"VNC password is {length} characters long, only {_VNC_PASSWORD} permitted"
        )


@rules.check(DbusGraphics)
def _dbus(domain: Domain, device: DbusGraphics, ctx: Context) -> Issues:
    del ctx
    for audio in domain.devices.audios:
        if device.audio and audio.id == device.audio and audio.type != "dbus":
            yield Issue.unsupported("The associated audio is not of 'dbus' kind.")


@rules.check(RdpGraphics)
def _rdp(domain: Domain, device: RdpGraphics, ctx: Context) -> Issues:
    del domain, ctx
    if device.replace_user:
        yield Issue.unsupported("RDP doesn't support 'replaceUser'")
    if device.multi_user:
        yield Issue.unsupported("RDP doesn't support 'multiUser'")
    if device.password_valid_to is not None:
        yield Issue.unsupported("RDP password expiration isn't supported")


# -- preparation ---------------------------------------------------------------------------------


def prepare(work: Preparation) -> None:
    """Choose addresses, ports and devices for OpenGL that the document leaves open.

    :raises ValidationFailed: when a display has more listens than QEMU can serve.
    """
    displays = work.domain.devices.graphics
    if work.config.mdev_display_auto_egl_headless and _lacks_opengl(work.domain):
        displays.append(EglHeadlessGraphics())
    for graphics in displays:
        _one_listen(graphics)
    for graphics in displays:
        _render_node(work, graphics)
        if isinstance(graphics, (VncGraphics, SpiceGraphics, RdpGraphics)):
            _addresses(work, graphics)
        elif isinstance(graphics, DbusGraphics):
            _bus(work, graphics)
    for graphics in displays:
        _reserve(work, graphics)
    for graphics in displays:
        allocate = _ALLOCATE.get(type(graphics))
        listens = getattr(graphics, "listens", ())
        if allocate is not None and listens and listens[0].type in ("address", "network"):
            allocate(work, graphics)


def prepare_secrets(work: Preparation) -> None:
    """Fetch the password of the key by which VNC servers prove who they are.

    :raises HvError: when there is no such secret.
    """
    uuid = work.config.vnc_tls_x509_secret_uuid
    servers = any(graphics.type == "vnc" for graphics in work.domain.devices.graphics)
    if servers and work.config.vnc_tls and uuid is not None:
        work.resources.by_alias[_VNC_TLS] = tls_secret(work, _VNC_TLS, uuid)


def _lacks_opengl(domain: Domain) -> bool:
    """Return whether a mediated device draws for VNC or Spice and nothing brings OpenGL.

    Intel's devices need it. NVIDIA's do not, and their hosts may have no render node: hence only
    where the administrator wants it.
    """
    displays = domain.devices.graphics
    return (
        any(device.type == "mdev" and device.display for device in domain.devices.hostdevs)
        and bool(displays)
        and all(
            isinstance(graphics, VncGraphics)
            or (isinstance(graphics, SpiceGraphics) and not graphics.gl)
            for graphics in displays
        )
    )


def _one_listen(graphics: Graphics) -> None:
    if isinstance(graphics, (VncGraphics, SpiceGraphics, RdpGraphics)) and graphics.listens[1:]:
        who = "qemu-rdp" if graphics.type == "rdp" else "QEMU"
        refuse(
            Issue.unsupported(f"{who} does not support multiple listens for one graphics device.")
        )


def _bus(work: Preparation, graphics: DbusGraphics) -> None:
    """Choose the address of a bus of the domain's own."""
    if graphics.p2p or graphics.bus_address is not None:
        return
    if not work.host.pretends:
        refuse(
            Issue.unsupported(
                "starting a D-Bus daemon for graphics is not supported; give the address of a"
                " bus or set p2p='yes'"
            )
        )
    path = f"{work.config.dbus_state_dir}/{work.resources.short_name}-dbus.sock"
    graphics.bus_address = f"unix:path={path}"


def _render_node(work: Preparation, graphics: Graphics) -> None:
    """Pick a device for OpenGL where QEMU can be told of one."""
    if not isinstance(graphics, (SpiceGraphics, EglHeadlessGraphics, DbusGraphics)):
        return
    if not isinstance(graphics, EglHeadlessGraphics) and not graphics.gl:
        return
    need = {"spice": "spice-rendernode", "egl-headless": "egl-headless.rendernode"}
    capability = need.get(graphics.type)
    if graphics.render_node is None and (capability is None or capability in work.caps):
        graphics.render_node = work.host.render_node()


def _addresses(work: Preparation, graphics: VncGraphics | SpiceGraphics | RdpGraphics) -> None:
    kind = graphics.type
    auto_socket = getattr(work.config, f"{kind}_auto_unix_socket", False)
    default: str = getattr(work.config, f"{kind}_listen")
    path = f"{work.resources.domain_dir}/{kind}.sock"
    for listen in graphics.listens:
        if listen.type == "address" and listen.address is None:
            listen.from_config = True
            if auto_socket:
                listen.type, listen.socket = "socket", path
            else:
                listen.address = default
        elif listen.type == "network" and listen.address is None:
            assert listen.network is not None  # validation requires it
            listen.address = work.host.network_address(listen.network)
        elif listen.type == "socket" and listen.socket is None:
            listen.socket, listen.generated = path, True


def _reserve(work: Preparation, graphics: Graphics) -> None:
    """Keep the ports that the document gives from being chosen for another display."""
    if not isinstance(graphics, (VncGraphics, SpiceGraphics, RdpGraphics)):
        return
    if not graphics.listens or graphics.listens[0].type not in ("address", "network"):
        return
    ports = [] if graphics.autoport else [graphics.port]
    if isinstance(graphics, VncGraphics):
        ports.append(graphics.websocket)
    elif isinstance(graphics, SpiceGraphics) and not graphics.autoport:
        ports.append(graphics.tls_port)
    for port in ports:
        if port is not None and port > 0:
            work.host.reserve_port(port)


def _vnc_ports(work: Preparation, graphics: VncGraphics) -> None:
    if graphics.autoport:
        graphics.port = work.host.graphics_port("vnc")
    if graphics.websocket == -1:
        graphics.websocket = work.host.graphics_port("vnc-websocket")
        graphics.websocket_generated = True


def _spice_ports(work: Preparation, graphics: SpiceGraphics) -> None:
    modes = {channel.mode for channel in graphics.channels}
    modes.add(graphics.default_mode or "any")
    tls = work.config.spice_tls
    # Channels without a mode of their own have the default's, which alone may leave it open.
    default_is_any = graphics.default_mode in (None, "any")
    plain = graphics.autoport and ("insecure" in modes or default_is_any)
    secure = graphics.autoport and ("secure" in modes or (default_is_any and tls))
    if plain or graphics.port == -1:
        graphics.port = work.host.graphics_port("spice")
    if secure or graphics.tls_port == -1:
        if not tls and not work.host.pretends:
            refuse(
                Issue.unsupported(
                    "Auto allocation of spice TLS port requested but spice TLS is disabled in"
                    " qemu.conf"
                )
            )
        graphics.tls_port = work.host.graphics_port("spice-tls")


def _rdp_ports(work: Preparation, graphics: RdpGraphics) -> None:
    if graphics.autoport:
        graphics.port = work.host.graphics_port("rdp")


_ALLOCATE: Final[Mapping[type[Graphics], Callable[[Preparation, Any], None]]] = {
    VncGraphics: _vnc_ports,
    SpiceGraphics: _spice_ports,
    RdpGraphics: _rdp_ports,
}


# -- monitor -------------------------------------------------------------------------------------


def passwords(domain: Domain, config: QemuConfig, now: int) -> Generator[MonitorCommand, Any, None]:
    """Tell a QEMU that was just started which passwords its servers ask for.

    The command line only says that there is one, since other users can read it.

    :param now: seconds since the epoch.
    """
    for graphics in domain.devices.graphics:
        if not isinstance(graphics, (VncGraphics, SpiceGraphics)):
            continue
        default: str | None = getattr(config, f"{graphics.type}_password")
        password = default if graphics.password is None else graphics.password
        if password is None:
            continue
        until = graphics.password_valid_to
        expired = not password or (until is not None and until <= now)
        arguments = {"protocol": graphics.type, "password": password}
        if graphics.connected is not None:
            arguments["connected"] = graphics.connected
        yield "set_password", arguments
        end = "now" if expired else "never" if until is None else str(until)
        yield "expire_password", {"protocol": graphics.type, "time": end}


# -- command line --------------------------------------------------------------------------------


def display_none(cmd: Command) -> None:
    """Keep QEMU from opening a window of its own."""
    if not cmd.domain.devices.graphics:
        cmd.option("-display", "none")


def command(cmd: Command) -> None:
    """Append the displays; validation has refused those that QEMU does not know."""
    for graphics in cmd.domain.devices.graphics:
        _COMMAND[type(graphics)](cmd, graphics)


def _joined(options: Iterable[str | None]) -> str:
    return ",".join(option for option in options if option is not None)


def _sdl(cmd: Command, graphics: SdlGraphics) -> None:
    if graphics.xauth is not None:
        cmd.env("XAUTHORITY", graphics.xauth)
    if graphics.display is not None:
        cmd.env("DISPLAY", graphics.display)
    if graphics.fullscreen:
        cmd.option("-full-screen")
    gl = switch(graphics.gl)
    cmd.option("-display", _joined(["sdl", gl and f"gl={gl}"]))


def _egl_headless_display(cmd: Command, graphics: EglHeadlessGraphics) -> None:
    node = graphics.render_node
    cmd.option("-display", _joined(["egl-headless", node and f"rendernode={escape_comma(node)}"]))


def _dbus_display(cmd: Command, graphics: DbusGraphics) -> None:
    gl, node = switch(graphics.gl), graphics.render_node
    where = "p2p=on" if graphics.p2p else f"addr={escape_comma(graphics.bus_address or '')}"
    cmd.option(
        "-display",
        _joined(
            [
                "dbus",
                where,
                gl and f"gl={gl}",
                node and f"rendernode={escape_comma(node)}",
                f"audiodev={audiodev(cmd, graphics.audio)}" if graphics.audio else None,
            ]
        ),
    )


def _vnc_place(graphics: VncGraphics, listen: Listen) -> list[str]:
    if listen.type == "socket":
        return ["vnc=unix:" + escape_comma(listen.socket or "")]
    if listen.type == "none":
        return ["none"]
    port = graphics.port or 0
    if not graphics.autoport and port not in _VNC_PORTS:
        refuse(Issue.unsupported("vnc port must be in range [5900,65535]"))
    address = listen.address or ""
    if ":" in address:
        address = f"[{address}]"
    place = [f"{address}:{port - _VNC_PORTS.start}"]
    return [*place, f"websocket={graphics.websocket}"] if graphics.websocket else place


def _vnc_display(cmd: Command, graphics: VncGraphics) -> None:
    config, audio = cmd.config, audiodev(cmd, graphics.audio)
    options = _vnc_place(graphics, graphics.listens[0])
    if graphics.share_policy not in (None, "default"):
        options.append(f"share={graphics.share_policy}")
    if graphics.password is not None or config.vnc_password is not None:
        options.append("password=on")
    if config.vnc_tls:
        tls_credentials(
            cmd,
            _VNC_TLS,
            config.vnc_tls_x509_cert_dir,
            server=True,
            verify=config.vnc_tls_x509_verify,
            secret=cmd.resources.by_alias.get(_VNC_TLS),
        )
        options.append(f"tls-creds={_VNC_TLS}")
    if config.vnc_sasl:
        options.append("sasl=on")
        _sasl(cmd, config.vnc_sasl_dir)
    if graphics.power_control is not None:
        options.append(f"power-control={switch(graphics.power_control)}")
    if audio is not None:
        options.append(f"audiodev={audio}")
    cmd.option("-vnc", ",".join(options))
    _keymap(cmd, graphics.keymap)


def _sasl(cmd: Command, directory: str | None) -> None:
    if directory is not None:
        cmd.env("SASL_CONF_PATH", directory)


def _keymap(cmd: Command, keymap: str | None) -> None:
    if keymap is not None:
        cmd.option("-k", keymap)


@attrs.frozen
class _Reach:
    """How clients reach a SPICE server: the options, and which kinds of connection there are."""

    options: list[str]
    plain: bool = False
    secure: bool = False


def _spice_reach(graphics: SpiceGraphics, listen: Listen) -> _Reach:
    if listen.type == "socket":
        return _Reach(["unix=on", f"addr={escape_comma(listen.socket or '')}"], plain=True)
    if listen.type == "none":
        # QEMU wants a port, and takes this one for none.
        return _Reach(["port=0"], plain=True)
    port, tls_port = max(graphics.port or 0, 0), max(graphics.tls_port or 0, 0)
    options = [f"port={port}"] if port else []
    options += [f"tls-port={tls_port}"] if tls_port else []
    if options and listen.address is not None:
        options.append(f"addr={listen.address}")
    return _Reach(options, plain=bool(port), secure=bool(tls_port))


def _spice_security(graphics: SpiceGraphics, reach: _Reach) -> list[str]:
    """Return which channels must and must not be encrypted.

    :raises ValidationFailed: when no connection is of the wanted kind.
    """
    kinds = {
        "secure": ("tls-channel", reach.secure, "TLS"),
        "insecure": ("plaintext-channel", reach.plain, "plaintext"),
    }
    wanted = [("default", graphics.default_mode)]
    wanted += [(channel.name, channel.mode) for channel in graphics.channels]
    options = []
    for name, mode in wanted:
        if mode is None or mode == "any":
            continue
        option, available, connection = kinds[mode]
        if not available:
            what = f"defaultMode {mode} requested" if name == "default" else f"{mode} channels set"
            refuse(
                Issue.unsupported(
                    f"spice {what} in XML configuration, but {connection} connection is not"
                    " available"
                )
            )
        options.append(f"{option}={name}")
    return options


def _spice_display(cmd: Command, graphics: SpiceGraphics) -> None:
    config = cmd.config
    reach = _spice_reach(graphics, graphics.listens[0])
    options: list[str | None] = [*reach.options]
    if config.spice_sasl:
        options.append("sasl=on")
        _sasl(cmd, config.spice_sasl_dir)
    if graphics.mouse is not None:
        options.append(f"agent-mouse={switch(graphics.mouse == 'client')}")
    if graphics.password is None and config.spice_password is None:
        # A password is set by the monitor, where the command line does not show it.
        options.append("disable-ticketing=on")
    if reach.secure:
        options.append(f"x509-dir={escape_comma(config.spice_tls_x509_cert_dir)}")
    options += _spice_security(graphics, reach)
    playback, node = switch(graphics.playback), graphics.render_node
    options += [
        graphics.image and f"image-compression={graphics.image}",
        graphics.jpeg and f"jpeg-wan-compression={graphics.jpeg}",
        graphics.zlib and f"zlib-glz-wan-compression={graphics.zlib}",
        playback and f"playback-compression={playback}",
        graphics.streaming and f"streaming-video={graphics.streaming}",
        "disable-copy-paste=on" if graphics.copy_paste is False else None,
        "disable-agent-file-xfer=on" if graphics.file_transfer is False else None,
    ]
    if graphics.gl:
        options += ["gl=on", node and f"rendernode={escape_comma(node)}"]
    # Where the other side cannot, SPICE falls back to the older way by itself.
    options.append("seamless-migration=on")
    cmd.option("-spice", _joined(options))
    _keymap(cmd, graphics.keymap)


def _rdp_display(cmd: Command, graphics: RdpGraphics) -> None:
    """Append nothing: the server is a process of its own."""
    del cmd, graphics


_COMMAND: Final[Mapping[type[Graphics], Callable[[Command, Any], None]]] = {
    SdlGraphics: _sdl,
    VncGraphics: _vnc_display,
    SpiceGraphics: _spice_display,
    EglHeadlessGraphics: _egl_headless_display,
    DbusGraphics: _dbus_display,
    RdpGraphics: _rdp_display,
}
