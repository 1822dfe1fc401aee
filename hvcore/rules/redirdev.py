"""Rules of <redirdev> and <redirfilter> that hold for every driver."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore.errors import Issue
from hvcore.model.devices.redirdev import Redirdev
from hvcore.rules.base import Rules
from hvcore.rules.chardev import check_source

if TYPE_CHECKING:
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore.rules.base import Issues

rules = Rules()


@rules.post_parse_early
def _one_filter(domain: Domain, ctx: Context) -> Issues:
    """Refuse a second set of rules."""
    del ctx
    if len(domain.devices.redirfilters) > 1:
        yield Issue.internal("only one set of redirection filter rule is supported")


@rules.check(Redirdev)
def _valid(domain: Domain, device: Redirdev, ctx: Context) -> Issues:
    """Require USB, and what the source needs."""
    del ctx
    controllers = domain.devices.controllers
    if not any(each.type == "usb" and each.model != "none" for each in controllers):
        yield Issue.unsupported("cannot add redirected USB device: USB is disabled for this domain")
    else:
        yield from check_source(domain, device)
