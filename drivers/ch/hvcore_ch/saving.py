"""The verbs that put running guests into files, and start guests from them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from typing import TYPE_CHECKING
from typing import Any

from hvcore import events
from hvcore.errors import ErrorClass
from hvcore.errors import HvError
from hvcore.errors import InvalidState
from hvcore.errors import Unsupported
from hvcore.lifecycle import PausedReason
from hvcore.lifecycle import RunningReason
from hvcore.lifecycle import State
from hvcore.state import make_directory
from hvcore_ch import lifecycle
from hvcore_ch.statistics import Statistics

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from collections.abc import Callable
    from collections.abc import Iterator
    from pathlib import Path

    from hvcore.driver import Record
    from hvcore.model.domain import Domain
    from hvcore_ch.command import ChPlan
    from hvcore_ch.guest import Guest
    from hvcore_ch.resources import Taps


class Saving(Statistics):
    """The part of the driver that saves, restores and dumps."""

    if TYPE_CHECKING:

        async def launch(
            self,
            record: Record,
            domain: Domain,
            bring: Callable[[Guest, ChPlan, Taps], Awaitable[dict[str, Any]]],
        ) -> None:
            """See the driver."""

        async def tell(self, guest: Guest, event: str, endpoint: str, body: Any = None) -> Any:
            """See the driver."""

    def states(self, record: Record) -> Path:
        """Return the directory for what is on its way into a file or out of one."""
        assert self.directory is not None  # keeps_state
        return self.directory.config / "states" / record.uuid

    def forget_states(self, record: Record) -> None:
        """Remove that directory, once nothing can be on its way any more."""
        shutil.rmtree(self.states(record), ignore_errors=True)

    @contextlib.contextmanager
    def _passing(self, record: Record, name: str) -> Iterator[Path]:
        """Make a directory for what passes, and remove it with everything in it."""
        folder = self.states(record) / name
        shutil.rmtree(folder, ignore_errors=True)
        make_directory(folder)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    async def save(self, record: Record, fd: int) -> None:
        """Stop the CPUs and write a snapshot, through a directory of the domain.

        :raises InvalidState: it was not booted so far.
        :raises DriverError: cloud-hypervisor or the file refuses.
        """
        from hvcore_ch import snapshot  # noqa: PLC0415 - only who saves needs it

        guest: Guest = record.runtime
        assert record.live is not None
        await self._check_booted(record, guest)
        await self._stand_still(record, guest, PausedReason.SAVE)
        with self._passing(record, "save") as folder:
            await guest.vmm.call_long("vm.snapshot", {"destination_url": f"file://{folder}"})
            names = snapshot.names_of(record.live.domain)
            await asyncio.to_thread(snapshot.pack, folder, names, fd)

    async def save_failed(self, record: Record, *, resume: bool) -> None:
        """Let the guest run on."""
        if resume:
            await self._go_on(record, record.runtime, RunningReason.SAVE_CANCELED)

    async def load(self, record: Record, fd: int, *, paused: bool) -> None:
        """Start a process and let it take a snapshot.

        :raises LaunchError: it did not come up, or the file does not fit.
        """
        from hvcore_ch import snapshot  # noqa: PLC0415 - as above

        assert record.live is not None
        domain = record.live.clone()
        domain.id = record.id
        with self._passing(record, "load") as folder:
            names = await asyncio.to_thread(snapshot.unpack, fd, folder)
            snapshot.give_names(domain, names)

            async def bring(guest: Guest, plan: ChPlan, taps: Taps) -> dict[str, Any]:
                config = folder / snapshot.CONFIG
                saved = snapshot.moved(json.loads(config.read_text()), plan.config)
                config.write_text(json.dumps(saved))
                body: dict[str, Any] = {"source_url": f"file://{folder}", "resume": not paused}
                if taps.fds:
                    body["net_fds"] = [
                        {"id": alias, "num_fds": len(fds)} for alias, fds in taps.fds.items()
                    ]
                fds = [each for found in taps.fds.values() for each in found]
                await guest.vmm.call_long("vm.restore", body, fds=fds)
                info: dict[str, Any] = await guest.vmm.monitor.call("vm.info")
                return info

            await self.launch(record, domain, bring)

    async def dump(self, record: Record, fd: int, *, kind: str | None, live: bool) -> None:
        """Write an ELF core file, through a directory of the domain.

        :raises Unsupported: the format is another, or the build has none.
        :raises InvalidState: it was not booted so far.
        :raises DriverError: cloud-hypervisor or the file refuses.
        """
        from hvcore_ch import snapshot  # noqa: PLC0415 - as above

        guest: Guest = record.runtime
        assert record.live is not None
        caps = (await self.context(record.live.domain)).caps
        if "coredump" not in caps or kind not in (None, "elf"):
            raise Unsupported(
                f"unsupported dumpformat '{kind or 'elf'}' for this Cloud-Hypervisor binary",
                kind=ErrorClass.OPERATION_UNSUPPORTED,
                hint="builds with the feature guest_debug write ELF core files",
            )
        if live:
            raise Unsupported(
                "Cloud-Hypervisor doesn't support dumping a running guest",
                kind=ErrorClass.OPERATION_UNSUPPORTED,
            )
        await self._check_booted(record, guest)
        await self._stand_still(record, guest, PausedReason.DUMP)
        with self._passing(record, "dump") as folder:
            core = folder / "core"
            await guest.vmm.call_long("vm.coredump", {"destination_url": f"file://{core}"})
            await asyncio.to_thread(snapshot.copy, core, fd)

    async def dump_done(self, record: Record, *, reset: bool, resume: bool) -> None:
        """Let the guest run on."""
        if reset:
            await self.reset(record)
        if resume and record.state is State.PAUSED:
            await self._go_on(record, record.runtime, RunningReason.UNPAUSED)

    @staticmethod
    async def _check_booted(record: Record, guest: Guest) -> None:
        """Refuse a guest that was started paused: it has no state so far.

        :raises InvalidState: it is one.
        """
        if lifecycle.state_in(await guest.vmm.monitor.call("vm.info")) == lifecycle.CREATED:
            raise InvalidState(
                f"domain '{record.name}' was not booted so far, so that it has no state",
                domain=record.name,
            )

    async def _stand_still(self, record: Record, guest: Guest, reason: PausedReason) -> None:
        if record.state is State.RUNNING:
            guest.course.pausing = reason
            await self.tell(guest, "paused", "vm.pause")

    async def _go_on(self, record: Record, guest: Guest, reason: RunningReason) -> None:
        guest.course.resuming = reason
        try:
            await self.tell(guest, "resumed", "vm.resume")
        except HvError:
            if record.state is State.PAUSED:
                suspended = events.Suspended(
                    domain=record.ref(), reason=events.SuspendedDetail.API_ERROR
                )
                self.reports.transition(record, PausedReason.API_ERROR, suspended)
            raise
