"""What drivers have in common whose guests are processes: how each is followed to its end.

One invariant: every guest has one task that waits for the end of its process and tells of it,
unless somebody else destroys it at that moment.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING
from typing import Any
from typing import Generic
from typing import Protocol
from typing import TypeVar

from hvcore.driver import Driver
from hvcore.errors import DomainGone
from hvcore.errors import DriverError
from hvcore.errors import LaunchError
from hvcore.events import StoppedDetail
from hvcore.lifecycle import PausedReason
from hvcore.lifecycle import ShutoffReason
from hvcore.lifecycle import State

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from collections.abc import Sequence

    from hvcore.driver import Record
    from hvcore.driver import Setup
    from hvcore.process import Log
    from hvcore.process import Process
    from hvcore.state import StateDirectory

_log = logging.getLogger(__name__)


class Followed(Protocol):
    """What a driver keeps of a running guest, as far as it matters here.

    :ivar crashed: it was ended since it crashed.
    :ivar watcher: the task that waits for its end.
    """

    crashed: bool
    watcher: asyncio.Task[None] | None

    @property
    def process(self) -> Process:
        """Its process."""

    @property
    def log(self) -> Log:
        """What its process writes."""


_G = TypeVar("_G", bound=Followed)


class Following(Driver, Generic[_G]):
    """The part of a driver that follows processes."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._guests: dict[Record, _G] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def _directory(self) -> StateDirectory:
        assert self.directory is not None  # keeps_state
        return self.directory

    def detach(self, record: Record) -> None:
        """Forget a guest that :meth:`close` has let go."""
        self._guests.pop(record, None)
        record.runtime = None

    def _forget(self, record: Record, guest: _G) -> None:
        """Know no more of a guest whose process ended; another one may have its place by now."""
        if self._guests.get(record) is guest:
            del self._guests[record]

    def _ended(self, record: Record, guest: _G) -> None:
        """Tell of the end of a process, unless whoever ended it does."""
        if record.runtime is not guest or record.destroying:
            return
        if record.state is State.SHUTDOWN and not guest.crashed:
            reason, detail = ShutoffReason.SHUTDOWN, StoppedDetail.SHUTDOWN
        else:
            reason, detail = ShutoffReason.CRASHED, StoppedDetail.CRASHED
        remark_end(guest, reason)
        self.reports.stopped(record, reason, detail)

    def _lost(self, record: Record, *, failed: bool) -> None:
        """Tell of a guest that an earlier manager started and that is not there any more."""
        if failed:
            self.reports.stopped(record, ShutoffReason.FAILED, StoppedDetail.FAILED)
        else:
            self.reports.stopped(record, ShutoffReason.CRASHED, StoppedDetail.CRASHED)

    def _task(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something that nobody waits for."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("%s", task.exception())

    async def _end_tasks(self) -> None:
        """Stop everything that nobody waits for."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @staticmethod
    async def _watched_to_its_end(guest: _G) -> bool:
        """Return whether a process just ended, after whoever waited for that has cleaned up."""
        if guest.process.alive or guest.watcher is None:
            return False
        await guest.watcher
        return True

    @staticmethod
    async def _end_watching(guest: _G) -> None:
        """Wait for the end of a process no longer."""
        if guest.watcher is not None:
            guest.watcher.cancel()
            await asyncio.gather(guest.watcher, return_exceptions=True)


def remark_end(guest: Followed, reason: ShutoffReason) -> None:
    """Write into a guest's log why it ended, as libvirt does."""
    try:
        guest.log.note(f"shutting down, reason={reason}")
    except DriverError as error:
        # A full disk is no reason to keep a domain that is gone.
        _log.warning("%s", error)


def check_wanted(record: Record, number: int | None) -> None:
    """Refuse to go on starting what somebody destroyed meanwhile.

    :param number: the id that the domain got when its start began.
    :raises DomainGone: somebody did.
    """
    if record.id != number:
        raise DomainGone(f"domain '{record.name}' was destroyed", domain=record.name)


def starting(record: Record) -> bool:
    """Return whether the start of a domain has not come to its end."""
    return record.reason is PausedReason.STARTING_UP


def exited(argv: Sequence[str], log: Log) -> LaunchError:
    """Return the error of a process that ended while it was being started."""
    tail = log.tail()
    message = "process exited while connecting to monitor" + (f": {tail}" if tail else "")
    return LaunchError(message, argv=argv, log_tail=tail)
