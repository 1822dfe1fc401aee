"""Jobs of disks that exist only in memory.

A job takes time of the host's clock: every image has the same amount of data in it, and is read and
written at the speed of the host's storage or at the limit of the job. A clock that is not held
moves by itself while nobody else has anything to do, so whoever waits for a job does not wait long.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from typing import Final

import attrs

from hvcore.driver import Driver
from hvcore.errors import HvError
from hvcore.events import BlockJobStatus
from hvcore.events import BlockJobType
from hvcore.rules import chain

if TYPE_CHECKING:
    from hvcore.blockjobs import BlockJob
    from hvcore.driver import Record
    from hvcore.model.domain import Domain
    from hvcore.rules.chain import Image
    from hvcore.testing.clock import VirtualClock
    from hvcore.testing.injection import Injector

DATA: Final = 10 << 30
"""Bytes of data in every image."""
SPEED: Final = 1 << 30
"""Bytes per second that the host's storage can copy."""
_READY: Final = frozenset({BlockJobType.COPY, BlockJobType.ACTIVE_COMMIT})


@attrs.define(eq=False, kw_only=True)
class Work:
    """What a job has to do.

    :ivar rate: bytes per second.
    :ivar done: bytes when :attr:`since` was.
    :ivar since: seconds on the clock.
    :ivar fails: when and why; None if it does not.
    """

    clock: VirtualClock
    total: int
    rate: int
    done: int = 0
    since: float = 0.0
    fails: tuple[float, str] | None = None
    task: asyncio.Task[None] | None = None

    def now(self) -> int:
        """Return how many bytes are done."""
        return min(self.total, self.done + round((self.clock.now - self.since) * self.rate))

    def stop(self) -> None:
        """Do no more."""
        if self.task is not None:
            self.task.cancel()
            self.task = None

    def pace(self, limit: int) -> None:
        """Go on at another speed.

        :param limit: bytes per second; 0 for the storage's.
        """
        self.done, self.since = self.now(), self.clock.now
        self.rate = min(limit or SPEED, SPEED)


class BlockJobs(Driver):
    """The part of the test driver that works on disks."""

    if TYPE_CHECKING:
        clock: VirtualClock
        injector: Injector

    async def block_pull(self, record: Record, live: Domain, job: BlockJob) -> None:
        """Begin to read the images below."""
        self._begin(record, job, self._depth(live, job) - 1 if job.base is None else job.base - 1)

    async def block_commit(self, record: Record, live: Domain, job: BlockJob) -> None:
        """Begin to read the images that are to go."""
        del live
        assert job.base is not None  # a commit has one
        self._begin(record, job, job.base - job.top)

    async def block_copy(self, record: Record, live: Domain, job: BlockJob, image: Image) -> None:
        """Begin to read the images that are to be copied."""
        del image
        self._begin(record, job, 1 if job.shallow else self._depth(live, job))

    async def block_job_progress(self, record: Record, job: BlockJob) -> tuple[int, int]:
        """Return how much was read, and how much there is."""
        work: Work = record.runtime.work[job.disk]
        # What is not ready yet never looks as if it was.
        almost = job.status is None and work.total and work.now() == work.total
        return work.now() - bool(almost), work.total

    async def block_job_speed(self, record: Record, job: BlockJob, bandwidth: int) -> None:
        """Go on at another speed."""
        work: Work = record.runtime.work[job.disk]
        work.pace(bandwidth)
        if job.status is None:
            self._run(record, job, work)

    async def block_job_abort(self, record: Record, job: BlockJob, *, pivot: bool) -> None:
        """Let the job end."""
        self._over(record, job)
        status = BlockJobStatus.COMPLETED if pivot else BlockJobStatus.CANCELED
        self.reports.block_job(record, job, status)

    # -- inside -------------------------------------------------------------------------

    @staticmethod
    def _depth(live: Domain, job: BlockJob) -> int:
        [disk] = [each for each in live.devices.disks if each.target == job.disk]
        return len(chain.images(disk))

    def _begin(self, record: Record, job: BlockJob, count: int) -> None:
        work = Work(clock=self.clock, total=count * DATA, rate=SPEED, since=self.clock.now)
        work.pace(job.bandwidth)
        failing = self.injector.failing(record, job.disk)
        if failing is not None:
            work.fails = self.clock.now + failing[0], failing[1]
        record.runtime.work[job.disk] = work
        record.runtime.history.append(f"{job.type.name.lower()} {job.disk}")
        self._run(record, job, work)

    def _run(self, record: Record, job: BlockJob, work: Work) -> None:
        work.stop()
        work.task = asyncio.get_running_loop().create_task(self._work(record, job, work))

    async def _work(self, record: Record, job: BlockJob, work: Work) -> None:
        """Let the time of a job go by, and say what became of it."""
        seconds = (work.total - work.done) / work.rate
        fails = work.fails is not None and work.fails[0] < self.clock.now + seconds
        if fails and work.fails is not None:
            seconds = work.fails[0] - self.clock.now
        try:
            await self.injector.wait(record, seconds)
        except HvError:
            return  # the machine is gone, and its jobs with it
        if fails and work.fails is not None:
            self._over(record, job)
            self.reports.block_job(record, job, BlockJobStatus.FAILED, work.fails[1])
        elif job.type in _READY:
            self.reports.block_job(record, job, BlockJobStatus.READY)
        else:
            self._over(record, job)
            self.reports.block_job(record, job, BlockJobStatus.COMPLETED)

    @staticmethod
    def _over(record: Record, job: BlockJob) -> None:
        work: Work = record.runtime.work[job.disk]
        if work.task is not asyncio.current_task():
            work.stop()
