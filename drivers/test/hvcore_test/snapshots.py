"""Snapshots of machines that exist only in memory.

Taking the memory of a guest takes time of the host's clock, as writing it would.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any

from hvcore import events
from hvcore.driver import Driver
from hvcore.lifecycle import PausedReason
from hvcore.lifecycle import RunningReason
from hvcore.lifecycle import State
from hvcore_test.blockjobs import SPEED
from hvcore_test.migration import Transfer

if TYPE_CHECKING:
    from hvcore.driver import Record
    from hvcore.model.domain import Domain
    from hvcore.model.snapshot import Snapshot
    from hvcore.testing.clock import VirtualClock
    from hvcore.testing.injection import Injector
    from hvcore_test.monitor import Machine


class Snapshots(Driver):
    """The part of the test driver that takes snapshots.

    :ivar taken: what there is to know of machines, by UUID and name of the snapshot.
    """

    if TYPE_CHECKING:
        clock: VirtualClock
        injector: Injector
        taken: dict[tuple[str, str], dict[str, Any]]

    def is_image(self, path: str) -> bool:
        """Return true: all images of this host exist, as far as anybody can tell."""
        del path
        return True

    async def snapshot_create(
        self, record: Record, domain: Domain, snapshot: Snapshot, *, live: bool, reuse: bool
    ) -> None:
        """Write the memory down, and note that the disks were taken."""
        del domain, reuse
        if snapshot.memory not in ("internal", "external"):
            return
        machine: Machine = record.runtime
        stops = record.state is State.RUNNING and not live
        if stops:
            machine.stop()
            suspended = events.Suspended(domain=record.ref())
            self.reports.transition(record, PausedReason.SNAPSHOT, suspended)
        transfer = Transfer(clock=self.clock, rate=SPEED, total=machine.memory << 10)
        machine.transfer = transfer
        try:
            await self.injector.wait(record, transfer.begin(transfer.total))
        finally:
            machine.transfer = None
            if stops and record.runtime is machine:
                machine.cont()
                resumed = events.Resumed(domain=record.ref())
                self.reports.transition(record, RunningReason.UNPAUSED, resumed)
        machine.history.append(f"snapshot {snapshot.name}")
        self.taken[record.uuid, snapshot.label] = machine.state()

    async def snapshot_revert(
        self, record: Record, snapshot: Snapshot, *, paused: bool | None
    ) -> None:
        """Make a machine that is as it was."""
        if paused is None:
            return
        await self.start(record, paused=paused)
        state = self.taken.get((record.uuid, snapshot.label))
        if state is not None:
            record.runtime.arrive(**state)

    async def snapshot_delete(self, record: Record, snapshot: Snapshot) -> None:
        """Forget a machine."""
        self.taken.pop((record.uuid, snapshot.label), None)
