"""The source of random bytes. There is always one; a document chooses where it reads."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Final

from hvcore.errors import Issue
from hvcore.model.devices.rng import BuiltinBackend
from hvcore.model.devices.rng import RandomBackend
from hvcore.model.devices.rng import Rng
from hvcore.rules.base import Rules
from hvcore_ch.accepts import ANY
from hvcore_ch.accepts import one_of
from hvcore_ch.command import present
from hvcore_ch.devices.info import VIRTIO
from hvcore_ch.devices.info import behind_iommu
from hvcore_ch.devices.info import place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore_ch.accepts import Accepts
    from hvcore_ch.command import Command

rules = Rules()

_DEFAULT: Final = "/dev/urandom"

ACCEPTS: Accepts = {
    Rng: {"model": VIRTIO, "backend": one_of("random", "builtin")},
    RandomBackend: {"path": ANY},
    BuiltinBackend: {},
}


@rules.check_domain
def _one(domain: Domain, ctx: Context) -> Iterator[Issue]:
    del ctx
    if len(domain.devices.rngs) > 1:
        yield Issue.unsupported(
            "Cloud-Hypervisor supports a single rng device", line=domain.devices.rngs[1].line
        )


def command(vm: Command) -> None:
    """Describe the source."""
    for rng in vm.domain.devices.rngs:
        path = rng.backend.path if isinstance(rng.backend, RandomBackend) else None
        vm.set("rng", present({"src": path or _DEFAULT, "iommu": behind_iommu(rng), **place(rng)}))
