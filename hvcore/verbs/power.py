"""Guests that go to sleep, and that are woken up."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Final
from typing import Literal
from typing import TypeAlias

from hvcore.errors import ErrorClass
from hvcore.errors import HvError
from hvcore.errors import InvalidState
from hvcore.lifecycle import State
from hvcore.operations import Op
from hvcore.verbs.base import Handle
from hvcore.verbs.base import Verbs

if TYPE_CHECKING:
    from hvcore.driver import Record

SleepKind: TypeAlias = Literal["mem", "disk", "hybrid"]
"""Where a sleeping guest keeps what it knows: in memory, on disk, or both."""

SLEEPS: Final = ("mem", "disk", "hybrid")


class PowerVerbs(Verbs):
    """What a driver may override."""

    async def pm_suspend(self, record: Record, kind: SleepKind, seconds: int) -> None:
        """Let a running guest go to sleep; that it does is reported by whoever sees it.

        :param seconds: after which it is to wake up; 0 for never.
        :raises HvError: the guest cannot, or not for a time.
        """
        del kind, seconds
        raise self.unsupported(Op.PM_SUSPEND, record)

    async def pm_wakeup(self, record: Record) -> None:
        """Wake a guest up; that it does is reported by whoever sees it."""
        raise self.unsupported(Op.PM_WAKEUP, record)


class PowerHandle(Handle):
    """What a handle on a domain offers."""

    __slots__ = ()

    async def pm_suspend(self, kind: SleepKind, *, seconds: int = 0) -> None:
        """Let the guest go to sleep. One that sleeps on disk is off afterwards.

        :param seconds: after which it is to wake up; 0 for never.
        :raises InvalidState: it does not run.
        :raises HvError: there is no such way to sleep, or the guest cannot.
        """
        if kind not in SLEEPS:
            raise HvError(f"Unknown suspend target: {kind}", kind=ErrorClass.INVALID_ARG)
        async with self._engine.modify(self._record, Op.PM_SUSPEND.api, active=True) as record:
            if record.state is not State.RUNNING:
                raise InvalidState("domain is not running", domain=record.name)
            await self._engine.driver.pm_suspend(record, kind, seconds)

    async def pm_wakeup(self) -> None:
        """Wake the guest up.

        :raises InvalidState: it does not sleep.
        """
        driver = self._engine.driver
        if Op.PM_WAKEUP not in driver.operations():
            raise driver.unsupported(Op.PM_WAKEUP, self._now())
        async with self._engine.modify(self._record, Op.PM_WAKEUP.api, active=True) as record:
            if record.state is not State.PMSUSPENDED:
                raise InvalidState("guest is not in suspended state", domain=record.name)
            await driver.pm_wakeup(record)
