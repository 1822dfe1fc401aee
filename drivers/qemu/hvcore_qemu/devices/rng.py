"""<rng> in QEMU: validation and command line."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import Final

from hvcore.errors import Issue
from hvcore.model.devices.rng import EgdBackend
from hvcore.model.devices.rng import RandomBackend
from hvcore.model.devices.rng import Rng
from hvcore.rules.base import Rules
from hvcore_qemu import chardev
from hvcore_qemu.props import add_device
from hvcore_qemu.props import address_props
from hvcore_qemu.props import virtio_props

if TYPE_CHECKING:
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore.rules.base import Issues
    from hvcore_qemu.command import Command

rules = Rules()

_PERIOD: Final = 1000
"""Milliseconds of a period where none is given."""


@rules.check(Rng)
def _supported(domain: Domain, device: Rng, ctx: Context) -> Issues:
    """Refuse backends and models that this QEMU lacks."""
    backend = device.backend
    if f"rng-{backend.model}" not in ctx.caps:
        yield Issue.unsupported(f"this qemu doesn't support the rng-{backend.model} backend")
        return
    if isinstance(backend, EgdBackend):
        yield from chardev.check(domain, backend, ctx)
    need = ["virtio-rng"]
    if device.model != "virtio":
        need.append("virtio-pci-non-transitional")
    if not all(name in ctx.caps for name in need):
        yield Issue.unsupported(f"domain configuration does not support rng model '{device.model}'")


def command(cmd: Command) -> None:
    """Append the sources of random bytes."""
    for device in cmd.domain.devices.rngs:
        cmd.object(_backend(cmd, device))
        rate = device.rate_bytes or None
        props = {
            **virtio_props("virtio-rng", device, cmd.caps),
            "rng": f"obj{device.alias}",
            "id": device.alias,
            "max-bytes": rate,
            "period": None if rate is None else device.rate_period or _PERIOD,
        }
        add_device(cmd, device, {**props, **address_props(cmd.domain, device)})


def _backend(cmd: Command, device: Rng) -> dict[str, Any]:
    backend = device.backend
    props: dict[str, Any] = {"qom-type": f"rng-{backend.model}", "id": f"obj{device.alias}"}
    if isinstance(backend, RandomBackend):
        props["filename"] = backend.path
    elif isinstance(backend, EgdBackend):
        props["chardev"] = chardev.command(cmd, backend, device.alias or "")
    return props
