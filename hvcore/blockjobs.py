"""Jobs that work on the images of a running guest's disks: the same for all drivers.

A driver starts and ends them and reports how they do; what that means for the definitions is said
here. Invariant: a definition changes when the job is over, not before, and a job that failed or
was cancelled leaves it as it was. What becomes of the definition of the next start is libvirt's: it
follows where its disk is the same one (``qemu_blockjob.c``).
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING
from typing import Final

import attrs

from hvcore.errors import ConfigError
from hvcore.errors import DomainGone
from hvcore.errors import DriverError
from hvcore.errors import ErrorClass
from hvcore.errors import HvError
from hvcore.errors import InvalidState
from hvcore.errors import StateError
from hvcore.events import BlockJobChanged
from hvcore.events import BlockJobStatus
from hvcore.events import BlockJobType
from hvcore.model.devices.disk import Disk
from hvcore.model.devices.disk import Mirror
from hvcore.rules import chain
from hvcore.rules.chain import Image

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.driver import Driver
    from hvcore.driver import Record
    from hvcore.engine import Engine
    from hvcore.model.domain import Domain

_TWO_PHASES: Final = frozenset({BlockJobType.COPY, BlockJobType.ACTIVE_COMMIT})
"""Jobs that get ready, and go on until somebody concludes them."""


@attrs.frozen(kw_only=True)
class BlockJobInfo:
    """``virDomainBlockJobInfo``.

    :param bandwidth: bytes per second at most; 0 for as many as there can be.
    :param cur: how far it is.
    :param end: where it will be over; both are in units that mean nothing else.
    :param ready: it can be concluded.
    """

    type: BlockJobType
    bandwidth: int = 0
    cur: int = 0
    end: int = 0
    ready: bool = False


@attrs.define(kw_only=True, eq=False)
class BlockJob:
    """A job of one disk.

    :ivar disk: target of the disk.
    :ivar path: its image when the job began; empty where that is no file.
    :ivar top: which image of the chain is committed; 0 is that of the guest.
    :ivar base: which image it is committed into, or stays below a pull; None where none does.
    :ivar bandwidth: bytes per second at most; 0 for as many as there can be.
    :ivar delete: remove images that were committed.
    :ivar shallow: the copy stands on the same image as what is copied.
    :ivar reuse: the copy is there already.
    :ivar synchronous: what the guest writes is written to the copy before it goes on.
    :ivar granularity: bytes that are copied at once; None for the hypervisor's choice.
    :ivar buffer: bytes that may be on the way; None for the hypervisor's choice.
    :ivar status: None while it runs; two of them go on when ready.
    :ivar ending: somebody has asked for its end.
    :ivar error: why it failed.
    """

    type: BlockJobType
    disk: str
    path: str = ""
    top: int = 0
    base: int | None = None
    bandwidth: int = 0
    delete: bool = False
    shallow: bool = False
    reuse: bool = False
    synchronous: bool = False
    granularity: int | None = None
    buffer: int | None = None
    status: BlockJobStatus | None = None
    ending: bool = False
    pivots: bool = False
    error: str | None = None
    _waiters: set[asyncio.Future[None]] = attrs.field(factory=set)

    @property
    def name(self) -> str:
        """Its name in messages: libvirt's."""
        kind = {BlockJobType.ACTIVE_COMMIT: "commit"}.get(self.type, self.type.name.lower())
        return f"{kind}-{self.disk}"

    @property
    def over(self) -> bool:
        """Whether it came to its end."""
        return self.status not in (None, BlockJobStatus.READY)

    def tell(self) -> None:
        """Wake whoever waits for something of it."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def changed(self) -> None:
        """Wait until something becomes of it."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)


# -- what is asked for -----------------------------------------------------------------------------


def disk_of(domain: Domain, wanted: str) -> Disk:
    """Return the disk with this target or this image.

    :raises HvError: there is none, in libvirt's words.
    """
    for disk in domain.devices.disks:
        if wanted in (disk.target, getattr(disk.source, "path", None)):
            return disk
    raise HvError(f"disk '{wanted}' not found in domain", kind=ErrorClass.INVALID_ARG)


def job_of(record: Record, disk: Disk) -> BlockJob:
    """Return the job of a disk.

    :raises HvError: it has none.
    """
    found = record.blockjobs.get(disk.target or "")
    if found is None:
        raise HvError(
            f"disk {disk.target} does not have an active block job",
            kind=ErrorClass.INVALID_ARG,
            domain=record.name,
        )
    return found


def check_free(record: Record, disk: Disk) -> None:
    """Refuse a disk that cannot have a job now.

    :raises HvError: with libvirt's words.
    """
    if disk.target in record.blockjobs:
        kind = ErrorClass.OPERATION_UNSUPPORTED if disk.mirror is None else _COPYING
        raise HvError(f"disk '{disk.target}' already in active block job", kind=kind)
    reason = None
    if disk.bus == "sd":
        reason = f"disk '{disk.target}' using bus 'sd'"
    elif disk.transient:
        reason = f"transient disk '{disk.target}'"
    elif disk.type == "vhostuser":
        reason = f"vhostuser disk '{disk.target}'"
    if reason is not None:
        raise HvError(
            f"block jobs are not supported on {reason}", kind=ErrorClass.OPERATION_UNSUPPORTED
        )


_COPYING: Final = ErrorClass.BLOCK_COPY_ACTIVE


def new_pull(disk: Disk, base: str | None) -> BlockJob:
    """Return the job that pulls what is below into the image of the guest.

    :raises HvError: there is no such base.
    """
    found = None
    if base is not None:
        found = chain.find(chain.images(disk), base, disk.target, below=0)
    return _job(disk, BlockJobType.PULL, base=found)


def new_commit(
    disk: Disk, *, base: str | None, top: str | None, shallow: bool, active: bool, delete: bool
) -> BlockJob:
    """Return the job that commits images into one below.

    :raises HvError: there are no such images, or that is not what the flags say.
    """
    layers = chain.images(disk)
    if disk.empty:
        raise HvError(
            f"disk {disk.target} has no source file to be committed",
            kind=ErrorClass.CONFIG_UNSUPPORTED,
        )
    first = 0 if top in (None, disk.target) else chain.find(layers, top, disk.target)
    if first == 0 and not active:
        message = f"commit of '{disk.target}' active layer requires active flag"
    elif first and active:
        message = f"active commit requested but '{layers[first].path}' is not active"
    elif first + 1 == len(layers):
        message = f"top '{layers[first].path}' in chain for '{layers[0].path}' has no backing file"
    else:
        message = None
    if base is None and shallow and message is None:
        last = first + 1
    elif message is None:
        last = chain.find(layers, base, disk.target, below=first)
        if shallow and last != first + 1:
            message = (
                f"base '{layers[last].path}' is not immediately below '{layers[first].path}' in "
                f"chain for '{layers[0].path}'"
            )
    if message is not None:
        raise HvError(message, kind=ErrorClass.INVALID_ARG)
    kind = BlockJobType.COMMIT if first else BlockJobType.ACTIVE_COMMIT
    return _job(disk, kind, top=first, base=last, delete=delete)


def new_copy(disk: Disk, copy: Disk, *, shallow: bool, reuse: bool) -> tuple[BlockJob, Image]:
    """Return the job that copies a disk elsewhere, and the image that is to be.

    :param copy: the disk of the document that says where.
    :raises HvError: that cannot be.
    """
    image = Image(copy.type, copy.format, copy.source, copy.metadata_cache)
    if copy.type == "file" and not (image.path or "").startswith("/"):
        raise HvError(
            "absolute path must be used as block copy target", kind=ErrorClass.INVALID_ARG
        )
    # There is nothing to stand on below the only image.
    shallow = shallow and len(chain.images(disk)) > 1
    if shallow and not reuse and copy.format == "raw":
        raise HvError(
            f"shallow copy of disk '{disk.target}' into a raw file is not possible",
            kind=ErrorClass.CONFIG_UNSUPPORTED,
        )
    if image.format is None and reuse:
        raise HvError(
            "reused mirror destination format must be specified",
            kind=ErrorClass.CONFIG_UNSUPPORTED,
        )
    if image.format is None:
        image = attrs.evolve(image, format=disk.format)
    return _job(disk, BlockJobType.COPY, shallow=shallow, reuse=reuse), image


def copied(driver: Driver, xml: str | bytes) -> Disk:
    """Return the disk of a document that says where a copy is to be.

    :raises ConfigError: it is none.
    """
    device = driver.pipeline().parse_device(xml)
    if not isinstance(device, Disk):
        raise ConfigError("expecting root element of 'disk'")
    return device


def _job(disk: Disk, kind: BlockJobType, **fields: object) -> BlockJob:
    path = getattr(disk.source, "path", None) or ""
    return BlockJob(type=kind, disk=disk.target or "", path=path, **fields)  # type: ignore[arg-type]


def show_mirror(disk: Disk, job: BlockJob, image: Image | None) -> None:
    """Let the definition of what runs say what a job of two phases writes to."""
    if job.type is BlockJobType.ACTIVE_COMMIT:
        assert job.base is not None
        image = chain.images(disk)[job.base]
    if image is None:
        return
    copying = job.type is BlockJobType.COPY
    old = copying and image.type == "file"
    disk.mirror = Mirror(
        type=image.type,
        job="copy" if copying else "active-commit",
        file=image.path if old else None,
        old_format=image.format if old else None,
        format=image.format,
        source=image.source,
    )


# -- what becomes of them --------------------------------------------------------------------------


@contextlib.contextmanager
def starting(record: Record, job: BlockJob) -> Iterator[None]:
    """Let a disk have a job, unless that cannot be started."""
    record.blockjobs[job.disk] = job
    try:
        yield
    except BaseException:
        record.blockjobs.pop(job.disk, None)
        raise
    record.blockjobs_ended.pop(job.disk, None)


async def wait(record: Record, disk: Disk) -> BlockJobStatus:
    """Wait until the job of a disk is ready or over; of one that has ended, return how.

    :raises HvError: it has none, and had none since the domain was started.
    :raises DomainGone: the domain stopped before.
    """
    target = disk.target or ""
    ended = record.blockjobs_ended.get(target)
    if ended is not None and target not in record.blockjobs:
        return ended
    job = job_of(record, disk)
    while job.status is None:
        await job.changed()
        if record.blockjobs.get(target) is not job and job.status is None:
            raise DomainGone("domain is not running", domain=record.name)
    return job.status


async def abort(engine: Engine, known: Record, wanted: str, *, pivot: bool, wait: bool) -> None:
    """End the job of a disk; see :meth:`hvcore.domain.Domain.abort_block_job`."""
    driver = engine.driver
    async with engine.modify(known, "virDomainBlockJobAbort", active=True) as record:
        assert record.live is not None
        job = job_of(record, disk_of(record.live.domain, wanted))
        if job.ending:
            raise InvalidState(
                f"block job on disk '{job.disk}' is still being ended", domain=record.name
            )
        if pivot and job.status is not BlockJobStatus.READY:
            raise HvError(f"block job '{job.name}' not ready for pivot yet", kind=_COPYING)
        if pivot and job.type not in _TWO_PHASES:
            raise InvalidState(f"job type '{job.type.name.lower()}' does not support pivot")
        await driver.block_job_abort(record, job, pivot=pivot)
        job.ending, job.pivots = True, pivot
        if job.type in _TWO_PHASES:
            domain = record.live.clone()
            mirror = disk_of(domain, job.disk).mirror
            if mirror is not None:
                mirror.ready = "pivot" if pivot else "abort"
            record.live = attrs.evolve(record.live, domain=domain)
        engine.save(record)
    while wait and not job.over and record.blockjobs.get(job.disk) is job:
        await job.changed()
    if wait and pivot and job.status is BlockJobStatus.FAILED:
        why = f": {job.error}" if job.error else ""
        raise DriverError(f"block job '{job.name}' failed while pivoting{why}", domain=record.name)


async def note(
    engine: Engine, record: Record, job: BlockJob, status: BlockJobStatus, error: str | None
) -> None:
    """Write down what became of a job, and announce it."""
    number = record.id
    with contextlib.suppress(StateError):
        async with record.jobs.job("BLOCK_JOB", check=record.check_active):
            if record.id != number or record.blockjobs.get(job.disk) is not job or job.over:
                return
            assert record.live is not None
            live = record.live.clone()
            disk = disk_of(live, job.disk)
            before = chain.images(disk)
            if status is BlockJobStatus.READY:
                if disk.mirror is not None:
                    disk.mirror.ready = "yes"
            else:
                mirror, disk.mirror = disk.mirror, None
                del record.blockjobs[job.disk]
                record.blockjobs_ended[job.disk] = status
                if status is BlockJobStatus.COMPLETED:
                    _conclude(disk, job, mirror)
                    _follow(engine, record, job, before, disk)
            record.live = attrs.evolve(record.live, domain=live)
            job.error = error
            job.status = status
            engine.save(record)
            happened = BlockJobChanged(
                domain=record.ref(), type=job.type, disk=job.disk, path=job.path, status=status
            )
            engine.publish(record, happened)
    job.tell()


def _conclude(disk: Disk, job: BlockJob, mirror: Mirror | None) -> None:
    """Let a disk have the images that a job left it."""
    closed = chain.closed(disk)
    layers = chain.images(disk)
    if job.type is BlockJobType.PULL:
        below = [] if job.base is None else layers[job.base :]
        chain.set_images(disk, [layers[0], *below], closed=closed or job.base is None)
    elif job.type is BlockJobType.COPY:
        assert mirror is not None
        below = layers[1:] if job.shallow else []
        chain.set_images(disk, [chain.mirrored(mirror), *below], closed=closed or not job.shallow)
    else:
        assert job.base is not None
        chain.set_images(disk, [*layers[: job.top], *layers[job.base :]], closed=closed)


def _follow(engine: Engine, record: Record, job: BlockJob, before: list[Image], now: Disk) -> None:
    """Let the definition of the next start follow, where its disk is the same one."""
    if record.persistent is None:
        return
    config = record.persistent.clone()
    found = [disk for disk in config.devices.disks if disk.target == job.disk]
    if not found or not chain.images(found[0])[0].is_at(before[0]):
        return
    [disk] = found
    own = chain.images(disk)
    same = len(own) == len(before) and all(
        mine.is_at(theirs) for mine, theirs in zip(own, before, strict=True)
    )
    after = [_without_number(image) for image in chain.images(now)]
    if same and len(own) > 1:
        chain.set_images(disk, after, closed=chain.closed(disk))
    else:
        # What it says of the images below is not what they were: they are looked at again.
        chain.set_images(disk, [after[0]], closed=False)
    engine.store(record, attrs.evolve(record.persistent, domain=config))


def _without_number(image: Image) -> Image:
    if image.source is None:
        return image
    return attrs.evolve(image, source=attrs.evolve(image.source, index=None))
