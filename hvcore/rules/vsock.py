"""Rules of <vsock> that hold for every driver."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore.errors import Issue
from hvcore.model.devices.vsock import Vsock
from hvcore.rules.base import Rules

if TYPE_CHECKING:
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore.rules.base import Issues

rules = Rules()
rules.only_one("vsocks", "vsock")


@rules.post_parse(Vsock)
def _identifier(domain: Domain, device: Vsock, ctx: Context) -> None:
    """Let the host choose the identifier unless one is given."""
    del domain, ctx
    if device.auto_cid is None:
        device.auto_cid = not device.guest_cid


@rules.check(Vsock)
def _reserved(domain: Domain, device: Vsock, ctx: Context) -> Issues:
    """Refuse the identifiers of hypervisor and host."""
    del domain, ctx
    if device.guest_cid in (1, 2):
        yield Issue.unsupported("guest CIDs must be >= 3")
