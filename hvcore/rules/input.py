"""Rules of <input> that hold for every driver."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Final

from hvcore.errors import Issue
from hvcore.model.devices.input import Input
from hvcore.model.devices.input import InputBus
from hvcore.rules.base import Rules

if TYPE_CHECKING:
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore.rules.base import Issues

rules = Rules()

_X86: Final = ("i686", "x86_64", None)


def _default_bus(domain: Domain, device: Input) -> InputBus | None:
    os = domain.os
    kind = os.type if os is not None else None
    arch = os.arch if os is not None else None
    if kind in ("xen", "linux", "xenpvh"):
        return "xen"
    if kind != "hvm":
        return "parallels" if domain.type in ("vz", "parallels") else None
    if device.type in ("mouse", "keyboard") and arch in _X86:
        return "ps2"
    if arch in ("s390", "s390x") or device.type == "passthrough":
        return "virtio"
    return "none" if device.type == "evdev" else "usb"


@rules.post_parse(Input)
def _bus(domain: Domain, device: Input, ctx: Context) -> None:
    """Choose the bus that the guest's architecture has for such a device."""
    del ctx
    if device.bus is None:
        device.bus = _default_bus(domain, device)


@rules.check(Input)
def _combination(domain: Domain, device: Input, ctx: Context) -> Issues:
    """Refuse buses that do not carry the device or do not exist in such a guest."""
    del ctx
    kind = domain.os.type if domain.os is not None else None
    simple = device.type in ("mouse", "keyboard")
    if kind == "hvm":
        if device.bus == "ps2" and not simple:
            yield Issue.internal(f"ps2 bus does not support {device.type} input device")
        if device.bus == "xen":
            yield Issue.internal("unsupported input bus xen")
    elif kind in ("xen", "linux", "xenpvh"):
        if device.bus != "xen":
            yield Issue.internal(f"unsupported input bus {device.bus}")
        elif not simple:
            yield Issue.internal(f"xen bus does not support {device.type} input device")
    elif domain.type in ("vz", "parallels"):
        if device.bus != "parallels":
            yield Issue.internal(f"parallels containers don't support input bus {device.bus}")
        elif not simple:
            yield Issue.internal(f"parallels bus does not support {device.type} input device")
    else:
        yield Issue.internal("Input devices are not supported by this virtualization driver.")


@rules.check(Input)
def _source(domain: Domain, device: Input, ctx: Context) -> Issues:
    """Refuse settings that only another type or bus has."""
    del ctx
    if device.type == "passthrough" and device.bus != "virtio":
        yield Issue.unsupported("only bus 'virtio' is supported for 'passthrough' input devices")
    if device.type == "evdev" and device.bus != "none":
        yield Issue.unsupported("input evdev doesn't support bus element")
    if device.model is not None and device.bus != "virtio":
        yield Issue.unsupported(f"only bus 'virtio' is supported for input model '{device.model}'")
    if device.bus == "ps2" and domain.features is not None and domain.features.ps2 is False:
        yield Issue.unsupported("ps2 bus inputs require the ps2 feature not to be disabled")
