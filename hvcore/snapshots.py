"""Taking snapshots of domains and returning to them: the same for all drivers.

A driver takes what is in memory and on disks; what is remembered of that is a tree of documents,
kept here, beside the definition. Invariant: a document is only remembered once everything was
taken, and only forgotten once that is gone.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING
from typing import Final

import attrs

from hvcore import agent
from hvcore import events
from hvcore.errors import ErrorClass
from hvcore.errors import HvError
from hvcore.errors import InvalidFlags
from hvcore.errors import InvalidState
from hvcore.events import StartedDetail
from hvcore.events import SuspendedDetail
from hvcore.jobs import AsyncJob
from hvcore.lifecycle import PausedReason
from hvcore.lifecycle import RunningReason
from hvcore.lifecycle import ShutoffReason
from hvcore.lifecycle import State
from hvcore.migration import movable_document
from hvcore.model.snapshot import Snapshot
from hvcore.operations import Op
from hvcore.origin import Origin
from hvcore.pipeline import Definition
from hvcore.rules import snapshots as rules

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.driver import Driver
    from hvcore.driver import Record
    from hvcore.engine import Engine
    from hvcore.model.domain import Domain
    from hvcore.model.snapshot import Location
    from hvcore.model.snapshot import SnapshotState

_log = logging.getLogger(__name__)

_STATES: Final[dict[State, SnapshotState]] = {
    State.RUNNING: "running",
    State.PAUSED: "paused",
    State.SHUTDOWN: "shutdown",
    State.SHUTOFF: "shutoff",
    State.CRASHED: "crashed",
    State.PMSUSPENDED: "pmsuspended",
}


@attrs.frozen(kw_only=True)
class Request:
    """What somebody wants of a snapshot; see :meth:`hvcore.domain.Domain.create_snapshot`."""

    disk_only: bool = False
    reuse: bool = False
    quiesce: bool = False
    live: bool = False
    halt: bool = False
    metadata: bool = True
    redefine: bool = False
    current: bool = False
    strict: bool = False


@attrs.frozen(kw_only=True)
class SnapshotInfo:
    """What is known of a snapshot.

    :param state: what the domain did, or ``disk-snapshot`` where its memory was left out.
    :param external: something of it is outside the images of the domain.
    :param parent: the snapshot after which it was taken.
    :param children: how many were taken after it.
    :param descendants: how many were taken after it and after those.
    :param current: the next one will be its child.
    :param creation_time: seconds since the epoch.
    """

    name: str
    state: str
    external: bool
    parent: str | None
    children: int
    descendants: int
    current: bool
    creation_time: int
    description: str | None = None


def _check(driver: Driver, op: Op, record: Record) -> None:
    if op not in driver.operations():
        raise driver.unsupported(op, record)


def _missing(name: str) -> HvError:
    return HvError(
        f"no domain snapshot with matching name '{name}'", kind=ErrorClass.NO_DOMAIN_SNAPSHOT
    )


def _found(engine: Engine, record: Record, name: str | None) -> Snapshot:
    """Return a snapshot; the current one without a name.

    :raises HvError: there is none.
    """
    _check(engine.driver, Op.SNAPSHOT_CREATE, record)
    wanted = engine.snapshots.current(record.uuid) if name is None else name
    if wanted is None:
        raise HvError(
            "the domain does not have a current snapshot", kind=ErrorClass.NO_DOMAIN_SNAPSHOT
        )
    found = engine.snapshots.of(record.uuid).get(wanted)
    if found is None:
        raise _missing(wanted)
    return found


# -- looking ---------------------------------------------------------------------------------------


def listed(engine: Engine, record: Record) -> list[SnapshotInfo]:
    """Return all snapshots of a domain, by name."""
    _check(engine.driver, Op.SNAPSHOT_CREATE, record)
    return [_info(engine, record, each) for _, each in sorted(_known(engine, record).items())]


def one(engine: Engine, record: Record, name: str | None) -> SnapshotInfo:
    """Return one snapshot of a domain; the current one without a name."""
    return _info(engine, record, _found(engine, record, name))


def show(engine: Engine, record: Record, name: str | None, *, secure: bool) -> str:
    """Return the document of a snapshot; of the current one without a name."""
    return engine.snapshots.document(_found(engine, record, name), secure=secure)


def _known(engine: Engine, record: Record) -> dict[str, Snapshot]:
    return engine.snapshots.of(record.uuid)


def _children(known: dict[str, Snapshot], name: str) -> list[Snapshot]:
    return [each for each in known.values() if each.parent == name]


def _descendants(known: dict[str, Snapshot], name: str) -> Iterator[Snapshot]:
    """Yield what was taken after a snapshot, children after their own."""
    for each in _children(known, name):
        yield from _descendants(known, each.label)
        yield each


def _info(engine: Engine, record: Record, snapshot: Snapshot) -> SnapshotInfo:
    known, name = _known(engine, record), snapshot.label
    return SnapshotInfo(
        name=name,
        state=snapshot.state or "nostate",
        external=snapshot.external,
        parent=snapshot.parent,
        children=len(_children(known, name)),
        descendants=len(list(_descendants(known, name))),
        current=engine.snapshots.current(record.uuid) == name,
        creation_time=snapshot.creation_time or 0,
        description=snapshot.description,
    )


# -- taking ----------------------------------------------------------------------------------------


async def create(engine: Engine, known: Record, xml: str | bytes, request: Request) -> SnapshotInfo:
    """Take a snapshot; see :meth:`hvcore.domain.Domain.create_snapshot`."""
    _check(engine.driver, Op.SNAPSHOT_CREATE, known)
    _check_flags(request)
    await engine.own()
    record = engine.refresh(known)
    operation = Op.SNAPSHOT_CREATE.api
    engine.authorize(operation, record.definition)
    if request.halt and record.persistent is None:
        raise InvalidState("cannot halt after transient domain snapshot", domain=record.name)
    offline = request.disk_only or not record.active
    snapshot = engine.snapshots.read(xml, strict=request.strict)
    rules.check_document(snapshot, redefine=request.redefine, offline=offline)
    if not request.redefine:
        snapshot.creation_time = int(time.time())
    if snapshot.name is None:
        snapshot.name = str(snapshot.creation_time)
    if request.metadata:
        rules.check_name(snapshot.name)
    jobs, check = record.jobs, record.check_exists
    async with jobs.async_job(operation, AsyncJob.SNAPSHOT, check=check):
        with engine.boundary(record):
            if request.redefine:
                _redefine(engine, record, snapshot, current=request.current)
            else:
                await _take(engine, record, snapshot, request)
            info = _info(engine, record, snapshot)
            if request.halt and record.active and not request.redefine:
                reason, detail = ShutoffReason.FROM_SNAPSHOT, events.StoppedDetail.FROM_SNAPSHOT
                await engine.end(record, reason, detail)
    return info


def _check_flags(request: Request) -> None:
    """Refuse what makes no sense together.

    :raises HvError: with libvirt's words.
    """
    prefix = "VIR_DOMAIN_SNAPSHOT_CREATE"
    for wanted, needs, given in (
        ("CURRENT", "REDEFINE", request.current and not request.redefine),
        ("QUIESCE", "DISK_ONLY", request.quiesce and not request.disk_only),
    ):
        if given:
            raise InvalidFlags.required(f"{prefix}_{needs}", f"{prefix}_{wanted}")
    # libvirt's drivers look at the last one, in the same words.
    for one, other, given in (
        ("REDEFINE", "NO_METADATA", request.redefine and not request.metadata),
        ("REDEFINE", "HALT", request.redefine and request.halt),
        ("LIVE", "REDEFINE", request.redefine and request.live),
    ):
        if given:
            raise InvalidFlags.exclusive(f"{prefix}_{one}", f"{prefix}_{other}")


def _redefine(engine: Engine, record: Record, snapshot: Snapshot, *, current: bool) -> None:
    known = _known(engine, record)
    rules.check_family(known, snapshot)
    other = known.get(snapshot.label)
    rules.check_redefinition(snapshot, other, record.uuid)
    domain = snapshot.domain or (None if other is None else other.domain)
    if domain is None:
        raise HvError("missing domain in snapshot")
    snapshot.domain = domain
    outside = snapshot.state == "disk-snapshot" or snapshot.external
    default: Location = "external" if outside else "internal"
    rules.align(snapshot, domain, default, engine.driver.is_image)
    engine.snapshots.put(record.uuid, snapshot)
    if current:
        engine.snapshots.set_current(record.uuid, snapshot.name)


async def _take(engine: Engine, record: Record, snapshot: Snapshot, request: Request) -> None:
    driver, known = engine.driver, _known(engine, record)
    domain = await _as_defined(engine, record)
    _describe(record, snapshot, domain, disk_only=request.disk_only)
    if request.live and not (record.active and snapshot.memory == "external"):
        raise HvError(
            "live snapshot creation is supported only during full system snapshots",
            kind=ErrorClass.OPERATION_UNSUPPORTED,
        )
    outside = request.disk_only or snapshot.memory == "external"
    # An offline domain is taken as its disks are asked for.
    outside |= not record.active and any(disk.snapshot == "external" for disk in snapshot.disks)
    default: Location = "external" if outside else "internal"
    rules.align(snapshot, domain, default, driver.is_image)
    rules.check_disks(record, domain, snapshot)
    if request.metadata and snapshot.name in known:
        raise HvError(
            f"domain moment {snapshot.name} already exists", kind=ErrorClass.OPERATION_FAILED
        )
    for disk in snapshot.disks:
        if disk.snapshot == "external" and disk.format is None:
            disk.format = "qcow2"
    if request.quiesce:
        await agent.freeze(engine, record, None)
    try:
        await driver.snapshot_create(
            record, domain, snapshot, live=request.live, reuse=request.reuse
        )
    finally:
        if request.quiesce and record.active:
            await _thaw(engine, record)
    before = record.definition.domain
    if record.live is not None:
        live = record.live.clone()
        rules.put_on_top(live, snapshot, before)
        record.live = attrs.evolve(record.live, domain=live)
        engine.save(record)
    if record.persistent is not None:
        config = record.persistent.clone()
        rules.put_on_top(config, snapshot, before)
        engine.store(record, attrs.evolve(record.persistent, domain=config))
    if request.metadata:
        snapshot.parent = engine.snapshots.current(record.uuid)
        engine.snapshots.put(record.uuid, snapshot)
        engine.snapshots.set_current(record.uuid, snapshot.name)


async def _thaw(engine: Engine, record: Record) -> None:
    """Let a guest write again; one that cannot is no reason to lose what was taken."""
    try:
        await agent.thaw(engine, record)
    except HvError as error:
        _log.warning("Unable to thaw the guest of domain '%s': %s", record.name, error)


async def _as_defined(engine: Engine, record: Record) -> Domain:
    """Return the definition of a domain without what only what runs has."""
    running = record if record.live is not None else None
    document = movable_document(engine, record.definition, running)
    return (await engine.driver.completed(engine.driver.restore(document))).clone()


def _describe(record: Record, snapshot: Snapshot, domain: Domain, *, disk_only: bool) -> None:
    """Note of which domain a snapshot is, and what it was doing."""
    snapshot.domain = domain
    snapshot.inactive = None
    if record.live is not None and record.persistent is not None:
        snapshot.inactive = record.persistent.clone()
    if record.state not in _STATES or record.state is State.PMSUSPENDED:
        raise HvError(
            "qemu doesn't support taking snapshots of PMSUSPENDED guests",
            kind=ErrorClass.OPERATION_UNSUPPORTED,
        )
    snapshot.state = _STATES[record.state]
    if disk_only:
        snapshot.state = "disk-snapshot" if record.active else "shutoff"
        snapshot.memory = "no"
    elif snapshot.memory != "external":
        if record.active and snapshot.memory == "no":
            raise HvError(
                "internal snapshot of a running VM must include the memory state",
                kind=ErrorClass.OPERATION_UNSUPPORTED,
            )
        snapshot.memory = "internal" if record.active else "no"


# -- going back ------------------------------------------------------------------------------------


async def revert(
    engine: Engine,
    known: Record,
    name: str | None,
    *,
    running: bool,
    paused: bool,
    force: bool,
) -> None:
    """Return to a snapshot; see :meth:`hvcore.domain.Domain.revert_to_snapshot`."""
    operation = Op.SNAPSHOT_REVERT.api
    if running and paused:
        prefix = "VIR_DOMAIN_SNAPSHOT_REVERT"
        raise InvalidFlags.exclusive(f"{prefix}_RUNNING", f"{prefix}_PAUSED")
    await engine.own()
    record = engine.refresh(known)
    snapshot = _found(engine, record, name)
    engine.authorize(operation, record.definition)
    async with record.jobs.async_job(operation, AsyncJob.START, check=record.check_exists):
        _check_revert(engine, record, snapshot, runs=running or paused, force=force)
        transient = record.persistent is None
        engine.snapshots.set_current(record.uuid, None)
        if record.active:
            reason, detail = ShutoffReason.FROM_SNAPSHOT, events.StoppedDetail.FROM_SNAPSHOT
            await engine.end(record, reason, detail, keep=True)
        try:
            await _return(engine, record, snapshot, running=running, paused=paused)
        except BaseException:
            if transient and not record.active:
                engine.remove(record)
            raise
        engine.snapshots.set_current(record.uuid, snapshot.name)


def _check_revert(
    engine: Engine, record: Record, snapshot: Snapshot, *, runs: bool, force: bool
) -> None:
    """Refuse what cannot be, or would lose something.

    :raises HvError: with libvirt's words.
    """
    _check(engine.driver, Op.SNAPSHOT_REVERT, record)
    if record.persistent is None and not (snapshot.running or runs):
        raise InvalidState(
            "transient domain needs to request run or pause to revert to inactive snapshot",
            domain=record.name,
        )
    message = None
    if snapshot.domain is None:
        message = f"snapshot '{snapshot.name}' lacks domain '{record.name}' rollback info"
    elif not force and not snapshot.running and engine.saves.has(record.uuid):
        message = (
            "snapshot without memory state, removal of existing managed saved state strongly "
            "recommended to avoid corruption"
        )
    if message is not None:
        raise HvError(message, kind=ErrorClass.SNAPSHOT_REVERT_RISKY, domain=record.name)


async def _return(
    engine: Engine, record: Record, snapshot: Snapshot, *, running: bool, paused: bool
) -> None:
    """Let a domain that does not run be what it was."""
    driver = engine.driver
    assert snapshot.domain is not None  # it was checked
    if record.persistent is not None:
        engine.store(record, _definition(engine, snapshot.inactive or snapshot.domain))
        detail = events.DefinedDetail.FROM_SNAPSHOT
        engine.publish(record, events.Defined(domain=record.ref(), reason=detail))
    stays = not running and (paused or snapshot.state == "paused")

    async def begin(started: Record) -> None:
        if snapshot.running:
            await driver.snapshot_revert(started, snapshot, paused=stays)
        else:
            await driver.snapshot_revert(started, snapshot, paused=None)
            await driver.start(started, paused=stays)

    if not (snapshot.running or running or paused):
        with engine.boundary(record):
            await driver.snapshot_revert(record, snapshot, paused=None)
        return
    origin = Origin(
        begin=begin,
        running=RunningReason.FROM_SNAPSHOT,
        paused=PausedReason.FROM_SNAPSHOT,
        started=StartedDetail.FROM_SNAPSHOT,
        suspended=SuspendedDetail.FROM_SNAPSHOT,
    )
    definition = _definition(engine, snapshot.domain)
    operation = Op.SNAPSHOT_REVERT.api
    await engine.bring_up(record, definition, origin, paused=stays, operation=operation)


def _definition(engine: Engine, domain: Domain) -> Definition:
    """Return a definition of a domain as a snapshot holds it, to be completed for this host."""
    copy: Domain = engine.registry.binding.clone(domain)
    definition = Definition(copy, engine.registry)
    return engine.driver.restore(definition.xml(inactive=True, secure=True))


# -- forgetting ------------------------------------------------------------------------------------


async def delete(
    engine: Engine,
    known: Record,
    name: str | None,
    *,
    children: bool,
    children_only: bool,
    metadata: bool,
) -> None:
    """Forget a snapshot; see :meth:`hvcore.domain.Domain.delete_snapshot`."""
    operation = Op.SNAPSHOT_DELETE.api
    if children and children_only:
        prefix = "VIR_DOMAIN_SNAPSHOT_DELETE"
        raise InvalidFlags.exclusive(f"{prefix}_CHILDREN", f"{prefix}_CHILDREN_ONLY")
    async with engine.modify(known, operation) as record:
        snapshot = _found(engine, record, name)
        store, uuid = engine.snapshots, record.uuid
        below = list(_descendants(_known(engine, record), snapshot.label))
        gone = below if children or children_only else []
        for each in (*gone, *([] if children_only else [snapshot])):
            if not metadata:
                await engine.driver.snapshot_delete(record, each)
            for child in _children(_known(engine, record), each.label):
                child.parent = each.parent
                store.put(uuid, child)
            if store.current(uuid) == each.name:
                store.set_current(uuid, snapshot.name if children_only else each.parent)
            store.drop(uuid, each.label)
