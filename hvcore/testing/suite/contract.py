"""What the tests of the contract share: a connection, the domains they make, what was announced.

Invariant: no domain but those made here is touched, since a driver may have others.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any
from typing import Final

import attrs
import pytest
from lxml import etree

from hvcore import events
from hvcore.errors import HvError
from hvcore.errors import NoSuchDomain
from hvcore.errors import UnsupportedOperation
from hvcore.hookspecs import hookimpl
from hvcore.host import connect
from hvcore.lifecycle import PausedReason
from hvcore.lifecycle import State
from hvcore.state import process_start

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from collections.abc import Callable
    from collections.abc import Iterable

    from hvcore.domain import Domain
    from hvcore.engine import Engine
    from hvcore.events import Event
    from hvcore.host import Host
    from hvcore.lifecycle import StateReason
    from hvcore.operations import Op
    from hvcore.registry import Registry
    from hvcore.state import Status
    from hvcore.testing.control import TestControl

PREFIX: Final = "contract-"
"""Names of domains that tests make begin with this."""

_FITTING: Final[dict[type[Event], frozenset[State]]] = {
    events.Started: frozenset({State.RUNNING, State.PAUSED}),
    events.Suspended: frozenset({State.PAUSED}),
    events.Resumed: frozenset({State.RUNNING}),
    events.Stopped: frozenset({State.SHUTOFF}),
    events.Shutdown: frozenset({State.SHUTDOWN}),
    events.Undefined: frozenset(State),
    events.PMSuspended: frozenset({State.PMSUSPENDED}),
}
"""States in which a domain may be seen at the moment at which an event is announced."""


@attrs.frozen
class Seen:
    """An event, and what could be read at the moment at which it was announced.

    :ivar state: None where the domain was gone.
    :ivar written: its state in the status file, None without one.
    """

    event: Event
    state: State | None
    reason: StateReason | None
    written: State | None

    @property
    def text(self) -> str:
        """The event's name and detail, as in ``Stopped(Destroyed)``."""
        detail = getattr(self.event, "reason", "")
        return f"{type(self.event).__name__}({detail})"

    def wrong(self, *, on_disk: bool) -> str | None:
        """Return what does not fit the event, or None.

        :param on_disk: statuses are written.
        """
        if self.reason is PausedReason.STARTING_UP and not isinstance(self.event, events.Defined):
            return f"{self.text} was announced before the start was over"
        fitting = _FITTING.get(type(self.event))
        state = State.SHUTOFF if self.state is None else self.state
        if fitting is not None and state not in fitting:
            return f"{self.text} was announced while the domain was {state}"
        expected = None if state is State.SHUTOFF else state
        if on_disk and fitting is not None and self.written is not expected:
            return f"{self.text} was announced with {self.written} in the status file"
        return None


class Observer:
    """A plugin that looks at each domain at the moment at which an event of it is announced."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.news = asyncio.Event()
        self.engine: Engine | None = None

    @hookimpl
    def hv_event(self, event: Event) -> None:
        """Note the event and the state of its domain."""
        state = reason = written = None
        if self.engine is not None:
            with contextlib.suppress(NoSuchDomain):
                record = self.engine.by_uuid(event.domain.uuid)
                state, reason = record.state, record.reason
            status = status_of(self.engine, event.domain.uuid)
            written = None if status is None else status.state
        self.seen.append(Seen(event, state, reason, written))
        self.news.set()


def status_of(engine: Engine, uuid: str) -> Status | None:
    """Return what is written of a running domain, or None."""
    statuses: Iterable[Status] = () if engine.directory is None else engine.directory.statuses()
    return next((status for status in statuses if status.uuid == uuid), None)


@attrs.define(eq=False)
class Contract:
    """One connection to the driver under test.

    :ivar xml: a document of a domain that runs.
    :ivar patience: seconds to wait for what does not happen at once.
    """

    host: Host
    uri: str
    registry: Registry
    observer: Observer
    xml: str
    patience: float
    _mark: int = 0
    _made: dict[str, None] = attrs.field(factory=dict)

    # -- what the driver is -------------------------------------------------------------

    @property
    def engine(self) -> Engine:
        """The books behind the connection."""
        return self.host._engine  # noqa: SLF001 - the kit is part of hvcore

    @property
    def keeps_state(self) -> bool:
        """Whether domains outlive the connection."""
        return self.engine.driver.keeps_state

    def need(self, *operations: Op) -> None:
        """Skip the test unless the driver has the verbs."""
        missing = sorted(op.method for op in operations if op not in self.host.operations)
        if missing:
            pytest.skip(f"the driver has no {', '.join(missing)}")

    def need_state(self) -> None:
        """Skip the test unless domains outlive the connection."""
        if not self.keeps_state:
            pytest.skip("the driver keeps no state")

    def controls(self) -> TestControl | None:
        """Return what makes the host fail; None where the host is a real one."""
        try:
            return self.host.test
        except UnsupportedOperation:
            return None

    # -- domains ------------------------------------------------------------------------

    def document(self, name: str = "vm", change: Callable[[Any], None] | None = None) -> str:
        """Return the document of a domain with a name of its own.

        :param change: is given the root element.
        """
        root = etree.fromstring(self.xml.strip())
        for tag in ("name", "uuid"):
            for found in root.findall(tag):
                root.remove(found)
        element = etree.Element("name")
        element.text = PREFIX + name
        root.insert(0, element)
        if change is not None:
            change(root)
        return etree.tostring(root, encoding="unicode")

    async def define(self, name: str = "vm", change: Callable[[Any], None] | None = None) -> Domain:
        """Define a domain that is removed after the test."""
        self._made[PREFIX + name] = None
        return await self.host.define(self.document(name, change))

    async def create(self, name: str = "vm", *, paused: bool = False) -> Domain:
        """Start a transient domain that is ended after the test."""
        self._made[PREFIX + name] = None
        return await self.host.create(self.document(name), paused=paused)

    async def started(
        self, name: str = "vm", change: Callable[[Any], None] | None = None
    ) -> Domain:
        """Define and start a domain, and forget the events of that."""
        domain = await self.define(name, change)
        await domain.start()
        self.forget()
        return domain

    def adopt(self, domain: Domain) -> Domain:
        """See that a domain is removed after the test that came from elsewhere."""
        self._made[domain.name] = None
        return domain

    async def find(self, name: str = "vm") -> Domain:
        """Return a domain made earlier."""
        return await self.host.lookup_name(PREFIX + name)

    async def mine(self) -> list[Domain]:
        """Return the domains that tests made."""
        return [each for each in await self.host.domains() if each.name.startswith(PREFIX)]

    async def reopen(self) -> None:
        """Close the connection and open it again, as the next program would."""
        await self.host.close()
        self.observer.engine = None
        self.host = await connect(self.uri, registry=self.registry)
        self.observer.engine = self.engine
        self.forget()

    def pid(self, domain: Domain) -> int:
        """Return the process of a running domain; skips the test where there is none."""
        status = status_of(self.engine, domain.uuid)
        assert status is not None or not self.keeps_state, "a running domain has no status"
        if status is None or status.pid is None:
            pytest.skip("the driver's domains are no processes")
        return status.pid

    def runtime(self, domain: Domain) -> Path | None:
        """Return the directory of what runs, None where nothing is kept."""
        directory = self.engine.directory
        return None if directory is None else directory.run / domain.uuid

    async def clean(self) -> None:
        """End and remove what tests made."""
        for name in self._made:
            with contextlib.suppress(NoSuchDomain):
                domain = await self.host.lookup_name(name)
                status = status_of(self.engine, domain.uuid)
                with contextlib.suppress(HvError):
                    await domain.destroy()
                if status is not None and status.pid is not None and status.alive():
                    os.kill(status.pid, signal.SIGKILL)  # a driver that does not is being tested
                await domain.undefine()

    # -- what happened ------------------------------------------------------------------

    def forget(self) -> None:
        """Leave what happened until now out of :meth:`happened` and :meth:`saw`."""
        self._mark = len(self.observer.seen)

    def happened(self, domain: Domain | None = None) -> list[str]:
        """Return what was announced of the life of one domain or of all, as text."""
        return [each.text for each in self._seen(domain) if _of_life(each.event)]

    async def saw(self, domain: Domain, kind: type[Event]) -> Event:
        """Wait until an event of a kind was announced, and return it."""
        try:
            async with asyncio.timeout(self.patience):
                while True:
                    for each in self._seen(domain):
                        if isinstance(each.event, kind):
                            return each.event
                    self.observer.news.clear()
                    await self.observer.news.wait()
        except TimeoutError:
            names = [each.text for each in self._seen(domain)]
            pytest.fail(f"{kind.__name__} was not announced within {self.patience} s, only {names}")

    def check_order(self) -> None:
        """Fail where an event was announced before what it says could be seen."""
        wrong = [each.wrong(on_disk=self.keeps_state) for each in self.observer.seen]
        assert not [text for text in wrong if text is not None]

    async def gone(self, pid: int) -> bool:
        """Tell whether a process ended, waiting for it a while."""
        deadline = asyncio.get_running_loop().time() + self.patience
        while process_start(pid) is not None:
            if asyncio.get_running_loop().time() > deadline:
                return False
            await asyncio.sleep(0.01)
        return True

    def _seen(self, domain: Domain | None) -> list[Seen]:
        found = self.observer.seen[self._mark :]
        return [each for each in found if domain is None or each.event.domain.uuid == domain.uuid]


def _of_life(event: Event) -> bool:
    # That the guest finished is announced by hypervisors that learn of it, between the others.
    return isinstance(event, events.LifecycleEvent) and not isinstance(event, events.Shutdown)


@contextlib.asynccontextmanager
async def opened(
    uri: str,
    registry: Registry,
    xml: str,
    patience: float,
    *,
    name: str = "hvcore-contract",
) -> AsyncIterator[Contract]:
    """Connect to the driver under test; remove what tests made in the end.

    :param xml: a document of a domain that runs.
    :param patience: seconds to wait for what does not happen at once.
    :param name: of the plugin that observes; another one for each host of a test.
    """
    observer = Observer()
    registry.register(observer, name=name)
    host = await connect(uri, registry=registry)
    made = Contract(host, uri, registry, observer, xml, patience)
    observer.engine = made.engine
    try:
        yield made
    finally:
        await made.clean()
        await made.host.close()
        registry.manager.unregister(observer)
