"""The verbs that change how many CPUs a guest has and where its threads run."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Final

from hvcore.affinity import set_affinity
from hvcore.errors import DriverError
from hvcore.errors import ErrorClass
from hvcore.errors import InvalidState
from hvcore.errors import MonitorError
from hvcore_ch.hotplug import Hotplug

if TYPE_CHECKING:
    from hvcore.driver import Record
    from hvcore.model.domain import Domain
    from hvcore.model.types import NodeSet
    from hvcore_ch.guest import Guest

UNPLUG_PATIENCE: Final = 5.0
"""Seconds a guest has for letting a CPU go; libvirt's figure."""

_ASK_AGAIN: Final = 0.05
_PENDING: Final = "429"
"""The answer while the guest has not let a CPU go that it was asked for."""
_VCPU: Final = "vcpu"


def threads_of(pid: int) -> dict[int, str]:
    """Return the threads of a process, with their names."""
    found = {}
    for folder in Path(f"/proc/{pid}/task").iterdir():
        try:
            found[int(folder.name)] = (folder / "comm").read_text().strip()
        except OSError:
            # It ended just now.
            continue
    return found


def vcpu_threads(pid: int) -> dict[int, int]:
    """Return the thread of each virtual CPU that is there, by the CPU's number."""
    return {
        int(name.removeprefix(_VCPU)): tid
        for tid, name in threads_of(pid).items()
        if name.startswith(_VCPU) and name.removeprefix(_VCPU).isdigit()
    }


class Tuning(Hotplug):
    """The part of the driver that changes where and on how many CPUs a guest runs."""

    async def set_vcpus(self, record: Record, live: Domain, count: int) -> None:
        """Plug or unplug CPUs, and wait until those that are to go are gone.

        :raises DriverError: the guest does not let a CPU go.
        """
        from hvcore.rules import tuning  # noqa: PLC0415 - whoever only looks needs no rules
        from hvcore.rules.vcpu import online_vcpus  # noqa: PLC0415

        guest: Guest = record.runtime
        fewer = count < online_vcpus(live)
        await guest.vmm.monitor.call("vm.resize", {"desired_vcpus": count})
        if fewer:
            await self._fewer(guest, count)
        tuning.set_vcpus(live, count, hotpluggable=False)
        for state in live.vcpus:
            if not state.enabled:
                tuning.drop_vcpu_pin(live, state.id)
        await self._place_vcpus(live, guest)

    async def _fewer(self, guest: Guest, count: int) -> None:
        """Wait until the guest has let CPUs go: asking again succeeds then, and only then."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + UNPLUG_PATIENCE
        while True:
            try:
                await guest.vmm.monitor.call("vm.resize", {"desired_vcpus": count})
            except MonitorError as error:
                if error.error_class != _PENDING:
                    raise
            else:
                return
            if loop.time() >= deadline:
                raise DriverError(
                    "vcpu unplug request timed out. Unplug result must be manually inspected in "
                    "the domain",
                    kind=ErrorClass.OPERATION_TIMEOUT,
                )
            await asyncio.sleep(_ASK_AGAIN)

    async def _place_vcpus(self, live: Domain, guest: Guest) -> None:
        """Put the threads of virtual CPUs that came where the definition wants them."""
        from hvcore.rules.placement import vcpu_cpus  # noqa: PLC0415 - as above

        for number, tid in vcpu_threads(guest.process.pid).items():
            cpus = vcpu_cpus(live, number, None)
            if cpus is not None:
                await asyncio.to_thread(set_affinity, tid, cpus)

    async def pin_vcpu(self, record: Record, live: Domain, vcpu: int, cpus: NodeSet) -> None:
        """Move the thread of a virtual CPU.

        :raises InvalidState: virtual CPUs have no threads that could be told apart.
        :raises DriverError: the host does not have the CPUs.
        """
        from hvcore.rules import tuning  # noqa: PLC0415 - as above

        guest: Guest = record.runtime
        threads = vcpu_threads(guest.process.pid)
        if not threads:
            raise InvalidState("cpu affinity is not supported", domain=record.name)
        if vcpu in threads:
            await asyncio.to_thread(set_affinity, threads[vcpu], cpus)
        tuning.set_vcpu_pin(live, vcpu, cpus)

    async def pin_emulator(self, record: Record, live: Domain, cpus: NodeSet) -> None:
        """Move the threads that are no virtual CPU.

        :raises DriverError: the host does not have the CPUs.
        """
        from hvcore.rules import tuning  # noqa: PLC0415 - as above

        guest: Guest = record.runtime
        pid = guest.process.pid
        vcpus = set(vcpu_threads(pid).values())
        for tid in threads_of(pid):
            if tid not in vcpus:
                await asyncio.to_thread(set_affinity, tid, cpus)
        tuning.set_emulator_pin(live, cpus)
