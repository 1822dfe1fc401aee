"""The cloud-hypervisor process: its sockets before it, and its end after everything.

The API socket is bound and listening before the process is started, and inherited: there is nothing
to wait for and no moment in which somebody else could take its place. So is the file of events.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import socket
from typing import TYPE_CHECKING
from typing import Final

import attrs

from hvcore import usage
from hvcore.errors import DriverError
from hvcore.errors import ErrorClass
from hvcore.errors import MonitorError
from hvcore.errors import MonitorLost
from hvcore.process import Launch
from hvcore.process import Log
from hvcore.process import Process
from hvcore.state import make_directory
from hvcore_ch.monitor import Monitor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Self

    from hvcore.model.types import NodeSet

SOCKET: Final = "api.sock"
EVENTS: Final = "events"

_ENVIRONMENT: Final = ("PATH", "LANG", "LC_ALL")
FAREWELL: Final = 10.0
"""Seconds for a process to end its guest in order; libvirt's figure."""


def argv_of(
    binary: str, *, api: int, events: int, seccomp: str = "true", no_shutdown: bool = False
) -> list[str]:
    """Return the command line.

    :param api: descriptor of the listening socket.
    :param events: descriptor of the file of events.
    :param no_shutdown: stay when the guest powers off, so that it can be started again.
    """
    argv = [binary, "--api-socket", f"fd={api}", "--event-monitor", f"fd={events}"]
    if seccomp != "true":
        argv += ["--seccomp", seccomp]
    if no_shutdown:
        argv.append("--no-shutdown")
    return argv


def _failed(message: str, error: OSError) -> DriverError:
    return DriverError(f"{message}: {error.strerror}", kind=ErrorClass.SYSTEM)


def _listen(path: Path) -> int:
    """Return a socket that listens at ``path``, for this user alone."""
    make_directory(path.parent)
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        # On Linux the mode of the descriptor becomes that of the name, less the umask.
        os.fchmod(server.fileno(), 0o600)
        try:
            server.bind(str(path))
            path.chmod(0o600)
            server.listen(16)
        except OSError as error:
            raise _failed(f"Unable to bind to UNIX socket path '{path}'", error) from error
        return server.detach()


def _file(path: Path) -> int:
    """Return an empty file that is written at its end."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(path, flags, 0o600)
    except OSError as error:
        raise _failed(f"Cannot create event monitor '{path}'", error) from error


@contextlib.contextmanager
def _channels(folder: Path) -> Iterator[tuple[int, int]]:
    """Open what the process inherits; our copies are closed when it has."""
    api = _listen(folder / SOCKET)
    try:
        events = _file(folder / EVENTS)
    except BaseException:
        os.close(api)
        raise
    try:
        yield api, events
    finally:
        os.close(api)
        os.close(events)


@attrs.define(eq=False)
class Vmm:
    """A process with its API, its log, and where its sockets are."""

    process: Process
    monitor: Monitor
    log: Log
    folder: Path
    argv: Sequence[str] = ()

    @classmethod
    async def start(
        cls,
        binary: str,
        folder: Path,
        *,
        name: str,
        log: Log | None = None,
        affinity: NodeSet | None = None,
        seccomp: str = "true",
        no_shutdown: bool = False,
    ) -> Self:
        """Start a process without a guest.

        :param folder: for its sockets.
        :param name: the domain's, for messages.
        :param affinity: host CPUs of its own threads; all unless given.
        :raises LaunchError: the program cannot be executed.
        :raises DriverError: the sockets cannot be made.
        """
        log = log or Log(folder / "log")
        with _channels(folder) as (api, events):
            argv = argv_of(binary, api=api, events=events, seccomp=seccomp, no_shutdown=no_shutdown)
            env = {key: os.environ[key] for key in _ENVIRONMENT if key in os.environ}
            launch = Launch(argv=argv, env=env, fds=(api, events), log=log.path, affinity=affinity)
            log.begin(launch)
            process = await Process.spawn(launch)
        return cls(process, Monitor(name, folder / SOCKET), log, folder, argv)

    async def call_or_exit(self, endpoint: str, *, deadline: float) -> object:
        """Ask for something of a process that may be ending.

        :raises MonitorLost: it ended first.
        """
        asking = asyncio.create_task(self.monitor.call(endpoint, deadline=deadline))
        ending = asyncio.create_task(self.process.wait())
        try:
            await asyncio.wait((asking, ending), return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                raise MonitorLost("Cloud-Hypervisor ended", kind=ErrorClass.INTERNAL)
            return await asking
        finally:
            for task in (asking, ending):
                task.cancel()
            await asyncio.gather(asking, ending, return_exceptions=True)

    async def call_long(self, endpoint: str, body: object, *, fds: Sequence[int] = ()) -> object:
        """Ask for what takes as long as the disks of the host take, while it goes on.

        :raises MonitorError: it is refused, or nothing happens any more.
        :raises MonitorLost: the process ended.
        """
        work = functools.partial(usage.work, self.process.pid)
        return await self.monitor.call(endpoint, body, fds=fds, progress=work)

    async def end(self, *, force: bool) -> None:
        """End the guest in order and the process with it, or kill it when it does not obey.

        :param force: kill it when it does not obey.
        :raises DriverError: it is still there.
        """
        if self.process.alive:
            with contextlib.suppress(MonitorError, MonitorLost, TimeoutError):
                async with asyncio.timeout(FAREWELL):
                    await self.monitor.call("vmm.shutdown", deadline=FAREWELL)
                    await self.process.wait()
        await self.process.stop(force=force, grace=0 if force else FAREWELL)

    async def kill(self) -> None:
        """End the process at once."""
        self.process.send(signal.SIGKILL)
        await self.process.wait()
