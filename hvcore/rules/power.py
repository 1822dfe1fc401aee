"""Rules of <on_poweroff> and its like, <pm>, <perf> that hold for every driver."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Final

from hvcore.errors import Issue
from hvcore.rules.base import Rules

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore.rules.base import Issues

rules = Rules()

ONLY_ON_CRASH: Final = frozenset({"coredump-destroy", "coredump-restart"})


@rules.post_parse_early
def _complete(domain: Domain, ctx: Context) -> Issues:
    """End a guest that powers off or crashes; let one that reboots go on."""
    del ctx
    domain.on_poweroff = domain.on_poweroff or "destroy"
    domain.on_reboot = domain.on_reboot or "restart"
    domain.on_crash = domain.on_crash or "destroy"
    return ()


@rules.check_domain
def _actions(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Refuse to dump a core of a guest that did not crash."""
    del ctx
    for event, action in (("poweroff", domain.on_poweroff), ("reboot", domain.on_reboot)):
        if action in ONLY_ON_CRASH:
            yield Issue.unsupported(f"Lifecycle event '{event}' doesn't support '{action}' action")
