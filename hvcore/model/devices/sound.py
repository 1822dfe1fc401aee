"""The <sound> element."""

from __future__ import annotations

from typing import ClassVar
from typing import Literal

from hvcore.model.devices.base import VIRTIO_OPTIONS
from hvcore.model.devices.base import VirtioDevice
from hvcore.xml.codecs import ENUM
from hvcore.xml.codecs import POSITIVE
from hvcore.xml.codecs import YESNO
from hvcore.xml.fields import Element
from hvcore.xml.fields import attr
from hvcore.xml.fields import children
from hvcore.xml.fields import element

SoundModel = Literal["sb16", "es1370", "pcspk", "ac97", "ich6", "ich9", "usb", "ich7", "virtio"]
CodecType = Literal["duplex", "micro", "output"]


@element("codec")
class SoundCodec(Element):
    """A codec on the link of an HD audio controller."""

    type: CodecType = attr(
        "@type",
        ENUM(CodecType),
        required=True,
        refused="unsupported configuration: unknown codec type '{value}'",
    )


@element("sound")
class Sound(VirtioDevice):
    """A sound card of the guest."""

    trailing: ClassVar[tuple[str, ...]] = VIRTIO_OPTIONS

    model: SoundModel = attr("@model", ENUM(SoundModel), required=True)
    multichannel: bool | None = attr("@multichannel", YESNO, doc="usb: more than two channels")
    streams: int | None = attr("@streams", POSITIVE, doc="virtio: number of PCM streams")
    codecs: list[SoundCodec] = children("codec", SoundCodec)
    audio_id: int | None = attr(
        "audio/@id", POSITIVE, required=True, doc="the <audio> backend, or the first"
    )
