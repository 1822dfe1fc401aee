"""Rules of <smartcard> that hold for every driver."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore.errors import Issue
from hvcore.model.devices.base import CcidAddress
from hvcore.model.devices.smartcard import Smartcard
from hvcore.rules.base import Rules
from hvcore.rules.chardev import check_source

if TYPE_CHECKING:
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore.rules.base import Issues

rules = Rules()


@rules.check(Smartcard)
def _valid(domain: Domain, device: Smartcard, ctx: Context) -> Issues:
    """Require a slot of a card reader, and what the source needs."""
    del ctx
    if not isinstance(device.address, CcidAddress | None):
        yield Issue.unsupported("Controllers must use the 'ccid' address type")
    elif device.mode == "passthrough":
        yield from check_source(domain, device)
