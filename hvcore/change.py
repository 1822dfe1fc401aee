"""A change of a domain while it is being made.

Definitions are swapped, never changed. Whoever changes a domain gets copies, and the engine swaps
them in when the work is over: the copy of the next start's definition only when all went well, that
of the running one in any case, since what the guest was told cannot be taken back by forgetting it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from hvcore.errors import InvalidState
from hvcore.events import TunableChanged

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from collections.abc import Callable

    from hvcore.driver import Record
    from hvcore.events import Event
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Definition


@attrs.define(eq=False)
class Change:
    """What is being changed.

    :ivar live: copy of the running definition; change it as the guest changes. None where only
        the next start is meant.
    :ivar config: copy of the definition of the next start; None where only the guest is meant.
    :ivar sealed: the definition that ``config`` became.
    :ivar happened: events to publish once the definitions are swapped.
    """

    record: Record
    live: Domain | None
    config: Domain | None
    _complete: Callable[[Domain], Awaitable[Definition]]
    sealed: Definition | None = None
    happened: list[Event] = attrs.field(factory=list)

    async def seal(self) -> None:
        """Complete and validate the definition of the next start; it must not be changed after.

        Called before the guest is touched, so that a change that only one of the two could take
        is made to none.

        :raises ValidationFailed: the change made it invalid.
        """
        if self.config is not None and self.sealed is None:
            self.sealed = await self._complete(self.config)

    def tuned(self, name: str, value: str) -> None:
        """Have a change of one of libvirt's tunables announced."""
        ref = self.record.ref()
        self.happened.append(TunableChanged(domain=ref, name=name, value=value))


def affected(record: Record, *, live: bool | None, config: bool | None) -> tuple[bool, bool]:
    """Return whether the guest and whether the next start are meant.

    Neither asked for means the guest if there is one (libvirt's VIR_DOMAIN_AFFECT_CURRENT).

    :raises InvalidState: what is meant does not exist.
    """
    if not live and not config:
        live, config = record.active, not record.active
    if live and not record.active:
        raise InvalidState("domain is not running", domain=record.name)
    if config and record.persistent is None:
        raise InvalidState(
            "transient domains do not have any persistent config", domain=record.name
        )
    return bool(live), bool(config)
