"""Carrying planned faults out, for a driver whose machines exist only in memory.

The driver tells when an operation begins and ends, and does what only it can do
(:class:`Machines`); nothing here knows what kind of driver that is. What is planned, a test says to
:class:`hvcore.testing.faults.Faults`.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import copy
import functools
import inspect
from typing import TYPE_CHECKING
from typing import Any
from typing import Final
from typing import Literal
from typing import Protocol
from typing import TypeAlias
from typing import TypeVar

import attrs

from hvcore.driver import Driver
from hvcore.driver import Record
from hvcore.errors import DomainGone
from hvcore.errors import DriverError
from hvcore.errors import ErrorClass
from hvcore.errors import HvError
from hvcore.errors import MonitorLost
from hvcore.operations import Op

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from hvcore.events import DomainRef
    from hvcore.events import Event
    from hvcore.testing.clock import VirtualClock

Phase: TypeAlias = Literal["before", "after"]
Unplugging: TypeAlias = "Literal['refuse', 'ignore'] | float"
"""What a guest does that is asked for a device; a number is how many seconds it takes."""


_METHODS: Final = {op.api: op.method for op in Op}


class HasUuid(Protocol):
    """A handle on a domain, of either API."""

    @property
    def uuid(self) -> str:
        """Its UUID."""


Target: TypeAlias = "str | HasUuid"
"""A domain, by name, UUID or handle."""

# -- what can be done ------------------------------------------------------------------------------


@attrs.frozen
class Delay:
    """The operation takes longer.

    :param seconds: of the host's clock.
    """

    seconds: float


@attrs.frozen
class Hang:
    """The operation never ends; destroying the domain, or a crash, ends it with an error."""


@attrs.frozen
class Crash:
    """The machine of the domain is suddenly gone, and the operation fails."""


@attrs.frozen
class RebootHost:
    """Every machine is gone at once, and nobody is told; the operation fails."""


Deed: TypeAlias = "Delay | Hang | Crash | RebootHost | BaseException | type[BaseException]"
"""What a fault does; an error is raised."""


@attrs.frozen
class Injected:
    """Something that was done.

    :param time: seconds on the host's clock.
    :param where: for instance ``before start`` or ``event Stopped``.
    :param what: for instance ``MonitorLost`` or ``lose``.
    """

    time: float
    where: str
    domain: str | None
    what: str


@attrs.define(eq=False, kw_only=True)
class Plan:
    """A fault that is planned.

    :ivar where: what it is about.
    :ivar nth: which occurrence is the first, from 1.
    :ivar times: how many in a row; None for all from then on.
    :ivar seen: how many there were.
    """

    where: str
    what: tuple[Any, ...]
    domain: str | None = None
    device: str | None = None
    nth: int = 1
    times: int | None = 1
    seen: int = 0

    @property
    def over(self) -> bool:
        """Whether it has done all it was planned for."""
        return self.times is not None and self.seen >= self.nth + self.times - 1

    def counts(self, domain: Record | DomainRef | None, device: str | None = None) -> bool:
        """Note an occurrence, if it is one; return whether the fault is due."""
        names = (None,) if domain is None else (None, domain.name, domain.uuid)
        if self.domain not in names or self.device not in (None, device):
            return False
        self.seen += 1
        return self.seen >= self.nth and (self.times is None or self.seen < self.nth + self.times)


class Machines(Protocol):
    """What faults need of the driver."""

    def running(self) -> list[Record]:
        """Return the domains that have a machine."""

    def lose(self, record: Record, *, reboot: bool = False) -> None:
        """Let the machine of a domain be gone, and say so."""

    def publish(self, record: Record, event: Event) -> None:
        """Publish an event that was held back."""

    def depart(self, record: Record, device: str) -> None:
        """Let a guest give away a device that nobody waits for."""

    def set_agent(self, record: Record, *, listens: bool) -> None:
        """Let the agent in a guest listen or not, and say so."""


class Injector:
    """What is planned for one host, and what was done.

    :ivar calls: plans about operations.
    :ivar events: plans about events.
    :ivar unplugs: plans about what guests do that are asked for a device.
    :ivar blocks: plans about jobs of disks that fail.
    """

    def __init__(self, clock: VirtualClock, machines: Machines) -> None:
        self.clock = clock
        self.machines = machines
        self.calls: list[Plan] = []
        self.events: list[Plan] = []
        self.unplugs: list[Plan] = []
        self.blocks: list[Plan] = []
        self.log: list[Injected] = []
        self._waiting: dict[Record, set[asyncio.Future[None]]] = {}
        self._released: Event | None = None
        self._muted = False

    # -- what a driver says -------------------------------------------------------------

    async def reach(self, phase: Phase, operation: str, record: Record | None) -> None:
        """Do what is planned for the beginning or the end of an operation."""
        if not self.calls:
            return
        for plan in self._due(self.calls, f"{phase} {operation}", record):
            for action in plan.what:
                await self._do(plan, action, record)

    @contextlib.asynccontextmanager
    async def around(self, operation: str, record: Record) -> AsyncIterator[None]:
        """Do what is planned for an operation that changes the next start alone.

        :param operation: libvirt's name of it.
        """
        method = _METHODS.get(operation, operation)
        await self.reach("before", method, record)
        yield
        await self.reach("after", method, record)

    def permit(self, operation: str, domain: Record | DomainRef | None) -> None:
        """Do what is planned for an operation that is no verb of a driver."""
        for plan in self._due(self.calls, f"before {operation}", domain):
            for action in plan.what:
                self._do_now(plan, action, domain)

    def relay(self, event: Event) -> tuple[Event, ...]:
        """Return what listeners are to be told of an event at this moment."""
        if event is self._released:
            return (event,)
        if self._muted:
            return ()
        if not self.events:
            return (event,)
        told: tuple[Event, ...] = (event,)
        for kind in type(event).__mro__:
            for plan in self._due(self.events, f"event {kind.__name__}", event.domain):
                [action] = plan.what
                self.note(plan.where, event.domain, _name(action))
                if action == "duplicate":
                    told = told * 2
                    continue
                if isinstance(action, Delay) and told:
                    release = functools.partial(self._release, event)
                    self.clock.call_later(action.seconds, release)
                told = ()
        return told

    def unplugging(self, record: Record, device: str | None) -> Unplugging:
        """Return what the guest does that is asked for a device now."""
        outcome: Unplugging = 0.0
        for plan in self.unplugs:
            if plan.counts(record, device):
                [outcome] = plan.what
                self.note(f"unplug {device}", record, str(outcome))
        return outcome

    def failing(self, record: Record, disk: str) -> tuple[float, str] | None:
        """Return when a job of a disk that begins now will fail, and why; None if it will not.

        The time is in seconds from now.
        """
        found = None
        for plan in self.blocks:
            if plan.counts(record, disk):
                found = plan.what[0], plan.what[1]
                self.note(f"block job {disk}", record, f"fail {plan.what[0]}")
        return found

    async def wait(self, record: Record | None, seconds: float | None) -> None:
        """Wait on the host's clock for as long as the machine of a domain is there.

        :param seconds: None for ever.
        :raises MonitorLost: it crashed.
        :raises DomainGone: it was destroyed.
        """
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = set() if record is None else self._waiting.setdefault(record, set())
        waiting.add(ended)
        try:
            if seconds is None:
                await ended
                return
            sleeping = asyncio.ensure_future(self.clock.sleep(seconds))
            try:
                await asyncio.wait((sleeping, ended), return_when=asyncio.FIRST_COMPLETED)
            finally:
                sleeping.cancel()
            if ended.done():
                ended.result()
        finally:
            waiting.discard(ended)
            if not ended.cancel() and not ended.cancelled():
                ended.exception()  # it is known, also if whoever waited does not ask any more

    def end(self, record: Record, error: HvError) -> None:
        """Let everybody who waits for something of a machine fail: it is gone."""
        for waiting in self._waiting.pop(record, set()):
            if not waiting.done():
                waiting.set_exception(error)

    def running(self, domain: Target) -> Record:
        """Return the domain that is meant.

        :raises KeyError: no domain of that name runs.
        """
        name = domain if isinstance(domain, str) else domain.uuid
        for record in self.machines.running():
            if name in (record.name, record.uuid):
                return record
        raise KeyError(f"no domain '{name}' runs")

    # -- inside -------------------------------------------------------------------------

    @staticmethod
    def _due(plans: list[Plan], where: str, domain: Record | DomainRef | None) -> list[Plan]:
        return [plan for plan in plans if plan.where == where and plan.counts(domain)]

    async def _do(self, plan: Plan, action: Deed, record: Record | None) -> None:
        if isinstance(action, Delay | Hang):
            self.note(plan.where, record, _name(action))
            await self.wait(record, action.seconds if isinstance(action, Delay) else None)
            return
        self._do_now(plan, action, record)

    def _do_now(self, plan: Plan, action: Deed, domain: Record | DomainRef | None) -> None:
        self.note(plan.where, domain, _name(action))
        record = domain if isinstance(domain, Record) else None
        if isinstance(action, Delay | Hang):
            return  # such are carried out where time passes
        name = None if domain is None else domain.name
        if isinstance(action, RebootHost):
            self.reboot()
            raise lost(name)
        error = lost(name) if isinstance(action, Crash) else _error(action, name)
        if isinstance(error, MonitorLost) and record is not None and record.active:
            # A machine that cannot be talked to is ended.
            self.lose(record)
        raise error

    def lose(self, record: Record, *, reboot: bool = False) -> None:
        """Let the machine of a domain be gone; what was being done with it fails."""
        self.machines.lose(record, reboot=reboot)
        self.end(record, lost(record.name))

    def reboot(self) -> None:
        """Let every machine be gone without anybody being told."""
        self._muted = True
        try:
            for record in self.machines.running():
                self.lose(record, reboot=True)
        finally:
            self._muted = False

    def _release(self, event: Event) -> None:
        for record in self.machines.running():
            if record.uuid == event.domain.uuid:
                break
        else:
            record = Record(name=event.domain.name, uuid=event.domain.uuid)
        self._released = event
        try:
            self.machines.publish(record, event)
        finally:
            self._released = None

    def note(self, where: str, domain: Record | DomainRef | None, what: str) -> None:
        """Write down what was done."""
        name = None if domain is None else domain.name
        self.log.append(Injected(self.clock.now, where, name, what))


def lost(name: str | None) -> MonitorLost:
    """Return what is said when a machine is gone."""
    return MonitorLost("the machine is gone", domain=name)


def _name(action: object) -> str:
    if isinstance(action, str):
        return action
    kind = action if isinstance(action, type) else type(action)
    return f"{kind.__name__} {action.seconds}" if isinstance(action, Delay) else kind.__name__


def _error(action: BaseException | type[BaseException], domain: str | None) -> BaseException:
    """Return the error to raise: a new one each time, since errors keep where they were raised."""
    if not isinstance(action, type):
        return copy.copy(action)
    if action is MonitorLost:
        return lost(domain)
    if not issubclass(action, HvError):
        return action("planned by a test")
    return action("planned by a test", domain=domain)


# -- for drivers -----------------------------------------------------------------------------------

_D = TypeVar("_D", bound=type[Driver])

_inside: Final = contextvars.ContextVar("_inside", default=False)
"""Whether a verb is being carried out: one that uses another is one call and not two."""


def faulty(driver: _D) -> _D:
    """Let every verb of a driver reach the planned faults; its ``injector`` knows them."""
    for op in Op:
        verb = getattr(driver, op.method)
        if verb is not getattr(Driver, op.method) and inspect.iscoroutinefunction(verb):
            setattr(driver, op.method, _watched(op, verb))
    return driver


def _watched(op: Op, verb: Any) -> Any:
    @functools.wraps(verb)
    async def watched(self: Any, *args: Any, **kwargs: Any) -> Any:
        if _inside.get():
            return await verb(self, *args, **kwargs)
        token = _inside.set(True)
        try:
            record = args[0] if args and isinstance(args[0], Record) else None
            faults: Injector = self.injector
            await faults.reach("before", op.method, record)
            result = await verb(self, *args, **kwargs)
            if op is Op.DESTROY and record is not None:
                faults.end(record, DomainGone("domain is not running", domain=record.name))
            await faults.reach("after", op.method, record)
            return result
        finally:
            _inside.reset(token)

    return watched


def rejected(device: str | None) -> DriverError:
    """Return what is said when a guest keeps a device, as QEMU's driver says it."""
    return DriverError(
        "unplug of device was rejected by the guest",
        kind=ErrorClass.OPERATION_FAILED,
        hint=f"the guest keeps '{device}'",
    )
