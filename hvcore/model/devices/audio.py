"""The <audio> element."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Literal

from hvcore.errors import ErrorClass
from hvcore.model.devices.base import Device
from hvcore.xml.codecs import ENUM
from hvcore.xml.codecs import INT
from hvcore.xml.codecs import POSITIVE
from hvcore.xml.codecs import UINT
from hvcore.xml.codecs import YESNO
from hvcore.xml.fields import Element
from hvcore.xml.fields import attr
from hvcore.xml.fields import child
from hvcore.xml.fields import element

if TYPE_CHECKING:
    from lxml.etree import _Element as XmlElement

    from hvcore.xml.context import ParseContext

AudioType = Literal[
    "none", "alsa", "coreaudio", "jack", "oss", "pulseaudio", "sdl", "spice", "file", "dbus",
    "pipewire",
]  # fmt: skip
SdlDriver = Literal["esd", "alsa", "arts", "pulseaudio"]
AudioFormat = Literal["u8", "s8", "u16", "s16", "u32", "s32", "f32"]


@element("settings")
class AudioSettings(Element):
    """The one format that the mixing engine uses."""

    frequency: int | None = attr("@frequency", POSITIVE, doc="samples a second")
    channels: int | None = attr("@channels", POSITIVE)
    format: AudioFormat | None = attr("@format", ENUM(AudioFormat))


@element("input", omit_empty=True)
class AudioStream(Element):
    """One direction of a backend; which attributes have a meaning depends on the backend."""

    mixing_engine: bool | None = attr("@mixingEngine", YESNO)
    fixed_settings: bool | None = attr("@fixedSettings", YESNO)
    voices: int | None = attr("@voices", POSITIVE)
    buffer_length: int | None = attr("@bufferLength", POSITIVE, doc="microseconds")
    dev: str | None = attr("@dev", doc="alsa, oss: device of the host")
    buffer_count: int | None = attr("@bufferCount", UINT, omit=(0,), doc="coreaudio, oss, sdl")
    try_poll: bool | None = attr("@tryPoll", YESNO, doc="oss")
    server_name: str | None = attr("@serverName", doc="jack")
    client_name: str | None = attr("@clientName", doc="jack")
    connect_ports: str | None = attr("@connectPorts", doc="jack: regular expression of ports")
    exact_name: bool | None = attr("@exactName", YESNO, doc="jack")
    name: str | None = attr("@name", doc="pulseaudio, pipewire: sink or source")
    stream_name: str | None = attr("@streamName", doc="pulseaudio, pipewire")
    latency: int | None = attr("@latency", UINT, omit=(0,), doc="pulseaudio, pipewire: us")
    settings: AudioSettings | None = child("settings", AudioSettings)

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Refuse settings without the flag, and the flag without the mixing engine."""
        if self.fixed_settings:
            if not self.mixing_engine:
                ctx.issue(
                    el,
                    "fixed audio settings requires mixing engine",
                    kind=ErrorClass.CONFIG_UNSUPPORTED,
                )
            if self.settings is None:
                self.settings = AudioSettings()
        elif self.settings is not None:
            ctx.issue(
                el,
                "audio settings specified without fixed settings flag",
                kind=ErrorClass.CONFIG_UNSUPPORTED,
            )


@element("audio")
class Audio(Device):
    """A backend that plays and records on the host for the guest's sound devices."""

    id: int = attr("@id", POSITIVE, required=True, doc="by which sound devices refer to it")
    type: AudioType = attr("@type", ENUM(AudioType), required=True)
    timer_period: int | None = attr("@timerPeriod", POSITIVE, doc="microseconds")
    try_mmap: bool | None = attr("@tryMMap", YESNO, doc="oss")
    exclusive: bool | None = attr("@exclusive", YESNO, doc="oss")
    dsp_policy: int | None = attr("@dspPolicy", INT, doc="oss: timing policy, 0 to 10")
    server_name: str | None = attr("@serverName", doc="pulseaudio")
    driver: SdlDriver | None = attr("@driver", ENUM(SdlDriver), doc="sdl: what SDL plays through")
    path: str | None = attr("@path", doc="file: where the WAV file goes")
    runtime_dir: str | None = attr("@runtimeDir", doc="pipewire: directory of its socket")
    input: AudioStream | None = child("input", AudioStream)
    output: AudioStream | None = child("output", AudioStream)

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Refuse a negative policy."""
        if self.dsp_policy is not None and self.dsp_policy < 0:
            ctx.issue(el, f"cannot parse 'dspPolicy' value '{self.dsp_policy}'")
