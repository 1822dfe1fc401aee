"""Keeping the books of one state root: which domains there are and what they do.

One engine serves all hosts of a process that opened the same URI in the same event loop. It is the
only writer of the state directory and the only publisher of events. Order is its invariant: what
happened is first written down, then visible, then announced; and the end of a virtual machine is
announced exactly once, by whoever learns of it first.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import weakref
from typing import TYPE_CHECKING
from typing import Final

import attrs

from hvcore import events
from hvcore.change import Change
from hvcore.change import affected
from hvcore.driver import Record
from hvcore.driver import Setup
from hvcore.errors import AccessDenied
from hvcore.errors import ConfigError
from hvcore.errors import DomainExists
from hvcore.errors import ErrorClass
from hvcore.errors import HvError
from hvcore.errors import InvalidFlags
from hvcore.errors import InvalidState
from hvcore.errors import NoSuchDomain
from hvcore.errors import StateLocked
from hvcore.events import EventHub
from hvcore.jobs import DEFAULT_MASK
from hvcore.jobs import AsyncJob
from hvcore.jobs import Job
from hvcore.lifecycle import PausedReason
from hvcore.lifecycle import ShutoffReason
from hvcore.lifecycle import State
from hvcore.lifecycle import reason_named
from hvcore.managedsave import ManagedSaves
from hvcore.origin import Origin
from hvcore.reporting import Reporting
from hvcore.snapshotstore import SnapshotStore
from hvcore.state import StateDirectory
from hvcore.state import Status
from hvcore.state import boot_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Self

    from hvcore.blockjobs import BlockJob
    from hvcore.driver import Driver
    from hvcore.driver import Initial
    from hvcore.events import BlockJobStatus
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Definition
    from hvcore.registry import Registry
    from hvcore.uri import Uri

_log = logging.getLogger(__name__)

LOCK_PATIENCE: Final = 2.0
"""Seconds a change waits for another process to let go of the state: short-lived ones do."""


class Engine(Reporting):
    """The domains behind one URI.

    :param directory: ``None`` for a driver that keeps everything in memory.
    """

    def __init__(
        self, uri: Uri, driver: type[Driver], registry: Registry, directory: StateDirectory | None
    ) -> None:
        self.uri = uri
        self.directory = directory
        self.hub = EventHub(observe=self._observe)
        self.registry = registry
        self.driver = driver(Setup(uri=uri, registry=registry, reports=self, directory=directory))
        self.owned = False
        self.saves = ManagedSaves(directory)
        self.snapshots = SnapshotStore(directory, registry)
        self._records: dict[str, Record] = {}
        self._by_name: dict[str, Record] = {}
        self._by_id: dict[int, Record] = {}
        self._last_id = 0
        self._boot = ""
        self._users = 0
        self._changes: dict[Record, Change] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._owning = asyncio.Lock()

    # -- sharing ------------------------------------------------------------------------

    @classmethod
    async def share(
        cls, uri: Uri, driver: type[Driver], registry: Registry, directory: StateDirectory | None
    ) -> Self:
        """Return the engine of this loop for ``uri``, opened; pair it with :meth:`release`.

        :raises DriverError: the state cannot be read.
        """
        engines = _ENGINES.setdefault(asyncio.get_running_loop(), {})
        key = (driver, str(uri) if directory is None else str(directory.config))
        engine = engines.get(key)
        if engine is None:
            engine = engines[key] = cls(uri, driver, registry, directory)
        assert isinstance(engine, cls)
        engine._users += 1
        try:
            await engine._open()
        except BaseException:
            await engine.release()
            raise
        return engine

    async def release(self, cause: BaseException | None = None) -> None:
        """Close the engine when its last user lets go; what runs goes on running."""
        self._users -= 1
        if self._users:
            return
        engines = _ENGINES[asyncio.get_running_loop()]
        for key, engine in tuple(engines.items()):
            if engine is self:
                del engines[key]
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        try:
            await self.driver.close()
            for record in self._records.values():
                if record.active:
                    self.driver.detach(record)
        finally:
            if self.directory is not None:
                self.directory.release()
            self.owned = False
            self.saves.close()
            self.hub.close(cause)

    async def _open(self) -> None:
        async with self._owning:
            if not self.owned:
                # Somebody else owning the state is no obstacle to looking at it.
                with contextlib.suppress(StateLocked):
                    await self._become_owner()

    async def own(self) -> None:
        """Make sure that changes are ours to make.

        :raises StateLocked: another process owns the state; names its pid and program.
        """
        async with self._owning:
            deadline = asyncio.get_running_loop().time() + LOCK_PATIENCE
            while not self.owned:
                try:
                    await self._become_owner()
                except StateLocked:
                    # flock can only be waited for by blocking a thread that could not be stopped.
                    if asyncio.get_running_loop().time() >= deadline:
                        raise
                    await asyncio.sleep(0.05)

    async def _become_owner(self) -> None:
        if self.directory is not None:
            self.directory.acquire()
            self._boot = boot_id()
        self.owned = True
        try:
            await self.driver.open()
            if self.directory is not None:
                await self._load(self.directory)
            for initial in self.driver.defaults():
                await self._begin(initial)
            await self.driver.ready()
        except BaseException:
            self.owned = False
            if self.directory is not None:
                self.directory.release()
            raise

    async def _begin(self, initial: Initial) -> None:
        """Let a domain be there from the beginning."""
        record = self.add_defined(await self.driver.compile(initial.xml))
        if initial.state is State.SHUTOFF:
            return
        record.live = record.persistent
        self._number(record, self._next_id())
        await self.driver.start(record, paused=initial.state is not State.RUNNING)
        record.reason = reason_named(initial.state, "UNKNOWN")
        if not initial.persistent:
            record.persistent = None

    async def _load(self, directory: StateDirectory) -> None:
        self._records.clear()
        self._by_name.clear()
        self._by_id.clear()
        for stored in directory.load():
            try:
                record = self.add_defined(self.driver.restore(stored.xml))
            except ConfigError as error:
                # The file stays for its owner to repair; everything else must work without it.
                _log.warning("Failed to load config for domain '%s': %s", stored.uuid, error)
                continue
            record.autostart = stored.autostart
            record.autostart_once = stored.autostart_once
            record.reason = stored.stopped
        await asyncio.gather(*[self._reconnect(status) for status in list(directory.statuses())])

    async def _reconnect(self, status: Status) -> None:
        record = self._records.get(status.uuid)
        try:
            live = self.driver.restore(status.live_xml)
        except ConfigError as error:
            _log.warning("Failed to load status of domain '%s': %s", status.name, error)
            return
        if record is None:
            record = self._add(Record(name=status.name, uuid=status.uuid))
        record.live = live
        self._number(record, status.id)
        record.reason = status.reason
        record.data = status.data
        if status.pid is not None and status.start is not None:
            record.process = (status.pid, status.start)
        self._last_id = max(self._last_id, status.id)
        self._give_back(record)
        try:
            with self.boundary(record):
                await self.driver.reconnect(record, status)
        except HvError as error:
            _log.warning("Lost domain '%s': %s", status.name, error)
            self.stopped(record, ShutoffReason.CRASHED, events.StoppedDetail.CRASHED)

    # -- what there is ------------------------------------------------------------------

    def records(self) -> list[Record]:
        """Return every domain, by name; a look at the files when somebody else owns them."""
        if not self.owned:
            self._look()
        return sorted(self._records.values(), key=lambda record: record.name)

    def by_uuid(self, uuid: str) -> Record:
        """Return the domain with this UUID.

        :raises NoSuchDomain: there is none.
        """
        self._refresh()
        found = self._records.get(uuid)
        if found is None:
            raise NoSuchDomain(f"no domain with matching uuid '{uuid}'")
        return found

    def by_name(self, name: str) -> Record:
        """Return the domain with this name.

        :raises NoSuchDomain: there is none.
        """
        self._refresh()
        found = self._by_name.get(name)
        if found is None:
            raise NoSuchDomain(f"no domain with matching name '{name}'")
        return found

    def by_id(self, number: int) -> Record:
        """Return the running domain with this number.

        :raises NoSuchDomain: there is none.
        """
        self._refresh()
        found = self._by_id.get(number)
        if found is None:
            raise NoSuchDomain(f"no domain with matching id {number}")
        return found

    def find(self, key: str | int) -> Record:
        """Return the domain with this number, UUID or name, as virsh understands its argument.

        :raises NoSuchDomain: there is none.
        """
        if isinstance(key, int):
            return self.by_id(key)
        self._refresh()
        # Numbers fit into 32 bits; Python refuses to read absurdly long ones.
        number = int(key) if key.isascii() and key.isdigit() and len(key) <= 10 else None
        numbered = None if number is None else self._by_id.get(number)
        found = numbered or self._records.get(key.lower()) or self._by_name.get(key)
        if found is None:
            raise NoSuchDomain(f"no domain with matching name '{key}'")
        return found

    def refresh(self, record: Record) -> Record:
        """Return ``record`` as it is now; a look at the files when somebody else owns them.

        :raises NoSuchDomain: it is gone.
        """
        self._refresh()
        found = self._records.get(record.uuid)
        if found is None:
            raise record.missing()
        return found

    def _refresh(self) -> None:
        if not self.owned:
            self._look()

    def _look(self) -> None:
        """Read the files of another owner: what is defined, and what runs at this moment."""
        assert self.directory is not None
        self._records, self._by_name, self._by_id = {}, {}, {}
        for stored in self.directory.load():
            with contextlib.suppress(ConfigError):
                record = self.add_defined(self.driver.restore(stored.xml))
                record.autostart = stored.autostart
                record.autostart_once = stored.autostart_once
                record.reason = stored.stopped
        for status in self.directory.statuses():
            if status.pid is not None and not status.alive():
                # The owner has not noticed yet, or is gone itself: it does not run, though.
                continue
            with contextlib.suppress(ConfigError):
                live = self.driver.restore(status.live_xml)
                found = self._records.get(status.uuid)
                if found is None:
                    found = self._add(Record(name=status.name, uuid=status.uuid))
                found.live, found.reason = live, status.reason
                self._number(found, status.id)
                found.data = status.data

    def _add(self, record: Record) -> Record:
        record.jobs.clock = self.driver.seconds
        self._records[record.uuid] = record
        self._by_name[record.name] = record
        return record

    def remove(self, record: Record) -> None:
        """Take a domain out of the books."""
        self.snapshots.forget(record.uuid)
        record.gone = True
        self._records.pop(record.uuid, None)
        self._by_name.pop(record.name, None)

    def _next_id(self) -> int:
        self._last_id += 1
        return self._last_id

    def _number(self, record: Record, number: int) -> None:
        """Let a domain be the one with a number, which is to run."""
        record.id = number
        self._by_id[number] = record

    # -- definitions --------------------------------------------------------------------

    def add_defined(self, definition: Definition) -> Record:
        """Put a persistent definition into the books; nothing is written or announced.

        :raises DomainExists: its name or UUID belongs to another domain.
        """
        record = self.admit(definition)
        record.persistent = definition
        return record

    def admit(self, definition: Definition, *, check_live: bool = False) -> Record:
        """Return the record for ``definition``, a new one unless name and UUID both match.

        :raises DomainExists: only one of them matches.
        :raises InvalidState: ``check_live``, and the domain runs or is being started.
        """
        found = self._records.get(definition.uuid)
        if found is None:
            other = self._by_name.get(definition.name)
            if other is not None:
                raise DomainExists(
                    f"domain '{definition.name}' already exists with uuid {other.uuid}",
                    domain=definition.name,
                )
            return self._add(Record(name=definition.name, uuid=definition.uuid))
        if found.name != definition.name:
            raise DomainExists(
                f"domain '{found.name}' is already defined with uuid {found.uuid}",
                domain=found.name,
            )
        if check_live and found.active:
            raise InvalidState(f"domain '{found.name}' is already active", domain=found.name)
        if check_live and found.persistent is None:
            raise InvalidState(f"domain '{found.name}' is already being started", domain=found.name)
        return found

    async def define(self, xml: str | bytes, *, strict: bool) -> Record:
        """Define a domain, or replace the definition of its next start.

        :raises ConfigError: the document is refused.
        :raises DomainExists: its name or UUID belongs to another domain.
        :raises StateLocked: another process owns the state.
        """
        await self.own()
        definition = await self.driver.compile(xml, strict=strict)
        self.authorize("virDomainDefineXML", definition)
        record = self.admit(definition)
        added = record.persistent is None
        try:
            self.store(record, definition)
        except BaseException:
            if added and not record.active:
                self.remove(record)
            raise
        detail = events.DefinedDetail.ADDED if added else events.DefinedDetail.UPDATED
        self.publish(record, events.Defined(domain=record.ref(), reason=detail))
        return record

    def store(self, record: Record, definition: Definition) -> None:
        """Make ``definition`` the one of the next start, on disk first."""
        if self.directory is not None:
            self.directory.store(record.uuid, definition.xml(inactive=True, secure=True))
        record.persistent = definition

    async def create(self, xml: str | bytes, *, paused: bool, strict: bool) -> Record:
        """Start a domain straight from its document; unless defined it vanishes when it stops.

        :raises ConfigError: the document is refused.
        :raises StateError: it exists already, or another process owns the state.
        :raises LaunchError: it did not come up.
        """
        await self.own()
        definition = await self.driver.compile(xml, strict=strict)
        record = self.admit(definition, check_live=True)
        try:
            await self.start(record, definition, paused=paused, operation="virDomainCreateXML")
        except BaseException:
            if record.persistent is None and not record.active:
                self.remove(record)
            raise
        return record

    async def undefine(self, known: Record, *, managed_save: bool, snapshots: bool) -> None:
        """Remove the persistent definition; what runs goes on as a transient domain.

        :param managed_save: remove its saved state, too.
        :param snapshots: forget its snapshots, too.
        :raises InvalidState: there is none, or it has a saved state that is not to be removed.
        """
        async with self.modify(known, "virDomainUndefine") as record:
            if record.persistent is None:
                raise InvalidState("cannot undefine transient domain", domain=record.name)
            if self.saves.has(record.uuid):
                if not managed_save:
                    raise InvalidState(
                        "Refusing to undefine while domain managed save image exists",
                        domain=record.name,
                    )
                self.saves.remove(record.uuid)
            count = 0 if record.active or snapshots else self.snapshots.count(record.uuid)
            if count:
                raise InvalidState(
                    f"cannot delete inactive domain with {count} snapshots", domain=record.name
                )
            self.forget(record)

    def forget(self, record: Record) -> None:
        """Remove the persistent definition, and the domain with it unless it runs."""
        if self.directory is not None:
            self.directory.remove(record.uuid)
        record.persistent = None
        record.autostart = record.autostart_once = False
        if not record.active:
            self.remove(record)
        self.publish(record, events.Undefined(domain=record.ref()))

    async def set_autostart(self, record: Record, *, autostart: bool, once: bool = False) -> None:
        """Say whether the domain is to be started with the host.

        :param once: only when the host starts next.
        :raises InvalidState: the domain is transient.
        """
        await self.own()
        record = self.refresh(record)
        if record.persistent is None:
            raise InvalidState("cannot set autostart for transient domain", domain=record.name)
        operation = "virDomainSetAutostartOnce" if once else "virDomainSetAutostart"
        self.authorize(operation, record.definition)
        async with record.jobs.job(operation, check=record.check_exists):
            self._mark(record, autostart=autostart, once=once)

    def _mark(self, record: Record, *, autostart: bool, once: bool) -> None:
        if self.directory is not None:
            self.directory.set_autostart(record.uuid, autostart=autostart, once=once)
        setattr(record, "autostart_once" if once else "autostart", autostart)

    # -- running ------------------------------------------------------------------------

    async def autostart(self) -> list[Record]:
        """Start what is marked for it and does not run; return what came up.

        :raises StateLocked: another process owns the state.
        """
        from hvcore import saving  # noqa: PLC0415 - looking at domains never needs it

        await self.own()
        started = []
        for record in self.records():
            wanted = record.autostart or record.autostart_once
            if record.autostart_once:
                self._mark(record, autostart=False, once=True)
            if wanted and not record.active:
                try:
                    await saving.start(self, record, paused=False)
                    started.append(record)
                except HvError as error:
                    _log.error("Failed to autostart VM '%s': %s", record.name, error)
        return started

    async def start(
        self,
        record: Record,
        definition: Definition | None = None,
        *,
        paused: bool,
        operation: str = "virDomainCreate",
        origin: Origin | None = None,
    ) -> None:
        """Start a domain.

        :param definition: what to start; the persistent definition unless given.
        :param origin: what it begins with; it boots unless given.
        :raises InvalidState: it runs already.
        :raises LaunchError: it did not come up.
        """
        await self.own()
        record = self.refresh(record)
        async with record.jobs.async_job(operation, AsyncJob.START, check=record.check_exists):
            if record.active:
                raise InvalidState("domain is already running", domain=record.name)
            origin = origin or Origin()
            await self.bring_up(record, definition, origin, paused=paused, operation=operation)

    async def bring_up(
        self,
        record: Record,
        definition: Definition | None,
        origin: Origin,
        *,
        paused: bool,
        operation: str,
    ) -> None:
        """Make the virtual machine of a domain; whoever calls holds its asynchronous job.

        Parameters as for :meth:`start`.
        """
        self.authorize(operation, definition or record.definition)
        record.live = await self.driver.completed(definition or record.definition)
        number = self._next_id()
        self._number(record, number)
        record.reason = PausedReason.STARTING_UP
        record.data = {}
        try:
            with self.boundary(record):
                self.save(record)
                if origin.begin is None:
                    await self.driver.start(record, paused=paused)
                else:
                    await origin.begin(record)
        except BaseException:
            # Unless it was destroyed meanwhile, and perhaps even started again.
            if record.id == number:
                self._clear(record, ShutoffReason.FAILED)
            raise
        started = events.Started(domain=record.ref(), reason=origin.started)
        if not paused:
            self.transition(record, origin.running, started)
        elif origin.suspended is None:
            self.transition(record, origin.paused, started)
        else:
            # Whoever follows only starts and stops, and whoever follows pauses, are both told.
            suspended = events.Suspended(domain=record.ref(), reason=origin.suspended)
            self.transition(record, origin.paused, started, suspended)

    async def destroy(self, record: Record, *, graceful: bool) -> None:
        """End a domain whatever else is being done with it.

        :raises InvalidState: it does not run.
        """
        await self.own()
        record = self.refresh(record)
        record.check_active()
        self.authorize("virDomainDestroy", record.definition)
        # Without a job: it is the end of whatever the holder of the job waits for.
        reason, detail = ShutoffReason.DESTROYED, events.StoppedDetail.DESTROYED
        await self.end(record, reason, detail, graceful=graceful)
        # Whoever worked on it when it was destroyed is done when this returns.
        async with record.jobs.job("virDomainDestroy", Job.DESTROY):
            return

    async def end(
        self,
        record: Record,
        reason: ShutoffReason,
        detail: events.StoppedDetail,
        *,
        graceful: bool = False,
        keep: bool = False,
    ) -> None:
        """End a virtual machine and say why.

        :param keep: it will be started again, so it stays in the books if it is transient.
        """
        number = record.id
        record.destroying = True
        try:
            with self.boundary(record):
                await self.driver.destroy(record, graceful=graceful)
            # Another destroyer, or the failing start that was cut short, may have been faster.
            if record.id == number:
                self._stopped(record, reason, detail, keep=keep)
        finally:
            record.destroying = False

    @contextlib.asynccontextmanager
    async def work(
        self,
        record: Record,
        operation: str,
        kind: AsyncJob,
        *,
        mask: frozenset[Job] = DEFAULT_MASK,
    ) -> AsyncIterator[Record]:
        """Hold a running domain for something long.

        :param mask: what may be done beside it.
        :raises InvalidState: it does not run.
        :raises StateLocked: another process owns the state.
        :raises JobTimeout: another operation holds the domain.
        """
        await self.own()
        record = self.refresh(record)
        self.authorize(operation, record.definition)
        check = record.check_active
        async with record.jobs.async_job(operation, kind, mask=mask, check=check):
            with self.boundary(record):
                yield record

    @contextlib.asynccontextmanager
    async def modify(
        self, record: Record, operation: str, kind: Job = Job.MODIFY, *, active: bool = False
    ) -> AsyncIterator[Record]:
        """Hold the modify job of a domain.

        :param active: refuse unless it runs.
        :raises StateLocked: another process owns the state.
        :raises JobTimeout: another operation holds the domain.
        """
        await self.own()
        record = self.refresh(record)
        self.authorize(operation, record.definition)
        check = record.check_active if active else record.check_exists
        async with record.jobs.job(operation, kind, check=check):
            with self.boundary(record):
                yield record

    @contextlib.asynccontextmanager
    async def change(
        self,
        record: Record,
        operation: str,
        *,
        live: bool | None = None,
        config: bool | None = None,
    ) -> AsyncIterator[Change]:
        """Hold the modify job of a domain and hand out copies of its definitions to change.

        :param live: change what runs; neither this nor ``config``: what there is.
        :param config: change the next start.
        :raises InvalidState: it does not run, or is not persistent.
        :raises ValidationFailed: the definition of the next start became invalid.
        """
        async with self.modify(record, operation) as record:  # noqa: PLR1704 - as it is now
            running, next_start = affected(record, live=live, config=config)
            async with contextlib.AsyncExitStack() as stack:
                if not running:
                    await stack.enter_async_context(self.driver.configuring(record, operation))
                changing = self._changing(record, live=running, config=next_start)
                yield await stack.enter_async_context(changing)

    @contextlib.asynccontextmanager
    async def _changing(self, record: Record, *, live: bool, config: bool) -> AsyncIterator[Change]:
        """Hand out copies of definitions, and swap them in; whoever calls holds a job."""
        before = record.live if live else None
        made = Change(
            record,
            None if before is None else before.clone(),
            (await self._complete(record)).clone() if config else None,
            self.driver.recompile,
        )
        number = record.id
        self._changes[record] = made
        try:
            yield made
            await made.seal()
        finally:
            del self._changes[record]
            # Unless it stopped meanwhile, and perhaps even was started again.
            mine = record.active and record.id == number
            if before is not None and made.live is not None and mine:
                record.live = attrs.evolve(before, domain=made.live)
                self.save(record)
        if made.sealed is not None:
            self.store(record, made.sealed)
        self.publish(record, *made.happened)

    async def _complete(self, record: Record) -> Definition:
        assert record.persistent is not None  # affected() saw to it
        return await self.driver.completed(record.persistent)

    async def view(
        self, record: Record, *, live: bool | None = None, config: bool | None = None
    ) -> Domain:
        """Return the model to look at; parameters as for :meth:`change`, but not both.

        :raises InvalidState: it does not run, or is not persistent.
        :raises HvError: both were asked for.
        """
        if live and config:
            raise InvalidFlags.exclusive("VIR_DOMAIN_AFFECT_LIVE", "VIR_DOMAIN_AFFECT_CONFIG")
        record = self.refresh(record)
        running, _ = affected(record, live=live, config=config)
        if running and record.live is not None:
            return record.live.domain
        definition = record.persistent or record.definition
        if not definition.complete and self.owned:
            definition = await self.driver.completed(definition)
        return definition.domain

    def authorize(self, operation: str, definition: Definition | None) -> None:
        """Ask the driver and the plugins whether an operation is allowed.

        :raises AccessDenied: one of the plugins says it is not, and why.
        """
        domain = None if definition is None else definition.domain
        self.driver.permit(operation, domain)
        refusal = self.registry.manager.hook.hv_authorize(
            operation=operation, domain=domain, subject=None
        )
        if refusal is not None:
            name = None if domain is None else domain.name
            raise AccessDenied(refusal, kind=ErrorClass.ACCESS_DENIED, domain=name)

    def block_job(
        self, record: Record, job: BlockJob, status: BlockJobStatus, error: str | None = None
    ) -> None:
        """Say what became of a job of a disk: that it is ready, or how it ended."""
        from hvcore import blockjobs  # noqa: PLC0415 - only who has such jobs needs it

        self._later(blockjobs.note(self, record, job, status, error))


_ENGINES: weakref.WeakKeyDictionary[
    asyncio.AbstractEventLoop, dict[tuple[type[Driver], str], Engine]
] = weakref.WeakKeyDictionary()
