"""Rules of <shmem>: names become file names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore.errors import Issue
from hvcore.model.devices.shmem import Shmem
from hvcore.rules.base import Rules

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context

rules = Rules()


@rules.check(Shmem)
def _name(domain: Domain, device: Shmem, ctx: Context) -> Iterator[Issue]:
    """Refuse names that lead out of the directory."""
    del domain, ctx
    if "/" in device.name:
        yield Issue.unsupported("shmem name cannot include '/' character", line=device.line)
    elif device.name in (".", ".."):
        yield Issue.unsupported(f"shmem name cannot be equal to '{device.name}'", line=device.line)
