"""Rules of <rng> that hold for every driver."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Final

from hvcore.model.devices.rng import EgdBackend
from hvcore.model.devices.rng import RandomBackend
from hvcore.model.devices.rng import Rng
from hvcore.rules.base import Rules
from hvcore.rules.chardev import check_source

if TYPE_CHECKING:
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore.rules.base import Issues

rules = Rules()

DEFAULT_DEVICE: Final = "/dev/random"


@rules.post_parse(Rng)
def _device(domain: Domain, device: Rng, ctx: Context) -> None:
    """Take the usual device where none is named."""
    del domain, ctx
    if isinstance(device.backend, RandomBackend) and device.backend.path is None:
        device.backend.path = DEFAULT_DEVICE


@rules.check(Rng)
def _source(domain: Domain, device: Rng, ctx: Context) -> Issues:
    """Require what the source of a daemon needs."""
    del ctx
    if isinstance(device.backend, EgdBackend):
        yield from check_source(domain, device.backend)
