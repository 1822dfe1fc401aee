"""What a hypervisor driver is: a class whose methods are the verbs it supports.

A driver is found by URI scheme, made once for each state root, and told about domains as
:class:`Record` objects. It carries verbs out and reports what happens; books are kept by the
:class:`~hvcore.engine.Engine`, the same for all drivers. Invariant: a verb that a driver does not
override does not exist there, so ``operations`` is derived and there is nothing to keep in step.
"""

from __future__ import annotations

import abc
import contextlib
import time
from typing import TYPE_CHECKING
from typing import Any
from typing import ClassVar
from typing import Protocol
from typing import final

import attrs

from hvcore.errors import InvalidState
from hvcore.errors import NoSuchDomain
from hvcore.errors import UnsupportedOperation
from hvcore.events import DomainRef
from hvcore.jobs import JobSlots
from hvcore.lifecycle import ShutoffReason
from hvcore.lifecycle import State
from hvcore.lifecycle import StateReason
from hvcore.lifecycle import state_of
from hvcore.operations import Op
from hvcore.uri import unknown_parameter
from hvcore.verbs.agent import AgentVerbs
from hvcore.verbs.blockjobs import BlockJobVerbs
from hvcore.verbs.devices import DeviceVerbs
from hvcore.verbs.iothreads import IOThreadVerbs
from hvcore.verbs.migration import MigrationVerbs
from hvcore.verbs.power import PowerVerbs
from hvcore.verbs.resizing import ResizingVerbs
from hvcore.verbs.saving import SavingVerbs
from hvcore.verbs.snapshots import SnapshotVerbs
from hvcore.verbs.statistics import StatisticsVerbs
from hvcore.verbs.throttling import ThrottlingVerbs
from hvcore.verbs.tuning import TuningVerbs

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterable

    from hvcore.abi.table import Check
    from hvcore.blockjobs import BlockJob
    from hvcore.domaincaps import DomainCapabilities
    from hvcore.events import BlockJobStatus
    from hvcore.events import Event
    from hvcore.events import StoppedDetail
    from hvcore.hostinfo import HostInfo
    from hvcore.hostinfo import NodeInfo
    from hvcore.model.devices.base import Device
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore.pipeline import Definition
    from hvcore.pipeline import Pipeline
    from hvcore.registry import Registry
    from hvcore.rehearsal import Rehearsal
    from hvcore.state import StateDirectory
    from hvcore.state import Status
    from hvcore.testing.control import TestControl
    from hvcore.uri import Uri


@attrs.frozen(kw_only=True)
class Info:
    """What a running domain uses.

    :param memory: KiB the guest has now.
    :param cpu_time: nanoseconds of host CPU time.
    """

    memory: int
    cpu_time: int


@attrs.frozen
class Initial:
    """A domain that exists from the beginning.

    :param state: what it is doing; it runs unless it is shut off.
    :param persistent: whether it is still there when it stops.
    """

    xml: str
    state: State
    persistent: bool = attrs.field(default=True, kw_only=True)


class Record:
    """One domain: its definitions, what it is doing, and what its driver keeps about it.

    Definitions are swapped, never changed, so whoever reads one needs no job.

    :ivar persistent: the definition of the next start; ``None`` for a transient domain.
    :ivar live: the definition of what runs; ``None`` when nothing does.
    :ivar reason: why it is in its state; says the state, too.
    :ivar process: pid and :func:`~hvcore.state.process_start` of the virtual machine process.
    :ivar runtime: the driver's own object for what runs.
    :ivar data: the driver's JSON for the status file.
    :ivar live_text: ``live`` as a document with secrets, and of which definition it is: statuses
        are written often, and definitions change seldom.
    :ivar blockjobs: jobs that work on the images of its disks, by target.
    :ivar blockjobs_ended: how the last job of a disk ended, by target, until it has another one.
    :ivar destroying: somebody is destroying it: nobody else is to announce its end.
    """

    __slots__ = (
        "autostart",
        "autostart_once",
        "blockjobs",
        "blockjobs_ended",
        "data",
        "destroying",
        "gone",
        "id",
        "jobs",
        "live",
        "live_text",
        "name",
        "persistent",
        "process",
        "reason",
        "runtime",
        "uuid",
    )

    def __init__(self, *, name: str, uuid: str) -> None:
        self.name = name
        self.uuid = uuid
        self.id: int | None = None
        self.persistent: Definition | None = None
        self.live: Definition | None = None
        self.live_text: tuple[Definition, str] | None = None
        self.reason: StateReason = ShutoffReason.UNKNOWN
        self.autostart = False
        self.autostart_once = False
        self.process: tuple[int, int] | None = None
        self.runtime: Any = None
        self.data: dict[str, Any] = {}
        self.blockjobs: dict[str, BlockJob] = {}
        self.blockjobs_ended: dict[str, BlockJobStatus] = {}
        self.destroying = False
        self.gone = False
        self.jobs = JobSlots(name)

    @property
    def state(self) -> State:
        """What the domain is doing."""
        return state_of(self.reason)

    @property
    def active(self) -> bool:
        """Whether there is a virtual machine."""
        return self.id is not None

    @property
    def definition(self) -> Definition:
        """The live definition, or the persistent one when nothing runs."""
        found = self.live or self.persistent
        if found is None:
            raise self.missing()
        return found

    def ref(self) -> DomainRef:
        """Return what events carry."""
        return DomainRef(self.name, self.uuid, self.id)

    def check_active(self) -> None:
        """Refuse to work on a domain that does not run.

        :raises InvalidState: it does not.
        :raises NoSuchDomain: it does not exist any more.
        """
        self.check_exists()
        if not self.active:
            raise InvalidState("domain is not running", domain=self.name)

    def check_exists(self) -> None:
        """Refuse to work on a domain that is gone.

        :raises NoSuchDomain: it is.
        """
        if self.gone:
            raise self.missing()

    def missing(self) -> NoSuchDomain:
        """Return the error of a handle whose domain is gone."""
        return NoSuchDomain(
            f"no domain with matching uuid '{self.uuid}' ({self.name})", domain=self.name
        )


class Reports(Protocol):
    """What a driver tells the engine. All of it runs in the loop and never blocks."""

    def save(self, record: Record) -> None:
        """Write the status of a running domain."""

    def transition(self, record: Record, reason: StateReason, *happened: Event) -> None:
        """Give a running domain a new state, write it down, then publish ``happened``."""

    def publish(self, record: Record, *happened: Event) -> None:
        """Publish events that change no state."""

    def amend(self, record: Record, change: Callable[[Domain], None]) -> None:
        """Change what the running definition says, as the hypervisor told.

        :param change: also made to the copy of whoever is changing the definition meanwhile.
        """

    def departed(self, record: Record, alias: str) -> None:
        """Say that a device is gone that nobody waits for (any more)."""

    def block_job(
        self, record: Record, job: BlockJob, status: BlockJobStatus, error: str | None = None
    ) -> None:
        """Say what became of a job of a disk: that it is ready, or how it ended."""

    def stopped(self, record: Record, reason: ShutoffReason, detail: StoppedDetail) -> None:
        """Say that the virtual machine is gone; only the first call for each start counts."""


@attrs.frozen(kw_only=True)
class Setup:
    """What a driver is made with.

    :param directory: where its state lives; ``None`` for a driver that keeps none.
    """

    uri: Uri
    registry: Registry
    reports: Reports
    directory: StateDirectory | None = None


class Driver(
    AgentVerbs,
    BlockJobVerbs,
    DeviceVerbs,
    IOThreadVerbs,
    MigrationVerbs,
    PowerVerbs,
    ResizingVerbs,
    SavingVerbs,
    SnapshotVerbs,
    StatisticsVerbs,
    ThrottlingVerbs,
    TuningVerbs,
    abc.ABC,
):
    """Base of all drivers. Override the verbs you have; the rest refuses by itself.

    All coroutines run in one event loop. A verb is called while the engine holds the job it
    needs, with the state already checked as far as libvirt checks it for every hypervisor.
    """

    schemes: ClassVar[tuple[str, ...]]
    """URI schemes."""

    keeps_state: ClassVar[bool] = True
    """Whether definitions and statuses are kept on disk."""

    test: TestControl | None = None
    """What a test can say to a host that exists only for it."""

    def __init__(self, setup: Setup) -> None:
        self.uri = setup.uri
        self.registry = setup.registry
        self.reports = setup.reports
        self.directory = setup.directory
        self._reader: Pipeline | None = None
        self._host: HostInfo | None = None

    # -- what every driver has ----------------------------------------------------------

    @classmethod
    def operations(cls) -> frozenset[Op]:
        """Return the verbs that this driver overrides."""
        return frozenset(
            op for op in Op if getattr(cls, op.method) is not getattr(Driver, op.method)
        )

    @classmethod
    def for_uri(cls, uri: Uri) -> type[Driver]:
        """Return the class that serves a URI of this driver's: this one unless overridden."""
        del uri
        return cls

    @classmethod
    def check_uri(cls, uri: Uri) -> None:
        """Refuse a path that this driver does not serve; every path is served unless overridden.

        :raises HvError: with libvirt's words.
        """
        del uri

    @classmethod
    def check_parameters(cls, uri: Uri) -> None:
        """Refuse parameters of a URI that this driver does not know: all unless overridden.

        :raises Unsupported: there is one.
        """
        for name in uri.parameters:
            raise unknown_parameter(uri, name)

    @abc.abstractmethod
    def pipeline(self) -> Pipeline:
        """Return the pipeline with this driver's rules."""

    @abc.abstractmethod
    async def context(self, domain: Domain, *, new: bool = False) -> Context:
        """Return what the rules may ask about, for one document.

        :param domain: the document as it stands; says which hypervisor binary is meant.
        :param new: it was just given, so defaults may be those of today.
        :raises DriverError: the hypervisor cannot be asked.
        """

    def host(self) -> HostInfo:
        """Return what the host is, as it was when first asked."""
        if self._host is None:
            from hvcore.hostinfo import HostInfo  # noqa: PLC0415 - reading /sys takes a while

            self._host = HostInfo.from_system()
        return self._host

    def nodeinfo(self) -> NodeInfo:
        """Return the summary of the host's CPUs and memory."""
        return self.host().nodeinfo

    def seconds(self) -> float:
        """Return the seconds by which long jobs are measured, from any time on."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait, by the same clock."""
        import asyncio  # noqa: PLC0415 - whoever calls this runs in a loop already

        await asyncio.sleep(seconds)

    def defaults(self) -> Iterable[Initial]:
        """Return the domains that exist from the beginning."""
        return ()

    @classmethod
    def rehearse(cls, registry: Registry, recording: str, host: HostInfo | None) -> Rehearsal:
        """Return what this driver would make of domains on a host that is not there.

        :param recording: path or name of what was recorded of the hypervisor.
        :param host: what the host is; one that can have such guests unless given.
        :raises UnsupportedOperation: the driver needs its hypervisor.
        :raises HvError: there is no such recording.
        """
        del registry, recording, host
        raise UnsupportedOperation("rehearse", driver=cls.name)

    @final
    async def compile(self, xml: str | bytes, *, strict: bool = False) -> Definition:
        """Return the sealed definition of a document just given.

        :raises XmlSyntaxError: it is not acceptable XML.
        :raises ValidationFailed: it has issues; the error holds all of them.
        """
        pipeline = self.pipeline()
        domain = pipeline.parse(xml, strict=strict)
        context = await self.context(domain, new=True)
        return pipeline.finish(domain, context, xml)

    @final
    def restore(self, xml: str | bytes) -> Definition:
        """Return the definition in a file that :meth:`compile` once accepted.

        Nothing is filled in or validated again: a host that lost its emulator keeps its domains.

        :raises ConfigError: it cannot be read at all.
        """
        from hvcore.pipeline import Definition  # noqa: PLC0415 - importing drivers stays cheap
        from hvcore.pipeline import Pipeline  # noqa: PLC0415

        if self._reader is None:
            # Reading needs no rules, and a driver's are the most expensive thing to import.
            self._reader = Pipeline(self.registry)
        return Definition(self._reader.parse(xml), self.registry, complete=False)

    @final
    async def completed(self, definition: Definition) -> Definition:
        """Return a restored definition as :meth:`compile` would have made it, for a start.

        :raises ValidationFailed: this host cannot run it (any more).
        """
        if definition.complete:
            return definition
        domain = definition.clone()
        context = await self.context(domain)
        return self.pipeline().finish(domain, context, definition.xml(secure=True))

    @final
    async def recompile(self, domain: Domain) -> Definition:
        """Return the definition of a changed copy, completed and validated again.

        :raises ValidationFailed: the change made it invalid.
        """
        context = await self.context(domain)
        return self.pipeline().reseal(domain, context)

    @final
    async def complete_device(self, domain: Domain, device: Device, *, new: bool) -> None:
        """Fill in what a device leaves open that is meant for ``domain``.

        :param new: it is to be part of it, so it must be valid.
        :raises ValidationFailed: it has issues; the error holds all of them.
        """
        context = await self.context(domain, new=new)
        self.pipeline().complete_device(domain, device, context, validate=new)

    def migratable(self, domain: Domain, record: Record | None = None) -> None:
        """Take out of a copy what documents for other hosts leave out: keyboards, by default.

        Whatever goes must come back when the document is completed.

        :param record: what runs, where ``domain`` is a copy of its live definition.
        """
        del record
        devices = domain.devices
        devices.inputs = [each for each in devices.inputs if not each.implied]

    def abi_checks(self) -> tuple[Check, ...]:
        """Return what guests of this driver see beside what :mod:`hvcore.abi` compares."""
        return ()

    def permit(self, operation: str, domain: Domain | None) -> None:
        """Refuse an operation before anything is done; nothing is refused unless overridden.

        :param operation: libvirt's name of it.
        :raises HvError: with the reason.
        """
        del operation, domain

    def configuring(
        self, record: Record, operation: str
    ) -> contextlib.AbstractAsyncContextManager[None]:
        """Surround a change of the next start alone; no verb is called for it.

        :param operation: libvirt's name of it.
        """
        del record, operation
        return contextlib.nullcontext()

    def relayed(self, event: Event) -> Iterable[Event]:
        """Return what listeners are told of ``event``; itself unless overridden."""
        return (event,)

    async def open(self) -> None:
        """Get ready to serve; called once, before any verb."""
        return

    async def ready(self) -> None:
        """Take note that all domains are known; called once, before the first operation."""
        return

    async def close(self) -> None:
        """Let go of everything; what runs goes on running."""
        return

    async def reconnect(self, record: Record, status: Status) -> None:
        """Find what ``status`` says is running and follow it again.

        Report :meth:`Reports.stopped` when it is gone, or a transition when it changed.
        """
        del status
        raise self.unsupported(Op.START, record)

    def detach(self, record: Record) -> None:
        """Forget ``record.runtime`` without touching what runs."""
        record.runtime = None

    # -- verbs --------------------------------------------------------------------------

    async def start(self, record: Record, *, paused: bool) -> None:
        """Bring ``record.live`` to life; return once it runs, or is ready to when ``paused``.

        :raises LaunchError: it did not come up; nothing of it is left.
        """
        del paused
        raise self.unsupported(Op.START, record)

    async def destroy(self, record: Record, *, graceful: bool) -> None:
        """End the virtual machine, whatever else is going on; return when it is gone.

        Called without a job, since it must end what another job waits for.

        :param graceful: give up rather than lose data the hypervisor has not written yet.
        """
        del graceful
        raise self.unsupported(Op.DESTROY, record)

    async def shutdown(self, record: Record) -> None:
        """Ask the guest to power off."""
        raise self.unsupported(Op.SHUTDOWN, record)

    async def reboot(self, record: Record) -> None:
        """Ask the guest to restart."""
        raise self.unsupported(Op.REBOOT, record)

    async def reset(self, record: Record) -> None:
        """Press the reset button."""
        raise self.unsupported(Op.RESET, record)

    async def suspend(self, record: Record) -> None:
        """Stop the virtual CPUs."""
        raise self.unsupported(Op.SUSPEND, record)

    async def resume(self, record: Record) -> None:
        """Let the virtual CPUs run."""
        raise self.unsupported(Op.RESUME, record)

    async def info(self, record: Record) -> Info:
        """Return what a running domain uses."""
        raise self.unsupported(Op.INFO, record)

    async def console(self, record: Record, alias: str | None) -> str:
        """Return the path of the terminal behind a console.

        :param alias: of a character device; ``None`` for the first console or serial port.
        """
        del alias
        raise self.unsupported(Op.CONSOLE, record)

    async def lower(self, definition: Definition) -> str:
        """Return what would be handed to the hypervisor, as text.

        :param definition: made for this call alone, so what a start fills in may be put in place.
        """
        del definition
        raise self.unsupported(Op.LOWER)

    async def version(self) -> int:
        """Return the hypervisor's version: major * 1,000,000 + minor * 1,000 + release."""
        raise self.unsupported(Op.VERSION)

    async def capabilities(self) -> str:
        """Return libvirt's ``<capabilities>`` document."""
        raise self.unsupported(Op.CAPABILITIES)

    async def domain_capabilities(
        self,
        *,
        emulator: str | None,
        arch: str | None,
        machine: str | None,
        virt_type: str | None,
        disable_deprecated: bool,
    ) -> DomainCapabilities:
        """Return what guests of one kind can have; whatever is None has a default.

        :param emulator: path of the hypervisor's binary.
        :param virt_type: as in ``<domain type=...>``.
        :param disable_deprecated: turn what is advised against off in the host's CPU model.
        """
        del emulator, arch, machine, virt_type, disable_deprecated
        raise self.unsupported(Op.DOMAIN_CAPABILITIES)
