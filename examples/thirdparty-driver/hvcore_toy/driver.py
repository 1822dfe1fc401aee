"""The driver: a domain is the process that ``<os><init>`` names.

Invariant: the process is only ever addressed by its pidfd, so a signal never reaches another
process that was given the same pid later.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
from pathlib import Path
from typing import TYPE_CHECKING
from typing import ClassVar
from typing import Final

import attrs

from hvcore import events
from hvcore.driver import Driver
from hvcore.driver import Info
from hvcore.errors import Issue
from hvcore.errors import LaunchError
from hvcore.lifecycle import PausedReason
from hvcore.lifecycle import RunningReason
from hvcore.lifecycle import ShutoffReason
from hvcore.pipeline import Context
from hvcore.pipeline import Pipeline
from hvcore.plugin import Rules
from hvcore.state import process_start

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.driver import Record
    from hvcore.driver import Setup
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Definition
    from hvcore.state import Status

RULES: Final = Rules()


@RULES.check_domain
def _needs_a_program(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Ask for what libvirt's container driver asks for, in its words."""
    del ctx
    if domain.os is None or not domain.os.init:
        yield Issue.xml("init binary must be specified", path="/domain/os/init")


def argv(domain: Domain) -> list[str]:
    """Return the command line of a domain."""
    assert domain.os is not None  # RULES refused such a domain
    assert domain.os.init is not None
    return [domain.os.init, *domain.os.initargs]


def spawn(command: list[str]) -> int:
    """Start a program in a session of its own, without a terminal, and return its pid.

    :raises LaunchError: there is no such program, or it may not be run.
    """
    quiet = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in range(3)]
    try:
        return os.posix_spawn(command[0], command, os.environ, file_actions=quiet, setsid=True)
    except OSError as error:
        raise LaunchError(f"cannot execute binary {command[0]}: {error.strerror}") from error


@attrs.define
class Process:
    """A running domain's process.

    :param handle: its pidfd, readable once it ended.
    :param asked: it was asked to end, so a signal that ends it is no crash.
    :param ended: set when that was noticed.
    """

    pid: int
    handle: int
    asked: bool = False
    ended: asyncio.Event = attrs.field(factory=asyncio.Event)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, unless the process ended by itself meanwhile."""
        if not self.ended.is_set():
            signal.pidfd_send_signal(self.handle, number)


class ToyDriver(Driver):
    """Domains that are processes."""

    schemes: ClassVar[tuple[str, ...]] = ("toy",)
    name: ClassVar[str] = "toy"

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._pipeline = Pipeline(setup.registry, RULES)

    def pipeline(self) -> Pipeline:
        """Return libvirt's generic pipeline with our one rule."""
        return self._pipeline

    async def context(self, domain: Domain, *, new: bool = False) -> Context:
        """Return what rules may ask about."""
        del domain
        return Context(registry=self.registry, driver=self.name, host=self.host(), abi_update=new)

    # -- following a process ------------------------------------------------------------

    def _follow(self, record: Record, pid: int) -> Process:
        process = Process(pid, os.pidfd_open(pid))
        record.runtime = process
        asyncio.get_running_loop().add_reader(process.handle, self._ended, record, process)
        return process

    def _ended(self, record: Record, process: Process) -> None:
        asyncio.get_running_loop().remove_reader(process.handle)
        try:
            found = os.waitid(os.P_PIDFD, process.handle, os.WEXITED | os.WNOHANG)
            crashed = found is not None and found.si_code != os.CLD_EXITED and not process.asked
        except ChildProcessError:
            # Started by an earlier program: only its parent learns how it ended.
            crashed = False
        process.ended.set()
        os.close(process.handle)
        if record.destroying:
            return  # whoever destroys it says so
        if crashed:
            self.reports.stopped(record, ShutoffReason.CRASHED, events.StoppedDetail.CRASHED)
        else:
            self.reports.stopped(record, ShutoffReason.SHUTDOWN, events.StoppedDetail.SHUTDOWN)

    async def reconnect(self, record: Record, status: Status) -> None:
        """Follow the process that an earlier program started, if it still lives."""
        if status.pid is None or not status.alive():
            self.reports.stopped(record, ShutoffReason.CRASHED, events.StoppedDetail.CRASHED)
        else:
            self._follow(record, status.pid)

    def detach(self, record: Record) -> None:
        """Stop following; the process goes on."""
        process: Process | None = record.runtime
        super().detach(record)
        if process is not None and not process.ended.is_set():
            asyncio.get_running_loop().remove_reader(process.handle)
            os.close(process.handle)

    # -- verbs --------------------------------------------------------------------------

    async def start(self, record: Record, *, paused: bool) -> None:
        """Start the program."""
        pid = spawn(argv(record.definition.domain))
        process = self._follow(record, pid)
        started = process_start(pid)
        if started is not None:
            record.process = (pid, started)
        # From here on a program that takes over after us finds the process.
        self.reports.save(record)
        if paused:
            process.signal(signal.SIGSTOP)

    async def destroy(self, record: Record, *, graceful: bool) -> None:
        """Kill the process; there is nothing it could lose."""
        del graceful
        process: Process = record.runtime
        process.signal(signal.SIGKILL)
        await process.ended.wait()

    async def shutdown(self, record: Record) -> None:
        """Ask the process to end."""
        record.runtime.asked = True
        record.runtime.signal(signal.SIGTERM)

    async def suspend(self, record: Record) -> None:
        """Stop the process."""
        record.runtime.signal(signal.SIGSTOP)
        suspended = events.Suspended(domain=record.ref())
        self.reports.transition(record, PausedReason.USER, suspended)

    async def resume(self, record: Record) -> None:
        """Let the process run."""
        record.runtime.signal(signal.SIGCONT)
        resumed = events.Resumed(domain=record.ref())
        self.reports.transition(record, RunningReason.UNPAUSED, resumed)

    async def info(self, record: Record) -> Info:
        """Return resident memory and CPU time, from /proc."""
        folder = Path(f"/proc/{record.runtime.pid}")
        resident = int((folder / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        # The program's name, in parentheses, may contain anything.
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
        ticks = int(fields[11]) + int(fields[12])
        return Info(
            memory=resident // 1024,
            cpu_time=ticks * 1_000_000_000 // os.sysconf("SC_CLK_TCK"),
        )

    async def lower(self, definition: Definition) -> str:
        """Return the command line."""
        return shlex.join(argv(definition.domain)) + "\n"
