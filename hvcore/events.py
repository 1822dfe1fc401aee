"""Typed events of a host and the bounded streams that carry them.

Invariant: an event is numbered and queued at one place (:meth:`EventHub.publish`), after the
state it reports has been written down, so every stream sees the same events in the same order.
A stream that its reader neglects never grows without bound: it drops what does not fit and says
so with one :class:`Overflow` item in the place of what is missing.

Numbers are libvirt's (``virDomainEventType`` and its details); details print as virsh does.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING
from typing import Any
from typing import ClassVar
from typing import Final
from typing import TypeAlias

import attrs

from hvcore.lifecycle import Labelled

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from collections.abc import Iterable
    from types import TracebackType
    from typing import Self


@attrs.frozen
class DomainRef:
    """Which domain an event is about, as it was when the event happened.

    :param id: the running domain's number; ``None`` when it does not run.
    """

    name: str
    uuid: str
    id: int | None = None


class DefinedDetail(Labelled):
    """``virDomainEventDefinedDetailType``."""

    ADDED = (0, "Added")
    UPDATED = (1, "Updated")
    RENAMED = (2, "Renamed")
    FROM_SNAPSHOT = (3, "Snapshot")


class UndefinedDetail(Labelled):
    """``virDomainEventUndefinedDetailType``."""

    REMOVED = (0, "Removed")
    RENAMED = (1, "Renamed")


class StartedDetail(Labelled):
    """``virDomainEventStartedDetailType``."""

    BOOTED = (0, "Booted")
    MIGRATED = (1, "Migrated")
    RESTORED = (2, "Restored")
    FROM_SNAPSHOT = (3, "Snapshot")
    WAKEUP = (4, "Event wakeup")


class SuspendedDetail(Labelled):
    """``virDomainEventSuspendedDetailType``."""

    PAUSED = (0, "Paused")
    MIGRATED = (1, "Migrated")
    IOERROR = (2, "I/O Error")
    WATCHDOG = (3, "Watchdog")
    RESTORED = (4, "Restored")
    FROM_SNAPSHOT = (5, "Snapshot")
    API_ERROR = (6, "API error")
    POSTCOPY = (7, "Post-copy")
    POSTCOPY_FAILED = (8, "Post-copy Error")


class ResumedDetail(Labelled):
    """``virDomainEventResumedDetailType``."""

    UNPAUSED = (0, "Unpaused")
    MIGRATED = (1, "Migrated")
    FROM_SNAPSHOT = (2, "Snapshot")
    POSTCOPY = (3, "Post-copy")
    POSTCOPY_FAILED = (4, "Post-copy Error")


class StoppedDetail(Labelled):
    """``virDomainEventStoppedDetailType``."""

    SHUTDOWN = (0, "Shutdown")
    DESTROYED = (1, "Destroyed")
    CRASHED = (2, "Crashed")
    MIGRATED = (3, "Migrated")
    SAVED = (4, "Saved")
    FAILED = (5, "Failed")
    FROM_SNAPSHOT = (6, "Snapshot")


class ShutdownDetail(Labelled):
    """``virDomainEventShutdownDetailType``."""

    FINISHED = (0, "Finished")
    GUEST = (1, "Finished after guest request")
    HOST = (2, "Finished after host request")


class PMSuspendedDetail(Labelled):
    """``virDomainEventPMSuspendedDetailType``."""

    MEMORY = (0, "Memory")
    DISK = (1, "Disk")


class CrashedDetail(Labelled):
    """``virDomainEventCrashedDetailType``."""

    PANICKED = (0, "Panicked")
    CRASHLOADED = (1, "Crashloaded")


class WatchdogAction(Labelled):
    """``virDomainEventWatchdogAction``."""

    NONE = (0, "none")
    PAUSE = (1, "pause")
    RESET = (2, "reset")
    POWEROFF = (3, "poweroff")
    SHUTDOWN = (4, "shutdown")
    DEBUG = (5, "debug")
    INJECT_NMI = (6, "inject-nmi")


class IOErrorAction(Labelled):
    """``virDomainEventIOErrorAction``."""

    NONE = (0, "none")
    PAUSE = (1, "pause")
    REPORT = (2, "report")


class AgentState(Labelled):
    """``virConnectDomainEventAgentLifecycleState``."""

    CONNECTED = (1, "connected")
    DISCONNECTED = (2, "disconnected")


class AgentReason(Labelled):
    """``virConnectDomainEventAgentLifecycleReason``."""

    UNKNOWN = (0, "unknown")
    DOMAIN_STARTED = (1, "domain started")
    CHANNEL = (2, "channel event")


class BlockJobType(Labelled):
    """``virDomainBlockJobType``."""

    UNKNOWN = (0, "Unknown job")
    PULL = (1, "Block Pull")
    COPY = (2, "Block Copy")
    COMMIT = (3, "Block Commit")
    ACTIVE_COMMIT = (4, "Active Block Commit")
    BACKUP = (5, "Backup")


class BlockJobStatus(Labelled):
    """``virConnectDomainEventBlockJobStatus``."""

    COMPLETED = (0, "completed")
    FAILED = (1, "failed")
    CANCELED = (2, "canceled")
    READY = (3, "ready")


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Event:
    """Something that happened to a domain.

    :param seq: position in the host's sequence, from 1; a gap means that events were dropped.
    :param time: seconds since the epoch, when it was published.
    """

    kind: ClassVar[str] = "event"
    """virsh's name of the event type."""

    domain: DomainRef
    seq: int = 0
    time: float = 0.0

    # Once for all kinds: what attrs would compile for each is half of this module's import.
    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._values() == other._values()

    def __hash__(self) -> int:
        return hash((type(self), self._values()))

    def __repr__(self) -> str:
        names = (attribute.name for attribute in attrs.fields(type(self)))
        shown = (f"{name}={value!r}" for name, value in zip(names, self._values(), strict=True))
        return f"{type(self).__name__}({', '.join(shown)})"

    def _values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, attribute.name) for attribute in attrs.fields(type(self)))


@attrs.frozen(kw_only=True, eq=False, repr=False)
class LifecycleEvent(Event):
    """An event of libvirt's type ``lifecycle``."""

    kind: ClassVar[str] = "lifecycle"
    number: ClassVar[int]
    """``virDomainEventType``."""


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Defined(LifecycleEvent):
    """The persistent definition was added or replaced."""

    number: ClassVar[int] = 0
    reason: DefinedDetail


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Undefined(LifecycleEvent):
    """The persistent definition was removed."""

    number: ClassVar[int] = 1
    reason: UndefinedDetail = UndefinedDetail.REMOVED


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Started(LifecycleEvent):
    """The domain has a virtual machine."""

    number: ClassVar[int] = 2
    reason: StartedDetail = StartedDetail.BOOTED


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Suspended(LifecycleEvent):
    """The virtual CPUs stopped."""

    number: ClassVar[int] = 3
    reason: SuspendedDetail = SuspendedDetail.PAUSED


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Resumed(LifecycleEvent):
    """The virtual CPUs run again."""

    number: ClassVar[int] = 4
    reason: ResumedDetail = ResumedDetail.UNPAUSED


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Stopped(LifecycleEvent):
    """The virtual machine is gone."""

    number: ClassVar[int] = 5
    reason: StoppedDetail


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Shutdown(LifecycleEvent):
    """The guest finished; its virtual machine is about to go."""

    number: ClassVar[int] = 6
    reason: ShutdownDetail = ShutdownDetail.FINISHED


@attrs.frozen(kw_only=True, eq=False, repr=False)
class PMSuspended(LifecycleEvent):
    """The guest suspended itself."""

    number: ClassVar[int] = 7
    reason: PMSuspendedDetail = PMSuspendedDetail.MEMORY


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Crashed(LifecycleEvent):
    """The guest's kernel panicked."""

    number: ClassVar[int] = 8
    reason: CrashedDetail = CrashedDetail.PANICKED


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Rebooted(Event):
    """The guest was reset, by itself or from outside."""

    kind: ClassVar[str] = "reboot"


@attrs.frozen(kw_only=True, eq=False, repr=False)
class RtcChanged(Event):
    """The guest set its clock.

    :param offset: seconds from UTC.
    """

    kind: ClassVar[str] = "rtc-change"
    offset: int


@attrs.frozen(kw_only=True, eq=False, repr=False)
class WatchdogFired(Event):
    """The guest's watchdog expired."""

    kind: ClassVar[str] = "watchdog"
    action: WatchdogAction


@attrs.frozen(kw_only=True, eq=False, repr=False)
class IOError(Event):  # noqa: A001 - libvirt's name; used qualified, and the builtin is only an alias of OSError
    """A disk request failed on the host.

    :param path: what the disk is backed by; empty where unknown.
    :param alias: the disk's alias.
    :param reason: ``enospc``, or empty.
    """

    kind: ClassVar[str] = "io-error"
    path: str
    alias: str
    action: IOErrorAction
    reason: str = ""


@attrs.frozen(kw_only=True, eq=False, repr=False)
class PMWakeup(Event):
    """The guest woke up."""

    kind: ClassVar[str] = "pm-wakeup"


@attrs.frozen(kw_only=True, eq=False, repr=False)
class BalloonChanged(Event):
    """The balloon moved.

    :param actual: the memory the guest has now, KiB.
    """

    kind: ClassVar[str] = "balloon-change"
    actual: int


@attrs.frozen(kw_only=True, eq=False, repr=False)
class MemoryDeviceSizeChanged(Event):
    """The guest took memory of a virtio-mem device, or gave it back.

    :param size: of what it has of the device now, KiB.
    """

    kind: ClassVar[str] = "memory-device-size-change"
    alias: str
    size: int


@attrs.frozen(kw_only=True, eq=False, repr=False)
class TrayMoved(Event):
    """The guest opened or closed the tray of a removable drive."""

    kind: ClassVar[str] = "tray-change"
    alias: str
    opened: bool


@attrs.frozen(kw_only=True, eq=False, repr=False)
class TunableChanged(Event):
    """A setting of a running domain was changed.

    :param name: libvirt's name of it, such as ``cputune.vcpupin0``.
    """

    kind: ClassVar[str] = "tunable"
    name: str
    value: str


@attrs.frozen(kw_only=True, eq=False, repr=False)
class DeviceAdded(Event):
    """A device was plugged in."""

    kind: ClassVar[str] = "device-added"
    alias: str


@attrs.frozen(kw_only=True, eq=False, repr=False)
class DeviceRemoved(Event):
    """The guest let a device go."""

    kind: ClassVar[str] = "device-removed"
    alias: str


@attrs.frozen(kw_only=True, eq=False, repr=False)
class DeviceRemovalFailed(Event):
    """The guest refused to let a device go."""

    kind: ClassVar[str] = "device-removal-failed"
    alias: str


@attrs.frozen(kw_only=True, eq=False, repr=False)
class MigrationIteration(Event):
    """A migration begins to go through the guest's memory once more.

    :param iteration: how often by then, from 1.
    """

    kind: ClassVar[str] = "migration-iteration"
    iteration: int


@attrs.frozen(kw_only=True, eq=False, repr=False)
class JobCompleted(Event):
    """A long job came to its end.

    :param parameters: numbers by libvirt's names, as in ``memory_total``.
    """

    kind: ClassVar[str] = "job-completed"
    parameters: tuple[tuple[str, int], ...]


@attrs.frozen(kw_only=True, eq=False, repr=False)
class BlockJobChanged(Event):
    """A job that works on the images of a disk is ready to be concluded, or came to its end.

    :param disk: target of the disk.
    :param path: its image, as it was when the job began; empty where that is no file.
    """

    kind: ClassVar[str] = "block-job"
    type: BlockJobType
    disk: str
    path: str
    status: BlockJobStatus


@attrs.frozen(kw_only=True, eq=False, repr=False)
class AgentChanged(Event):
    """The agent in the guest began to listen, or does not any more."""

    kind: ClassVar[str] = "agent-lifecycle"
    state: AgentState
    reason: AgentReason = AgentReason.CHANNEL


@attrs.frozen
class Overflow:
    """Stands where events were dropped because the reader was too slow.

    :param dropped: how many.
    """

    dropped: int


@attrs.frozen
class StreamClosed:
    """Last item of a stream.

    :param cause: ``None`` when the stream or its host was closed on purpose.
    """

    cause: BaseException | None = None


Item: TypeAlias = Event | Overflow | StreamClosed

QUEUE_LIMIT: Final = 1024
"""Events a stream holds for its reader before it starts to drop."""


class EventStream:
    """One reader's view of a host's events: an asynchronous iterator and context manager.

    It receives from the moment it is created, so a command issued afterwards cannot lose the
    events it causes. The last item is :class:`StreamClosed`; then the iteration ends.
    """

    __slots__ = ("_accept", "_dropped", "_ended", "_hub", "_limit", "_queue", "_waiter")

    def __init__(
        self, hub: EventHub, *, accept: Callable[[Event], bool], limit: int = QUEUE_LIMIT
    ) -> None:
        self._hub = hub
        self._accept = accept
        self._limit = limit
        self._queue: deque[Item] = deque()
        self._dropped = 0
        self._ended = False
        self._waiter: asyncio.Future[None] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Item:
        return await self.get()

    async def get(self) -> Item:
        """Return the next item.

        :raises StopAsyncIteration: after :class:`StreamClosed` was returned.
        """
        while not self._queue:
            if self._ended:
                raise StopAsyncIteration
            if self._waiter is None:
                import asyncio  # noqa: PLC0415 - whoever waits has a loop; importing hvcore has none

                self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self._take()

    def get_nowait(self) -> Item | None:
        """Return the next item, or ``None`` when there is none at the moment."""
        return self._take() if self._queue else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the stream; what is already queued can still be read."""
        self._end(None)

    def _take(self) -> Item:
        item = self._queue.popleft()
        if self._dropped and not isinstance(item, StreamClosed):
            # The place of the dropped events is behind everything that was queued before them.
            self._queue.append(Overflow(self._dropped))
            self._dropped = 0
        return item

    def _put(self, event: Event) -> None:
        if self._ended or not self._accept(event):
            return
        if self._dropped or len(self._queue) >= self._limit:
            self._dropped += 1
            return
        self._queue.append(event)
        self._wake()

    def _end(self, cause: BaseException | None) -> None:
        if self._ended:
            return
        self._ended = True
        self._hub.remove(self)
        if self._dropped:
            self._queue.append(Overflow(self._dropped))
            self._dropped = 0
        self._queue.append(StreamClosed(cause))
        self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


class EventHub:
    """Numbers events and hands them to every stream and observer of one host."""

    def __init__(
        self,
        *,
        observe: Callable[[Event], None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._streams: list[EventStream] = []
        self._observe = observe
        self._clock = clock
        self._seq = 0

    def publish(self, event: Event) -> Event:
        """Give ``event`` its number, queue it on every stream and return it as numbered."""
        self._seq += 1
        event = attrs.evolve(event, seq=self._seq, time=self._clock())
        for stream in tuple(self._streams):
            stream._put(event)  # noqa: SLF001 - hub and stream are two halves of one thing
        if self._observe is not None:
            self._observe(event)
        return event

    def stream(
        self,
        kinds: Iterable[type[Event]] = (),
        *,
        domain: str | None = None,
        limit: int = QUEUE_LIMIT,
    ) -> EventStream:
        """Open a stream.

        :param kinds: event classes to receive; empty for all.
        :param domain: UUID of the only domain of interest.
        :param limit: events held for the reader before dropping starts.
        """
        wanted = tuple(kinds) or (Event,)

        def accept(event: Event) -> bool:
            return isinstance(event, wanted) and (domain is None or event.domain.uuid == domain)

        stream = EventStream(self, accept=accept, limit=limit)
        self._streams.append(stream)
        return stream

    def remove(self, stream: EventStream) -> None:
        """Forget ``stream``."""
        if stream in self._streams:
            self._streams.remove(stream)

    def close(self, cause: BaseException | None = None) -> None:
        """End every stream with ``cause``."""
        for stream in tuple(self._streams):
            stream._end(cause)  # noqa: SLF001 - see publish
