"""Rules of <pstore> that hold for every driver."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore.errors import Issue
from hvcore.model.devices.pstore import Pstore
from hvcore.rules.base import Rules

if TYPE_CHECKING:
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore.rules.base import Issues

rules = Rules()
rules.only_one("pstores", "pstore")


@rules.check(Pstore)
def _storage(domain: Domain, device: Pstore, ctx: Context) -> Issues:
    """Require a path, and a size that ACPI ERST can have."""
    del domain, ctx
    if not device.path:
        yield Issue.xml("missing path for ACPI ERST pstore device")
    size = device.size or 0
    if size < 4 or size & (size - 1):
        yield Issue.xml("invalid size of ACPI ERST pstore device")
