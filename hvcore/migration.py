"""How guests move between hosts: libvirt's third protocol, the same for all drivers.

The source begins, the destination prepares, the source performs, the destination finishes and the
source confirms. Invariant: at no time can the guest run in two places, and unless the destination
said that it runs there, it goes on here. So its machine here is only ended once it runs there; and
whatever fails before ends the machine there first and then lets the one here run on.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING
from typing import Any
from typing import Final

import attrs

from hvcore import events
from hvcore.errors import DriverError
from hvcore.errors import ErrorClass
from hvcore.errors import HvError
from hvcore.errors import InvalidState
from hvcore.errors import UnsupportedOperation
from hvcore.events import StartedDetail
from hvcore.jobinfo import OPERATIONS
from hvcore.jobinfo import JobInfo
from hvcore.jobinfo import JobType
from hvcore.jobinfo import Progress
from hvcore.jobs import DEFAULT_MASK
from hvcore.jobs import AsyncJob
from hvcore.jobs import Job
from hvcore.lifecycle import PausedReason
from hvcore.lifecycle import ShutoffReason
from hvcore.lifecycle import State
from hvcore.operations import Op
from hvcore.origin import Origin

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from collections.abc import Mapping

    from hvcore.driver import Record
    from hvcore.engine import Engine
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Definition

_log = logging.getLogger(__name__)

_LEAVING: Final = DEFAULT_MASK | {Job.SUSPEND, Job.MIGRATION_OP, Job.MODIFY_MIGRATION_SAFE}
"""What may be done to a guest that is being sent."""
_ARRIVING: Final = frozenset({Job.MODIFY_MIGRATION_SAFE})
"""What may be done to one that is being received."""
_JOBS: Final = {
    AsyncJob.MIGRATION_OUT: "migration out",
    AsyncJob.SAVE: "domain save",
    AsyncJob.DUMP: "domain core dump",
    AsyncJob.SNAPSHOT: "snapshot",
}
"""libvirt's names of the jobs that can be aborted, as they are in its messages."""


@attrs.frozen(kw_only=True)
class Request:
    """What somebody wants of a migration; see :meth:`hvcore.domain.Domain.migrate`."""

    live: bool = False
    offline: bool = False
    persistent: bool = False
    undefine_source: bool = False
    paused: bool = False
    name: str | None = None
    xml: str | bytes | None = None
    persistent_xml: str | bytes | None = None
    bandwidth: int | None = None


async def migrate(source: Engine, known: Record, target: Engine, request: Request) -> Record:
    """Move a domain, and return what it is on the destination.

    :raises HvError: that failed; it goes on where it was.
    """
    _check_hosts(source, target, request)
    await source.own()
    record = source.refresh(known)
    if record.jobs.kind in (AsyncJob.MIGRATION_IN, AsyncJob.MIGRATION_OUT):
        raise InvalidState(
            f"another migration job is already running for domain '{record.name}'",
            domain=record.name,
        )
    if request.offline:
        async with source.modify(record, Op.MIGRATE.api) as record:
            return await _move_definition(source, record, target, request)
    kind = AsyncJob.MIGRATION_OUT
    async with source.work(record, Op.MIGRATE.api, kind, mask=_LEAVING) as record:
        return await _Migration(source, record, target, request).run()


def _check_hosts(source: Engine, target: Engine, request: Request) -> None:
    """Refuse what no driver can do.

    :raises HvError: with libvirt's words.
    """
    name = source.driver.name
    for engine, op in ((source, Op.MIGRATE), (target, Op.MIGRATE_PREPARE)):
        if op not in engine.driver.operations():
            raise UnsupportedOperation(Op.MIGRATE.api, driver=engine.driver.name)
    if target.driver.name != name:
        raise UnsupportedOperation(
            Op.MIGRATE.api,
            driver=name,
            hint=f"the other host is one of driver '{target.driver.name}'",
        )
    if source is target:
        raise HvError("Attempt to migrate guest to the same host", kind=ErrorClass.INVALID_ARG)
    if request.name == "":
        raise HvError("string parameter name must not be empty", kind=ErrorClass.INVALID_ARG)


# -- a guest that runs -----------------------------------------------------------------------------


class _Migration:
    """One migration of a running guest; its job on the source is held."""

    def __init__(self, source: Engine, record: Record, target: Engine, request: Request) -> None:
        self._source = source
        self._record = record
        self._target = target
        self._request = request
        self._ran = record.state is State.RUNNING

    async def run(self) -> Record:
        """Go through all phases."""
        source, record, target = self._source, self._record, self._target
        count = self._source.snapshots.count(record.uuid)
        if count:
            raise InvalidState(f"cannot migrate domain with {count} snapshots", domain=record.name)
        if record.blockjobs:
            raise InvalidState("domain has active block job", domain=record.name)
        await source.driver.migrate_begin(record)
        running, next_start = await self._documents()
        await target.own()
        definition = await _arriving(target, running, self._request.name)
        persistent = None
        if next_start is not None:
            persistent = await _arriving(target, next_start, self._request.name)
        arrived = target.admit(definition, check_live=True)
        try:
            operation = Op.MIGRATE_PREPARE.api

            kind = AsyncJob.MIGRATION_IN
            async with arrived.jobs.async_job(operation, kind, mask=_ARRIVING):
                _check_free(arrived)
                await self._move(arrived, definition, persistent)
        except BaseException:
            if arrived.persistent is None and not arrived.active:
                target.remove(arrived)
            raise
        return arrived

    async def _documents(self) -> tuple[str, str | None]:
        """Return the documents of what is to run and of its next start, if that is to have one.

        :raises AbiChanged: the guest would not find the hardware that it left.
        """
        from hvcore.abi import require_same  # noqa: PLC0415 - only for documents by hand

        driver, record, request = self._source.driver, self._record, self._request
        given = request.xml
        if given is not None:
            changed = driver.restore(given)
            await require_same(driver, record, changed.domain, document=given)
            running = _document(changed)
        else:
            assert record.live is not None  # it runs
            running = movable_document(self._source, record.live, record)
        if not request.persistent:
            return running, None
        return running, _next_start(self._source, record, request)

    async def _move(
        self, arrived: Record, definition: Definition, persistent: Definition | None
    ) -> None:
        target = self._target
        address = await self._prepare(arrived, definition)
        number = arrived.id
        before = arrived.persistent
        try:
            self._check_wanted()
            cookie = await self._perform(address)
            _check_there(arrived, number)
            if persistent is not None:
                _persist(target, arrived, persistent)
            await _to_the_end(self._finish(arrived, cookie))
        except BaseException as error:  # noqa: BLE001 - raised again, perhaps explained
            raised = await self._explained(error, arrived)
            await _to_the_end(self._give_up(arrived, number))
            if arrived.persistent is not before:
                _restore(target, arrived, before)
            raise raised from (error if raised is not error else error.__cause__)
        await _to_the_end(self._confirm(arrived))

    def _check_wanted(self) -> None:
        """Refuse to go on with what somebody aborted meanwhile."""
        if self._record.jobs.aborted:
            raise DriverError(
                "migration out: canceled by client",
                kind=ErrorClass.OPERATION_ABORTED,
                domain=self._record.name,
            )

    # -- phases -------------------------------------------------------------------------

    async def _prepare(self, arrived: Record, definition: Definition) -> str:
        addresses = []

        async def begin(started: Record) -> None:
            addresses.append(await self._target.driver.migrate_prepare(started))

        origin = Origin(
            begin=begin,
            paused=PausedReason.MIGRATION,
            started=StartedDetail.MIGRATED,
            suspended=None,
        )
        operation = Op.MIGRATE_PREPARE.api
        await self._target.bring_up(arrived, definition, origin, paused=True, operation=operation)
        return addresses[0]

    async def _perform(self, address: str) -> Mapping[str, Any]:
        request = self._request
        with self._source.boundary(self._record):
            return await self._source.driver.migrate_perform(
                self._record, address, live=request.live, bandwidth=request.bandwidth
            )

    async def _finish(self, arrived: Record, cookie: Mapping[str, Any]) -> None:
        with self._target.boundary(arrived):
            # One that stood still when it left is not set going by moving.
            paused = self._request.paused or not self._ran
            await self._target.driver.migrate_finish(arrived, cookie, paused=paused)

    async def _completed(self) -> JobInfo:
        """Return what the whole job took."""
        driver, record = self._source.driver, self._record
        progress = Progress()
        if Op.JOB_INFO in driver.operations() and record.active:
            try:
                progress = await driver.job_progress(record)
            except HvError as error:
                _log.warning("Cannot get statistics of domain '%s': %s", record.name, error)
        return JobInfo(
            type=JobType.COMPLETED,
            operation=OPERATIONS[AsyncJob.MIGRATION_OUT],
            elapsed=_elapsed(record),
            progress=progress,
        )

    async def _confirm(self, arrived: Record) -> None:
        """End the machine here; the guest runs there, so nothing that goes wrong is a failure."""
        source, record = self._source, self._record
        info = arrived.jobs.completed = record.jobs.completed = await self._completed()
        if record.active:
            await self._leave(info)
        if self._request.undefine_source and record.persistent is not None:
            source.saves.remove(record.uuid, missing_ok=True)
            source.forget(record)

    async def _leave(self, info: JobInfo) -> None:
        source, record = self._source, self._record
        ref = record.ref()
        try:
            with source.boundary(record):
                await source.driver.migrate_confirm(record, cancelled=False, resume=False)
        except HvError as error:
            _log.warning("Confirming the migration of '%s' failed: %s", record.name, error)
        try:
            await source.end(record, ShutoffReason.MIGRATED, events.StoppedDetail.MIGRATED)
        except HvError as error:
            _log.warning(
                "Guest %s probably left in 'paused' state on source: %s", record.name, error
            )
        told = tuple(info.parameters().items())
        source.publish(record, events.JobCompleted(domain=ref, parameters=told))

    async def _give_up(self, arrived: Record, number: int | None) -> None:
        """End the machine there, then let the guest go on here."""
        source, target, record = self._source, self._target, self._record
        try:
            if arrived.active and arrived.id == number:
                await target.end(arrived, ShutoffReason.FAILED, events.StoppedDetail.FAILED)
        except HvError as error:
            _log.warning("Cannot end domain '%s' that did not arrive: %s", arrived.name, error)
            # It has never run there, and will not: only its finish could have set it going.
        if not record.active:
            return
        try:
            with source.boundary(record):
                await source.driver.migrate_confirm(record, cancelled=True, resume=self._ran)
        except HvError as error:
            _log.error("Failed to resume guest %s after failure: %s", record.name, error)

    async def _explained(self, error: BaseException, arrived: Record) -> BaseException:
        """Return an error that also says what the destination knows."""
        failed = isinstance(error, DriverError) and error.kind is ErrorClass.OPERATION_FAILED
        if not (failed and arrived.active):
            return error
        told = await self._target.driver.migrate_error(arrived)
        if told is None or told == str(error):
            return error
        assert isinstance(error, DriverError)
        return DriverError(
            f"migration failed. Message from the source host: {error}. "
            f"Message from the destination host: {told}",
            domain=error.domain,
        )


def _check_free(arrived: Record) -> None:
    """Refuse a guest whose place was taken while it waited for it."""
    arrived.check_exists()
    if arrived.active:
        raise InvalidState(f"domain '{arrived.name}' is already active", domain=arrived.name)


def _check_there(arrived: Record, number: int | None) -> None:
    """Refuse to finish where the machine is gone that was to receive the guest."""
    if arrived.id != number:
        raise DriverError("guest unexpectedly quit", kind=ErrorClass.INTERNAL, domain=arrived.name)


async def _to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Do something that must not be left half done, also when whoever waits is cancelled."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait((task,))
        raise


# -- one that does not run -------------------------------------------------------------------------


async def _move_definition(
    source: Engine, record: Record, target: Engine, request: Request
) -> Record:
    """Move a definition; a domain that runs all the same goes on here."""
    if not request.persistent:
        raise InvalidState(
            "offline migration must be specified with the persistent flag set", domain=record.name
        )
    if request.undefine_source and source.saves.has(record.uuid):
        raise InvalidState(
            "Refusing to undefine while domain managed save image exists", domain=record.name
        )
    document = _next_start(source, record, request)
    if request.xml is not None:
        from hvcore.abi import require_same  # noqa: PLC0415 - only for documents by hand

        changed = source.driver.restore(request.xml)
        before = (record.persistent or record.definition).domain
        await require_same(source.driver, before, changed.domain, document=request.xml)
        document = _document(changed)
    await target.own()
    definition = await _arriving(target, document, request.name)
    arrived = target.admit(definition, check_live=True)
    try:
        _persist(target, arrived, definition)
    except BaseException:
        if arrived.persistent is None:
            target.remove(arrived)
        raise
    if request.undefine_source and record.persistent is not None:
        source.forget(record)
    return arrived


# -- documents -------------------------------------------------------------------------------------


def _document(definition: Definition) -> str:
    return definition.xml(inactive=True, secure=True, migratable=True)


def movable_document(engine: Engine, definition: Definition, record: Record | None) -> str:
    """Return the document of a definition for another host."""
    copy = definition.clone()
    engine.driver.migratable(copy, record)
    return _document(attrs.evolve(definition, domain=copy))


def _next_start(source: Engine, record: Record, request: Request) -> str:
    if request.persistent_xml is not None:
        return _document(source.driver.restore(request.persistent_xml))
    if record.persistent is not None:
        return movable_document(source, record.persistent, None)
    return movable_document(source, record.definition, record)


async def _arriving(target: Engine, document: str, name: str | None) -> Definition:
    """Return the definition of a document from another host.

    :raises ValidationFailed: this host cannot run it.
    """
    definition = target.driver.restore(document)
    if name is not None:
        renamed: Domain = definition.clone()
        renamed.name = name
        definition = attrs.evolve(definition, domain=renamed)
    return await target.driver.completed(definition)


def _persist(target: Engine, arrived: Record, definition: Definition) -> None:
    """Make a domain persistent that is arriving."""
    added = arrived.persistent is None
    target.store(arrived, definition)
    detail = events.DefinedDetail.ADDED if added else events.DefinedDetail.UPDATED
    target.publish(arrived, events.Defined(domain=arrived.ref(), reason=detail))


def _restore(target: Engine, arrived: Record, before: Definition | None) -> None:
    """Undo :func:`_persist`."""
    if before is not None:
        target.store(arrived, before)
        detail = events.DefinedDetail.UPDATED
        target.publish(arrived, events.Defined(domain=arrived.ref(), reason=detail))
    else:
        target.forget(arrived)


# -- jobs ------------------------------------------------------------------------------------------


def _elapsed(record: Record) -> int:
    return round((record.jobs.clock() - record.jobs.started) * 1000)


async def job_info(engine: Engine, record: Record, *, completed: bool, keep: bool) -> JobInfo:
    """Return what is known of a long job; see :meth:`hvcore.domain.Domain.job_info`."""
    driver = engine.driver
    if Op.JOB_INFO not in driver.operations():
        raise driver.unsupported(Op.JOB_INFO, record)
    if completed:
        if record.jobs.kind is not None or record.jobs.completed is None:
            return JobInfo()
        found = record.jobs.completed
        if not keep:
            record.jobs.completed = None
        return found
    if record.jobs.kind is AsyncJob.MIGRATION_IN:
        raise HvError(
            "migration statistics are available only on the source host",
            kind=ErrorClass.OPERATION_UNSUPPORTED,
            domain=record.name,
        )
    async with engine.modify(record, Op.JOB_INFO.api, Job.QUERY, active=True) as record:  # noqa: PLR1704 - as it is now
        kind = record.jobs.kind
        if kind is None:
            return JobInfo()
        return JobInfo(
            type=JobType.UNBOUNDED,
            operation=OPERATIONS[kind],
            elapsed=_elapsed(record),
            progress=await driver.job_progress(record),
        )


def abortable(record: Record) -> AsyncJob:
    """Return the long job that a domain is busy with.

    :raises InvalidState: there is none, or it cannot be aborted.
    """
    refusals = {
        None: "no job is active on the domain",
        AsyncJob.MIGRATION_IN: "cannot abort incoming migration; use virDomainDestroy instead",
        AsyncJob.START: "cannot abort VM start; use virDomainDestroy instead",
    }
    kind = record.jobs.kind
    if kind in refusals or kind is None:
        raise InvalidState(refusals[kind], domain=record.name)
    return kind


def cancelled(kind: AsyncJob, record: Record) -> DriverError:
    """Return how a job fails that was aborted."""
    return DriverError(
        f"job '{_JOBS[kind]}' canceled by client",
        kind=ErrorClass.OPERATION_ABORTED,
        domain=record.name,
    )
