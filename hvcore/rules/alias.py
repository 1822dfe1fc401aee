"""Names of devices that users may choose."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from typing import Final

from hvcore.errors import Issue
from hvcore.rules.base import Rules

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.model.devices.base import Device
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


@rules.check_domain
def _unique(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Refuse names that two devices have."""
    del ctx
    devices = domain.devices
    seen = set()
    for device in devices.walk():
        alias = device.alias
        if alias is None or not alias.startswith("ua-"):
            continue
        if alias in seen and not _is_first_port(domain, device):
            yield Issue.unsupported(f"non unique alias detected: {alias}", line=device.line)
        seen.add(alias)


def _is_first_port(domain: Domain, device: Device) -> bool:
    """Tell whether a device is the first console, standing for the first serial port."""
    consoles = domain.devices.consoles
    return (
        bool(consoles)
        and device is consoles[0]
        and consoles[0].target_type == "serial"
        and bool(domain.devices.serials)
    )
