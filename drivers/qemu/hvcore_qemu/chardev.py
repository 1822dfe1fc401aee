"""Character devices of the host as QEMU's -chardev: preparation, validation and command line.

Files and listening sockets are opened before QEMU starts and handed over as descriptors, so that
QEMU needs no right to them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import Final

import attrs

from hvcore.errors import ErrorClass
from hvcore.errors import Issue
from hvcore.model.devices.base import VirtioSerialAddress
from hvcore.model.devices.chardev_source import source_of
from hvcore_qemu.command import escape_comma
from hvcore_qemu.command import present
from hvcore_qemu.credentials import tls_credentials
from hvcore_qemu.credentials import tls_secret
from hvcore_qemu.props import refuse
from hvcore_qemu.props import switch

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator
    from collections.abc import Mapping

    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore.rules.base import Issues
    from hvcore_qemu.capabilities import QemuCapabilities
    from hvcore_qemu.command import Command
    from hvcore_qemu.config import QemuConfig
    from hvcore_qemu.credentials import Secret
    from hvcore_qemu.prepare import Preparation
    from hvcore_qemu.resources import FdSet

Options = dict[str, Any]


@attrs.define
class Backend:
    """What was opened and fetched for one character device.

    :ivar file: the file that is written.
    :ivar socket: the socket that listens, by number or by the name QEMU has for it.
    :ivar log: the file that gets a copy.
    :ivar secret: the password of the key by which a TCP server proves who it is.
    """

    file: FdSet | None = None
    socket: int | str | None = None
    log: FdSet | None = None
    secret: Secret | None = None


# -- validation ----------------------------------------------------------------------------------


def check(domain: Domain, owner: Any, ctx: Context) -> Issues:
    """Yield what QEMU cannot do of the source of ``owner``."""
    source = source_of(owner)
    if owner.type == "tcp" and owner.protocol in ("telnets", "tls"):
        yield Issue.unsupported(f"tcp chardev protocol '{owner.protocol}' not supported")
    elif owner.type in ("tcp", "unix") and source.reconnect and source.reconnect_timeout == 0:
        yield Issue("chardev reconnect source timeout cannot be '0'", ErrorClass.INVALID_ARG)
    elif owner.type == "qemu-vdagent" and "chardev.qemu-vdagent" not in ctx.caps:
        yield Issue.unsupported(f"chardev '{owner.type}' not supported in this QEMU binary")
    elif owner.type in ("spicevmc", "spiceport") and not has_spice(domain):
        yield Issue.unsupported(f"chardev '{owner.type}' not supported without spice graphics")


def has_spice(domain: Domain) -> bool:
    """Return whether the guest has a SPICE server."""
    return any(graphics.type == "spice" for graphics in domain.devices.graphics)


# -- preparation ---------------------------------------------------------------------------------


def _users(domain: Domain) -> Iterator[tuple[str, Any]]:
    """Yield alias and source of all that have a character device, in libvirt's order."""
    devices = domain.devices
    for card in devices.smartcards:
        if card.mode == "passthrough":
            yield card.alias or "", card
    for family in (devices.serials, devices.parallels, devices.channels, devices.consoles):
        yield from ((device.alias or "", device) for device in family)
    for rng in devices.rngs:
        if rng.backend.model == "egd":
            yield rng.alias or "", rng.backend
    yield from ((device.alias or "", device) for device in devices.redirdevs)


def prepare(work: Preparation) -> None:
    """Choose paths and TLS where they are left open, and fetch secrets.

    :raises HvError: when there is no such secret.
    """
    config = work.config
    for channel in work.domain.devices.channels:
        generated = channel.target_type == "virtio" and channel.type == "unix"
        if generated and channel.source.path is None:
            name = channel.target_name or _place(channel)
            channel.source.path = f"{channel_dir(config, work.resources.short_name)}/{name}"
    for alias, owner in _users(work.domain):
        if owner.type != "tcp":
            continue
        source = source_of(owner)
        if source.tls is None:
            source.tls, source.tls_from_config = config.chardev_tls, True
        uuid = config.chardev_tls_x509_secret_uuid
        if source.tls and uuid is not None:
            _backend(work, alias).secret = tls_secret(work, f"char{alias}", uuid)


def channel_dir(config: QemuConfig, short_name: str) -> str:
    """Return the directory of the sockets of a domain's channels."""
    return f"{config.channel_target_dir}/{short_name}"


def _place(channel: Any) -> str:
    """Return the name of the socket of a channel that has no name itself."""
    at = channel.address if isinstance(channel.address, VirtioSerialAddress) else None
    numbers = (0, 0, 0) if at is None else (at.controller or 0, at.bus or 0, at.port or 0)
    return "vioser-{:02}-{:02}-{:02}.sock".format(*numbers)


def prepare_host(work: Preparation) -> None:
    """Open files and sockets.

    :raises HvError: when one cannot be opened.
    """
    for alias, owner in _users(work.domain):
        open_backend(work, alias, owner)


def open_backend(work: Preparation, alias: str, owner: Any) -> None:
    """Open what the character device of ``owner`` needs.

    :raises HvError: when a file or socket cannot be opened.
    """
    source = source_of(owner)
    if owner.type == "file":
        fd = work.host.chardev_file(source.path, append=bool(source.append))
        _backend(work, alias).file = work.resources.new_fd_set([(fd, f"{alias}-source")])
    elif owner.type == "unix" and source.mode == "bind":
        _backend(work, alias).socket = work.host.chardev_socket(source.path)
    if owner.log_file is not None:
        fd = work.host.chardev_log(owner.log_file, append=bool(owner.log_append))
        _backend(work, alias).log = work.resources.new_fd_set([(fd, f"{alias}-log")])


def _backend(work: Preparation, alias: str) -> Backend:
    found: Backend = work.resources.by_alias.setdefault(f"char{alias}", Backend())
    return found


# -- command line --------------------------------------------------------------------------------


def command(cmd: Command, owner: Any, alias: str, *, spicevmc: str = "vdagent") -> str:
    """Append -chardev for ``owner``, after what it refers to, and return its id.

    :param alias: of the device; that of the chardev is derived.
    :param spicevmc: which channel of SPICE the type of this name means.
    :raises ValidationFailed: when QEMU has no such character device.
    """
    name = f"char{alias}"
    backend: Backend = cmd.resources.by_alias.get(name) or Backend()
    append(cmd, owner, name, backend, spicevmc=spicevmc)
    return name


def append(
    cmd: Command, owner: Any, name: str, backend: Backend, *, spicevmc: str = "vdagent"
) -> None:
    """Append -chardev with id ``name``, after what it refers to.

    :raises ValidationFailed: when QEMU has no such character device.
    """
    source = source_of(owner)
    if owner.type == "tcp" and source.tls:
        tls_credentials(
            cmd,
            _tls_alias(name),
            cmd.config.chardev_tls_x509_cert_dir,
            server=source.mode == "bind",
            verify=cmd.config.chardev_tls_x509_verify,
            secret=backend.secret,
        )
    for fds in (backend.file, backend.log):
        if fds is not None:
            cmd.pass_fds(fds)
    if backend.socket is not None:
        backend = attrs.evolve(backend, socket=cmd.descriptor(int(backend.socket), f"{name}-fd"))
    # No released QEMU takes JSON here, but its monitor does.
    if "chardev.json" in cmd.caps:
        cmd.option("-chardev", arguments(owner, name, backend, cmd.caps, spicevmc=spicevmc))
        return
    it = _Writing(owner, source, name, backend, cmd.caps, spicevmc, qmp=False)
    kind, options = _described(it)
    cmd.option("-chardev", option_text(kind, {"id": name, **options}))


def arguments(
    owner: Any,
    name: str,
    backend: Backend,
    caps: QemuCapabilities,
    *,
    spicevmc: str = "vdagent",
) -> Options:
    """Return the arguments of ``chardev-add`` for ``owner``.

    :raises ValidationFailed: when QEMU has no such character device.
    """
    it = _Writing(owner, source_of(owner), name, backend, caps, spicevmc, qmp=True)
    kind, options = _described(it)
    return {"id": name, "backend": {"type": kind, "data": present(options)}}


def socket_at(
    cmd: Command, name: str, path: str, *, server: bool = False, reconnect: int | None = None
) -> None:
    """Append -chardev with id ``name`` for a unix socket behind which another process serves.

    :param server: QEMU listens, and the other process comes to it.
    :param reconnect: seconds until QEMU connects again, 0 for never.
    """
    options: Options = {"server": True} if server else {}
    if reconnect is not None:
        options |= _again(cmd.caps, reconnect)
    if "chardev.json" in cmd.caps:
        data = {"addr": _address("unix", {"path": path}), "server": server, **options}
        cmd.option("-chardev", {"id": name, "backend": {"type": "socket", "data": data}})
        return
    cmd.option("-chardev", option_text("socket", {"id": name, "path": path, **options}))


def option_text(kind: str, options: Mapping[str, Any]) -> str:
    """Return an option of the form ``kind,key=value``; entries that are None are left out."""
    words = [kind]
    for key, value in options.items():
        if value is not None:
            text = switch(value) if isinstance(value, bool) else escape_comma(str(value))
            words.append(f"{key}={text}")
    return ",".join(words)


def _tls_alias(name: str) -> str:
    return f"obj{name}_tls0"


@attrs.frozen
class _Writing:
    """What the writers of the types look at.

    :ivar qmp: for the monitor, where some options have other names and addresses are objects.
    """

    owner: Any
    source: Any
    name: str
    backend: Backend
    caps: QemuCapabilities
    spicevmc: str
    qmp: bool = attrs.field(kw_only=True)

    def named(self, option: str, qmp: str, value: Any) -> Options:
        """Return a value under its name on the command line, or in the monitor."""
        return {qmp if self.qmp else option: value}


def _described(it: _Writing) -> tuple[str, Options]:
    write = _TYPES.get(it.owner.type)
    if write is None:
        refuse(Issue.unsupported(f"unsupported chardev '{it.owner.type}'"))
    kind, options = write(it)
    path, append_log = it.owner.log_file, it.owner.log_append
    if it.backend.log is not None:
        path, append_log = it.backend.log.path, True
    return kind, options if path is None else {**options, "logfile": path, "logappend": append_log}


def _same(it: _Writing) -> tuple[str, Options]:
    return it.owner.type, {}


def _file(it: _Writing) -> tuple[str, Options]:
    path, append_file = it.source.path, it.source.append
    if it.backend.file is not None:
        path, append_file = it.backend.file.path, True
    return "file", {**it.named("path", "out", path), "append": append_file}


def _pipe(it: _Writing) -> tuple[str, Options]:
    return "pipe", it.named("path", "device", it.source.path)


def _dev(it: _Writing) -> tuple[str, Options]:
    kind = "parallel" if it.name.startswith("charparallel") else "serial"
    return kind, it.named("path", "device", it.source.path)


def _unix(it: _Writing) -> tuple[str, Options]:
    number = it.backend.socket
    if number is not None:
        at = {"addr": _address("fd", {"str": str(number)})} if it.qmp else {"fd": number}
        return "socket", {**at, **_server(it)}
    path = {"path": it.source.path}
    at = {"addr": _address("unix", path)} if it.qmp else path
    return "socket", {**at, **_server(it), **_reconnect(it)}


def _address(kind: str, data: Options) -> Options:
    return {"type": kind, "data": data}


def _inet(it: _Writing, member: str, prefix: str | None, host: str, port: str) -> Options:
    """Return an address on the internet; ``prefix`` is that of options on the command line."""
    if it.qmp:
        return {member: _address("inet", {"host": host, "port": port})}
    if prefix is None:
        return {"host": host, "port": port}
    return {f"{prefix}addr": host, f"{prefix}port": port}


def _tcp(it: _Writing) -> tuple[str, Options]:
    telnet = True if it.owner.protocol == "telnet" else False if it.qmp else None
    return "socket", {
        **_inet(it, "addr", None, it.source.host, it.source.service),
        "telnet": telnet,
        **_server(it),
        **_reconnect(it),
        "tls-creds": _tls_alias(it.name) if it.source.tls else None,
    }


def _server(it: _Writing) -> Options:
    if it.source.mode == "bind":
        return {"server": True, "wait": False}
    return {"server": False} if it.qmp else {}


def _reconnect(it: _Writing) -> Options:
    """Return how long QEMU waits before it connects again; 0 for never."""
    if it.source.reconnect is None:
        return {}
    return _again(it.caps, it.source.reconnect_timeout if it.source.reconnect else 0)


def _again(caps: QemuCapabilities, seconds: int) -> Options:
    if "chardev-reconnect-miliseconds" in caps:
        return {"reconnect-ms": seconds * 1000}
    return {"reconnect": seconds}


def _udp(it: _Writing) -> tuple[str, Options]:
    options = _inet(it, "remote", None, it.source.host or "", it.source.service)
    bound = next((end for end in it.owner.sources if end.mode == "bind"), None)
    if bound is not None or not it.qmp:
        host = (bound.host if bound is not None else None) or ""
        port = (bound.service if bound is not None else None) or "0"
        options |= _inet(it, "local", "local", host, port)
    return "udp", options


def _spicevmc(it: _Writing) -> tuple[str, Options]:
    return "spicevmc", it.named("name", "type", it.spicevmc)


def _spiceport(it: _Writing) -> tuple[str, Options]:
    return "spiceport", it.named("name", "fqdn", it.source.channel)


def _dbus(it: _Writing) -> tuple[str, Options]:
    return "dbus", {"name": it.source.channel}


def _vdagent(it: _Writing) -> tuple[str, Options]:
    mouse = it.source.mouse
    return "qemu-vdagent", {
        **({} if it.qmp else {"name": "vdagent"}),
        "clipboard": it.source.clipboard,
        "mouse": None if mouse is None else mouse == "client",
    }


_TYPES: Final[Mapping[str, Callable[[_Writing], tuple[str, Options]]]] = {
    "null": _same,
    "vc": _same,
    "pty": _same,
    "stdio": _same,
    "file": _file,
    "pipe": _pipe,
    "dev": _dev,
    "unix": _unix,
    "tcp": _tcp,
    "udp": _udp,
    "spicevmc": _spicevmc,
    "spiceport": _spiceport,
    "dbus": _dbus,
    "qemu-vdagent": _vdagent,
}
