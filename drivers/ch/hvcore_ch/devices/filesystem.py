"""Directories of the host that a virtiofsd serves, which runs already."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import Final

from hvcore.errors import Issue
from hvcore.model.devices.filesystem import Filesystem
from hvcore.rules.base import Rules
from hvcore_ch.accepts import ANY
from hvcore_ch.accepts import one_of
from hvcore_ch.command import present
from hvcore_ch.devices.info import VIRTIO
from hvcore_ch.devices.info import place
from hvcore_ch.sections.memory import reachable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore_ch.accepts import Accepts
    from hvcore_ch.command import Command

rules = Rules()

_QUEUE_SIZE: Final = 1024

ACCEPTS: Accepts = {
    Filesystem: {
        "type": one_of("mount"),
        "accessmode": one_of("passthrough"),
        "model": VIRTIO,
        "driver_type": one_of("virtiofs"),
        "queue": ANY,
        "socket": ANY,
        "target": ANY,
        "iommu": one_of(False),
    },
}


@rules.check(Filesystem)
def _served(domain: Domain, device: Filesystem, ctx: Context) -> Iterator[Issue]:
    """Require a virtiofsd that runs, and can see the guest's memory."""
    del ctx
    if device.driver_type != "virtiofs" or device.socket is None:
        yield Issue.unsupported(
            "Cloud-Hypervisor supports filesystems of driver type 'virtiofs' with a socket only",
            path="driver/@type",
        )
    if not reachable(domain):
        yield Issue.unsupported("virtiofs requires shared memory")


def fs_config(device: Filesystem) -> dict[str, Any]:
    """Return the ``FsConfig`` of a filesystem."""
    return present(
        {
            "tag": device.target,
            "socket": device.socket,
            "num_queues": 1,
            "queue_size": device.queue or _QUEUE_SIZE,
            **place(device),
        }
    )


def command(vm: Command) -> None:
    """Describe the filesystems."""
    for device in vm.domain.devices.filesystems:
        vm.add("fs", fs_config(device))
