"""The test driver: libvirt's ``test:///default``, in memory.

``test:///default`` has one running domain called ``test``. Every process has its own, for as long
as a connection to it is open, and nothing is ever written to disk.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING
from typing import Any
from typing import ClassVar
from typing import Final

import attrs

from hvcore import events
from hvcore.driver import Info
from hvcore.errors import ErrorClass
from hvcore.errors import UnknownUri
from hvcore.lifecycle import PausedReason
from hvcore.lifecycle import RunningReason
from hvcore.lifecycle import ShutoffReason
from hvcore.lifecycle import State
from hvcore.rules import tuning
from hvcore.rules.tuning import Words
from hvcore.rules.vcpu import online_vcpus
from hvcore.testing.clock import VirtualClock
from hvcore.testing.control import TestControl
from hvcore.testing.injection import Injector
from hvcore.testing.injection import faulty
from hvcore.testing.injection import rejected
from hvcore.uri import unknown_parameter
from hvcore.xml.reader import read_file
from hvcore_test import node
from hvcore_test.adjusting import Adjusting
from hvcore_test.agent import Agent
from hvcore_test.agent import show_agent
from hvcore_test.blockjobs import BlockJobs
from hvcore_test.generic import Generic
from hvcore_test.migration import Migration
from hvcore_test.monitor import Machine
from hvcore_test.saving import Saving
from hvcore_test.snapshots import Snapshots
from hvcore_test.statistics import Statistics

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hvcore.driver import Driver
    from hvcore.driver import Initial
    from hvcore.driver import Record
    from hvcore.driver import Setup
    from hvcore.events import Event
    from hvcore.hostinfo import HostInfo
    from hvcore.hostinfo import NodeInfo
    from hvcore.model.devices.base import Device
    from hvcore.model.domain import Domain
    from hvcore.model.numatune import NumaMode
    from hvcore.model.types import NodeSet
    from hvcore.pipeline import Context
    from hvcore.pipeline import Pipeline
    from hvcore.rehearsal import Rehearsal
    from hvcore.uri import Uri

_RESTARTS: Final = frozenset({"restart", "rename-restart", "coredump-restart"})
PARAMETERS: Final = frozenset({"caps", "faults", "host"})
"""Parameters that a URI may have: a recording of a hypervisor's capabilities, a scenario file of
faults, and a file that says what the host is."""
VERSION: Final = 2
"""What libvirt's driver says its version is."""


@faulty
class TestDriver(Adjusting, Agent, BlockJobs, Migration, Saving, Snapshots, Statistics):
    """Domains without a hypervisor."""

    __test__ = False  # pytest would take the name for a class of tests
    schemes: ClassVar[tuple[str, ...]] = ("test",)
    name: ClassVar[str] = "test"
    keeps_state: ClassVar[bool] = False
    tuning_words: ClassVar[Words | None] = Words(
        vcpus_live="requested cpu amount exceeds maximum ({count} > {most})",
        vcpus_config="requested cpu amount exceeds maximum ({count} > {most})",
        pin_live="requested vcpu '{vcpu}' is not present in the domain",
        pin_config="requested vcpu '{vcpu}' is not present in the domain",
    )

    test: TestControl
    hypervisor: Generic | Rehearsal
    """What is possible."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.clock = VirtualClock()
        self.injector = Injector(self.clock, self)
        self.test = TestControl(self.injector)
        self.given = self.given_host()
        self.hypervisor = Generic(setup.registry, self.name, self.host())
        self._machines: dict[Record, Machine] = {}
        self.taken: dict[tuple[str, str], dict[str, Any]] = {}
        self._node = node.default()

    @classmethod
    def for_uri(cls, uri: Uri) -> type[Driver]:
        """Return the driver for hosts with recorded capabilities where there are any."""
        if "caps" not in uri.parameters:
            return cls
        from hvcore_test.recorded import RecordedDriver  # noqa: PLC0415 - needs this module

        return RecordedDriver

    @classmethod
    def check_uri(cls, uri: Uri) -> None:
        """Refuse a URI that says nothing of the host.

        :raises UnknownUri: with libvirt's words.
        """
        if uri.path in ("", "/") and "caps" not in uri.parameters:
            raise UnknownUri(
                "testOpen: supply a path or use test:///default", kind=ErrorClass.INVALID_ARG
            )

    @classmethod
    def check_parameters(cls, uri: Uri) -> None:
        """Refuse parameters of no meaning; one without a value only tells two hosts apart.

        :raises Unsupported: there is one.
        """
        for name, value in uri.parameters.items():
            if value and name not in PARAMETERS:
                raise unknown_parameter(uri, name)

    def given_host(self) -> HostInfo | None:
        """Return the host that the URI names.

        :raises HvError: the file cannot be read or understood.
        """
        path = self.uri.parameters.get("host")
        if path is None:
            return None
        from hvcore.hostxml import read_host  # noqa: PLC0415 - few hosts have one

        return read_host(read_file(path))

    def host(self) -> HostInfo:
        """Return what the rules think the host is."""
        return self.given or node.HOST

    def nodeinfo(self) -> NodeInfo:
        """Return what the file of the host says, or else what libvirt's driver has."""
        return self.given.nodeinfo if self.given is not None else self._node.info

    async def open(self) -> None:
        """Read the file with the host's domains.

        :raises HvError: it cannot be read or understood.
        """
        path = self.uri.path
        if path in ("", "/"):
            self._node = attrs.evolve(self._node, domains=())
        elif path != "/default":
            self._node = node.load(path)

    async def ready(self) -> None:
        """Plan the faults that the URI names.

        :raises HvError: the file cannot be read or understood.
        """
        if "faults" in self.uri.parameters:
            self.test.faults.load(self.uri.parameters["faults"])

    def pipeline(self) -> Pipeline:
        """Return libvirt's generic pipeline, or that of the recorded hypervisor."""
        return self.hypervisor.pipeline()

    async def context(self, domain: Domain, *, new: bool = False) -> Context:
        """Return what the rules ask about.

        :raises HvError: the recorded hypervisor cannot have such guests.
        """
        return self.hypervisor.context(domain, new=new)

    def defaults(self) -> tuple[Initial, ...]:
        """Return the domains that libvirt's driver has, or those of the host's file."""
        return self._node.domains

    async def start(self, record: Record, *, paused: bool) -> None:
        """Make a machine.

        :raises ValidationFailed: nothing could be started from the definition.
        """
        assert record.live is not None
        model = record.live.clone()
        model.id = record.id
        argv = self.hypervisor.start(model)
        show_agent(model, listens=True)
        record.live = attrs.evolve(record.live, domain=model)
        memory = model.current_memory or model.memory or 0
        record.runtime = Machine(memory, online_vcpus(model), self.clock, argv=argv)
        self._machines[record] = record.runtime
        if paused:
            record.runtime.stop()

    async def destroy(self, record: Record, *, graceful: bool) -> None:
        """Cut the machine's power."""
        del graceful
        self._gone(record)

    async def shutdown(self, record: Record) -> None:
        """Press the power button; what follows is ``on_poweroff``."""
        record.runtime.powerdown()
        self._end(record, record.definition.domain.on_poweroff)

    async def reboot(self, record: Record) -> None:
        """Restart the guest; what follows is ``on_reboot``."""
        record.runtime.reset()
        self._end(record, record.definition.domain.on_reboot or "restart")

    async def reset(self, record: Record) -> None:
        """Press the reset button."""
        record.runtime.reset()
        self.reports.publish(record, events.Rebooted(domain=record.ref()))

    async def suspend(self, record: Record) -> None:
        """Stop the CPUs."""
        record.runtime.stop()
        suspended = events.Suspended(domain=record.ref())
        self.reports.transition(record, PausedReason.USER, suspended)

    async def resume(self, record: Record) -> None:
        """Let the CPUs run."""
        record.runtime.cont()
        resumed = events.Resumed(domain=record.ref())
        self.reports.transition(record, RunningReason.UNPAUSED, resumed)

    async def info(self, record: Record) -> Info:
        """Return the memory given, and CPU time that moves with the host's clock."""
        machine: Machine = record.runtime
        return Info(memory=machine.memory, cpu_time=machine.cpu_time)

    async def set_vcpus(self, record: Record, live: Domain, count: int) -> None:
        """Let the guest have the CPUs; it never keeps one that is to go."""
        tuning.set_vcpus(live, count, hotpluggable=False)
        record.runtime.set_vcpus(count)

    async def set_vcpu(
        self, record: Record, live: Domain, vcpus: NodeSet, *, enabled: bool
    ) -> None:
        """Let the guest have the CPUs, or take them."""
        tuning.choose_vcpus(live, vcpus, enabled=enabled)
        record.runtime.set_vcpus(online_vcpus(live))

    async def set_memory(self, record: Record, live: Domain, size: int) -> None:
        """Let the guest have the memory; it never keeps what is to go."""
        live.current_memory = size
        record.runtime.set_memory(size)

    async def inject_nmi(self, record: Record) -> None:
        """Remember the interrupt."""
        record.runtime.nmi()

    async def pin_vcpu(self, record: Record, live: Domain, vcpu: int, cpus: NodeSet) -> None:
        """Remember the pin."""
        del record
        tuning.set_vcpu_pin(live, vcpu, cpus)

    async def pin_emulator(self, record: Record, live: Domain, cpus: NodeSet) -> None:
        """Remember the pin."""
        del record
        tuning.set_emulator_pin(live, cpus)

    async def pin_iothread(self, record: Record, live: Domain, number: int, cpus: NodeSet) -> None:
        """Remember the pin."""
        del record
        tuning.set_iothread_pin(live, number, cpus)

    async def set_numatune(
        self, record: Record, live: Domain, mode: NumaMode | None, nodes: NodeSet | None
    ) -> None:
        """Remember the nodes; in every mode, unlike a real hypervisor."""
        del record
        tuning.check_numatune_mode(live, mode)
        tuning.set_numatune(live, mode, nodes)

    async def attach_device(self, record: Record, live: Domain, device: Device) -> None:
        """Plug a device in, or put a medium into a drive.

        :raises HvError: it cannot be plugged in, or something is in its way.
        """
        record.runtime.history += self.hypervisor.attach(live, device)

    def check_detach_family(self, live: Domain, wanted: Device) -> None:
        """Refuse families that cannot be unplugged.

        :raises HvError: with libvirt's words.
        """
        self.hypervisor.check_detach_family(live, wanted)

    async def detach_device(
        self, record: Record, live: Domain, device: Device, within: float
    ) -> bool:
        """Ask the guest for a device; unless told otherwise it lets everything go at once.

        :raises HvError: it cannot be unplugged, or the guest refuses.
        """
        self.hypervisor.check_detach(live, device)
        machine: Machine = record.runtime
        outcome = self.injector.unplugging(record, device.alias)
        if outcome == "refuse":
            failed = events.DeviceRemovalFailed(domain=record.ref(), alias=device.alias or "")
            self.reports.publish(record, failed)
            raise rejected(device.alias)
        if outcome == "ignore" or outcome > within:
            if outcome != "ignore":
                self.clock.call_later(outcome, lambda: self._late(record, machine, device.alias))
            await self.injector.wait(record, within)
            return False
        await self.injector.wait(record, outcome)
        self.hypervisor.depart(live, device)
        machine.history.append(f"unplug {device.alias}")
        return True

    def _late(self, record: Record, machine: Machine, device: str | None) -> None:
        if record.runtime is machine and device is not None:
            self.depart(record, device)

    async def device_departed(self, record: Record, live: Domain, alias: str) -> None:
        """Take a device out of the definition that the guest let go late."""
        for device in live.devices.walk():
            if device.alias == alias:
                self.hypervisor.depart(live, device)
                record.runtime.history.append(f"unplug {alias}")

    async def update_device(
        self, record: Record, live: Domain, device: Device, *, force: bool
    ) -> None:
        """Change a device.

        :raises HvError: there is none, or it cannot be changed.
        """
        record.runtime.history += self.hypervisor.update(live, device, force=force)

    async def version(self) -> int:
        """Return libvirt's number for its driver."""
        return VERSION

    def _end(self, record: Record, action: str | None) -> None:
        """Do what the definition says is to follow the guest's end."""
        if action in _RESTARTS:
            record.runtime.boot()
            rebooted = events.Rebooted(domain=record.ref())
            self.reports.transition(record, RunningReason.BOOTED, rebooted)
        elif record.state is not State.SHUTOFF:
            self._gone(record)
            self.reports.stopped(record, ShutoffReason.SHUTDOWN, events.StoppedDetail.SHUTDOWN)

    def _gone(self, record: Record) -> None:
        machine = self._machines.pop(record, None)
        if machine is not None:
            machine.quit()

    # -- faults -------------------------------------------------------------------------

    def permit(self, operation: str, domain: Domain | None) -> None:
        """Let an operation fail that a test planned to fail.

        :raises HvError: what was planned.
        """
        about = None
        if domain is not None:
            about = events.DomainRef(domain.name, domain.uuid or "", domain.id)
        self.injector.permit(operation, about)

    def configuring(
        self, record: Record, operation: str
    ) -> contextlib.AbstractAsyncContextManager[None]:
        """Let a change of the next start meet the faults that are planned for it."""
        return self.injector.around(operation, record)

    def relayed(self, event: Event) -> Iterable[Event]:
        """Return what a test lets through of what happened."""
        return self.injector.relay(event)

    def running(self) -> list[Record]:
        """Return the domains that have a machine, in the order of their starts."""
        return list(self._machines)

    def lose(self, record: Record, *, reboot: bool = False) -> None:
        """Let a machine be gone, and say so; the engine does itself where it was just starting."""
        self._gone(record)
        if record.reason is not PausedReason.STARTING_UP:
            reason = ShutoffReason.UNKNOWN if reboot else ShutoffReason.CRASHED
            self.reports.stopped(record, reason, events.StoppedDetail.CRASHED)

    def publish(self, record: Record, event: Event) -> None:
        """Publish an event that was held back."""
        self.reports.publish(record, event)

    def depart(self, record: Record, device: str) -> None:
        """Let a guest give away a device that nobody waits for."""
        self.reports.departed(record, device)

    def set_agent(self, record: Record, *, listens: bool) -> None:
        """Let the agent in a guest listen or not, and say so where there is a channel for it."""
        record.runtime.agent = listens
        assert record.live is not None  # it runs
        model = record.live.clone()
        if show_agent(model, listens=listens):
            record.live = attrs.evolve(record.live, domain=model)
            state = events.AgentState.CONNECTED if listens else events.AgentState.DISCONNECTED
            self.reports.publish(record, events.AgentChanged(domain=record.ref(), state=state))

    def detach(self, record: Record) -> None:
        """Forget a machine."""
        machine = self._machines.pop(record, None)
        if machine is not None:
            machine.leave()
        record.runtime = None
