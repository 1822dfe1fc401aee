"""The API socket of one cloud-hypervisor: requests with deadlines, descriptors, typed errors.

Each request has a connection of its own, so that one that hangs holds up no other and nothing of a
failed one is left for the next. Events come in a file, see :class:`Events`.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import ctypes
import json
import os
import socket
import struct
from typing import TYPE_CHECKING
from typing import Any
from typing import Final
from typing import TypeVar

import attrs

from hvcore.errors import DriverError
from hvcore.errors import ErrorClass
from hvcore.errors import MonitorError
from hvcore.errors import MonitorLost
from hvcore_ch.http import NotHttp
from hvcore_ch.http import Reader
from hvcore_ch.http import Reply
from hvcore_ch.http import request

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Coroutine
    from collections.abc import Generator
    from collections.abc import Sequence
    from pathlib import Path

    from hvcore.errors import HvError

_T = TypeVar("_T")

DEADLINE: Final = 60.0
"""Seconds a request may take; the longest that cloud-hypervisor itself waits is for the socket of a
vhost-user process."""

REPEATABLE: Final = frozenset({"vmm.ping", "vm.info", "vm.counters", "vm.resize", "vm.resize-disk"})
"""What may be asked for once more when its answer is lost: a second time changes nothing."""

_PART: Final = 1 << 16
_IN_MODIFY: Final = 0x2
_INOTIFY_EVENT: Final = struct.Struct("iIII")


@attrs.frozen
class Request:
    """One request of a conversation.

    :ivar fds: descriptors that go with it; the receiver gets copies.
    """

    endpoint: str
    body: Any = None
    fds: tuple[int, ...] = ()
    deadline: float | None = None


class Monitor:
    """The API of one cloud-hypervisor.

    :param name: the domain's, for messages.
    :param path: of the socket.
    """

    def __init__(self, name: str, path: Path) -> None:
        self._name = name
        self.path = path

    async def call(
        self,
        endpoint: str,
        body: Any = None,
        *,
        fds: Sequence[int] = (),
        deadline: float | None = None,
        progress: Callable[[], object] | None = None,
    ) -> Any:
        """Ask for something and return what is answered.

        :param fds: descriptors that go with it; the receiver gets copies.
        :param deadline: seconds; :data:`DEADLINE` unless given.
        :param progress: what changes while it is worked on; the deadline begins anew with it.

        :raises MonitorError: cloud-hypervisor refused it, did not answer in time, or in another
            language.
        :raises MonitorLost: the connection ended before the answer.
        """
        sent = {"endpoint": endpoint} if body is None else {"endpoint": endpoint, "body": body}
        deadline = DEADLINE if deadline is None else deadline
        data = request(endpoint, body)
        for last in (False, True) if endpoint in REPEATABLE else (True,):
            try:
                reply = await _patiently(self._exchange(data, fds), deadline, progress)
            except TimeoutError:
                raise MonitorError(
                    f"Cloud-Hypervisor did not answer to '{endpoint}' within {deadline:g} s",
                    kind=ErrorClass.OPERATION_TIMEOUT,
                    sent=sent,
                    domain=self._name,
                ) from None
            except NotHttp as error:
                raise MonitorError(
                    f"Cloud-Hypervisor answered to '{endpoint}' with what is no HTTP: {error}",
                    sent=sent,
                    domain=self._name,
                ) from error
            except (OSError, EOFError) as error:
                if last:
                    raise MonitorLost(
                        f"Cloud-Hypervisor unexpectedly closed the monitor (vm='{self._name}')",
                        kind=ErrorClass.INTERNAL,
                        domain=self._name,
                    ) from error
            else:
                break
        if not reply.ok:
            raise self._refused(endpoint, sent, reply)
        return reply.body

    async def run(self, steps: Generator[Request, Any, _T]) -> _T:
        """Carry out a conversation written as a generator; a refusal is thrown in.

        :raises MonitorError: a request was refused and the generator did not catch it.
        :raises MonitorLost: the connection ended.
        """
        try:
            wanted = next(steps)
            while True:
                try:
                    reply = await self.call(
                        wanted.endpoint, wanted.body, fds=wanted.fds, deadline=wanted.deadline
                    )
                except MonitorError as error:
                    wanted = steps.throw(error)
                else:
                    wanted = steps.send(reply)
        except StopIteration as end:
            result: _T = end.value
            return result

    def _refused(self, endpoint: str, sent: Any, reply: Reply) -> MonitorError:
        messages = reply.messages
        # The first two say that it failed and what, which the endpoint says already.
        reasons = messages[2:] or messages or [f"HTTP status {reply.status}"]
        return MonitorError(
            f"unable to execute Cloud-Hypervisor request '{endpoint}': {': '.join(reasons)}",
            sent=sent,
            received={"status": reply.status, "body": reply.body},
            error_class=str(reply.status),
            domain=self._name,
        )

    async def _exchange(self, data: bytes, fds: Sequence[int]) -> Reply:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
            peer.setblocking(False)
            await loop.sock_connect(peer, str(self.path))
            if fds:
                data = data[await _send_with(peer, data, fds) :]
            if data:
                # Sending nothing fails as well where the answer is there and the other end closed.
                await loop.sock_sendall(peer, data)
            reader = Reader()
            while True:
                part = await loop.sock_recv(peer, _PART)
                if not part:
                    raise EOFError("half of an answer" if reader.begun else "no answer")
                reply = reader.feed(part)
                if reply is not None:
                    return reply


def answered(error: HvError) -> bool:
    """Tell whether an error is an answer, so that what was asked for is known not to be done."""
    return isinstance(error, MonitorError) and error.error_class is not None


def another_schema(endpoint: str, received: Any) -> MonitorError:
    """Return the error for an answer that is not what v51 and later give."""
    return MonitorError(
        f"Cloud-Hypervisor answered '{endpoint}' in another schema", received=received
    )


async def _patiently(
    work: Coroutine[Any, Any, _T], deadline: float, progress: Callable[[], object] | None
) -> _T:
    """Return what comes of ``work``.

    :raises TimeoutError: nothing came within the deadline, nor did the progress change in it.
    """
    task = asyncio.ensure_future(work)
    try:
        seen = progress() if progress is not None else None
        while not (await asyncio.wait({task}, timeout=deadline))[0]:
            now = progress() if progress is not None else None
            if now == seen:
                raise TimeoutError
            seen = now
        return await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _send_with(peer: socket.socket, data: bytes, fds: Sequence[int]) -> int:
    """Send the beginning of ``data`` together with descriptors; return how much of it went."""
    while True:
        try:
            ancillary = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))
            return peer.sendmsg([data], [ancillary])
        except BlockingIOError:
            # A new connection has room; should it ever lack, a moment later it will not.
            await asyncio.sleep(0.01)


class Decoder:
    """Takes events from a stream of JSON documents with empty lines between them."""

    def __init__(self) -> None:
        self._data = b""

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """Take what arrived; return the events that are complete."""
        *parts, self._data = (self._data + data).split(b"\n\n")
        found = []
        for part in parts:
            # A process that is killed while it writes leaves a part of an event.
            with contextlib.suppress(ValueError):
                event = json.loads(part)
                if isinstance(event, dict) and "event" in event:
                    found.append(event)
        return found


class Events:
    """The file that a cloud-hypervisor writes its events into.

    It keeps them, so what happens while no manager is there is known to the next one, even when the
    process is gone by then.

    :ivar offset: how much of the file has been taken.
    """

    def __init__(self, path: Path, offset: int = 0) -> None:
        self.path = path
        self._decoder = Decoder()
        self.offset = offset

    def read(self) -> list[dict[str, Any]]:
        """Return what was written since the last time."""
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                data = file.read()
        except OSError:
            return []
        self.offset += len(data)
        return self._decoder.feed(data)


class Notifier:
    """Tells when files change: one queue of the kernel for all of a driver, few are to be had."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._loop = asyncio.get_running_loop()
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._fd: int = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise _unable(ctypes.get_errno())
        self._loop.add_reader(self._fd, self._read)

    def watch(self, path: Path, changed: Callable[[], None]) -> int:
        """Call ``changed`` each time something was written to ``path``.

        :return: what :meth:`forget` takes.
        :raises DriverError: the kernel watches too many files already.
        """
        found: int = self._libc.inotify_add_watch(self._fd, os.fsencode(path), _IN_MODIFY)
        if found < 0:
            raise _unable(ctypes.get_errno())
        self._callbacks[found] = changed
        return found

    def forget(self, watch: int) -> None:
        """Watch a file no longer."""
        if self._callbacks.pop(watch, None) is not None:
            # The file may be gone, and its watch with it.
            self._libc.inotify_rm_watch(self._fd, watch)

    def close(self) -> None:
        """Watch nothing any more."""
        self._loop.remove_reader(self._fd)
        os.close(self._fd)
        self._callbacks.clear()

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            data = os.read(self._fd, _PART)
            place = 0
            while place < len(data):
                watch, _, _, length = _INOTIFY_EVENT.unpack_from(data, place)
                place += _INOTIFY_EVENT.size + length
                if (changed := self._callbacks.get(watch)) is not None:
                    changed()


def _unable(number: int) -> DriverError:
    return DriverError(
        f"Cannot watch the event monitor: {os.strerror(number)}", kind=ErrorClass.SYSTEM
    )
