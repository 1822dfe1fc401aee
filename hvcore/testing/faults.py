"""Faults that a test plans beforehand: what fails, when, and how.

A fault counts what it is about: the first or the n-th call of an operation, of one domain or of
any. Faults do not know of each other, so several can be planned for the same call; they act in the
order in which they were planned. Nothing is left to chance, and what was done is in
:attr:`Faults.log`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import Final

from hvcore import events as _events
from hvcore.errors import ErrorClass
from hvcore.errors import HvError
from hvcore.errors import LaunchError
from hvcore.operations import Op
from hvcore.testing.injection import Crash
from hvcore.testing.injection import Delay
from hvcore.testing.injection import Hang
from hvcore.testing.injection import HasUuid
from hvcore.testing.injection import Injected
from hvcore.testing.injection import Plan
from hvcore.testing.injection import RebootHost
from hvcore.testing.injection import Target

if TYPE_CHECKING:
    from hvcore.events import Event
    from hvcore.testing.injection import Deed
    from hvcore.testing.injection import Injector
    from hvcore.testing.injection import Unplugging

__all__ = [
    "OPERATIONS",
    "Crash",
    "Delay",
    "Faults",
    "Hang",
    "HasUuid",
    "Injected",
    "Plan",
    "RebootHost",
    "Target",
]


_SHORT: Final = {
    "attach": "attach_device",
    "detach": "detach_device",
    "migrate": "migrate_perform",
    "restore": "load",
    "update": "update_device",
}
_BOOKS: Final = {
    "define": "virDomainDefineXML",
    "undefine": "virDomainUndefine",
    "set_autostart": "virDomainSetAutostart",
    "set_autostart_once": "virDomainSetAutostartOnce",
}
"""Operations that are no verbs of a driver, and can only fail as a whole."""
_METHODS: Final = {op.api: op.method for op in Op}
OPERATIONS: Final = tuple(sorted({*_METHODS.values(), *_SHORT, *_BOOKS}))
"""Names of operations; libvirt's names of them, such as ``virDomainCreate``, are good as well."""


def _operation(name: str | Op) -> str:
    """Return the one name of an operation.

    :raises ValueError: there is no such operation.
    """
    if isinstance(name, Op):
        return name.method
    found = _SHORT.get(name) or _METHODS.get(name) or _BOOKS.get(name) or name
    if found not in _METHODS.values() and found not in _BOOKS.values():
        raise ValueError(f"no operation is called '{name}'; there are {', '.join(OPERATIONS)}")
    return found


_EVENTS: Final = frozenset(
    each
    for each in vars(_events).values()
    if isinstance(each, type) and issubclass(each, _events.Event)
)


class Faults:
    """The faults of one host."""

    def __init__(self, injector: Injector) -> None:
        self._injector = injector

    # -- what a test says ---------------------------------------------------------------

    @property
    def log(self) -> tuple[Injected, ...]:
        """What was done so far, in order."""
        return tuple(self._injector.log)

    @property
    def pending(self) -> tuple[Plan, ...]:
        """What is planned and was not done, or not as often as it is to be.

        A test that expects all of its faults to happen ends with ``assert not faults.pending``.
        """
        faults = self._injector
        plans = (*faults.calls, *faults.events, *faults.unplugs, *faults.blocks)
        return tuple(plan for plan in plans if not plan.over)

    def load(self, path: str) -> None:
        """Plan what a scenario file says; see :mod:`hvcore.testing.scenario`.

        :raises HvError: the file cannot be read or understood.
        """
        from hvcore.testing import scenario  # noqa: PLC0415 - few need it, and it needs this module

        scenario.load(path, self, self._injector)

    def clear(self) -> None:
        """Plan nothing any more; the log stays."""
        faults = self._injector
        for plans in (faults.calls, faults.events, faults.unplugs, faults.blocks):
            plans.clear()

    def before(
        self,
        operation: str | Op,
        *what: Deed,
        domain: Target | None = None,
        nth: int = 1,
        times: int | None = 1,
    ) -> None:
        """Do something before an operation, which has not changed anything by then.

        :param operation: one of :data:`OPERATIONS`.
        :param what: errors to raise and other actions, in order; an error ends the operation.
        :param domain: the only one that counts; any unless given.
        :param nth: which call is the first.
        :param times: how many calls in a row; None for all from then on.
        :raises ValueError: there is no such operation.
        """
        name = _operation(operation)
        if name in _BOOKS.values() and any(isinstance(each, Delay | Hang) for each in what):
            raise ValueError(f"{operation} takes no time that could be longer")
        self._plan(self._injector.calls, f"before {name}", what, domain, nth=nth, times=times)

    def after(
        self,
        operation: str | Op,
        *what: Deed,
        domain: Target | None = None,
        nth: int = 1,
        times: int | None = 1,
    ) -> None:
        """Do something after an operation, which was carried out; with an error nobody learns so.

        Parameters as for :meth:`before`.

        :raises ValueError: there is no such operation, or it is never seen to end.
        """
        name = _operation(operation)
        if name in _BOOKS.values():
            raise ValueError(f"{operation} can only fail before it does anything")
        self._plan(self._injector.calls, f"after {name}", what, domain, nth=nth, times=times)

    def out_of_memory(
        self,
        operation: str | Op,
        *,
        domain: Target | None = None,
        nth: int = 1,
        times: int | None = 1,
    ) -> None:
        """Let the host have no memory for an operation.

        :raises ValueError: there is no such operation.
        """
        error: HvError = HvError("Cannot allocate memory", kind=ErrorClass.NO_MEMORY)
        if _operation(operation) == "start":
            said = "cannot set up guest memory 'pc.ram': Cannot allocate memory"
            error = LaunchError(f"process exited while connecting to monitor: {said}")
        self.before(operation, error, domain=domain, nth=nth, times=times)

    def lose_event(
        self,
        kind: type[Event] | str,
        *,
        domain: Target | None = None,
        nth: int = 1,
        times: int | None = 1,
    ) -> None:
        """Let nobody be told of an event.

        :param kind: a class of :mod:`hvcore.events`, or its name.
        :raises ValueError: there is no such event.
        """
        self._plan(
            self._injector.events, _event_kind(kind), ("lose",), domain, nth=nth, times=times
        )

    def duplicate_event(
        self,
        kind: type[Event] | str,
        *,
        domain: Target | None = None,
        nth: int = 1,
        times: int | None = 1,
    ) -> None:
        """Let everybody be told of an event twice.

        :param kind: a class of :mod:`hvcore.events`, or its name.
        :raises ValueError: there is no such event.
        """
        self._plan(
            self._injector.events, _event_kind(kind), ("duplicate",), domain, nth=nth, times=times
        )

    def delay_event(
        self,
        kind: type[Event] | str,
        seconds: float,
        *,
        domain: Target | None = None,
        nth: int = 1,
        times: int | None = 1,
    ) -> None:
        """Let everybody be told of an event later, so that others may overtake it.

        :param kind: a class of :mod:`hvcore.events`, or its name.
        :param seconds: on the host's clock, which has to be advanced for it to come.
        :raises ValueError: there is no such event.
        """
        what = (Delay(seconds),)
        self._plan(self._injector.events, _event_kind(kind), what, domain, nth=nth, times=times)

    def unplug(
        self,
        outcome: Unplugging,
        *,
        device: str | None = None,
        domain: Target | None = None,
        nth: int = 1,
        times: int | None = 1,
    ) -> None:
        """Say what the guest does when it is asked for a device.

        :param outcome: ``refuse``; ``ignore``, which is never to answer; or how many seconds it
            takes to let go, which may be more than whoever asked waits.
        :param device: alias of the only one that counts; any unless given.
        :raises ValueError: there is no such outcome.
        """
        if isinstance(outcome, str) and outcome not in ("refuse", "ignore"):
            raise ValueError(f"a guest does not '{outcome}' a device; refuse, ignore or seconds")
        plans = self._injector.unplugs
        self._plan(plans, "unplug", (outcome,), domain, nth=nth, times=times, device=device)

    def fail_block_job(
        self,
        after: float = 0.0,
        *,
        message: str = "Input/output error",
        disk: str | None = None,
        domain: Target | None = None,
        nth: int = 1,
        times: int | None = 1,
    ) -> None:
        """Let a job that works on the images of a disk fail after it has begun.

        :param after: seconds on the host's clock; one that is over by then does not fail.
        :param disk: target of the only disk that counts; any unless given.
        """
        plans, what = self._injector.blocks, (after, message)
        self._plan(plans, "block job", what, domain, nth=nth, times=times, device=disk)

    # -- what a test does now -----------------------------------------------------------

    def crash(self, domain: Target) -> None:
        """Let the machine of a domain be gone; what was being done with it fails.

        :raises KeyError: no domain of that name runs.
        """
        record = self._injector.running(domain)
        self._injector.note("now", record, "Crash")
        self._injector.lose(record)

    def lose_monitor(self, domain: Target) -> None:
        """Let the connection to a machine break: it can be of no use any more, and is ended.

        :raises KeyError: no domain of that name runs.
        """
        record = self._injector.running(domain)
        self._injector.note("now", record, "MonitorLost")
        self._injector.lose(record)

    def reboot_host(self) -> None:
        """Let the host restart: every machine is gone, and nobody is told.

        Definitions stay and transient domains are gone. What is marked for it is started by
        whoever calls ``autostart``, as after a restart of a real host.
        """
        self._injector.note("now", None, "RebootHost")
        self._injector.reboot()

    def let_go(self, domain: Target, device: str) -> None:
        """Let a guest give away a device it ignored the request for.

        :param device: its alias.
        :raises KeyError: no domain of that name runs.
        """
        record = self._injector.running(domain)
        self._injector.note("now", record, f"let go {device}")
        self._injector.machines.depart(record, device)

    def stop_agent(self, domain: Target) -> None:
        """Let the agent in a guest be gone.

        :raises KeyError: no domain of that name runs.
        """
        record = self._injector.running(domain)
        self._injector.note("now", record, "stop agent")
        self._injector.machines.set_agent(record, listens=False)

    def start_agent(self, domain: Target) -> None:
        """Let the agent in a guest listen again.

        :raises KeyError: no domain of that name runs.
        """
        record = self._injector.running(domain)
        self._injector.note("now", record, "start agent")
        self._injector.machines.set_agent(record, listens=True)

    # -- inside -------------------------------------------------------------------------

    def _plan(
        self,
        plans: list[Plan],
        where: str,
        what: tuple[Any, ...],
        domain: Target | None,
        *,
        nth: int,
        times: int | None,
        device: str | None = None,
    ) -> None:
        if nth < 1 or (times is not None and times < 1):
            raise ValueError("calls are counted from 1")
        if not what:
            raise ValueError(f"nothing is to happen {where}")
        wanted = domain if domain is None or isinstance(domain, str) else domain.uuid
        plans.append(
            Plan(where=where, what=what, domain=wanted, device=device, nth=nth, times=times)
        )


def _event_kind(kind: type[Event] | str) -> str:
    name = kind if isinstance(kind, str) else kind.__name__
    found = getattr(_events, name, None)
    if found not in _EVENTS:
        raise ValueError(f"no event is called '{name}'")
    return f"event {name}"
