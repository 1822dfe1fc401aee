"""Pipes between QEMU and files.

QEMU migrates into a pipe as into a socket. Between a pipe and a file a thread moves the data
without looking at it, so the file may be anything that can be written, at any offset, and its
errors are ours to report: QEMU would only say that the pipe is broken.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import threading
from typing import TYPE_CHECKING
from typing import Final

from hvcore.errors import DriverError
from hvcore.errors import ErrorClass

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_CHUNK: Final = 1 << 20


class Pump:
    """Data on its way from one descriptor to another.

    :ivar fd: the end of the pipe that is for QEMU.
    """

    def __init__(self, file: int, *, into_file: bool) -> None:
        read, write = os.pipe2(os.O_CLOEXEC)
        with contextlib.suppress(OSError):
            # Larger than what an unprivileged user may have is refused, and not needed.
            fcntl.fcntl(read, fcntl.F_SETPIPE_SZ, _CHUNK)
        own, self.fd = (read, write) if into_file else (write, read)
        ends = (own, os.dup(file)) if into_file else (os.dup(file), own)
        self._loop = asyncio.get_running_loop()
        self._done: asyncio.Future[None] = self._loop.create_future()
        # A daemon: a file that hangs (NFS) must not keep the program from ending.
        thread = threading.Thread(target=self._move, args=ends, name="hvcore-pump", daemon=True)
        thread.start()

    def give_away(self) -> None:
        """Close the end that QEMU has by now."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    async def finished(self) -> None:
        """Wait until everything has arrived.

        :raises DriverError: the file cannot be read or written.
        """
        try:
            await asyncio.shield(self._done)
        except OSError as error:
            raise DriverError(
                f"failed to move the guest's state: {error.strerror}", kind=ErrorClass.SYSTEM
            ) from error

    def failure(self) -> OSError | None:
        """Return why it stopped before the end, if it did."""
        if not self._done.done() or self._done.cancelled():
            return None
        error = self._done.exception()
        return error if isinstance(error, OSError) else None

    def _move(self, source: int, sink: int) -> None:
        error: OSError | None = None
        try:
            while _splice(source, sink):
                pass
        except OSError as caught:
            # Whoever reads a saved state stops behind its last byte.
            error = None if caught.errno == errno.EPIPE else caught
        finally:
            os.close(source)
            os.close(sink)
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._tell, error)

    def _tell(self, error: OSError | None) -> None:
        if self._done.done():
            return
        if error is None:
            self._done.set_result(None)
        else:
            self._done.set_exception(error)
            self._done.exception()  # whoever is interested asks; nobody has to


def _splice(source: int, sink: int) -> int:
    try:
        return os.splice(source, sink, _CHUNK)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS):
            raise
    # Terminals, some filesystems: they have no splice.
    data = os.read(source, _CHUNK)
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(sink, rest) :]
    return len(data)


@contextlib.asynccontextmanager
async def pump(file: int, *, into_file: bool) -> AsyncIterator[Pump]:
    """Move data between QEMU and ``file``, from where it stands.

    :param into_file: from QEMU into the file, rather than the other way.
    """
    made = Pump(file, into_file=into_file)
    try:
        yield made
    finally:
        made.give_away()
