"""Rules of the domain as a whole that hold for every driver."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from hvcore.errors import Issue
from hvcore.rules.base import Rules
from hvcore.rules.os import complete

if TYPE_CHECKING:
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore.rules.base import Issues

rules = Rules()


@rules.post_parse_early
def _identity(domain: Domain, ctx: Context) -> Issues:
    """Refuse names that libvirt refuses, and generate what identifies the domain."""
    if "/" in domain.name:
        yield Issue.xml(f"name {domain.name} cannot contain '/'", path="name")
    if any(ord(c) < 32 for c in domain.name):
        yield Issue.xml("invalid char in name", path="name")
    if not ctx.active:
        domain.id = None  # given anew at each start
    if not domain.uuid:
        domain.uuid = _new_uuid(ctx)
        domain.uuid_generated = True
    if domain.genid is not None and not domain.genid:
        domain.genid = _new_uuid(ctx)


rules.post_parse_early(complete)


def _new_uuid(ctx: Context) -> str:
    return str(uuid.UUID(bytes=ctx.random_bytes(16), version=4))
