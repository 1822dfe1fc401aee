"""What follows from the reports of a driver: states, statuses, events, definitions."""

from __future__ import annotations

import abc
import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING
from typing import Any

import attrs

from hvcore import events
from hvcore.errors import DriverError
from hvcore.errors import ErrorClass
from hvcore.errors import HvError
from hvcore.errors import StateError
from hvcore.state import Status

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Coroutine
    from collections.abc import Iterator
    from contextlib import AbstractAsyncContextManager

    from hvcore.change import Change
    from hvcore.driver import Driver
    from hvcore.driver import Record
    from hvcore.events import Event
    from hvcore.events import EventHub
    from hvcore.lifecycle import ShutoffReason
    from hvcore.lifecycle import StateReason
    from hvcore.model.domain import Domain
    from hvcore.registry import Registry
    from hvcore.state import StateDirectory

_log = logging.getLogger(__name__)


class Reporting(abc.ABC):
    """The part of the engine that drivers talk to (:class:`hvcore.driver.Reports`)."""

    directory: StateDirectory | None
    hub: EventHub
    registry: Registry
    driver: Driver
    _boot: str
    _by_id: dict[int, Record]
    _changes: dict[Record, Change]
    _tasks: set[asyncio.Task[None]]

    @abc.abstractmethod
    def remove(self, record: Record) -> None:
        """Forget a domain."""

    @abc.abstractmethod
    def _changing(
        self, record: Record, *, live: bool, config: bool
    ) -> AbstractAsyncContextManager[Change]:
        """Hand out copies of definitions, and swap them in; whoever calls holds a job."""

    @contextlib.contextmanager
    def boundary(self, record: Record) -> Iterator[None]:
        """Let no error of a foreign library out of a driver unwrapped."""
        try:
            yield
        except HvError:
            raise
        except Exception as error:
            raise DriverError(
                f"{type(error).__name__}: {error}",
                kind=ErrorClass.INTERNAL,
                domain=record.name,
                driver=self.driver.name,
            ) from error

    def save(self, record: Record) -> None:
        """Write the status of a running domain."""
        if self.directory is None or record.live is None or record.id is None:
            return
        pid, start = record.process or (None, None)
        if record.live_text is None or record.live_text[0] is not record.live:
            text = record.live.xml(inactive=False, secure=True)
            record.live_text = (record.live, text)
        self.directory.save_status(
            Status(
                uuid=record.uuid,
                name=record.name,
                id=record.id,
                state=record.state,
                reason=record.reason,
                live_xml=record.live_text[1],
                pid=pid,
                start=start,
                boot=self._boot,
                data={**record.data, "plugins": self._plugin_data(record)},
            )
        )

    def _plugin_data(self, record: Record) -> dict[str, Any]:
        """Return what plugins want to find again, by plugin."""
        found = {}
        for implementation in self.registry.manager.hook.hv_state_save.get_hookimpls():
            blob = implementation.function(domain=record.uuid)
            if blob is not None:
                found[implementation.plugin_name] = blob
        return found

    def _give_back(self, record: Record) -> None:
        """Hand each plugin what it wanted to find again."""
        blobs = record.data.pop("plugins", {})
        for implementation in self.registry.manager.hook.hv_state_load.get_hookimpls():
            if implementation.plugin_name in blobs:
                blob = blobs[implementation.plugin_name]
                implementation.function(domain=record.uuid, blob=blob)

    def transition(self, record: Record, reason: StateReason, *happened: Event) -> None:
        """Give a running domain a new state, write it down, then publish ``happened``."""
        if not record.active:
            return
        record.reason = reason
        self.save(record)
        self.publish(record, *happened)

    def publish(self, record: Record, *happened: Event) -> None:
        """Publish events that change no state."""
        del record
        for event in happened:
            for told in self.driver.relayed(event):
                self.hub.publish(told)

    def stopped(self, record: Record, reason: ShutoffReason, detail: events.StoppedDetail) -> None:
        """Say that the virtual machine is gone; only the first call for each start counts."""
        self._stopped(record, reason, detail, keep=False)

    def _stopped(
        self, record: Record, reason: ShutoffReason, detail: events.StoppedDetail, *, keep: bool
    ) -> None:
        if not record.active:
            return
        ref = record.ref()
        self._clear(record, reason)
        if record.persistent is None and not keep:
            self.remove(record)
        self.publish(record, events.Stopped(domain=ref, reason=detail))

    def amend(self, record: Record, change: Callable[[Domain], None]) -> None:
        """Change what the running definition says, as the hypervisor told."""
        if record.live is None:
            return
        domain = record.live.clone()
        change(domain)
        record.live = attrs.evolve(record.live, domain=domain)
        made = self._changes.get(record)
        if made is not None and made.live is not None:
            change(made.live)
        self.save(record)

    def departed(self, record: Record, alias: str) -> None:
        """Say that a device is gone that nobody waits for (any more)."""
        self._later(self._forget_device(record, alias))

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _forget_device(self, record: Record, alias: str) -> None:
        """Take a device out of the running definition that the guest has let go."""
        number = record.id
        with contextlib.suppress(StateError):
            async with record.jobs.job("DEVICE_DELETED", check=record.check_active):
                if record.id != number:
                    return
                try:
                    with self.boundary(record):
                        async with self._changing(record, live=True, config=False) as change:
                            assert change.live is not None  # it runs
                            await self.driver.device_departed(record, change.live, alias)
                            gone = events.DeviceRemoved(domain=record.ref(), alias=alias)
                            change.happened.append(gone)
                except HvError as error:
                    _log.warning("Device '%s' of domain '%s': %s", alias, record.name, error)

    def _clear(self, record: Record, reason: ShutoffReason) -> None:
        if record.id is not None:
            self._by_id.pop(record.id, None)
        record.id = None
        record.live = None
        record.live_text = None
        record.process = None
        record.runtime = None
        record.data = {}
        record.reason = reason
        jobs, record.blockjobs = record.blockjobs, {}
        record.blockjobs_ended = {}
        for job in jobs.values():
            job.tell()
        if self.directory is not None:
            self.directory.drop_status(record.uuid)
            if record.persistent is not None:
                self.directory.note_stop(record.uuid, reason)

    def _observe(self, event: Event) -> None:
        try:
            self.registry.manager.hook.hv_event(event=event)
        except Exception:  # noqa: BLE001 - whatever a plugin raises
            # An observer has no say in what happened.
            _log.exception("A plugin failed to observe %s", type(event).__name__)
