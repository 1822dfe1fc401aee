"""<input> in QEMU: defaults, validation and command line."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import Final

from hvcore.errors import Issue
from hvcore.model.devices.base import CcwAddress
from hvcore.model.devices.input import Input
from hvcore.model.devices.input import InputBus
from hvcore.model.devices.input import InputType
from hvcore.rules.base import Rules
from hvcore_qemu.machines import PPC64
from hvcore_qemu.machines import machine_of
from hvcore_qemu.props import add_device
from hvcore_qemu.props import address_props
from hvcore_qemu.props import virtio_props

if TYPE_CHECKING:
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore.rules.base import Issues
    from hvcore_qemu.command import Command

rules = Rules()

_USB: Final = {"mouse": "usb-mouse", "tablet": "usb-tablet", "keyboard": "usb-kbd"}
_VIRTIO: Final = {
    # type: QEMU's name without transport, name for messages, capability, capability on CCW
    "mouse": ("virtio-mouse", "virtio-mouse", "virtio-mouse", "virtio-mouse-ccw"),
    "tablet": ("virtio-tablet", "virtio-tablet", "virtio-tablet", "virtio-tablet-ccw"),
    "keyboard": ("virtio-keyboard", "virtio-keyboard", "virtio-keyboard", "virtio-keyboard-ccw"),
    "passthrough": ("virtio-input-host", "virtio-input-host", "virtio-input-host", None),
    "evdev": ("input-linux", "input-linux", "input-linux", None),
}


def has_ps2(domain: Domain, ctx: Context) -> bool:
    """Return whether the machine has a keyboard controller of the PC kind."""
    machine = machine_of(domain)
    pc = machine.i440fx or machine.q35 or machine.xenfv or machine.name == "isapc"
    return pc and "i8042" in ctx.caps


def _maybe_add(domain: Domain, kind: InputType, bus: InputBus) -> None:
    found = domain.devices.inputs
    if not any(device.type == kind and device.bus == bus for device in found):
        found.append(Input(type=kind, bus=bus))


@rules.post_parse_domain
def _default(domain: Domain, ctx: Context) -> None:
    """Show the PS/2 devices of PCs; give pSeries guests with a display USB ones."""
    ps2_off = domain.features is not None and domain.features.ps2 is False
    if has_ps2(domain, ctx) and not ps2_off:
        _maybe_add(domain, "mouse", "ps2")
        _maybe_add(domain, "keyboard", "ps2")
    if machine_of(domain).arch in PPC64 and domain.devices.graphics:
        tablet = any(d.type == "tablet" and d.bus == "usb" for d in domain.devices.inputs)
        _maybe_add(domain, "keyboard", "usb")
        if not tablet:
            _maybe_add(domain, "mouse", "usb")


@rules.check(Input)
def _supported(domain: Domain, device: Input, ctx: Context) -> Issues:
    """Refuse devices this QEMU or machine does not have."""
    if device.bus == "ps2" and not has_ps2(domain, ctx):
        yield Issue.unsupported("ps2 is not supported by this QEMU binary")
    if device.bus == "usb" and device.type == "keyboard" and "usb-kbd" not in ctx.caps:
        yield Issue.unsupported("usb keyboard is not supported by this QEMU binary")
    if device.bus != "virtio":
        return
    if device.model in ("virtio-transitional", "virtio-non-transitional"):
        yield Issue.unsupported(
            f"virtio (non-)transitional models are not supported for input type={device.type}"
        )
    _, name, capability, on_ccw = _VIRTIO[device.type]
    missing_ccw = isinstance(device.address, CcwAddress) and on_ccw not in ctx.caps
    if capability not in ctx.caps or missing_ccw:
        yield Issue.unsupported(f"{name} is not supported by this QEMU binary")


def _virtio(cmd: Command, device: Input) -> dict[str, Any]:
    return {
        **virtio_props(_VIRTIO[device.type][0], device, cmd.caps),
        "id": device.alias,
        "evdev": device.source_evdev if device.type == "passthrough" else None,
        **address_props(cmd.domain, device),
    }


def command(cmd: Command) -> None:
    """Append what is not part of the machine."""
    for device in cmd.domain.devices.inputs:
        if device.type == "evdev":
            cmd.object(
                {
                    "qom-type": "input-linux",
                    "id": device.alias,
                    "evdev": device.source_dev,
                    "repeat": device.repeat,
                    "grab_all": True if device.grab == "all" else None,
                    "grab-toggle": device.grab_toggle,
                }
            )
        elif device.bus == "usb":
            props = {"driver": _USB[device.type], "id": device.alias}
            add_device(cmd, device, {**props, **address_props(cmd.domain, device)})
        elif device.bus == "virtio":
            add_device(cmd, device, _virtio(cmd, device))
