"""What stands between two cloud-hypervisors of which one sends its guest to the other.

They speak a protocol of requests and answers over one connection: a beginning, the configuration,
the memory again and again, the state, and the request that sets the guest going there. Two of them
matter here. In the configuration is where things are on the host, which is another one. And the
last one is held back until the guest may run there: before it the sender takes its guest back when
the connection ends, after it the sender ends. So there is no moment in which nobody has the guest.

Source: ``vm-migration/src/protocol.rs`` of v53, version 0 of the protocol.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
from typing import TYPE_CHECKING
from typing import Any
from typing import Final

from hvcore.errors import DriverError
from hvcore.errors import ErrorClass

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from collections.abc import Callable
    from pathlib import Path

_HEAD: Final = struct.Struct("<H6xQ")
"""Number of a request or of an answer, and the length of what follows."""

_CONFIG: Final = 2
_COMPLETE: Final = {True: 5, False: 8}
"""The last request, by whether the guest is to run."""
_OK: Final = 1

_PART: Final = 1 << 20
_LONGEST: Final = 64 << 20
"""Bytes of a configuration, which is read as a whole."""

_RELAYS: Final[dict[str, Relay]] = {}
"""Relays by the address that they listen at."""


def at(address: str) -> Relay:
    """Return the relay that listens at an address.

    :raises DriverError: there is none, or not any more.
    """
    relay = _RELAYS.get(address)
    if relay is None:
        raise DriverError(f"nobody waits for a guest at '{address}'")
    return relay


class Relay:
    """One migration on its way.

    :param path: where it listens for the sender.
    :param receiver: where the receiver listens.
    :param change: returns the configuration that the receiver is to get.
    :ivar names: of the sender's devices, by their address; for ``change``.
    :ivar held: done when everything was sent, and the guest stands still.
    :ivar passed: bytes that were sent.
    :ivar limit: bytes per second; None for all that can be had.
    :ivar fresh: the guest was not booted so far, so that there is nothing to send.
    :ivar handed_over: the receiver runs the guest, and the sender was told so.
    """

    def __init__(
        self,
        path: Path,
        receiver: Path,
        change: Callable[[dict[str, Any], dict[str, str]], Awaitable[dict[str, Any]]],
    ) -> None:
        self.address = f"unix:{path}"
        self.names: dict[str, str] = {}
        self.passed = 0
        self.limit: int | None = None
        self.handed_over = False
        self.fresh = False
        loop = asyncio.get_running_loop()
        self.held: asyncio.Future[None] = loop.create_future()
        self._released: asyncio.Future[bool] = loop.create_future()
        self._receiver = receiver
        self._change = change
        self._path = path
        self._listener = _listen(path)
        _RELAYS[self.address] = self
        self._task = asyncio.create_task(self._serve(), name="hvcore-ch-migration")

    async def release(self, *, run: bool) -> None:
        """Let the receiver have the guest for good.

        :param run: let it run there.
        :raises DriverError: the receiver does not take it; the sender keeps it.
        """
        if self.fresh:
            self.handed_over = True
            return
        if not self._released.done():
            self._released.set_result(run)
        await asyncio.wait((self._task,))
        if not self.handed_over:
            raise _failed(self._task.exception() if not self._task.cancelled() else None)

    async def skip(self) -> None:
        """Send nothing: the guest was not booted so far. The receiver need not wait any more."""
        self.fresh = True
        await self.close()
        with socket.socket(socket.AF_UNIX) as receiver:
            receiver.setblocking(False)
            await asyncio.get_running_loop().sock_connect(receiver, str(self._receiver))

    async def close(self) -> None:
        """End the connection; whoever was not done takes the guest back."""
        self._task.cancel()
        await asyncio.wait((self._task,))

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            sender, _ = await loop.sock_accept(self._listener)
            with sender, socket.socket(socket.AF_UNIX) as receiver:
                for each in (sender, receiver):
                    each.setblocking(False)
                await loop.sock_connect(receiver, str(self._receiver))
                await self._converse(sender, receiver)
        except BaseException as error:
            if not self.held.done():
                self.held.set_exception(_failed(error))
                self.held.exception()  # nobody may be waiting for it
            raise
        finally:
            self._listener.close()
            _RELAYS.pop(self.address, None)
            with contextlib.suppress(OSError):
                os.unlink(self._path)  # noqa: PTH108 - as short as the others

    async def _converse(self, sender: socket.socket, receiver: socket.socket) -> None:
        """Pass requests on, each until it is answered."""
        while True:
            head = await _exactly(sender, _HEAD.size)
            number, length = _HEAD.unpack(head)
            if number in _COMPLETE.values():
                await self._complete(sender, receiver)
                return
            if number == _CONFIG:
                head = await self._configuration(sender, length)
            await self._pass(receiver, head)
            await self._answered(sender, receiver)

    async def _configuration(self, sender: socket.socket, length: int) -> bytes:
        """Return the request with the configuration for the other host."""
        if length > _LONGEST:
            raise OSError(f"a configuration of {length} bytes")
        whole = json.loads(await _exactly(sender, length))
        whole["vm_config"] = await self._change(whole["vm_config"], self.names)
        data = json.dumps(whole, separators=(",", ":")).encode()
        return _HEAD.pack(_CONFIG, len(data)) + data

    async def _answered(self, sender: socket.socket, receiver: socket.socket) -> None:
        """Pass on what is left of a request until its answer came, and the answer."""
        answer = asyncio.ensure_future(_exactly(receiver, _HEAD.size))
        rest = asyncio.ensure_future(self._rest(sender, receiver))
        try:
            await asyncio.wait((answer, rest), return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                rest.result()
        finally:
            for task in (answer, rest):
                if not task.done():
                    task.cancel()
            await asyncio.gather(answer, rest, return_exceptions=True)
        await asyncio.get_running_loop().sock_sendall(sender, answer.result())

    async def _rest(self, sender: socket.socket, receiver: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            part = await loop.sock_recv(sender, _PART)
            if not part:
                raise EOFError
            await self._pass(receiver, part)

    async def _pass(self, receiver: socket.socket, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        await loop.sock_sendall(receiver, data)
        self.passed += len(data)
        if self.limit is not None:
            await asyncio.sleep(max(0, begun + len(data) / self.limit - loop.time()))

    async def _complete(self, sender: socket.socket, receiver: socket.socket) -> None:
        """Hold the last request back, then pass it on, and the answer at once."""
        loop = asyncio.get_running_loop()
        self.held.set_result(None)
        run = await self._released
        await loop.sock_sendall(receiver, _HEAD.pack(_COMPLETE[run], 0))
        answer = await _exactly(receiver, _HEAD.size)
        if _HEAD.unpack(answer)[0] != _OK:
            raise OSError("the other one does not take it")
        self.handed_over = True
        # That the sender is gone changes nothing any more: it was to end.
        with contextlib.suppress(OSError):
            await loop.sock_sendall(sender, answer)


def _listen(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    server = socket.socket(socket.AF_UNIX)
    try:
        server.bind(str(path))
        path.chmod(0o600)
        server.listen(1)
        server.setblocking(False)
    except OSError as error:
        server.close()
        raise DriverError(
            f"Unable to bind to UNIX socket path '{path}': {error.strerror}",
            kind=ErrorClass.SYSTEM,
        ) from error
    return server


async def _exactly(peer: socket.socket, count: int) -> bytes:
    """Return so many bytes.

    :raises EOFError: there are not as many.
    """
    loop = asyncio.get_running_loop()
    data = b""
    while len(data) < count:
        part = await loop.sock_recv(peer, count - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def _failed(error: BaseException | None) -> DriverError:
    reason = f": {error}" if isinstance(error, OSError | ValueError) else ""
    return DriverError(f"job 'migration out' failed: {reason or 'unexpectedly failed'}")
