"""The verbs that move guests to other hosts.

The receiver takes the guest over by itself and the sender ends by itself, so the manager stands
between them: see :mod:`hvcore_ch.relay`.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING
from typing import Any
from typing import Final

from hvcore import events
from hvcore import usage
from hvcore.errors import DriverError
from hvcore.errors import ErrorClass
from hvcore.errors import InvalidState
from hvcore.errors import LaunchError
from hvcore.errors import MonitorError
from hvcore.errors import MonitorLost
from hvcore.errors import Unsupported
from hvcore.lifecycle import PausedReason
from hvcore.lifecycle import RunningReason
from hvcore.lifecycle import ShutoffReason
from hvcore.lifecycle import State
from hvcore_ch import lifecycle
from hvcore_ch import monitor
from hvcore_ch.saving import Saving

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hvcore.driver import Record
    from hvcore.jobinfo import Progress
    from hvcore.jobs import AsyncJob
    from hvcore.model.domain import Domain
    from hvcore_ch.command import ChPlan
    from hvcore_ch.guest import Guest
    from hvcore_ch.relay import Relay
    from hvcore_ch.resources import Taps

_DAY: Final = 24 * 3600
"""Seconds; what gives up before is the manager."""

_LOOK_AGAIN: Final = 0.02
_SAYS: Final = 0.5
"""Seconds for a process to say what failed."""
_FAILED: Final = "Migration failed: "
_LENT: Final = "currently migrating"
"""In the answer to everything that would change a guest that is being sent."""


class Migration(Saving):
    """The part of the driver that migrates."""

    if TYPE_CHECKING:

        async def plan(self, domain: Domain, folder: str, states: str) -> ChPlan:
            """See the driver; so below."""

        def _read_events(self, record: Record, guest: Guest) -> None: ...

        def _carry_out(self, record: Record, guest: Guest, effect: lifecycle.Effect) -> None: ...

        async def _find_devices(self, record: Record, guest: Guest) -> None: ...

    async def migrate_begin(self, record: Record) -> None:
        """Refuse a guest whose devices cannot go elsewhere.

        :raises HvError: with the reason.
        """
        assert record.live is not None  # it runs
        domain = record.live.domain
        if "migration-returns-at-once" not in (await self.context(domain)).caps:
            raise Unsupported(
                "migration is not supported by this Cloud-Hypervisor binary",
                kind=ErrorClass.OPERATION_UNSUPPORTED,
                hint="version 53 and later can be asked how far it is",
            )
        check_movable(domain)

    async def migrate_prepare(self, record: Record) -> str:
        """Start a process that waits for a guest, and what stands between it and the sender.

        :raises LaunchError: it did not come up.
        """
        from hvcore_ch import snapshot  # noqa: PLC0415 - only who migrates needs it, so below
        from hvcore_ch.relay import Relay  # noqa: PLC0415

        assert record.live is not None
        domain = record.live.clone()
        domain.id = record.id
        record.data = {**record.data, "arriving": True}
        folder, states = "", str(self.states(record))

        async def change(config: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
            assert record.live is not None  # its process waits
            model = record.live.clone()
            snapshot.give_names(model, names)
            plan = await self.plan(model, folder, states)
            return snapshot.moved(config, plan.config)

        async def bring(guest: Guest, plan: ChPlan, taps: Taps) -> dict[str, Any]:
            del plan, taps
            nonlocal folder
            folder = str(guest.vmm.folder)
            path = guest.vmm.folder / "receiver.sock"
            body = {"receiver_url": f"unix:{path}"}
            asking = guest.vmm.monitor.call("vm.receive-migration", body, deadline=_DAY)
            guest.receiving = asyncio.create_task(asking)
            guest.receiving.add_done_callback(_seen)
            async with asyncio.timeout(monitor.DEADLINE):
                while not path.exists():
                    if guest.receiving.done():
                        await guest.receiving
                    await asyncio.sleep(_LOOK_AGAIN)
            guest.arriving = Relay(guest.vmm.folder / "migration.sock", path, change)
            return lifecycle.NOTHING

        try:
            await self.launch(record, domain, bring)
        except TimeoutError as error:
            raise LaunchError("Cloud-Hypervisor does not wait for a guest") from error
        guest: Guest = record.runtime
        assert guest.arriving is not None  # just made
        return guest.arriving.address

    async def migrate_perform(
        self, record: Record, address: str, *, live: bool, bandwidth: int | None
    ) -> Mapping[str, Any]:
        """Send the guest, and wait until all of it was sent.

        That the request succeeds means only that it began.

        :raises DriverError: cloud-hypervisor refuses, cannot reach the other one, or was stopped.
        """
        from hvcore_ch import relay  # noqa: PLC0415 - as above
        from hvcore_ch import snapshot  # noqa: PLC0415

        guest: Guest = record.runtime
        assert record.live is not None
        way = relay.at(address)
        record.data = {**record.data, "leaving": record.state is State.RUNNING}
        self.reports.save(record)
        if not live:
            await self._stand_still(record, guest, PausedReason.MIGRATION)
        way.names = snapshot.names_of(record.live.domain)
        way.limit = None if bandwidth is None else bandwidth << 20
        guest.leaving_by = way
        info = await guest.vmm.monitor.call("vm.info")
        if lifecycle.state_in(info) == lifecycle.CREATED:
            await way.skip()
            return {}
        # It stops the CPUs in the end, and lets them run again if it fails after that.
        guest.course.pausing = PausedReason.MIGRATION
        guest.course.resuming = RunningReason.MIGRATION_CANCELED
        wanted = {"destination_url": address, "timeout_s": _DAY}
        with guest.expecting("migration-failed") as failed:
            await guest.vmm.monitor.call("vm.send-migration", wanted)
            await self._sent(guest, way, failed)
        self._read_events(record, guest)
        return {}

    async def _sent(self, guest: Guest, way: Relay, failed: asyncio.Future[None]) -> None:
        """Wait until everything was sent.

        :raises DriverError: it will not be.
        """
        pid = guest.process.pid
        seen: object = None
        while not way.held.done():
            ends = {way.held, failed}
            await asyncio.wait(ends, timeout=monitor.DEADLINE, return_when=asyncio.FIRST_COMPLETED)
            now = (way.passed, usage.work(pid))
            if failed.done() and not way.held.done():
                raise DriverError(f"job 'migration out' failed: {_reason(guest)}")
            if not way.held.done() and now == seen:
                raise DriverError(
                    "job 'migration out' failed: nothing is sent any more",
                    kind=ErrorClass.OPERATION_TIMEOUT,
                )
            seen = now
        if way.held.exception() is not None:
            # The sender ended the connection, and is about to say why.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(failed), _SAYS)
            raise DriverError(f"job 'migration out' failed: {_reason(guest)}")

    async def migrate_finish(
        self, record: Record, cookie: Mapping[str, Any], *, paused: bool
    ) -> None:
        """Take the guest over, and let it run.

        :raises DriverError: cloud-hypervisor does not take it.
        """
        from hvcore.pipeline import Definition  # noqa: PLC0415 - as above
        from hvcore_ch import snapshot  # noqa: PLC0415

        del cookie
        guest: Guest = record.runtime
        way, receiving = guest.arriving, guest.receiving
        assert way is not None  # prepared
        assert receiving is not None
        assert record.live is not None
        guest.course.resuming = RunningReason.MIGRATED
        await way.release(run=not paused)
        if way.fresh:
            await self._make(record, guest, receiving)
        else:
            await receiving
        guest.arriving = guest.receiving = None
        record.data = {name: value for name, value in record.data.items() if name != "arriving"}
        model = record.live.clone()
        snapshot.give_names(model, way.names)
        record.live = Definition(model, self.registry)
        self._read_events(record, guest)
        await self._find_devices(record, guest)
        if paused:
            suspended = events.Suspended(domain=record.ref(), reason=events.SuspendedDetail.PAUSED)
            self.reports.transition(record, PausedReason.USER, suspended)
        else:
            await self._catch_up(record, guest)

    async def _make(self, record: Record, guest: Guest, receiving: asyncio.Task[Any]) -> None:
        """Make the VM of a guest that was not booted so far, so that it could not be sent."""
        assert record.live is not None  # it waits
        await asyncio.wait((receiving,))
        folders = str(guest.vmm.folder), str(self.states(record))
        plan = await self.plan(record.live.clone(), *folders)
        await guest.vmm.monitor.run(lifecycle.start(plan, {}, paused=True))

    async def _catch_up(self, record: Record, guest: Guest) -> None:
        """See that the state is the VM's, also where no event told of it."""
        state = lifecycle.state_in(await guest.vmm.monitor.call("vm.info"))
        self._carry_out(record, guest, lifecycle.catch_up(guest.course, record.reason, state))

    async def migrate_confirm(self, record: Record, *, cancelled: bool, resume: bool) -> None:
        """Take the guest back if it is to stay, and let it run on if it ran."""
        guest: Guest = record.runtime
        way = guest.leaving_by
        if not cancelled:
            guest.course.ending = True
            return
        if guest.left:
            # It was taken over, and ended there.
            await guest.vmm.end(force=True)
            self.reports.stopped(record, ShutoffReason.CRASHED, events.StoppedDetail.CRASHED)
            return
        if way is not None:
            await way.close()
            await self._taken_back(guest)
        guest.leaving_by = None
        record.data = {name: value for name, value in record.data.items() if name != "leaving"}
        self._read_events(record, guest)
        guest.course.pausing = PausedReason.UNKNOWN
        await self._catch_up(record, guest)
        if resume and record.state is State.PAUSED:
            await self._go_on(record, guest, RunningReason.MIGRATION_CANCELED)
        guest.course.resuming = RunningReason.UNPAUSED
        self.reports.save(record)

    @staticmethod
    async def _taken_back(guest: Guest) -> None:
        """Wait until a guest that was not sent is what it was before.

        :raises HvError: its process is gone, or does not take it back.
        """
        async with asyncio.timeout(monitor.DEADLINE):
            while True:
                try:
                    await guest.vmm.monitor.call("vm.counters")
                except MonitorError as error:
                    if _LENT not in str(error):
                        return
                else:
                    return
                await asyncio.sleep(_LOOK_AGAIN)

    async def migrate_error(self, record: Record) -> str | None:
        """Return why the receiver did not take the guest."""
        guest: Guest = record.runtime
        if guest.receiving is not None and guest.receiving.done():
            error = guest.receiving.exception()
            return None if error is None else str(error)
        return None

    async def job_progress(self, record: Record) -> Progress:
        """Return how much was sent; of a file that is written nothing is known."""
        from hvcore.jobinfo import Progress  # noqa: PLC0415 - few programs ask

        guest: Guest = record.runtime
        total = (record.definition.domain.memory or 0) * 1024
        if guest.leaving_by is None:
            return Progress(memory_total=total)
        passed = guest.leaving_by.passed
        return Progress(
            memory_total=total, memory_processed=passed, memory_remaining=max(0, total - passed)
        )

    async def abort_job(self, record: Record, kind: AsyncJob) -> None:
        """End a migration; what is written into a file cannot be stopped.

        :raises Unsupported: it is a file.
        """
        guest: Guest = record.runtime
        if guest.leaving_by is None:
            raise Unsupported(
                f"cannot abort {kind.value}",
                kind=ErrorClass.OPERATION_UNSUPPORTED,
                domain=record.name,
            )
        await guest.leaving_by.close()

    async def after_migration(self, record: Record, guest: Guest) -> None:
        """Judge a migration that was going on when an earlier manager ended, and with it the way.

        :raises DriverError: the guest did not arrive, so its process is to be ended.
        """
        if "arriving" in record.data:
            raise DriverError(f"Domain '{record.name}' did not arrive, killing it")
        if "leaving" not in record.data:
            return
        await self._taken_back(guest)
        ran = record.data["leaving"]
        record.data = {name: value for name, value in record.data.items() if name != "leaving"}
        info = await guest.vmm.monitor.call("vm.info")
        if ran and lifecycle.state_in(info) == "Paused":
            guest.course.resuming = RunningReason.MIGRATION_CANCELED
            with contextlib.suppress(MonitorError, MonitorLost):
                await guest.vmm.monitor.call("vm.resume")


def _reason(guest: Guest) -> str:
    """Return why a process that sends says it failed; it says so in its log alone."""
    for line in reversed(guest.log.tail().splitlines()):
        _, found, reason = line.partition(_FAILED)
        if found:
            return reason
    return "unexpectedly failed"


def _seen(task: asyncio.Task[Any]) -> None:
    """Take note of how a request ended that perhaps nobody waits for."""
    if not task.cancelled():
        task.exception()


def check_movable(domain: Domain) -> None:
    """Refuse devices that are there on this host alone.

    :raises HvError: with libvirt's words, where it has such devices.
    """
    for hostdev in domain.devices.hostdevs:
        raise InvalidState(
            f"cannot migrate a domain with <hostdev mode='subsystem' type='{hostdev.type}'>",
            domain=domain.name,
        )
    for interface in domain.devices.interfaces:
        if interface.type != "vhostuser":
            # A receiver cannot be given descriptors: ReceiveMigrationData has no place for them.
            raise InvalidState(
                f"cannot migrate a domain with <interface type='{interface.type}'>",
                domain=domain.name,
            )
