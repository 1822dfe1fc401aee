"""<crypto> in QEMU: validation and command line."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Final

from hvcore.errors import Issue
from hvcore.model.devices.crypto import Crypto
from hvcore.rules.base import Rules
from hvcore_qemu.props import add_device
from hvcore_qemu.props import address_props
from hvcore_qemu.props import virtio_props

if TYPE_CHECKING:
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore.rules.base import Issues
    from hvcore_qemu.command import Command

rules = Rules()

BACKENDS: Final = {
    # backend: QEMU's object, capability
    "builtin": ("cryptodev-backend-builtin", "virtio-crypto"),
    "lkcf": ("cryptodev-backend-lkcf", "cryptodev-backend-lkcf"),
}


@rules.check(Crypto)
def _supported(domain: Domain, device: Crypto, ctx: Context) -> Issues:
    """Require the device and its backend."""
    del domain
    if "virtio-crypto" not in ctx.caps:
        yield Issue.unsupported(f"crypto model {device.model} is not supported")
    elif BACKENDS[device.backend][1] not in ctx.caps:
        yield Issue.unsupported(f"crypto backend {device.backend} is not supported")


def command(cmd: Command) -> None:
    """Append each device and its backend."""
    for device in cmd.domain.devices.cryptos:
        backend = f"obj{device.alias}"
        cmd.object(
            {
                "qom-type": BACKENDS[device.backend][0],
                "id": backend,
                "queues": device.queues or None,
            }
        )
        add_device(
            cmd,
            device,
            {
                **virtio_props("virtio-crypto", device, cmd.caps),
                "cryptodev": backend,
                "id": device.alias,
                **address_props(cmd.domain, device),
            },
        )
