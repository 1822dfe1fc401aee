"""The cloud-hypervisor driver: verbs as conversations with a process that this module follows.

Rules are elsewhere: what an event means in :mod:`~hvcore_ch.lifecycle`, what is started in
:mod:`~hvcore_ch.command`. Here is the I/O, and one invariant: every guest has one task that waits
for the end of its process and tells of it, unless somebody else destroys it at that moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any
from typing import ClassVar
from typing import Final

from hvcore import events
from hvcore.errors import DriverError
from hvcore.errors import ErrorClass
from hvcore.errors import HvError
from hvcore.errors import MonitorError
from hvcore.errors import MonitorLost
from hvcore.errors import ProbeError
from hvcore.errors import UnknownUri
from hvcore.following import Following
from hvcore.following import check_wanted
from hvcore.following import exited
from hvcore.following import remark_end
from hvcore.following import starting
from hvcore.lifecycle import PausedReason
from hvcore.lifecycle import RunningReason
from hvcore.lifecycle import ShutoffReason
from hvcore.lifecycle import State
from hvcore.state import make_directory
from hvcore_ch import lifecycle
from hvcore_ch.config import of_root
from hvcore_ch.guest import Guest
from hvcore_ch.lifecycle import Course
from hvcore_ch.lifecycle import Effect
from hvcore_ch.lifecycle import Next
from hvcore_ch.migration import Migration

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from collections.abc import Callable

    from hvcore.driver import Record
    from hvcore.driver import Setup
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore.pipeline import Definition
    from hvcore.pipeline import Pipeline
    from hvcore.state import Status
    from hvcore.uri import Uri
    from hvcore_ch.capabilities import ChCapabilities
    from hvcore_ch.command import ChPlan
    from hvcore_ch.monitor import Notifier
    from hvcore_ch.resources import Taps

_log = logging.getLogger(__name__)

CONNECT_DEADLINE: Final = 30.0
"""Seconds until a started cloud-hypervisor has to answer."""

_SEEN: Final = 2.0
"""Seconds for an event to arrive after what it tells of was done."""

_FRESH: Final = 1.0
"""Seconds for which a binary is not looked at again: a definition and its start are one look."""


class ChDriver(Following[Guest], Migration):
    """Domains that are cloud-hypervisor processes of this host."""

    schemes: ClassVar[tuple[str, ...]] = ("ch",)
    name: ClassVar[str] = "ch"

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.config = of_root(self._directory)
        self._caps: dict[str, tuple[float, ChCapabilities]] = {}
        self._pipeline: Pipeline | None = None
        self._notifier: Notifier | None = None

    @classmethod
    def check_uri(cls, uri: Uri) -> None:
        """Refuse a path that is neither of the system, of the session nor embedded.

        :raises UnknownUri: it is another one.
        """
        if uri.path not in ("/system", "/session", "/embed"):
            raise UnknownUri(
                f"unexpected Cloud-Hypervisor URI path '{uri.path}', try ch:///system",
                kind=ErrorClass.INTERNAL,
            )

    # -- rules --------------------------------------------------------------------------

    def pipeline(self) -> Pipeline:
        """Return the pipeline with this driver's rules."""
        if self._pipeline is None:
            from hvcore_ch.launch import pipeline  # noqa: PLC0415 - the rules of all families

            self._pipeline = pipeline(self.registry)
        return self._pipeline

    async def context(self, domain: Domain, *, new: bool = False) -> Context:
        """Return what the rules ask about.

        :raises ProbeError: the binary of the document cannot be asked.
        :raises HvError: the host has none.
        """
        from hvcore.pipeline import Context  # noqa: PLC0415 - see pipeline

        return Context(
            registry=self.registry,
            driver=self.name,
            caps=await self._probed(domain.devices.emulator or self._binary()),
            host=self.host(),
            config=self.config,
            abi_update=new,
            stub_console=False,
        )

    def _binary(self) -> str:
        from hvcore_ch.sections.base import PROGRAM  # noqa: PLC0415 - see pipeline

        found = shutil.which(PROGRAM)
        if found is None:
            raise HvError(
                "No emulator found for cloud-hypervisor", kind=ErrorClass.CONFIG_UNSUPPORTED
            )
        return found

    async def _probed(self, binary: str) -> ChCapabilities:
        from hvcore_ch import probe  # noqa: PLC0415 - only who completes a document needs it

        now = asyncio.get_running_loop().time()
        checked, caps = self._caps.get(binary, (0.0, None))
        if caps is None or now - checked > _FRESH:
            cache = probe.cache_at(self._directory.cache, participants=self.registry.probers())
            extend = functools.partial(self.registry.probed, self.name, binary)
            caps = await probe.probe_binary(
                binary, arch=self.host().arch, cache=cache, extend=extend
            )
            self._caps[binary] = (now, caps)
        return caps

    async def plan(self, domain: Domain, folder: str, states: str) -> ChPlan:
        """Complete ``domain`` for a start and return what would be asked for.

        :param folder: the domain's private directory.
        :param states: the directory for what is saved.
        :raises ValidationFailed: it cannot be expressed for its binary.
        """
        from hvcore_ch.launch import plan_start  # noqa: PLC0415 - see pipeline

        return plan_start(domain, await self.context(domain), folder, states)

    # -- starting -----------------------------------------------------------------------

    async def start(self, record: Record, *, paused: bool) -> None:
        """Start a process, make the VM and boot it.

        What is to be paused is only made; it boots when it is resumed.

        :raises LaunchError: it ended before it was done; carries what it wrote.
        :raises MonitorError: a part of the configuration was refused.
        :raises DomainGone: the domain was destroyed meanwhile.
        """
        assert record.live is not None
        domain = record.live.clone()
        domain.id = record.id

        async def bring(guest: Guest, plan: ChPlan, taps: Taps) -> dict[str, Any]:
            monitor = guest.vmm.monitor
            info = await monitor.run(lifecycle.start(plan, taps.fds, paused=paused))
            if not paused:
                # A guest may be done before it is asked; whoever waits for its end tells of it.
                with contextlib.suppress(MonitorError, MonitorLost):
                    info = await monitor.call("vm.info")
            return info

        await self.launch(record, domain, bring)

    async def launch(
        self,
        record: Record,
        domain: Domain,
        bring: Callable[[Guest, ChPlan, Taps], Awaitable[dict[str, Any]]],
    ) -> None:
        """Start a process, bring a VM to life in it, and follow it.

        :param domain: becomes the live definition.
        :param bring: makes the VM and returns what vm.info tells.
        :raises LaunchError: it ended before it was done; carries what it wrote.
        :raises DomainGone: the domain was destroyed meanwhile.
        """
        from hvcore_ch.resources import Taps  # noqa: PLC0415 - only who starts needs it

        number, states = record.id, self.states(record)
        folder = self._directory.runtime(record.uuid)
        plan = await self.plan(domain, str(folder), str(states))
        make_directory(states)
        taps = Taps()
        try:
            await asyncio.to_thread(taps.open, [call.tap for call in plan.calls])
            record.data = {**record.data, "macvtaps": list(taps.made)}
            guest = await self._spawn(record, domain)
            try:
                check_wanted(record, number)
                record.data = {**record.data, "landlock": plan.allowed}
                self._note(record, guest)
                await guest.vmm.call_or_exit("vmm.ping", deadline=CONNECT_DEADLINE)
                info = await bring(guest, plan, taps)
                check_wanted(record, number)
                self._settle(record, domain, info, taps.names)
            except BaseException as error:
                await self._abort(record, guest)
                if isinstance(error, MonitorLost) and record.id == number:
                    raise exited(guest.vmm.argv, guest.log) from error
                raise
        except BaseException:
            taps.remove()
            self._clean_up(record)
            raise
        finally:
            # cloud-hypervisor has copies of its own; a tap goes with the last of them.
            taps.close()
        self._watch(record, guest)

    async def _spawn(self, record: Record, domain: Domain) -> Guest:
        """Start the process of a domain, without a VM so far."""
        from hvcore.process import Log  # noqa: PLC0415 - only who starts needs these
        from hvcore.rules.placement import emulator_cpus  # noqa: PLC0415
        from hvcore_ch.process import Vmm  # noqa: PLC0415

        course = _course(domain)
        vmm = await Vmm.start(
            domain.devices.emulator or self._binary(),
            self._directory.runtime(record.uuid),
            name=record.name,
            log=Log(self._directory.log_file(record.uuid)),
            affinity=emulator_cpus(domain, None),
            seccomp=self.config.seccomp,
            no_shutdown=course.stays,
        )
        return self._guest(record, vmm, course)

    def _guest(self, record: Record, vmm: Any, course: Course, offset: int = 0) -> Guest:
        from hvcore_ch.monitor import Events  # noqa: PLC0415 - see start
        from hvcore_ch.process import EVENTS  # noqa: PLC0415

        guest = Guest(vmm, course, Events(vmm.folder / EVENTS, offset))
        record.runtime = guest
        self._guests[record] = guest
        return guest

    def _note(self, record: Record, guest: Guest) -> None:
        """Write down how to find the guest again."""
        record.process = (guest.process.pid, guest.process.start)
        record.data = {**record.data, "folder": str(guest.vmm.folder)}
        self.reports.save(record)

    def _settle(
        self, record: Record, domain: Domain, info: dict[str, Any], names: dict[str, str]
    ) -> None:
        """Make the live definition say what the guest has really got."""
        from hvcore.pipeline import Definition  # noqa: PLC0415 - see pipeline
        from hvcore_ch.live import settle  # noqa: PLC0415 - see pipeline

        terminals = lifecycle.terminals(info)
        settle(domain, terminals=terminals, addresses=lifecycle.addresses(info), taps=names)
        record.live = Definition(domain, self.registry)
        record.data = {**record.data, "terminals": terminals}

    async def _find_devices(self, record: Record, guest: Guest) -> None:
        """Note what a VM has that was just booted: where devices are, and which terminals."""
        # A guest may be done before it is asked; its end is told by whoever waits for that.
        with contextlib.suppress(MonitorError, MonitorLost):
            info = await guest.vmm.monitor.call("vm.info")
            if record.live is not None and record.runtime is guest:
                self._settle(record, record.live.clone(), info, {})
                self.reports.save(record)
                self._forget_asked(record, guest, info)

    def _forget_asked(self, record: Record, guest: Guest, info: dict[str, Any]) -> None:
        """Tell of devices that a guest was asked for and that are not in its new VM."""
        for alias in [name for name in guest.asked if not lifecycle.present(info, name)]:
            if not guest.tell_departure(alias):
                self.reports.departed(record, alias)

    async def _look_again(self, record: Record, guest: Guest) -> None:
        """Note what changed in a VM that was made anew without anybody having asked for it."""
        with contextlib.suppress(HvError):
            async with record.jobs.job("virDomainReboot", check=record.check_active):
                await self._find_devices(record, guest)

    def _clean_up(self, record: Record) -> None:
        """Remove what a guest that is gone had of the host."""
        from hvcore import macvtap  # noqa: PLC0415 - few guests have one

        self.forget_states(record)
        for name in record.data.get("macvtaps", ()):
            macvtap.remove(name)

    async def _abort(self, record: Record, guest: Guest) -> None:
        """Leave nothing of a start that failed."""
        self._guests.pop(record, None)
        await guest.give_up()
        await guest.vmm.kill()

    # -- following ----------------------------------------------------------------------

    def _watch(self, record: Record, guest: Guest) -> None:
        from hvcore_ch.monitor import Notifier  # noqa: PLC0415 - see start

        if self._notifier is None:
            self._notifier = Notifier()
        changed = functools.partial(self._read_events, record, guest)
        guest.watch = self._notifier.watch(guest.events.path, changed)
        # What was written before; whoever starts the guest has to tell of that first.
        asyncio.get_running_loop().call_soon(changed)
        guest.watcher = asyncio.create_task(
            self._until_exit(record, guest), name=f"hvcore-ch-{record.name}"
        )

    def _unwatch(self, guest: Guest) -> None:
        if guest.watch is not None and self._notifier is not None:
            self._notifier.forget(guest.watch)
        guest.watch = None

    def _read_events(self, record: Record, guest: Guest) -> None:
        for event in guest.events.read():
            news = not (record.destroying or guest.crashed or guest.left)
            if record.runtime is guest and news:
                effect = lifecycle.handle(guest.course, record.reason, event)
                self._carry_out(record, guest, effect)
                alias = lifecycle.departed(event)
                if alias is not None and not guest.tell_departure(alias):
                    self.reports.departed(record, alias)
                if lifecycle.made_anew(event) and event["event"] not in guest.expected:
                    self._task(self._look_again(record, guest))
            guest.tell(event["event"])

    async def _until_exit(self, record: Record, guest: Guest) -> None:
        await guest.process.wait()
        self._clean_up(record)
        # Its last words: a shutdown is told from a crash by them.
        self._unwatch(guest)
        self._read_events(record, guest)
        self._forget(record, guest)
        await guest.give_up()
        if not guest.left:
            self._ended(record, guest)

    def _carry_out(self, record: Record, guest: Guest, effect: Effect) -> None:
        record.data = {**record.data, "offset": guest.events.offset}
        happened = [kind(domain=record.ref(), **fields) for kind, fields in effect.publish]
        if effect.reason is not None:
            self.reports.transition(record, effect.reason, *happened)
        else:
            self.reports.publish(record, *happened)
        if effect.then in (Next.BOOT, Next.REBOOT):
            self._task(self._restart(record, guest, effect.then))
        elif effect.then is not None:
            guest.crashed |= effect.then is Next.KILL_CRASHED
            self._task(guest.vmm.end(force=True))

    async def _restart(self, record: Record, guest: Guest, how: Next) -> None:
        """Start a guest afresh that powered off or crashed, in the same process."""
        endpoint = "vm.boot" if how is Next.BOOT else "vm.reboot"
        try:
            async with record.jobs.job("virDomainReboot", check=record.check_active):
                await guest.vmm.monitor.call(endpoint)
        except HvError as error:
            # The guest wanted to go on and cannot; it must not stay half alive.
            _log.warning("Failed to reboot VM '%s': %s", record.name, error)
            guest.crashed = True
            await guest.vmm.kill()

    # -- leaving and coming back --------------------------------------------------------

    async def close(self) -> None:
        """Let every guest run on without a manager."""
        for record, guest in list(self._guests.items()):
            await self._leave(record, guest)
        self._guests.clear()
        await self._end_tasks()
        if self._notifier is not None:
            self._notifier.close()
            self._notifier = None

    async def _leave(self, record: Record, guest: Guest) -> None:
        if await self._watched_to_its_end(guest):
            return
        await self._end_watching(guest)
        await guest.give_up()
        self._unwatch(guest)
        record.data = {**record.data, "offset": guest.events.offset}
        self.reports.save(record)
        guest.process.release()

    async def reconnect(self, record: Record, status: Status) -> None:
        """Follow a cloud-hypervisor that an earlier manager started, or find out how it ended."""
        from hvcore.process import Log  # noqa: PLC0415 - see start
        from hvcore.process import Process  # noqa: PLC0415
        from hvcore_ch.monitor import Monitor  # noqa: PLC0415
        from hvcore_ch.process import SOCKET  # noqa: PLC0415
        from hvcore_ch.process import Vmm  # noqa: PLC0415

        folder = Path(status.data.get("folder", self._directory.runtime(record.uuid)))
        process = None
        if status.alive() and status.pid is not None and status.start is not None:
            process = Process.attach(status.pid, status.start)
        if process is None:
            self._clean_up(record)
            await self._finish_off(record, status, folder)
            return
        monitor = Monitor(record.name, folder / SOCKET)
        vmm = Vmm(process, monitor, Log(self._directory.log_file(record.uuid)), folder)
        course = _course(record.definition.domain)
        guest = self._guest(record, vmm, course, int(status.data.get("offset", 0)))
        try:
            if starting(record):
                raise DriverError(f"Domain '{record.name}' wasn't fully started yet, killing it")
            await self.after_migration(record, guest)
            state = lifecycle.state_in(await monitor.call("vm.info", deadline=CONNECT_DEADLINE))
        except HvError as error:
            # What cannot be managed must not run beside a second start.
            _log.warning("%s", error)
            await self._abort(record, guest)
            self._clean_up(record)
            self._lost(record, failed=starting(record))
            return
        self._watch(record, guest)
        self._carry_out(record, guest, lifecycle.catch_up(course, record.reason, state))
        self.reports.save(record)

    async def _finish_off(self, record: Record, status: Status, folder: Path) -> None:
        """Say how a domain ended that has no process any more."""
        from hvcore_ch.monitor import Events  # noqa: PLC0415 - see start
        from hvcore_ch.process import EVENTS  # noqa: PLC0415

        if starting(record):
            if status.pid is None:
                await self._end_orphan(record, folder)
            self._lost(record, failed=True)
            return
        last = Events(folder / EVENTS, int(status.data.get("offset", 0))).read()
        if record.state is State.SHUTDOWN or lifecycle.ended_in_order(last):
            self.reports.stopped(record, ShutoffReason.SHUTDOWN, events.StoppedDetail.SHUTDOWN)
        else:
            self._lost(record, failed=False)

    async def _end_orphan(self, record: Record, folder: Path) -> None:
        """End a process whose manager was killed before it could write down the pid."""
        from hvcore_ch.monitor import Monitor  # noqa: PLC0415 - see start
        from hvcore_ch.process import SOCKET  # noqa: PLC0415

        # Where nobody listens it had not been started yet, or went with its manager.
        with contextlib.suppress(MonitorError, MonitorLost):
            await Monitor(record.name, folder / SOCKET).call("vmm.shutdown", deadline=_SEEN)

    # -- verbs --------------------------------------------------------------------------

    async def tell(self, guest: Guest, event: str, endpoint: str, body: Any = None) -> Any:
        """Ask for something and wait until the event that tells of it was handled."""
        with guest.expecting(event) as seen:
            found = await guest.vmm.monitor.call(endpoint, body)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(seen, _SEEN)
        return found

    async def destroy(self, record: Record, *, graceful: bool) -> None:
        """End the VM in order, so that its disks are flushed, and the process with it.

        :raises DriverError: it is still there.
        """
        guest: Guest | None = record.runtime
        if guest is None:
            return
        guest.course.ending = True
        if guest.receiving is not None:
            # It answers nothing until its guest arrives, which is not to happen any more.
            await guest.vmm.kill()
        await guest.vmm.end(force=not graceful)
        self._clean_up(record)
        remark_end(guest, ShutoffReason.DESTROYED)

    async def shutdown(self, record: Record) -> None:
        """Press the power button."""
        guest: Guest = record.runtime
        await guest.vmm.monitor.call("vm.power-button")

    async def reboot(self, record: Record) -> None:
        """End the VM and start the guest afresh, as libvirt's driver does; it is not asked."""
        await self.reset(record)

    async def reset(self, record: Record) -> None:
        """End the VM and start the guest afresh."""
        guest: Guest = record.runtime
        await self.tell(guest, "rebooted", "vm.reboot")
        await self._find_devices(record, guest)

    async def suspend(self, record: Record) -> None:
        """Stop the CPUs."""
        guest: Guest = record.runtime
        guest.course.pausing = PausedReason.USER
        await self.tell(guest, "paused", "vm.pause")

    async def resume(self, record: Record) -> None:
        """Let the CPUs run; of a VM that was only made, for the first time."""
        guest: Guest = record.runtime
        guest.course.resuming = RunningReason.UNPAUSED
        info = await guest.vmm.monitor.call("vm.info")
        if lifecycle.state_in(info) == lifecycle.CREATED:
            await self.tell(guest, "booted", "vm.boot")
            await self._find_devices(record, guest)
        else:
            await self.tell(guest, "resumed", "vm.resume")

    async def console(self, record: Record, alias: str | None) -> str:
        """Return the terminal of a character device.

        :raises HvError: there is no such device, or it is not a terminal.
        """
        terminals: dict[str, str] = record.data.get("terminals", {})
        devices = record.definition.domain.devices
        ends = {}
        for device, member in ((devices.consoles, "console"), (devices.serials, "serial")):
            if device and member in terminals:
                ends[device[0].alias] = terminals[member]
        if alias is None:
            alias = next(iter(ends), None)
        if alias is None or alias not in ends:
            raise HvError(
                f"character device {alias or '<null>'} is not using a PTY", domain=record.name
            )
        return ends[alias]

    async def lower(self, definition: Definition) -> str:
        """Return the VmConfig as JSON, and the requests that come after it."""
        folder = str(self._directory.sockets / definition.uuid)
        states = str(self._directory.config / "states" / definition.uuid)
        plan = await self.plan(definition.domain, folder, states)
        calls = "".join("\n".join(call.lines()) + "\n" for call in plan.calls)
        return json.dumps(plan.config, indent=2) + "\n" + calls

    async def version(self) -> int:
        """Return the version of the binary in the path.

        :raises ProbeError: there is none.
        """
        try:
            binary = self._binary()
        except HvError as error:
            raise ProbeError(error.message) from error
        return (await self._probed(binary)).version

    async def capabilities(self) -> str:
        """Return the host and the guests that its binary can run."""
        from hvcore.hostinfo import GuestArch  # noqa: PLC0415 - see pipeline
        from hvcore_ch.sections.base import HYPERVISORS  # noqa: PLC0415

        host = self.host()
        guests = []
        try:
            binary = self._binary()
            caps = await self._probed(binary)
        except HvError as error:
            # A host without a binary that works is a host still.
            _log.warning("%s", error)
        else:
            kinds = tuple(kind for kind, needed in HYPERVISORS.items() if needed in caps)
            guests.append(
                GuestArch(arch=host.arch, word_size=64, emulator=binary, virt_types=kinds)
            )
        return host.to_xml(guests)


def _course(domain: Domain) -> Course:
    return Course(
        on_poweroff=domain.on_poweroff or "destroy",
        on_reboot=domain.on_reboot or "restart",
        on_crash=domain.on_crash or "destroy",
    )
