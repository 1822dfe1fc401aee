"""Jobs that work on the images of disks while the guest runs: pull, commit and copy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore.jobs import Job
from hvcore.operations import Op
from hvcore.verbs.base import Handle
from hvcore.verbs.base import Verbs

if TYPE_CHECKING:
    from hvcore.blockjobs import BlockJob
    from hvcore.blockjobs import BlockJobInfo
    from hvcore.driver import Record
    from hvcore.events import BlockJobStatus
    from hvcore.model.domain import Domain as Model
    from hvcore.rules.chain import Image


class BlockJobVerbs(Verbs):
    """What a driver may override.

    A job that was started reports what becomes of it to
    :meth:`~hvcore.driver.Reports.block_job`: that it is ready, and how it ended.
    """

    async def block_pull(self, record: Record, live: Model, job: BlockJob) -> None:
        """Start to pull images into that of the guest.

        :raises HvError: that cannot be.
        """
        del live, job
        raise self.unsupported(Op.BLOCK_PULL, record)

    async def block_commit(self, record: Record, live: Model, job: BlockJob) -> None:
        """Start to commit images into one below; with that of the guest the job gets ready.

        :raises HvError: that cannot be.
        """
        del live, job
        raise self.unsupported(Op.BLOCK_COMMIT, record)

    async def block_copy(self, record: Record, live: Model, job: BlockJob, image: Image) -> None:
        """Start to copy a disk into ``image``; the job gets ready.

        :raises HvError: that cannot be.
        """
        del live, job, image
        raise self.unsupported(Op.BLOCK_COPY, record)

    async def block_job_progress(self, record: Record, job: BlockJob) -> tuple[int, int]:
        """Return how far a job is, and how far it will be when it is over."""
        del job
        raise self.unsupported(Op.BLOCK_JOB_INFO, record)

    async def block_job_speed(self, record: Record, job: BlockJob, bandwidth: int) -> None:
        """Limit a job.

        :param bandwidth: bytes per second; 0 for as many as there can be.
        """
        del job, bandwidth
        raise self.unsupported(Op.BLOCK_JOB_SPEED, record)

    async def block_job_abort(self, record: Record, job: BlockJob, *, pivot: bool) -> None:
        """Have a job end; how it did is reported.

        :param pivot: the guest goes on with the image that the job wrote, which is ready.
        :raises HvError: that cannot be.
        """
        del job, pivot
        raise self.unsupported(Op.BLOCK_JOB_ABORT, record)


class BlockJobHandle(Handle):
    """What a handle on a domain offers."""

    __slots__ = ()

    async def block_pull(self, disk: str, *, base: str | None = None, bandwidth: int = 0) -> None:
        """Start to pull what is below into the image that the guest writes to.

        :param disk: its target, such as ``vda``, or the path of its image.
        :param base: path or ``vda[INDEX]`` of the image that stays; none does unless given.
        :param bandwidth: bytes per second at most.
        :raises HvError: there is no such image, or the disk is busy.
        :raises InvalidState: the domain does not run.
        """
        from hvcore import blockjobs  # noqa: PLC0415 - few programs need it, and so below

        self._need(Op.BLOCK_PULL)
        driver, api = self._engine.driver, Op.BLOCK_PULL.api
        async with self._engine.change(self._record, api, live=True) as change:
            assert change.live is not None  # that is what was asked for
            found = blockjobs.disk_of(change.live, disk)
            blockjobs.check_free(change.record, found)
            job = blockjobs.new_pull(found, base)
            job.bandwidth = bandwidth
            with blockjobs.starting(change.record, job):
                await driver.block_pull(change.record, change.live, job)

    async def block_commit(
        self,
        disk: str,
        *,
        base: str | None = None,
        top: str | None = None,
        shallow: bool = False,
        active: bool = False,
        delete: bool = False,
        bandwidth: int = 0,
    ) -> None:
        """Start to commit images into one below, which replaces them.

        :param disk: its target, such as ``vda``, or the path of its image.
        :param base: path or ``vda[INDEX]`` of the image to commit into; the last unless given.
        :param top: of the first image to be committed; that of the guest unless given.
        :param shallow: commit into the image directly below ``top``.
        :param active: ``top`` is the image that the guest writes to. The job gets ready, and goes
            on until :meth:`abort_block_job` concludes it.
        :param delete: remove the images that were committed.
        :param bandwidth: bytes per second at most.
        :raises HvError: there are no such images, or the disk is busy.
        :raises InvalidState: the domain does not run.
        """
        from hvcore import blockjobs  # noqa: PLC0415

        self._need(Op.BLOCK_COMMIT)
        driver, api = self._engine.driver, Op.BLOCK_COMMIT.api
        async with self._engine.change(self._record, api, live=True) as change:
            assert change.live is not None  # that is what was asked for
            found = blockjobs.disk_of(change.live, disk)
            blockjobs.check_free(change.record, found)
            job = blockjobs.new_commit(
                found, base=base, top=top, shallow=shallow, active=active, delete=delete
            )
            job.bandwidth = bandwidth
            with blockjobs.starting(change.record, job):
                await driver.block_commit(change.record, change.live, job)
            if active:
                blockjobs.show_mirror(found, job, None)

    async def block_copy(
        self,
        disk: str,
        xml: str | bytes,
        *,
        shallow: bool = False,
        reuse: bool = False,
        transient: bool = False,
        synchronous: bool = False,
        bandwidth: int = 0,
        granularity: int | None = None,
        buffer: int | None = None,
    ) -> None:
        """Start to copy a disk elsewhere; the job gets ready, and goes on until it is concluded.

        :param disk: its target, such as ``vda``, or the path of its image.
        :param xml: a ``<disk>`` that says where and in what format.
        :param shallow: copy the image of the guest alone, to stand on the same one below.
        :param reuse: the copy is there already.
        :param transient: the job may be lost when the domain stops; wanted of persistent ones.
        :param synchronous: let the guest wait until what it writes is in the copy.
        :param bandwidth: bytes per second at most.
        :param granularity: bytes, a power of 2, that are copied at once.
        :param buffer: bytes that may be on the way.
        :raises HvError: that cannot be, or the disk is busy.
        :raises InvalidState: the domain does not run, or is persistent.
        """
        from hvcore import blockjobs  # noqa: PLC0415
        from hvcore.errors import ErrorClass  # noqa: PLC0415
        from hvcore.errors import HvError  # noqa: PLC0415
        from hvcore.errors import InvalidState  # noqa: PLC0415

        if granularity is not None and granularity & (granularity - 1):
            raise HvError("granularity must be power of 2", kind=ErrorClass.INVALID_ARG)
        self._need(Op.BLOCK_COPY)
        driver, api = self._engine.driver, Op.BLOCK_COPY.api
        async with self._engine.change(self._record, api, live=True) as change:
            assert change.live is not None  # that is what was asked for
            found = blockjobs.disk_of(change.live, disk)
            blockjobs.check_free(change.record, found)
            if change.record.persistent is not None and not transient:
                raise InvalidState("domain is not transient", domain=change.record.name)
            copy = blockjobs.copied(driver, xml)
            job, image = blockjobs.new_copy(found, copy, shallow=shallow, reuse=reuse)
            job.bandwidth, job.synchronous = bandwidth, synchronous
            job.granularity, job.buffer = granularity, buffer
            with blockjobs.starting(change.record, job):
                await driver.block_copy(change.record, change.live, job, image)
            blockjobs.show_mirror(found, job, image)

    async def block_job(self, disk: str) -> BlockJobInfo | None:
        """Return what is known of the job of a disk; None where it has none.

        :raises HvError: there is no such disk.
        :raises InvalidState: the domain does not run.
        """
        from hvcore import blockjobs  # noqa: PLC0415
        from hvcore.events import BlockJobStatus  # noqa: PLC0415

        engine, api = self._engine, Op.BLOCK_JOB_INFO.api
        self._need(Op.BLOCK_JOB_INFO)
        async with engine.modify(self._record, api, Job.QUERY, active=True) as record:
            assert record.live is not None  # it runs
            found = blockjobs.disk_of(record.live.domain, disk)
            job = record.blockjobs.get(found.target or "")
            if job is None:
                return None
            cur, end = await engine.driver.block_job_progress(record, job)
            return blockjobs.BlockJobInfo(
                type=job.type,
                bandwidth=job.bandwidth,
                cur=cur,
                end=end,
                ready=job.status is BlockJobStatus.READY,
            )

    async def set_block_job_speed(self, disk: str, bandwidth: int) -> None:
        """Limit the job of a disk.

        :param bandwidth: bytes per second; 0 for as many as there can be.
        :raises HvError: it has none.
        :raises InvalidState: the domain does not run.
        """
        from hvcore import blockjobs  # noqa: PLC0415

        self._need(Op.BLOCK_JOB_SPEED)
        engine, api = self._engine, Op.BLOCK_JOB_SPEED.api
        kind = Job.MODIFY_MIGRATION_SAFE
        async with engine.modify(self._record, api, kind, active=True) as record:
            assert record.live is not None  # it runs
            job = blockjobs.job_of(record, blockjobs.disk_of(record.live.domain, disk))
            await engine.driver.block_job_speed(record, job, bandwidth)
            job.bandwidth = bandwidth

    async def abort_block_job(self, disk: str, *, pivot: bool = False, wait: bool = True) -> None:
        """End the job of a disk.

        One that is ready is concluded by that: a copy is complete, and a commit has written all.

        :param pivot: let the guest go on with the image that the job wrote.
        :param wait: return when it is over.
        :raises HvError: it has none, or is not ready to pivot.
        :raises DriverError: that failed.
        """
        from hvcore import blockjobs  # noqa: PLC0415

        self._need(Op.BLOCK_JOB_ABORT)
        await blockjobs.abort(self._engine, self._record, disk, pivot=pivot, wait=wait)

    async def wait_for_block_job(self, disk: str) -> BlockJobStatus:
        """Wait until the job of a disk is ready or over, and return which.

        Who asks too late is told how the last one ended.

        :raises HvError: the disk has none, and had none since the domain was started.
        :raises DomainGone: the domain stopped before.
        """
        from hvcore import blockjobs  # noqa: PLC0415

        record = self._now()
        record.check_active()
        assert record.live is not None  # it runs
        return await blockjobs.wait(record, blockjobs.disk_of(record.live.domain, disk))
