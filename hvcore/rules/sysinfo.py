"""Rules of <sysinfo> that hold for every driver."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore.errors import ErrorClass
from hvcore.errors import Issue
from hvcore.model.sysinfo import SmbiosInfo
from hvcore.rules.base import Rules

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context

rules = Rules()


@rules.post_parse_early
def _uuid(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Take the domain's UUID from SMBIOS, or make sure that both agree."""
    for info in domain.sysinfo:
        if not isinstance(info, SmbiosInfo) or info.system is None:
            continue
        uuid = info.system.values().get("uuid")
        if uuid is None:
            continue
        if domain.uuid_generated:
            domain.uuid, domain.uuid_generated = uuid, False
        elif uuid != domain.uuid:
            yield Issue(
                "UUID mismatch between <uuid> and <sysinfo>",
                ErrorClass.XML_DETAIL,
                line=info.line,
            )
    del ctx
