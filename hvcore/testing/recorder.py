"""Events as they were published, for tests to look at.

Invariant: an event is recorded before the verb that caused it returns, if the driver publishes it
by then; nothing has to be read from a stream for that.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING
from typing import Protocol
from typing import TypeVar

from hvcore.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.events import Event

_E = TypeVar("_E", bound="Event")


class Named(Protocol):
    """A handle on a domain, asynchronous or blocking."""

    @property
    def uuid(self) -> str:
        """The UUID."""


class RecordedEvents:
    """A plugin that keeps every event, oldest first."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._news = threading.Condition()

    def __iter__(self) -> Iterator[Event]:
        return iter(tuple(self._events))

    def __len__(self) -> int:
        return len(self._events)

    @hookimpl
    def hv_event(self, event: Event) -> None:
        """Keep an event."""
        with self._news:
            self._events.append(event)
            self._news.notify_all()

    def names(self, domain: Named | None = None) -> list[str]:
        """Return the events of one domain or of all as text, such as ``Stopped(Destroyed)``.

        Events without a detail are their name alone.
        """
        found = []
        for event in self:
            if domain is None or event.domain.uuid == domain.uuid:
                detail = getattr(event, "reason", None)
                name = type(event).__name__
                found.append(name if detail is None else f"{name}({detail})")
        return found

    def clear(self) -> None:
        """Forget what was recorded."""
        self._events.clear()

    def find(self, kind: type[_E], domain: Named | None = None) -> _E | None:
        """Return the first event of a kind, or None."""
        for event in self:
            if isinstance(event, kind) and (domain is None or event.domain.uuid == domain.uuid):
                return event
        return None

    def wait(self, kind: type[_E], domain: Named | None = None, *, within: float = 5.0) -> _E:
        """Return the first event of a kind, waiting for it; for tests of the blocking API.

        :param within: seconds.
        :raises AssertionError: none came in time.
        """
        with self._news:
            self._news.wait_for(lambda: self.find(kind, domain) is not None, within)
        return self._found(kind, domain, within)

    async def wait_async(
        self, kind: type[_E], domain: Named | None = None, *, within: float = 5.0
    ) -> _E:
        """Return the first event of a kind, waiting for it; parameters as for :meth:`wait`.

        :raises AssertionError: none came in time.
        """
        deadline = asyncio.get_running_loop().time() + within
        # Events come from any thread, hence the looking again.
        while self.find(kind, domain) is None and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.002)
        return self._found(kind, domain, within)

    def _found(self, kind: type[_E], domain: Named | None, within: float) -> _E:
        found = self.find(kind, domain)
        if found is None:
            names = ", ".join(self.names(domain)) or "nothing"
            raise AssertionError(f"no {kind.__name__} within {within} s, but {names}")
        return found
