"""Rules of <blkiotune>."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore.errors import Issue
from hvcore.rules.base import Rules

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context

rules = Rules()


@rules.check_domain
def _devices(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Each block device has one entry."""
    del ctx
    if domain.blkiotune is None:
        return
    seen: set[str] = set()
    for device in domain.blkiotune.devices:
        if device.path in seen:
            yield Issue.unsupported(
                f"duplicate blkio device path '{device.path}'", line=device.line
            )
        seen.add(device.path)
