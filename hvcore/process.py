"""Virtual machine processes: started with nothing but what is given, waited for without polling.

A process is held by its pidfd, so a signal never hits a stranger that got the same pid, and its
end wakes the loop. One that an earlier manager started is held the same way.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import shlex
import signal
import subprocess
import threading
from datetime import UTC
from datetime import datetime
from typing import TYPE_CHECKING
from typing import Final
from typing import TypeVar

import attrs

from hvcore import __version__
from hvcore.affinity import set_affinity
from hvcore.affinity import set_memory_policy
from hvcore.errors import DriverError
from hvcore.errors import ErrorClass
from hvcore.errors import LaunchError
from hvcore.state import process_start

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Mapping
    from collections.abc import Sequence
    from pathlib import Path

    from hvcore.model.types import NodeSet
    from hvcore.rules.placement import MemoryPolicy

_T = TypeVar("_T")

GRACE: Final = 10.0
"""Seconds between SIGTERM and SIGKILL; disks are flushed in them. libvirt's figure."""

KILL_PATIENCE: Final = 30.0
"""Seconds a killed process may take to go; the kernel frees its memory and devices in them."""

_TAIL: Final = 1024
"""Bytes of output in an error; libvirt's figure."""


@attrs.frozen(kw_only=True)
class Launch:
    """What to start.

    :param fds: descriptors it inherits under the same numbers.
    :param log: file its output is appended to.
    :param affinity: host CPUs it is started on; all unless given.
    :param policy: where its memory comes from.
    """

    argv: Sequence[str]
    env: Mapping[str, str]
    fds: Sequence[int]
    log: Path
    affinity: NodeSet | None = None
    policy: MemoryPolicy | None = None


class Process:
    """A running process.

    :ivar pid: its number.
    :ivar start: :func:`hvcore.state.process_start` of it.
    """

    def __init__(self, pid: int, popen: subprocess.Popen[bytes] | None = None) -> None:
        self.pid = pid
        self._popen = popen
        self._fd = os.pidfd_open(pid)
        self._loop = asyncio.get_running_loop()
        self._exited: asyncio.Future[int | None] = self._loop.create_future()
        start = process_start(pid)
        self.start = -1 if start is None else start
        self._loop.add_reader(self._fd, self._on_exit)

    @classmethod
    async def spawn(cls, launch: Launch) -> Process:
        """Start a process of its own session.

        :raises LaunchError: the program cannot be executed, or its log cannot be written.
        :raises DriverError: the host does not have the CPUs or nodes it is to be started on.
        """
        starting = _in_thread(lambda: _popen(launch))
        try:
            popen = await asyncio.shield(starting)
        except asyncio.CancelledError:
            # Whoever gives up does not know of the process: nobody else would ever end it.
            await asyncio.wait([starting])
            if starting.exception() is None:
                starting.result().kill()
                starting.result().wait()
            raise
        except OSError as error:
            raise LaunchError(
                f"cannot execute binary {launch.argv[0]}: {error.strerror}", argv=launch.argv
            ) from error
        return cls(popen.pid, popen)

    @classmethod
    def attach(cls, pid: int, start: int) -> Process | None:
        """Hold a process that is running already; ``None`` when it does not live any more."""
        try:
            process = cls(pid)
        except ProcessLookupError:
            return None
        # Only after the pidfd was taken is the comparison final.
        if process.start != start:
            process.release()
            return None
        return process

    @property
    def alive(self) -> bool:
        """Whether it has not been seen to end."""
        return not self._exited.done()

    async def wait(self) -> int | None:
        """Return its exit status once it ended; ``None`` when it is not our child."""
        return await asyncio.shield(self._exited)

    async def stop(self, *, force: bool, grace: float = GRACE) -> None:
        """Ask it to end, and after a while make it end; return when it is gone.

        :param force: kill it when it does not obey in ``grace`` seconds.
        :raises DriverError: it is still there.
        """
        self.send(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.wait(), grace)
        if self.alive and force:
            self.send(signal.SIGKILL)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.wait(), KILL_PATIENCE)
        if self.alive:
            name = "KILL" if force else "TERM"
            raise DriverError(
                f"Failed to terminate process {self.pid} with SIG{name}: Device or resource busy",
                kind=ErrorClass.SYSTEM,
            )

    def send(self, number: signal.Signals) -> None:
        """Send a signal, unless it is gone."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._fd, number)

    def release(self) -> None:
        """Let go of it without touching it."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
        if self._popen is not None:
            # It is to outlive us; Popen would complain of a child nobody waited for.
            self._popen.returncode = self._popen.returncode or 0
        if not self._exited.done():
            self._exited.cancel()

    def _on_exit(self) -> None:
        self._loop.remove_reader(self._fd)
        status = None if self._popen is None else self._popen.poll()
        if not self._exited.done():
            self._exited.set_result(status)
        os.close(self._fd)
        self._fd = -1


class Log:
    """The log file of one domain, from a start on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0

    def begin(self, launch: Launch) -> None:
        """Write what is about to be started, as libvirt does.

        :raises DriverError: the file cannot be written.
        """
        words = [f"{name}={shlex.quote(value)}" for name, value in launch.env.items()]
        head, *rest = launch.argv
        words.append(shlex.quote(head))
        # An option and its value share a line.
        for word in rest:
            if word.startswith("-") or not words:
                words.append(shlex.quote(word))
            else:
                words[-1] += " " + shlex.quote(word)
        title = (
            f"starting up hvcore version: {__version__}, kernel: {platform.release()},"
            f" hostname: {platform.node()}"
        )
        self.note(title + "\n" + " \\\n".join(words))
        self._offset = self.path.stat().st_size

    def note(self, message: str) -> None:
        """Append a line of our own.

        :raises DriverError: the file cannot be written.
        """
        stamp = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + "+0000"
        try:
            descriptor = _open_log(self.path)
        except OSError as error:
            raise DriverError(
                f"cannot open log file '{self.path}': {error.strerror}", kind=ErrorClass.SYSTEM
            ) from error
        with open(descriptor, "ab") as file:  # noqa: PTH123 - a descriptor has no path
            file.write(f"{stamp}: {message}\n".encode())

    def tail(self) -> str:
        """Return the last of what the process wrote since it was started."""
        try:
            with self.path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(self._offset, size - _TAIL))
                return file.read().decode(errors="replace").strip()
        except OSError:
            return ""


def _open_log(path: Path) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, 0o600)
    os.fchmod(descriptor, 0o600)
    return descriptor


def _popen(launch: Launch) -> subprocess.Popen[bytes]:
    # Of this thread alone; the child inherits it. A preexec_fn would need a real fork.
    set_affinity(0, launch.affinity)
    if launch.policy is not None:
        set_memory_policy(launch.policy)
    log = _open_log(launch.log)
    try:
        return subprocess.Popen(
            list(launch.argv),
            env=dict(launch.env),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=tuple(launch.fds),
            start_new_session=True,
            cwd="/",
        )
    finally:
        os.close(log)


def _in_thread(function: Callable[[], _T]) -> asyncio.Future[_T]:
    """Run ``function`` in a thread of its own, whose settings end with it."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_T] = loop.create_future()

    def run() -> None:
        try:
            result = function()
        except BaseException as error:  # noqa: BLE001 - raised again where it is awaited
            loop.call_soon_threadsafe(future.set_exception, error)
        else:
            loop.call_soon_threadsafe(future.set_result, result)

    threading.Thread(target=run, name="hvcore-spawn", daemon=True).start()
    return future
