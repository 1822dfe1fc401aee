"""The QEMU driver: verbs as conversations with a process that this module follows.

Rules are elsewhere: what an event means in :mod:`~hvcore_qemu.lifecycle`, what is started in
:mod:`~hvcore_qemu.command`. Here is the I/O, and one invariant: every guest has one task that
waits for the end of its process and tells of it, unless somebody else destroys it at that moment.
"""

from __future__ import annotations

import asyncio
import logging
import shlex
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any
from typing import ClassVar
from typing import Final

import attrs

from hvcore import events
from hvcore.errors import DriverError
from hvcore.errors import ErrorClass
from hvcore.errors import HvError
from hvcore.errors import MonitorError
from hvcore.errors import MonitorLost
from hvcore.errors import UnknownUri
from hvcore.following import Following
from hvcore.following import check_wanted
from hvcore.following import exited
from hvcore.following import remark_end
from hvcore.following import starting
from hvcore.lifecycle import CrashedReason
from hvcore.lifecycle import PausedReason
from hvcore.lifecycle import RunningReason
from hvcore.lifecycle import ShutoffReason
from hvcore.lifecycle import State
from hvcore.process import Launch
from hvcore.process import Log
from hvcore.process import Process
from hvcore.state import write_file
from hvcore_qemu import folders
from hvcore_qemu import lifecycle
from hvcore_qemu.agent import Agent
from hvcore_qemu.config import of_root
from hvcore_qemu.emulators import Emulators
from hvcore_qemu.guest import Guest
from hvcore_qemu.lifecycle import Course
from hvcore_qemu.lifecycle import Effect
from hvcore_qemu.lifecycle import Next
from hvcore_qemu.migration import Migration
from hvcore_qemu.statistics import Statistics

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from collections.abc import Callable

    from hvcore.abi.table import Check
    from hvcore.driver import Record
    from hvcore.driver import Setup
    from hvcore.hostinfo import HostInfo
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore.pipeline import Definition
    from hvcore.pipeline import Pipeline
    from hvcore.registry import Registry
    from hvcore.rules.placement import Advice
    from hvcore.state import Status
    from hvcore.uri import Uri
    from hvcore_qemu.capabilities import QemuCapabilities
    from hvcore_qemu.command import QemuPlan
    from hvcore_qemu.config import QemuConfig
    from hvcore_qemu.placement import Placement
    from hvcore_qemu.realhost import RealHost
    from hvcore_qemu.rehearsal import QemuRehearsal
    from hvcore_qemu.resources import Host

_log = logging.getLogger(__name__)

CONNECT_DEADLINE: Final = 30.0
"""Seconds until a started QEMU has to answer; libvirt's figure without huge memory."""

_DRAIN: Final = 1.0
"""Seconds to read what a QEMU that just ended had sent before."""

_FAREWELL: Final = 2.0
"""Seconds for a QEMU to take note that its manager leaves."""

_DEPARTURES: Final = {"DEVICE_DELETED": True, "DEVICE_UNPLUG_GUEST_ERROR": False}
"""Events that tell how the unplugging of a device ended, and whether it is gone."""


@attrs.frozen(kw_only=True)
class Start:
    """Everything a start needs; what :meth:`QemuDriver.plan` makes of a definition."""

    argv: list[str]
    env: dict[str, str]
    files: dict[str, bytes]
    live: Definition
    folders: list[str] = attrs.field(factory=list)
    kept: dict[str, Any] = attrs.field(factory=dict)


class QemuDriver(Following[Guest], Agent, Emulators, Migration, Statistics):
    """Domains that are QEMU processes of this host."""

    schemes: ClassVar[tuple[str, ...]] = ("qemu",)
    name: ClassVar[str] = "qemu"

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.config = of_root(self._directory)
        self._pipeline: Pipeline | None = None

    @classmethod
    def check_uri(cls, uri: Uri) -> None:
        """Refuse a path that is neither of the system, of the session nor embedded.

        :raises UnknownUri: with libvirt's words.
        """
        if uri.path not in ("/system", "/session", "/embed"):
            raise UnknownUri(
                f"unexpected QEMU URI path '{uri.path}', try qemu:///system",
                kind=ErrorClass.INTERNAL,
            )

    @classmethod
    def rehearse(cls, registry: Registry, recording: str, host: HostInfo | None) -> QemuRehearsal:
        """Return what a recorded QEMU would make of domains.

        :raises HvError: there is no such recording.
        :raises ProbeError: it cannot be understood.
        """
        from hvcore_qemu import recordings  # noqa: PLC0415 - see pipeline
        from hvcore_qemu.rehearsal import QemuRehearsal  # noqa: PLC0415

        caps = recordings.load(recording)
        return QemuRehearsal(registry, caps, host or recordings.host_of(caps))

    # -- rules --------------------------------------------------------------------------

    def pipeline(self) -> Pipeline:
        """Return the pipeline with QEMU's rules."""
        if self._pipeline is None:
            from hvcore_qemu.launch import pipeline  # noqa: PLC0415 - the rules of all families

            self._pipeline = pipeline(self.registry)
        return self._pipeline

    async def context(self, domain: Domain, *, new: bool = False) -> Context:
        """Return what QEMU's rules ask about.

        :raises ProbeError: the emulator of the document cannot be asked.
        :raises HvError: the host has none for its architecture.
        """
        from hvcore.pipeline import Context  # noqa: PLC0415 - see pipeline

        return Context(
            registry=self.registry,
            driver=self.name,
            caps=await self.qemu_capabilities(domain),
            host=self.host(),
            config=self.config,
            abi_update=new,
            find_program=self.find_program,
        )

    def migratable(self, domain: Domain, record: Record | None = None) -> None:
        """Take out of a copy what documents for other hosts leave out; the CPU is that asked for.

        A start replaces a CPU like the host's by what that is here.
        """
        from hvcore.pipeline import Context  # noqa: PLC0415 - see pipeline
        from hvcore_qemu import migratable  # noqa: PLC0415 - as above

        super().migratable(domain, record)
        if record is not None:
            migratable.ask_again(domain, record.data.get("cpu"), self.registry.binding)
        context = Context(registry=self.registry, config=self.config)
        migratable.make_migratable(domain, context)

    def abi_checks(self) -> tuple[Check, ...]:
        """Return what QEMU's guests see beside the usual."""
        from hvcore_qemu.migratable import ABI_CHECKS  # noqa: PLC0415 - as above

        return ABI_CHECKS

    # -- starting -----------------------------------------------------------------------

    async def start(self, record: Record, *, paused: bool) -> None:
        """Start QEMU and let its CPUs run.

        :raises LaunchError: it ended before its monitor answered; carries what it wrote.
        :raises DomainGone: the domain was destroyed meanwhile.
        """
        await self.launch(record, paused=paused)

    async def launch(
        self,
        record: Record,
        *,
        paused: bool,
        incoming: Callable[[Guest], Awaitable[None]] | None = None,
    ) -> None:
        """Start QEMU, hand it the state it is to begin with, and let its CPUs run.

        :param incoming: returns once QEMU has read the state; it boots without.
        :raises LaunchError: it ended before its monitor answered; carries what it wrote.
        :raises DomainGone: the domain was destroyed meanwhile.
        """
        from hvcore_qemu import placement  # noqa: PLC0415 - only who starts needs these
        from hvcore_qemu.realhost import RealHost  # noqa: PLC0415

        assert record.live is not None
        number = record.id  # from here on it may be destroyed
        advice = await placement.advised(self.registry, record.live.domain, self.host)
        check_wanted(record, number)
        host = RealHost(None if advice is None else advice.nodeset)
        try:
            await self._start(record, host, advice, paused=paused, incoming=incoming)
        finally:
            host.give_back_ports()

    async def _start(
        self,
        record: Record,
        host: RealHost,
        advice: Advice | None,
        *,
        paused: bool,
        incoming: Callable[[Guest], Awaitable[None]] | None,
    ) -> None:
        number = record.id
        log = Log(self._directory.log_file(record.uuid))
        try:
            start = await self.plan(record, host, incoming=None if incoming is None else "defer")
            record.live = start.live
            for path, content in start.files.items():
                write_file(Path(path), content, durable=False)
            placement = self._placement(record, advice)
            domain = start.live.domain
            launch = Launch(
                argv=start.argv,
                env=start.env,
                fds=host.opened,
                log=log.path,
                affinity=placement.first_cpus(domain, self.host().cells),
                policy=placement.policy(domain),
            )
            log.begin(launch)
            with folders.made(start.folders):
                process = await Process.spawn(launch)
            placement.pid = process.pid
        finally:
            # QEMU has its own copies; ours would keep its listening sockets alive after it.
            host.close()
        assert host.monitor_path is not None
        guest = self._guest(record, process, log, host.monitor_path, _course(record), placement)
        guest.folders = start.folders
        try:
            check_wanted(record, number)
            record.process = (process.pid, process.start)
            placed = placement.needed(domain)
            if placed:
                await asyncio.to_thread(placement.begin, domain)
            record.data = {"monitor": str(guest.socket), **start.kept, **placement.kept()}
            self.reports.save(record)
            await self._greet(record, guest, launch)
            if placed:
                threads = await self.threads(guest)
                await asyncio.to_thread(placement.place, domain, threads)
            if incoming is not None:
                await incoming(guest)
            if not paused:
                await guest.monitor.execute("cont")
        except BaseException as error:
            await self._abort(record, guest)
            if isinstance(error, MonitorLost) and record.id == number:
                raise exited(launch.argv, log) from error
            raise
        self._watch(record, guest)

    async def plan(self, record: Record, host: RealHost, *, incoming: str | None = None) -> Start:
        """Make the definition of ``record`` ready and return what to start.

        :param incoming: the URI to receive a migration from, or ``defer``.
        :raises ValidationFailed: it cannot be expressed for this QEMU.
        """
        from hvcore.pipeline import Definition  # noqa: PLC0415 - see pipeline
        from hvcore_qemu import migratable  # noqa: PLC0415
        from hvcore_qemu import plugging  # noqa: PLC0415

        assert record.live is not None
        domain = record.live.clone()
        domain.id = record.id
        asked = migratable.asked_for(domain, self.registry.binding)
        folder = self._directory.runtime(record.uuid)
        # What is bound for the domain lives and goes with its own directory.
        config = attrs.evolve(self.config, channel_target_dir=str(folder))
        placed_for = record.live.placed_for
        plan = await self._lowered(
            domain, host, config, str(folder), incoming=incoming, placed_for=placed_for
        )
        return Start(
            argv=plan.argv,
            env=plan.env,
            files=plan.files,
            folders=plan.folders,
            live=Definition(domain, self.registry),
            kept={
                **({} if asked is None else {"cpu": asked}),
                **({"folders": plan.folders} if plan.folders else {}),
                "numbers": plan.numbers,
                "ahead": plugging.ahead(plan, domain),
                "behind": plugging.behind(plan, domain),
            },
        )

    async def _lowered(
        self,
        domain: Domain,
        host: Host,
        config: QemuConfig,
        folder: str | None = None,
        *,
        incoming: str | None = None,
        placed_for: QemuCapabilities | None,
    ) -> QemuPlan:
        """Complete ``domain`` for a start and return the plan of its command line."""
        from hvcore_qemu.launch import plan_start  # noqa: PLC0415 - see pipeline

        ctx = await self.context(domain)
        ctx.config = config
        return plan_start(
            domain, ctx, host, domain_dir=folder, incoming=incoming, placed_for=placed_for
        )

    async def _greet(self, record: Record, guest: Guest, launch: Launch) -> None:
        """Connect to the monitor of a QEMU that was just started, unless it ends first."""
        connecting = asyncio.create_task(
            guest.monitor.connect(guest.socket, deadline=CONNECT_DEADLINE)
        )
        ending = asyncio.create_task(guest.process.wait())
        try:
            await asyncio.wait((connecting, ending), return_when=asyncio.FIRST_COMPLETED)
            if not connecting.done():
                raise exited(launch.argv, guest.log)
            await connecting
        finally:
            for task in (connecting, ending):
                task.cancel()
            await asyncio.gather(connecting, ending, return_exceptions=True)
        terminals = await guest.monitor.run(lifecycle.handshake(guest.course))
        if record.live is not None:
            from hvcore_qemu import vcpus  # noqa: PLC0415 - see pipeline
            from hvcore_qemu.devices.disk import limits  # noqa: PLC0415
            from hvcore_qemu.devices.graphics import passwords  # noqa: PLC0415

            domain = record.live.domain
            await guest.monitor.run(passwords(domain, self.config, int(time.time())))
            await guest.monitor.run(vcpus.plug(domain))
            await guest.monitor.run(limits(domain))
        record.data = {**record.data, "terminals": terminals}
        await self._look_around(record, guest, terminals)

    async def _look_around(self, record: Record, guest: Guest, terminals: dict[str, str]) -> None:
        """Let the running definition say what QEMU chose by itself."""
        from hvcore.pipeline import Definition  # noqa: PLC0415 - see pipeline
        from hvcore_qemu.devices.chardev import show_terminals  # noqa: PLC0415
        from hvcore_qemu.devices.memory import locate  # noqa: PLC0415

        if record.live is None or not (terminals or record.live.domain.devices.memories):
            return
        domain = record.live.clone()
        show_terminals(domain, terminals)
        await guest.monitor.run(locate(domain))
        record.live = Definition(domain, self.registry)

    def _placement(self, record: Record, advice: Advice | None) -> Placement:
        """Return where the threads of a guest will be."""
        from hvcore_qemu.placement import Placement  # noqa: PLC0415 - see start

        # Control groups are the system's; a session sets the affinity of its guests alone.
        grouped = self.config.privileged and self.uri.path != "/session"
        return Placement.intended(record, advice, grouped=grouped, root=self.uri.root)

    def _guest(
        self,
        record: Record,
        process: Process,
        log: Log,
        socket: Path,
        course: Course,
        placement: Placement,
    ) -> Guest:
        from hvcore_qemu.monitor import Monitor  # noqa: PLC0415 - QMP is loaded to talk, not to look

        monitor = Monitor(
            record.name,
            on_event=lambda event: self._on_event(record, guest, event),
            on_lost=lambda: self._on_lost(guest),
        )
        guest = Guest(process, monitor, course, log, socket, placement)
        record.runtime = guest
        self._guests[record] = guest
        return guest

    async def _abort(self, record: Record, guest: Guest) -> None:
        """Leave nothing of a start that failed."""
        self._guests.pop(record, None)
        guest.process.send(signal.SIGKILL)
        await guest.process.wait()
        await guest.leave()
        await guest.monitor.close()

    # -- following ----------------------------------------------------------------------

    def _watch(self, record: Record, guest: Guest) -> None:
        guest.watcher = asyncio.create_task(
            self._until_exit(record, guest), name=f"hvcore-qemu-{record.name}"
        )

    async def _until_exit(self, record: Record, guest: Guest) -> None:
        await guest.process.wait()
        await guest.leave()
        # Its last words may still be on the way: a shutdown is told from a crash by them.
        await guest.monitor.drained(_DRAIN)
        self._forget(record, guest)
        self._ended(record, guest)
        await guest.monitor.close()

    def _on_event(self, record: Record, guest: Guest, event: dict[str, Any]) -> None:
        if event["event"] == "MIGRATION":
            guest.steps.set()
        elif event["event"] == "VSERPORT_CHANGE" and record.runtime is guest:
            port = event["data"]
            self._task(self.port_changed(record, port["id"], connected=port["open"]))
        # The shutdown of a QEMU that we are ending is no news of the guest.
        alias = event.get("data", {}).get("device", "")
        if event["event"] in _DEPARTURES and alias:
            self._departure(record, guest, alias, gone=_DEPARTURES[event["event"]])
        if record.runtime is guest and not record.destroying and not guest.crashed:
            effect = lifecycle.handle(guest.course, record.reason, event)
            self._carry_out(record, guest, effect)

    def _departure(self, record: Record, guest: Guest, alias: str, *, gone: bool) -> None:
        """Tell whoever waits for a device how that ended; if nobody does, see to it."""
        if guest.tell_departure(alias, gone=gone):
            return
        if gone:
            self.reports.departed(record, alias)
        else:
            self._task(self.device_stays(guest, alias))

    def _on_lost(self, guest: Guest) -> None:
        # Usually it is ending; one that lives without a monitor can be of no use to anybody.
        if guest.process.alive:
            self._task(guest.process.stop(force=True))

    def _carry_out(self, record: Record, guest: Guest, effect: Effect) -> None:
        happened = []
        for kind, fields in effect.publish:
            if kind is events.IOError:
                fields = {**fields, "path": _disk_path(record, fields["alias"])}  # noqa: PLW2901
            happened.append(kind(domain=record.ref(), **fields))
        record.data = {**record.data, "fake_reboot": guest.course.fake_reboot}
        if effect.amend is not None:
            self.reports.amend(record, effect.amend)
        if effect.reason is not None:
            self.reports.transition(record, effect.reason, *happened)
        else:
            self.reports.publish(record, *happened)
        if effect.then is Next.RESTART:
            self._task(self._restart(record, guest))
        elif effect.then is not None:
            guest.crashed |= effect.then is Next.KILL_CRASHED
            self._task(guest.process.stop(force=True))

    async def _restart(self, record: Record, guest: Guest) -> None:
        reason = record.reason
        try:
            async with record.jobs.job("virDomainReboot", check=record.check_active):
                await guest.monitor.run(lifecycle.restart(guest.course))
            if record.runtime is guest:
                panicked = reason is CrashedReason.PANICKED
                booted = RunningReason.CRASHED if panicked else RunningReason.BOOTED
                self.reports.transition(record, booted)
        except HvError as error:
            _log.warning("Cannot restart domain '%s': %s", record.name, error)
            await guest.process.stop(force=True, grace=0)
        finally:
            guest.course.fake_reboot = False
            guest.course.restarting = False

    # -- leaving and coming back --------------------------------------------------------

    async def close(self) -> None:
        """Let every guest run on without a manager."""
        await asyncio.gather(*[self._leave(guest) for guest in self._guests.values()])
        self._guests.clear()
        await self._end_tasks()

    async def _leave(self, guest: Guest) -> None:
        if await self._watched_to_its_end(guest):
            return
        try:
            async with asyncio.timeout(_FAREWELL):
                await guest.monitor.run(lifecycle.leave(guest.course))
        except (TimeoutError, MonitorError, MonitorLost) as error:
            _log.warning("QEMU process %d was left as it is: %s", guest.process.pid, error)
        await self._end_watching(guest)
        await guest.monitor.close()
        guest.process.release()

    async def reconnect(self, record: Record, status: Status) -> None:
        """Follow a QEMU that an earlier manager started, or find out how it ended."""
        socket = Path(status.data.get("monitor", ""))
        process = None
        if status.alive() and status.pid is not None and status.start is not None:
            process = Process.attach(status.pid, status.start)
        if process is None:
            await self._finish_off(record, status, socket)
            return
        course = _course(record)
        course.fake_reboot = bool(status.data.get("fake_reboot"))
        log = Log(self._directory.log_file(record.uuid))
        placement = self._placement(record, None).restored(process.pid, status.data)
        guest = self._guest(record, process, log, socket, course, placement)
        guest.folders = list(status.data.get("folders", ()))
        try:
            if starting(record):
                raise DriverError(f"Domain '{record.name}' wasn't fully started yet, killing it")
            await guest.monitor.connect(guest.socket, deadline=CONNECT_DEADLINE)
            await self.after_migration(record, guest)
            effect = await guest.monitor.run(lifecycle.come_back(course, record.reason))
        except HvError as error:
            # Without its monitor it cannot be managed, and must not run beside a second start.
            _log.warning("%s", error)
            await process.stop(force=True, grace=0)
            await guest.leave()
            await guest.monitor.close()
            del self._guests[record]
            self._lost(record, failed=starting(record) or "arriving" in record.data)
            return
        self._watch(record, guest)
        self._carry_out(record, guest, effect)
        self.reports.save(record)

    async def _finish_off(self, record: Record, status: Status, socket: Path) -> None:
        """Say how a domain ended that has no process any more."""
        placement = self._placement(record, None).restored(0, status.data)
        await asyncio.to_thread(placement.end)
        folders.remove(status.data.get("folders", ()))
        if starting(record):
            if status.pid is None:
                await self._quit_orphan(record)
            self._lost(record, failed=True)
        elif record.state is State.SHUTDOWN or not _exists(socket):
            # QEMU removes its sockets when it ends in order, and cannot when it is killed.
            self.reports.stopped(record, ShutoffReason.SHUTDOWN, events.StoppedDetail.SHUTDOWN)
        else:
            self._lost(record, failed=False)

    async def _quit_orphan(self, record: Record) -> None:
        """End a QEMU whose manager was killed before it could write down the pid."""
        from hvcore_qemu.monitor import Monitor  # noqa: PLC0415 - see _guest

        monitor = Monitor(record.name, on_event=lambda _: None, on_lost=lambda: None)
        socket = self._directory.runtime(record.uuid) / "monitor.sock"
        try:
            await monitor.connect(socket, deadline=CONNECT_DEADLINE)
            await monitor.execute("quit")
        except (MonitorError, MonitorLost):
            # Nobody listens: it had not been started yet, or went with its manager.
            return
        finally:
            await monitor.close()

    # -- verbs --------------------------------------------------------------------------

    async def destroy(self, record: Record, *, graceful: bool) -> None:
        """End the process: SIGTERM, so that QEMU flushes its disks, then SIGKILL.

        :raises DriverError: it is still there.
        """
        guest: Guest | None = record.runtime
        if guest is None:
            return
        guest.course.fake_reboot = False
        await guest.process.stop(force=not graceful)
        await guest.leave()
        remark_end(guest, ShutoffReason.DESTROYED)

    async def shutdown(self, record: Record) -> None:
        """Press the power button; ``on_poweroff`` may turn it into a reboot."""
        guest: Guest = record.runtime
        again = guest.course.on_poweroff in lifecycle.RESTARTS
        await self._power_button(record, guest, again=again)

    async def reboot(self, record: Record) -> None:
        """Press the power button and start the guest again when it is off.

        ``on_reboot`` may turn it into a shutdown.
        """
        guest: Guest = record.runtime
        again = guest.course.on_reboot not in ("destroy", "preserve")
        await self._power_button(record, guest, again=again)

    async def _power_button(self, record: Record, guest: Guest, *, again: bool) -> None:
        guest.course.fake_reboot = again
        record.data = {**record.data, "fake_reboot": again}
        self.reports.save(record)
        await guest.monitor.execute("system_powerdown")

    async def reset(self, record: Record) -> None:
        """Press the reset button."""
        guest: Guest = record.runtime
        await guest.monitor.execute("system_reset")
        guest.course.fake_reboot = False
        if record.state is State.CRASHED:
            self.reports.transition(record, PausedReason.CRASHED)

    async def suspend(self, record: Record) -> None:
        """Stop the CPUs."""
        guest: Guest = record.runtime
        guest.course.pausing = PausedReason.USER
        await guest.monitor.execute("stop")

    async def resume(self, record: Record) -> None:
        """Let the CPUs run."""
        guest: Guest = record.runtime
        guest.course.resuming = RunningReason.UNPAUSED
        await guest.monitor.execute("cont")

    async def console(self, record: Record, alias: str | None) -> str:
        """Return the terminal of a character device.

        :raises HvError: there is no such device, or it is not a terminal.
        """
        terminals: dict[str, str] = record.data.get("terminals", {})
        if alias is None:
            names = sorted(name for name in terminals if name.startswith(("console", "serial")))
            alias = names[0] if names else "<null>"
        if alias not in terminals:
            raise HvError(f"character device {alias} is not using a PTY", domain=record.name)
        return terminals[alias]

    async def lower(self, definition: Definition) -> str:
        """Return environment and command line as a line for a shell."""
        from hvcore_qemu.pretend import PretendHost  # noqa: PLC0415 - see pipeline

        plan = await self._lowered(
            definition.domain, PretendHost(), self.config, placed_for=definition.placed_for
        )
        words = [f"{name}={shlex.quote(value)}" for name, value in plan.env.items()]
        return " ".join([*words, *map(shlex.quote, plan.argv)]) + "\n"


def _course(record: Record) -> Course:
    domain = record.definition.domain
    return Course(
        on_poweroff=domain.on_poweroff or "destroy",
        on_reboot=domain.on_reboot or "restart",
        on_crash=domain.on_crash or "destroy",
    )


def _disk_path(record: Record, alias: str) -> str:
    """Return what the disk with this alias is backed by; empty where that is no file."""
    for disk in record.definition.domain.devices.disks:
        if disk.alias == alias:
            return getattr(disk.source, "path", None) or ""
    return ""


def _exists(path: Path) -> bool:
    return path.exists()
