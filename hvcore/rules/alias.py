"""Names of devices that users may choose."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from typing import Final

from hvcore.rules.base import Rules

if TYPE_CHECKING:
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context

rules = Rules()

_OF_USER: Final = re.compile(r"ua-[a-zA-Z0-9_-]*")


@rules.post_parse_early
def _forget_generated(domain: Domain, ctx: Context) -> None:
    """Keep the names a user chose; the others are made anew each time a guest starts."""
    if ctx.active:
        return
    for device in domain.devices.walk():
        if device.alias is not None and _OF_USER.fullmatch(device.alias) is None:
            device.alias = None
