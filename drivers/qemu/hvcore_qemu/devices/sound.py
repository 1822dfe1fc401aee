"""<sound> in QEMU: validation and command line."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import Final

from hvcore.errors import Issue
from hvcore.model.devices.sound import Sound
from hvcore.rules.base import Rules
from hvcore_qemu.devices.audio import audiodev
from hvcore_qemu.props import add_device
from hvcore_qemu.props import address_props
from hvcore_qemu.props import virtio_props

if TYPE_CHECKING:
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore.rules.base import Issues
    from hvcore_qemu.command import Command

rules = Rules()

_DRIVER: Final = {
    "es1370": "ES1370",
    "ac97": "AC97",
    "ich6": "intel-hda",
    "usb": "usb-audio",
    "ich9": "ich9-intel-hda",
    "sb16": "sb16",
}
_WITH_CODECS: Final = ("ich6", "ich9")
_CODEC: Final = {"duplex": "hda-duplex", "micro": "hda-micro", "output": "hda-output"}
_REQUIRES: Final = {
    # model: capability, libvirt's words without it
    "usb": ("usb-audio", "usb-audio controller is not supported by this QEMU binary"),
    "ich9": (
        "ich9-intel-hda",
        "The ich9-intel-hda audio controller is not supported in this QEMU binary",
    ),
    "virtio": (
        "virtio-sound",
        "virtio-sound controller is not supported in this QEMU binary",
    ),
}


@rules.check(Sound)
def _supported(domain: Domain, device: Sound, ctx: Context) -> Issues:
    """Refuse cards and codecs this QEMU does not have."""
    del domain
    if device.model in _REQUIRES and _REQUIRES[device.model][0] not in ctx.caps:
        yield Issue.unsupported(_REQUIRES[device.model][1])
    if device.model == "ich7":
        yield Issue.internal(f"sound card model '{device.model}' is not supported by qemu")
    if device.model in _WITH_CODECS:
        for codec in device.codecs:
            if _CODEC[codec.type] not in ctx.caps:
                yield Issue.unsupported(f"{_CODEC[codec.type]} not supported in this QEMU binary")


def _card(cmd: Command, device: Sound) -> dict[str, Any]:
    own_backend = device.model not in _WITH_CODECS
    if device.model == "virtio":
        driver = virtio_props("virtio-sound", device, cmd.caps)
    else:
        driver = {"driver": _DRIVER[device.model]}
    return {
        **driver,
        "id": device.alias,
        "audiodev": audiodev(cmd, device.audio_id) if own_backend else None,
        "multi": device.multichannel if device.model == "usb" else None,
        "streams": device.streams if device.model == "virtio" else None,
        **address_props(cmd.domain, device),
    }


def command(cmd: Command) -> None:
    """Append the cards with their codecs; the PC speaker is an option of the machine."""
    for device in cmd.domain.devices.sounds:
        if device.model == "pcspk":
            continue
        add_device(cmd, device, _card(cmd, device))
        if device.model not in _WITH_CODECS:
            continue
        types = [codec.type for codec in device.codecs] or ["duplex"]
        for cad, kind in enumerate(types):
            cmd.device(
                {
                    "driver": _CODEC[kind],
                    "id": f"{device.alias}-codec{cad}",
                    "bus": f"{device.alias}.0",
                    "cad": cad,
                    "audiodev": audiodev(cmd, device.audio_id),
                }
            )
