"""<audio> in QEMU: the default backend, validation and command line."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import Final
from typing import get_args

from hvcore.errors import Issue
from hvcore.model.devices.audio import Audio
from hvcore.model.devices.audio import AudioStream
from hvcore.model.devices.audio import AudioType
from hvcore.model.devices.audio import SdlDriver
from hvcore.rules.base import Rules
from hvcore_qemu.command import present
from hvcore_qemu.props import refuse

if TYPE_CHECKING:
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore.rules.base import Issues
    from hvcore_qemu.command import Command

rules = Rules()

_QEMU_NAME: Final = {"pulseaudio": "pa", "file": "wav"}
"""Where QEMU's name of a backend differs from ours."""
_OUR_NAME: Final = {
    **{name: name for name in get_args(AudioType)},
    **{theirs: ours for ours, theirs in _QEMU_NAME.items()},
}
_DISPLAY_BACKEND: Final[dict[str, str | None]] = {
    # type of <graphics>: the backend it brings, None for one of the host
    "vnc": "none",
    "spice": "spice",
    "sdl": None,
}


def _suggested(domain: Domain, ctx: Context) -> tuple[bool, str | None]:
    """Return whether a backend is wanted, and which; None means the host's own.

    The last display that has an opinion decides, as in libvirt since 7.2; without a display the
    guest is silent unless the administrator says otherwise.
    """
    wanted, backend = False, None
    for graphics in domain.devices.graphics:
        if graphics.type in _DISPLAY_BACKEND:
            wanted, backend = True, _DISPLAY_BACKEND[graphics.type]
            if graphics.type == "vnc" and ctx.config.vnc_allow_host_audio:
                backend = None
    if not domain.devices.graphics:
        wanted = True
        backend = None if ctx.config.nographics_allow_host_audio else "none"
    return wanted, backend


@rules.post_parse_domain
def _default(domain: Domain, ctx: Context) -> Issues:
    """Show the backend that a guest without <audio> gets."""
    if domain.devices.audios:
        return
    wanted, backend = _suggested(domain, ctx)
    if wanted and backend is None:
        setting = ctx.environ.get("QEMU_AUDIO_DRV")
        if setting is None:
            return
        backend = _OUR_NAME.get(setting)
        if backend is None:
            yield Issue.unsupported(f"unknown QEMU_AUDIO_DRV setting {setting}")
            return
    if not wanted:
        return
    audio = Audio(id=1, type=backend)  # type: ignore[arg-type] # one of the names above
    if backend == "sdl":
        driver = ctx.environ.get("SDL_AUDIODRIVER")
        if driver is not None and driver not in get_args(SdlDriver):
            yield Issue.unsupported(f"unknown SDL_AUDIODRIVER setting {driver}")
            return
        audio.driver = driver  # type: ignore[assignment] # one of the names above
    domain.devices.audios.append(audio)


def forget_default(domain: Domain, ctx: Context) -> None:
    """Take out a backend that every guest without <audio> gets."""
    audios = domain.devices.audios
    if len(audios) != 1:
        return
    domain.devices.audios = []
    refused = list(_default(domain, ctx))
    is_default = not refused and domain.devices.audios == audios
    domain.devices.audios = [] if is_default else audios


@rules.check(Audio)
def _supported(domain: Domain, device: Audio, ctx: Context) -> Issues:
    """Require the display that a backend plays through."""
    if device.type == "spice" and all(g.type != "spice" for g in domain.devices.graphics):
        yield Issue.unsupported("Spice audio is not supported without spice graphics")
    if device.type == "dbus" and "display-dbus" not in ctx.caps:
        yield Issue.unsupported("D-Bus audio is not supported with this QEMU")


AUDIODEV_SINCE: Final = 4_000_000
"""The version from which on QEMU has ``-audiodev``; older ones read environment variables."""


def _has_audiodev(cmd: Command) -> bool:
    # Capabilities without a version are made by hand, for a QEMU of today.
    return not 0 < cmd.caps.version < AUDIODEV_SINCE


def audiodev(cmd: Command, audio_id: int | None) -> str | None:
    """Return the backend that a device names; None where QEMU has one for all of them.

    :raises ValidationFailed: when there is none.
    """
    name = backend_of(cmd.domain, audio_id)
    return name if _has_audiodev(cmd) else None


def backend_of(domain: Domain, audio_id: int | None) -> str:
    """Return QEMU's name of the backend with this id, or of the first one.

    :raises ValidationFailed: when there is none.
    """
    fitting = [a for a in domain.devices.audios if not audio_id or a.id == audio_id]
    if not fitting:
        refuse(Issue.internal("unable to find audio backend for sound device"))
    return f"audio{fitting[0].id}"


_STREAM: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    # backend: QEMU's name and our field of what it alone has, for each direction
    "alsa": (("dev", "dev"),),
    "coreaudio": (("buffer-count", "buffer_count"),),
    "jack": (
        ("server-name", "server_name"),
        ("client-name", "client_name"),
        ("connect-ports", "connect_ports"),
        ("exact-name", "exact_name"),
    ),
    "oss": (("dev", "dev"), ("buffer-count", "buffer_count"), ("try-poll", "try_poll")),
    "pulseaudio": (("name", "name"), ("stream-name", "stream_name"), ("latency", "latency")),
    "pipewire": (("name", "name"), ("stream-name", "stream_name"), ("latency", "latency")),
    "sdl": (("buffer-count", "buffer_count"),),
}


def _stream(stream: AudioStream | None, kind: str) -> dict[str, Any] | None:
    if stream is None:
        return None
    settings = stream.settings if stream.fixed_settings else None
    props = present(
        {
            "mixing-engine": stream.mixing_engine,
            "fixed-settings": stream.fixed_settings,
            "voices": stream.voices,
            "buffer-length": stream.buffer_length,
            "frequency": settings.frequency if settings else None,
            "channels": settings.channels if settings else None,
            "format": settings.format if settings else None,
            **{theirs: getattr(stream, ours) for theirs, ours in _STREAM.get(kind, ())},
        }
    )
    if not props.get("buffer-count", 1):
        del props["buffer-count"]
    if not props.get("latency", 1):
        del props["latency"]
    return props or None


def _environment(cmd: Command, device: Audio) -> None:
    """Tell the libraries behind a backend what its options cannot."""
    if device.type == "sdl" and device.driver:
        cmd.env("SDL_AUDIODRIVER", device.driver)
    if device.type != "pipewire":
        return
    variables = cmd.resources.variables
    for name in ("PIPEWIRE_CORE", "PIPEWIRE_REMOTE"):
        if name in variables:
            cmd.env(name, variables[name])
    if device.runtime_dir:
        cmd.env("PIPEWIRE_RUNTIME_DIR", device.runtime_dir)
        return
    # PipeWire's own order of looking for its socket.
    for name in ("PIPEWIRE_RUNTIME_DIR", "XDG_RUNTIME_DIR", "USERPROFILE"):
        if name in variables:
            cmd.env(name, variables[name])
            break


def command(cmd: Command) -> None:
    """Append the backends, or tell an emulator without ``-audiodev`` of the first of them."""
    if not _has_audiodev(cmd):
        for device in cmd.domain.devices.audios[:1]:
            cmd.env("QEMU_AUDIO_DRV", _QEMU_NAME.get(device.type, device.type))
            _environment(cmd, device)
        return
    for device in cmd.domain.devices.audios:
        _environment(cmd, device)
        cmd.option(
            "-audiodev",
            present(
                {
                    "id": f"audio{device.id}",
                    "driver": _QEMU_NAME.get(device.type, device.type),
                    "timer-period": device.timer_period,
                    "try-mmap": device.try_mmap,
                    "exclusive": device.exclusive,
                    "dsp-policy": device.dsp_policy,
                    "server": device.server_name,
                    "path": device.path,
                    "in": _stream(device.input, device.type),
                    "out": _stream(device.output, device.type),
                }
            ),
        )
