"""Sockets between host and guest, which end at a unix socket of the host."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import Final

from hvcore.model.devices.vsock import Vsock
from hvcore.rules.base import Rules
from hvcore_ch.accepts import ANY
from hvcore_ch.command import present
from hvcore_ch.devices.info import VIRTIO
from hvcore_ch.devices.info import behind_iommu
from hvcore_ch.devices.info import place

if TYPE_CHECKING:
    from hvcore_ch.accepts import Accepts
    from hvcore_ch.command import Command

rules = Rules()

FIRST_CID: Final = 3
"""The first identifier that a guest can have. The host's end is a socket of one guest alone, so
that guests may have the same."""

ACCEPTS: Accepts = {Vsock: {"model": VIRTIO, "auto_cid": ANY, "guest_cid": ANY}}


def vsock_config(vsock: Vsock, folder: str) -> dict[str, Any]:
    """Return the ``VsockConfig``.

    :param folder: the domain's private directory, where the host's end is.
    """
    return present(
        {
            "cid": vsock.guest_cid or FIRST_CID,
            "socket": f"{folder}/vsock.sock",
            "iommu": behind_iommu(vsock),
            **place(vsock),
        }
    )


def command(vm: Command) -> None:
    """Describe the device."""
    for vsock in vm.domain.devices.vsocks:
        vm.set("vsock", vsock_config(vsock, vm.folder))
