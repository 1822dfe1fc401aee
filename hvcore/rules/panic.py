"""Rules of <panic> that hold for every driver."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore.errors import Issue
from hvcore.rules.base import Rules

if TYPE_CHECKING:
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore.rules.base import Issues

rules = Rules()


@rules.post_parse_late
def _unique(domain: Domain, ctx: Context) -> Issues:
    """Refuse two devices of one model."""
    del ctx
    seen = set()
    for device in domain.devices.panics:
        if device.model in seen:
            yield Issue.xml(f"Multiple panic devices with model '{device.model or 'default'}'")
        seen.add(device.model)
