"""A handle on one domain: what it is, what it does, and what can be done with it.

A handle holds no state of its own. It asks the books each time, so it is right after the domain
was redefined, stopped or removed, by this program or another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Literal

import attrs

from hvcore.errors import DomainGone
from hvcore.errors import ErrorClass
from hvcore.errors import HvError
from hvcore.errors import InvalidState
from hvcore.errors import NoSuchDomain
from hvcore.events import StreamClosed
from hvcore.jobs import Job
from hvcore.lifecycle import CrashedReason
from hvcore.lifecycle import State
from hvcore.verbs.agent import AgentHandle
from hvcore.verbs.blockjobs import BlockJobHandle
from hvcore.verbs.devices import DeviceHandle
from hvcore.verbs.iothreads import IOThreadHandle
from hvcore.verbs.migration import MigrationHandle
from hvcore.verbs.power import PowerHandle
from hvcore.verbs.resizing import ResizingHandle
from hvcore.verbs.saving import SavingHandle
from hvcore.verbs.snapshots import SnapshotHandle
from hvcore.verbs.statistics import StatisticsHandle
from hvcore.verbs.throttling import ThrottlingHandle
from hvcore.verbs.tuning import TuningHandle

if TYPE_CHECKING:
    from hvcore.lifecycle import StateReason
    from hvcore.operations import Op


@attrs.frozen(kw_only=True)
class DomainInfo:
    """``virDomainInfo``.

    :param max_memory: KiB it may have.
    :param memory: KiB it has.
    :param vcpus: number of its virtual CPUs.
    :param cpu_time: nanoseconds of host CPU time; 0 when it does not run.
    """

    state: State
    max_memory: int
    memory: int
    vcpus: int
    cpu_time: int


class Domain(
    AgentHandle,
    BlockJobHandle,
    DeviceHandle,
    IOThreadHandle,
    MigrationHandle,
    PowerHandle,
    ResizingHandle,
    SavingHandle,
    SnapshotHandle,
    StatisticsHandle,
    ThrottlingHandle,
    TuningHandle,
):
    """A handle on one domain of a host."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<Domain {self.name} {self.uuid}>"

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Domain) and other._engine is self._engine and other.uuid == self.uuid
        )

    def __hash__(self) -> int:
        return hash(self.uuid)

    # -- what it is ---------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The name."""
        return self._record.name

    @property
    def uuid(self) -> str:
        """The UUID, lower case with dashes."""
        return self._record.uuid

    @property
    def id(self) -> int | None:
        """The number of the running domain; ``None`` when it does not run."""
        return self._now().id

    @property
    def is_active(self) -> bool:
        """Whether it has a virtual machine."""
        return self._now().active

    @property
    def is_persistent(self) -> bool:
        """Whether it is defined, and so will still be there when it stops."""
        return self._now().persistent is not None

    @property
    def autostart(self) -> bool:
        """Whether :meth:`hvcore.host.Host.autostart` starts it."""
        return self._now().autostart

    @property
    def autostart_once(self) -> bool:
        """Whether the next :meth:`hvcore.host.Host.autostart` starts it, and no later one."""
        return self._now().autostart_once

    async def state(self) -> tuple[State, StateReason]:
        """Return what it is doing, and why.

        :raises NoSuchDomain: it is gone.
        """
        record = self._now()
        return record.state, record.reason

    async def info(self) -> DomainInfo:
        """Return what it has and uses.

        :raises NoSuchDomain: it is gone.
        """
        record = self._now()
        model = record.definition.domain
        memory = model.current_memory or model.memory or 0
        cpu_time = 0
        if record.active and self._engine.owned:
            usage = await self._engine.driver.info(record)
            memory, cpu_time = usage.memory, usage.cpu_time
        vcpus = 1 if model.vcpu is None else model.vcpu.current or model.vcpu.count
        return DomainInfo(
            state=record.state,
            max_memory=model.memory or 0,
            memory=memory,
            vcpus=vcpus,
            cpu_time=cpu_time,
        )

    async def xml(
        self, *, inactive: bool = False, secure: bool = False, migratable: bool = False
    ) -> str:
        """Return the definition as a document.

        :param inactive: the definition of the next start, even while it runs.
        :param secure: with passwords.
        :param migratable: fit for an older or other host.
        :raises NoSuchDomain: it is gone.
        """
        record = self._now()
        live = record.live is not None and not inactive
        definition = record.definition if live else record.persistent or record.definition
        if migratable:
            copy = definition.clone()
            self._engine.driver.migratable(copy, record if live else None)
            definition = attrs.evolve(definition, domain=copy)
        return definition.xml(inactive=not live, secure=secure, migratable=migratable)

    async def check_abi(self, xml: str | bytes, *, volatile: bool = False) -> None:
        """Refuse a document with which its guest could not go on, here or on another host.

        :param xml: of the running domain, or written by hand; it is compared with what runs, or
            with the definition where nothing does.
        :param volatile: compare also what changes while a guest runs.
        :raises AbiChanged: the guest would not find the hardware that it left; holds every
            difference, with its line in ``xml``.
        :raises ConfigError: the document is refused.
        """
        from hvcore.abi import require_same  # noqa: PLC0415 - few programs compare

        driver = self._engine.driver
        target = driver.pipeline().parse(xml)
        await require_same(driver, self._now(), target, document=xml, volatile=volatile)

    # -- what can be done with it -------------------------------------------------------

    async def start(self, *, paused: bool = False, force_boot: bool = False) -> None:
        """Start it, from its saved state if it has one; return once it runs.

        :param paused: leave its CPUs stopped.
        :param force_boot: boot, and lose the saved state.
        :raises InvalidState: it runs already.
        :raises LaunchError: it did not come up; nothing of it is left.
        """
        from hvcore import saving  # noqa: PLC0415 - only who starts needs it

        await saving.start(self._engine, self._record, paused=paused, force_boot=force_boot)

    async def shutdown(self, *, mode: Literal["acpi", "agent"] | None = None) -> None:
        """Ask the guest to power off, and return; see :meth:`wait_for`.

        :param mode: press the power button, or ask the agent; the agent if one listens and obeys,
            and otherwise the button, unless given.
        :raises InvalidState: it does not run.
        :raises HvError: it is to be asked by its agent, and has none.
        """
        if await self._asked(mode, "powerdown", "virDomainShutdown"):
            return
        async with self._engine.modify(self._record, "virDomainShutdown", active=True) as record:
            if record.state is not State.RUNNING:
                raise InvalidState("domain is not running", domain=record.name)
            await self._engine.driver.shutdown(record)

    async def reboot(self, *, mode: Literal["acpi", "agent"] | None = None) -> None:
        """Ask the guest to restart, and return.

        :param mode: as for :meth:`shutdown`.
        :raises InvalidState: it does not run.
        :raises HvError: it is to be asked by its agent, and has none.
        """
        stays_off = self._now().definition.domain.on_reboot in ("destroy", "preserve")
        if await self._asked(mode, "powerdown" if stays_off else "reboot", "virDomainReboot"):
            return
        async with self._engine.modify(self._record, "virDomainReboot", active=True) as record:
            await self._engine.driver.reboot(record)

    async def _asked(self, mode: str | None, wanted: str, operation: str) -> bool:
        """Tell whether the guest was asked by its agent."""
        from hvcore import agent  # noqa: PLC0415 - only who shuts down needs it

        engine = self._engine
        if mode == "acpi" or (mode is None and not await agent.listens(engine, self._now())):
            return False
        try:
            await agent.shut_down(engine, self._record, wanted, operation)
        except HvError:
            if mode is not None:
                raise
            return False
        return True

    async def reset(self) -> None:
        """Press the reset button.

        :raises InvalidState: it does not run.
        """
        async with self._engine.modify(self._record, "virDomainReset", active=True) as record:
            await self._engine.driver.reset(record)

    async def destroy(self, *, graceful: bool = False) -> None:
        """End it as if its power was cut; return when it is gone.

        :param graceful: give up rather than lose what the hypervisor has not written yet.
        :raises InvalidState: it does not run.
        """
        await self._engine.destroy(self._record, graceful=graceful)

    async def suspend(self) -> None:
        """Stop its CPUs; does nothing when they are.

        :raises InvalidState: it does not run.
        """
        operation = self._engine.modify(self._record, "virDomainSuspend", Job.SUSPEND, active=True)
        async with operation as record:
            if record.state is State.PMSUSPENDED:
                raise InvalidState("domain is pmsuspended", domain=record.name)
            if record.state is not State.PAUSED:
                await self._engine.driver.suspend(record)

    async def resume(self) -> None:
        """Let its CPUs run.

        :raises InvalidState: they do, or it does not run at all.
        """
        async with self._engine.modify(self._record, "virDomainResume", active=True) as record:
            if record.state is State.PMSUSPENDED:
                raise InvalidState("domain is pmsuspended", domain=record.name)
            if record.state is State.RUNNING:
                raise InvalidState("domain is already running", domain=record.name)
            if record.state is State.PAUSED or record.reason is CrashedReason.PANICKED:
                await self._engine.driver.resume(record)

    async def undefine(
        self, *, managed_save: bool = False, snapshots_metadata: bool = False
    ) -> None:
        """Remove its definition; while it runs it goes on as a transient domain.

        :param managed_save: remove its saved state, too.
        :param snapshots_metadata: forget its snapshots, too; what was taken stays in its images.
        :raises InvalidState: it is transient, or has a saved state or snapshots that are not to be
            removed.
        """
        await self._engine.undefine(
            self._record, managed_save=managed_save, snapshots=snapshots_metadata
        )

    async def set_autostart(self, *, autostart: bool = True, once: bool = False) -> None:
        """Say whether :meth:`hvcore.host.Host.autostart` starts it.

        :param once: only the next one.
        :raises InvalidState: it is transient.
        """
        await self._engine.set_autostart(self._record, autostart=autostart, once=once)

    async def console(self, alias: str | None = None) -> str:
        """Return the path of the terminal behind a console.

        :param alias: of a character device; the first console or serial port unless given.
        :raises InvalidState: it does not run.
        :raises HvError: it has no such console, or it is not a terminal.
        """
        record = self._now()
        record.check_active()
        return await self._engine.driver.console(record, alias)

    async def wait_for(self, *states: State, within: float | None = None) -> State:
        """Wait until it is in one of ``states``, and return in which.

        :param within: seconds to wait; for ever unless given.
        :raises DomainGone: it vanished before; a transient domain that stops counts as shut off.
        :raises HvError: the time is over.
        :raises StateLocked: another process owns the state, and so learns of changes.
        """
        import asyncio  # noqa: PLC0415 - whoever calls this runs in a loop already

        engine = self._engine
        await engine.own()
        with engine.hub.stream(domain=self.uuid) as stream:
            try:
                async with asyncio.timeout(within):
                    while True:
                        found = self._state_or_shutoff()
                        if found in states:
                            return found
                        if self._record.gone or isinstance(await stream.get(), StreamClosed):
                            raise DomainGone(f"domain '{self.name}' is gone", domain=self.name)
            except TimeoutError:
                wanted = " or ".join(str(state) for state in states)
                raise HvError(
                    f"domain '{self.name}' is not {wanted} after {within} s",
                    kind=ErrorClass.OPERATION_TIMEOUT,
                    domain=self.name,
                ) from None

    def supports(self, op: Op) -> bool:
        """Tell whether the driver has a verb."""
        return op in self._engine.driver.operations()

    def _state_or_shutoff(self) -> State:
        try:
            return self._now().state
        except NoSuchDomain:
            return State.SHUTOFF
