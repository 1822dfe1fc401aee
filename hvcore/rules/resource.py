"""Rules of <resource> that hold for every driver."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Final

from hvcore.errors import Issue
from hvcore.rules.base import Rules

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context

rules = Rules()

APPID_MIN: Final = 1
APPID_MAX: Final = 128
"""Length of a Fibre Channel application identifier, in bytes."""


@rules.check_domain
def _appid(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Check the identifier that the kernel puts into Fibre Channel frames."""
    del ctx
    appid = domain.resource.appid if domain.resource is not None else None
    if appid is None:
        return
    if not (appid.isascii() and appid.isprintable()):
        yield Issue.xml("Fibre Channel 'appid' is not a printable string")
    elif not APPID_MIN <= len(appid) <= APPID_MAX:
        yield Issue.invalid_arg(
            f"Fibre Channel 'appid' string length must be between [{APPID_MIN}, {APPID_MAX}]"
        )
