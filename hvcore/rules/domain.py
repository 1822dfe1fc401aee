"""Rules of the domain as a whole that hold for every driver."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from hvcore.errors import ErrorClass
from hvcore.errors import Issue
from hvcore.rules.base import Rules

if TYPE_CHECKING:
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore.rules.base import Issues

rules = Rules()


@rules.post_parse_early
def _identity(domain: Domain, ctx: Context) -> Issues:
    """Refuse names that libvirt refuses, and give the domain a UUID."""
    if not domain.name:
        yield Issue("missing domain name", ErrorClass.XML)
    elif "/" in domain.name:
        yield Issue.xml("name " + domain.name + " cannot contain '/'")
    if any(ord(c) < 32 for c in domain.name):
        yield Issue.xml("invalid char in name")
    if domain.uuid is None:
        domain.uuid = str(uuid.UUID(bytes=ctx.random_bytes(16), version=4))
