"""Who may work on a domain at the moment.

As in libvirt (``virdomainjob.h``): one job at a time; beside it one asynchronous job, which is
long and says by a mask which jobs may still run next to it; and one job for the guest agent,
so that a guest that does not answer never blocks what needs no agent. Whoever waits too long is
told who holds the domain.

Invariant: between acquiring and releasing, nobody else has the same slot; after acquiring,
the ``check`` of the caller has been asked again, because the domain may have gone meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import time
from typing import TYPE_CHECKING
from typing import Final

from hvcore.errors import JobTimeout

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from collections.abc import Callable

    from hvcore.jobinfo import JobInfo

WAIT_TIME: Final = 30.0
"""Seconds to wait for a job; libvirt's ``VIR_JOB_WAIT_TIME``."""


class Job(enum.Enum):
    """``virDomainJob``: what a short job does to the domain."""

    QUERY = "query"
    DESTROY = "destroy"
    SUSPEND = "suspend"
    MODIFY = "modify"
    ABORT = "abort"
    MIGRATION_OP = "migration operation"
    MODIFY_MIGRATION_SAFE = "modify migration safe"


class AsyncJob(enum.Enum):
    """``virDomainAsyncJob``: what a long job does."""

    MIGRATION_OUT = "migration out"
    MIGRATION_IN = "migration in"
    SAVE = "save"
    DUMP = "dump"
    SNAPSHOT = "snapshot"
    START = "start"
    BACKUP = "backup"


DEFAULT_MASK: Final = frozenset({Job.QUERY, Job.DESTROY, Job.ABORT})
"""What may run beside an asynchronous job unless it says otherwise."""

_ALWAYS: Final = frozenset({Job.DESTROY})
"""Destroying must always be possible, whatever a mask says."""


class _Request:
    """One waiting operation: how to take its slot, and who is to be told."""

    __slots__ = ("granted", "take")

    def __init__(self, take: Callable[[], bool]) -> None:
        self.take = take
        self.granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class JobSlots:
    """The three slots of one domain.

    :param domain: name, for the refusals.
    :param timeout: seconds to wait for a slot.
    :ivar clock: tells the seconds by which long jobs are measured.
    :ivar kind: what the asynchronous job does; ``None`` without one.
    :ivar started: when it began, by the clock.
    :ivar aborted: somebody asked for its end.
    :ivar completed: the last job that came to its end and whose numbers nobody has taken yet.
    """

    def __init__(self, domain: str, *, timeout: float = WAIT_TIME) -> None:
        self.clock: Callable[[], float] = time.monotonic
        self.kind: AsyncJob | None = None
        self.started = 0.0
        self.aborted = False
        self.completed: JobInfo | None = None
        self._domain = domain
        self._timeout = timeout
        self._holder: str | None = None
        self._async_holder: str | None = None
        self._async_task: asyncio.Task[object] | None = None
        self._agent_holder: str | None = None
        self._mask: frozenset[Job] = frozenset()
        self._waiting: list[_Request] = []

    @property
    def holder(self) -> str | None:
        """The operation that works on the domain, if any."""
        return self._holder or self._async_holder

    @contextlib.asynccontextmanager
    async def job(
        self,
        operation: str,
        kind: Job = Job.MODIFY,
        *,
        check: Callable[[], None] | None = None,
    ) -> AsyncIterator[None]:
        """Hold the domain for a short job.

        The task that runs the asynchronous job may nest short ones in it.

        :param operation: name shown to whoever has to wait, for instance ``virDomainSuspend``.
        :param check: called once the job is held; raises when there is nothing left to work on.
        :raises JobTimeout: another operation did not let go in time.
        """
        nested = self._async_task is not None and self._async_task is asyncio.current_task()

        def take() -> bool:
            beside = self._async_holder is None or nested or kind in self._mask or kind in _ALWAYS
            if self._holder is not None or not beside:
                return False
            self._holder = operation
            return True

        await self._acquire(take, self._end_job)
        try:
            if check is not None:
                check()
            yield
        finally:
            self._end_job()

    @contextlib.asynccontextmanager
    async def async_job(
        self,
        operation: str,
        kind: AsyncJob,
        *,
        mask: frozenset[Job] = DEFAULT_MASK,
        check: Callable[[], None] | None = None,
    ) -> AsyncIterator[None]:
        """Hold the domain for a long job that tolerates those of ``mask`` beside it.

        :raises JobTimeout: another operation did not let go in time.
        """
        task = asyncio.current_task()

        def take() -> bool:
            if self._holder is not None or self._async_holder is not None:
                return False
            self._async_holder = f"{operation} ({kind.value})"
            self._async_task = task
            self._mask = mask
            self.kind = kind
            self.started = self.clock()
            self.aborted = False
            return True

        await self._acquire(take, self._end_async_job)
        try:
            if check is not None:
                check()
            yield
        finally:
            self._end_async_job()

    @contextlib.asynccontextmanager
    async def agent_job(
        self, operation: str, *, check: Callable[[], None] | None = None
    ) -> AsyncIterator[None]:
        """Hold the guest agent; independent of the other slots.

        :raises JobTimeout: another operation did not let go in time.
        """

        def take() -> bool:
            if self._agent_holder is not None:
                return False
            self._agent_holder = operation
            return True

        await self._acquire(take, self._end_agent_job, agent=True)
        try:
            if check is not None:
                check()
            yield
        finally:
            self._end_agent_job()

    def _end_job(self) -> None:
        self._holder = None
        self._grant()

    def _end_async_job(self) -> None:
        self._async_holder = None
        self._async_task = None
        self._mask = frozenset()
        self.kind = None
        self._grant()

    def _end_agent_job(self) -> None:
        self._agent_holder = None
        self._grant()

    def _grant(self) -> None:
        """Give free slots to whoever waits longest; who still waits afterwards cannot run."""
        for request in tuple(self._waiting):
            if not request.granted.done() and request.take():
                request.granted.set_result(None)

    async def _acquire(
        self, take: Callable[[], bool], release: Callable[[], None], *, agent: bool = False
    ) -> None:
        if take():
            return
        request = _Request(take)
        self._waiting.append(request)
        try:
            async with asyncio.timeout(self._timeout):
                await request.granted
        except BaseException as error:
            if request.granted.done() and not request.granted.cancelled():
                # Granted and given up in the same turn of the loop: nobody else would free it.
                release()
            if isinstance(error, TimeoutError):
                raise self._timed_out(agent=agent) from None
            raise
        finally:
            self._waiting.remove(request)

    def _timed_out(self, *, agent: bool) -> JobTimeout:
        holder = self._agent_holder if agent else self.holder
        where = "agent" if agent else "monitor"
        return JobTimeout(
            f"cannot acquire state change lock (held by {where}={holder})",
            holder=holder or "",
            domain=self._domain,
        )
