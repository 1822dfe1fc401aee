"""The verbs that change virtual CPUs and placement of a running QEMU."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING
from typing import Final

from hvcore.driver import Driver
from hvcore.errors import DriverError
from hvcore.errors import ErrorClass
from hvcore.errors import HvError
from hvcore.errors import InvalidState
from hvcore.errors import Issue
from hvcore.errors import MonitorError
from hvcore.errors import Unsupported
from hvcore.errors import ValidationFailed
from hvcore.model.types import NodeSet

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from hvcore.driver import Record
    from hvcore.model.domain import Domain
    from hvcore.model.numatune import NumaMode
    from hvcore_qemu.config import QemuConfig
    from hvcore_qemu.guest import Guest
    from hvcore_qemu.placement import Threads
    from hvcore_qemu.vcpus import Entity
    from hvcore_qemu.vcpus import Steps

UNPLUG_PATIENCE: Final = 5.0
"""Seconds a guest has for letting a device go; libvirt's figure."""


class Tuning(Driver):
    """The part of the QEMU driver that changes where and on how many CPUs a guest runs."""

    config: QemuConfig

    async def threads(self, guest: Guest) -> Threads:
        """Return the threads that have a place of their own."""
        from hvcore_qemu.placement import Threads  # noqa: PLC0415 - as below

        cpus = await guest.monitor.execute("query-cpus-fast")
        return Threads.told(cpus, await guest.monitor.execute("query-iothreads"))

    async def _settled(self, record: Record, live: Domain, guest: Guest) -> Threads:
        """Return the threads of a guest, which has control groups if it can have any."""
        threads = await self.threads(guest)
        if guest.placement.groups is not None and not guest.placement.made:
            await asyncio.to_thread(guest.placement.ensure, live, threads)
            record.data = {**record.data, **guest.placement.kept()}
        return threads

    # -- pins ---------------------------------------------------------------------------

    def check_emulator_pin(self, domain: Domain) -> None:
        """Refuse to mix numad's placement with one by hand, unless the administrator wants that.

        :raises Unsupported: as the same definition is refused when it is new.
        """
        placed = domain.vcpu is not None and domain.vcpu.placement == "auto"
        if placed and not self.config.allow_emulatorpin_with_auto_placement:
            raise Unsupported(
                "'emulatorpin' cannot be used when 'placement' of 'vcpu' is 'auto'",
                kind=ErrorClass.CONFIG_UNSUPPORTED,
                hint="allow_emulatorpin_with_auto_placement = 1 in qemu.conf allows it",
            )

    async def pin_vcpu(self, record: Record, live: Domain, vcpu: int, cpus: NodeSet) -> None:
        """Move the thread of a virtual CPU.

        :raises InvalidState: virtual CPUs have no threads of their own.
        :raises DriverError: the host does not have the CPUs.
        """
        from hvcore.rules import tuning  # noqa: PLC0415 - whoever only looks needs no rules

        guest: Guest = record.runtime
        threads = await self._settled(record, live, guest)
        if not threads.vcpus:
            raise InvalidState("cpu affinity is not supported", domain=record.name)
        tid = threads.vcpus.get(vcpu)
        if tid is not None:
            await asyncio.to_thread(guest.placement.pin, f"vcpu{vcpu}", [tid], cpus)
        tuning.set_vcpu_pin(live, vcpu, cpus)

    async def pin_emulator(self, record: Record, live: Domain, cpus: NodeSet) -> None:
        """Move the threads that are no virtual CPU and no I/O thread.

        :raises DriverError: the host does not have the CPUs.
        """
        from hvcore.rules import tuning  # noqa: PLC0415 - as above, and so below
        from hvcore_qemu.placement import EMULATOR  # noqa: PLC0415

        guest: Guest = record.runtime
        threads = await self._settled(record, live, guest)
        others = guest.placement.emulator_threads(threads)
        await asyncio.to_thread(guest.placement.pin, EMULATOR, others, cpus)
        tuning.set_emulator_pin(live, cpus)

    async def pin_iothread(self, record: Record, live: Domain, number: int, cpus: NodeSet) -> None:
        """Move an I/O thread.

        :raises DriverError: the host does not have the CPUs.
        """
        from hvcore.rules import tuning  # noqa: PLC0415

        guest: Guest = record.runtime
        threads = await self._settled(record, live, guest)
        tid = threads.iothreads.get(number)
        if tid is None:
            raise HvError(f"iothread {number} not found", kind=ErrorClass.INVALID_ARG)
        await asyncio.to_thread(guest.placement.pin, f"iothread{number}", [tid], cpus)
        tuning.set_iothread_pin(live, number, cpus)

    # -- memory -------------------------------------------------------------------------

    async def set_numatune(
        self, record: Record, live: Domain, mode: NumaMode | None, nodes: NodeSet | None
    ) -> None:
        """Let memory come from other nodes; what there is moves along where the kernel does that.

        :raises Unsupported: the manager has no control groups, or the host lacks a node.
        :raises InvalidState: memory is bound by QEMU itself, which cannot change.
        """
        from hvcore.rules import tuning  # noqa: PLC0415

        guest: Guest = record.runtime
        if not self.config.privileged or self.uri.path == "/session":
            raise Unsupported(
                "NUMA tuning is not available in session mode",
                kind=ErrorClass.OPERATION_UNSUPPORTED,
            )
        groups = guest.placement.groups
        if groups is None or not groups.has("cpuset"):
            raise InvalidState("cgroup cpuset controller is not mounted", domain=record.name)
        advice = guest.placement.advice
        advised = None if advice is None else advice.nodeset
        if not tuning.numatune_changes(live, mode, nodes, advice=advised, movable="restrictive"):
            return
        for node in nodes or ():
            if all(cell.id != node for cell in self.host().cells):
                raise ValidationFailed([Issue.unsupported(f"NUMA node {node} is unavailable")])
        if nodes is not None:
            threads = await self._settled(record, live, guest)
            await asyncio.to_thread(guest.placement.move_memory, threads, nodes)
        tuning.set_numatune(live, mode, nodes)

    async def set_memory(self, record: Record, live: Domain, size: int) -> None:
        """Tell the balloon how much the guest is to have.

        :raises InvalidState: there is no balloon.
        """
        guest: Guest = record.runtime
        if all(balloon.model == "none" for balloon in live.devices.memballoons):
            raise InvalidState(
                "Unable to change memory of active domain without the balloon device and guest OS "
                "balloon driver",
                domain=record.name,
            )
        await guest.monitor.execute("balloon", {"value": size * 1024})
        # What the guest makes of it, QEMU tells from now on.
        live.current_memory = size

    async def inject_nmi(self, record: Record) -> None:
        """Send the guest a non-maskable interrupt."""
        guest: Guest = record.runtime
        await guest.monitor.execute("inject-nmi")

    # -- virtual CPUs -------------------------------------------------------------------

    async def set_vcpus(self, record: Record, live: Domain, count: int) -> None:
        """Plug or unplug what QEMU can plug as a whole, one after the other.

        :raises ValidationFailed: there is nothing that could be plugged or unplugged to get there.
        :raises HvError: the guest does not let a CPU go.
        """
        from hvcore_qemu import vcpus  # noqa: PLC0415

        guest: Guest = record.runtime
        known = await guest.monitor.run(vcpus.known())
        await self._plug_vcpus(guest, live, known, vcpus.select(live, known, count))

    async def set_vcpu(
        self, record: Record, live: Domain, vcpus: NodeSet, *, enabled: bool
    ) -> None:
        """Plug or unplug what QEMU can plug as a whole.

        :raises HvError: the CPUs are no such thing, or the guest does not let them go.
        """
        from hvcore_qemu import vcpus as entities  # noqa: PLC0415

        guest: Guest = record.runtime
        known = await guest.monitor.run(entities.known())
        steps = entities.choose(live, known, vcpus, enabled=enabled)
        await self._plug_vcpus(guest, live, known, steps)

    async def _plug_vcpus(
        self, guest: Guest, live: Domain, known: list[Entity], steps: Steps
    ) -> None:
        from hvcore.rules import tuning  # noqa: PLC0415
        from hvcore_qemu import vcpus  # noqa: PLC0415

        async with self._all_nodes(guest):
            for entity in steps.plug:
                await guest.monitor.execute("device_add", vcpus.device(entity))
                vcpus.came(live, known, entity)
                await self._place(live, guest, entity)
        for entity in steps.unplug:
            await self._unplug_vcpu(guest, entity)
            vcpus.went(live, known, entity)
            for number in entity.numbers:
                # What is plugged under this number one day is another CPU.
                tuning.drop_vcpu_pin(live, number)
                await asyncio.to_thread(guest.placement.forget_vcpu, number)

    @contextlib.asynccontextmanager
    async def _all_nodes(self, guest: Guest) -> AsyncIterator[None]:
        nodes = NodeSet(cell.id for cell in self.host().cells if cell.memory)
        freed = guest.placement.all_nodes(nodes)
        await asyncio.to_thread(freed.__enter__)
        try:
            yield
        finally:
            await asyncio.to_thread(freed.__exit__, None, None, None)

    async def _place(self, live: Domain, guest: Guest, entity: Entity) -> None:
        """Put new virtual CPUs where the definition wants them."""
        threads = await self.threads(guest)
        for number in entity.numbers:
            tid = threads.vcpus.get(number)
            if tid is not None:
                await asyncio.to_thread(guest.placement.place_vcpu, live, number, tid)

    async def _unplug_vcpu(self, guest: Guest, entity: Entity) -> None:
        gone = await self.unplug(guest, f"vcpu{entity.first}")
        if not gone:
            raise DriverError(
                "vcpu unplug request timed out. Unplug result must be manually inspected in the "
                "domain",
                kind=ErrorClass.OPERATION_TIMEOUT,
            )
        threads = await self.threads(guest)
        for number in entity.numbers:
            if number in threads.vcpus:
                raise DriverError(
                    f"qemu reported thread id for inactive vcpu '{number}'",
                    kind=ErrorClass.INTERNAL,
                )

    async def unplug(self, guest: Guest, alias: str, *, within: float = UNPLUG_PATIENCE) -> bool:
        """Ask the guest to let a device go; return whether it did.

        :param within: seconds to wait; afterwards it may still go.
        :raises MonitorError: QEMU refuses to ask it.
        :raises DriverError: the guest keeps it.
        """
        waiting = guest.leaving[alias] = asyncio.get_running_loop().create_future()
        try:
            await guest.monitor.execute("device_del", {"id": alias})
            async with asyncio.timeout(within):
                gone = await waiting
        except TimeoutError:
            return False
        except MonitorError as error:
            if error.error_class != "DeviceNotFound":
                raise
            return True  # it went already
        finally:
            del guest.leaving[alias]
        if not gone:
            raise DriverError(
                "unplug of device was rejected by the guest",
                kind=ErrorClass.OPERATION_FAILED,
                hint=f"the guest keeps '{alias}'",
            )
        return True
