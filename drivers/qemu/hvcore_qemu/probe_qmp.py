"""Asking a live QEMU: a process without a machine, a monitor on an inherited socket.

Whatever the binary does (hang, crash, print garbage, refuse its arguments) ends as one ProbeError
that says which command waited for its reply and what the binary wrote, and leaves no process.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import TYPE_CHECKING
from typing import Any
from typing import Final
from typing import TypeVar
from typing import cast
from typing import final

import attrs
from qemu.qmp import ExecuteError
from qemu.qmp import Message
from qemu.qmp import QMPClient
from qemu.qmp import QMPError
from qemu.qmp.error import ProtocolError

from hvcore.capabilities import Exchange
from hvcore.capabilities import ProbeSession
from hvcore.errors import ProbeError
from hvcore_qemu.detect import ask
from hvcore_qemu.detect import ask_tcg

if TYPE_CHECKING:
    from collections.abc import Generator
    from collections.abc import Mapping

    from hvcore_qemu.detect import Command
    from hvcore_qemu.detect import Reply

T = TypeVar("T")

#: how much of what the binary writes is kept for the error
_TAIL: Final = 4096
#: how much of what arrived on the monitor is shown in the error
_SHOWN: Final = 300
#: bytes of the longest reply that is believed; the longest there is has a quarter of a million
_LONGEST: Final = 32 << 20
_CHUNK: Final = 1 << 20
#: what the binary sees of this process's environment
_ENVIRONMENT: Final = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "QEMU_MODULE_DIR",
)


async def interrogate(binary: str, facts: Mapping[str, Any], seconds: float) -> ProbeSession:
    """Ask a binary everything, once with the accelerator it chooses and once with TCG alone.

    :param facts: `hvcore.hostinfo.circumstances` of this host.
    :param seconds: time for all of it.
    :raises ProbeError: see the module.
    """
    sessions: list[_Session] = []
    try:
        async with asyncio.timeout(seconds):
            sessions.append(await _Session.start(binary, "kvm:tcg"))
            if facts.get("kvm"):
                # Most likely it will be wanted; it can get ready while the first one answers.
                sessions.append(await _Session.start(binary, "tcg"))
            caps = await sessions[0].lead(ask(binary))
            if {"kvm", "tcg"} <= caps.names:
                if len(sessions) == 1:
                    sessions.append(await _Session.start(binary, "tcg"))
                caps = await sessions[1].lead(ask_tcg(caps))
    except TimeoutError as error:
        raise await _failure(binary, sessions, f"no answer within {seconds:g} s") from error
    except (QMPError, EOFError, OSError) as error:
        raise await _failure(binary, sessions, error) from error
    finally:
        await asyncio.gather(*(session.close() for session in sessions))
    if "kvm" in caps.names:
        caps = attrs.evolve(
            caps,
            kernel_version=facts.get("kernel"),
            microcode_version=facts.get("microcode") or 0,
            host_cpu_signature=facts.get("cpu"),
            kvm_supports_nesting=bool(facts.get("nesting")),
        )
    return ProbeSession(caps, tuple(each for session in sessions for each in session.exchanges))


async def _failure(binary: str, sessions: list[_Session], cause: str | Exception) -> ProbeError:
    """Return the error of the session that was being led: the first that is not at its end."""
    for session in sessions:
        if not session.done:
            return await session.failed(cause)
    return ProbeError(f"Failed to start QEMU binary {binary} for probing: {cause}")


def arguments(binary: str, accelerators: str, descriptor: int) -> list[str]:
    """Return the command line of a process that can be asked.

    :param accelerators: in the order in which the binary is to try them, with colons.
    :param descriptor: of its monitor's socket.
    """
    return [
        binary,
        "-S",
        "-no-user-config",
        "-nodefaults",
        "-nographic",
        "-machine",
        f"none,accel={accelerators}",
        "-chardev",
        f"socket,id=monitor,fd={descriptor}",
        "-mon",
        "chardev=monitor,mode=control",
    ]


@final
class _Client(QMPClient):
    """A connection that remembers what arrived last and refuses replies beyond all measure.

    :ivar fault: why it broke the conversation off, if it did.
    """

    def __init__(self) -> None:
        super().__init__("probe")
        # Its own log entries of failures would repeat what the error says.
        self.logger.disabled = True
        self.received = 0
        self.fault: str | None = None
        self._pending_bytes = bytearray()
        self._last = b""

    @property
    def tail(self) -> str:
        """The end of what was read, in one line."""
        return bytes(self._pending_bytes or self._last)[-_SHOWN:].decode("utf-8", "replace").strip()

    def _cb_inbound(self, msg: Message) -> Message:
        # QMPClient's own would format each message for its log, also when nobody looks at it:
        # half as long as everything else takes.
        return msg

    def _cb_outbound(self, msg: Message) -> Message:
        return msg

    async def _readline(self) -> bytes:
        assert self._reader is not None
        pending = self._pending_bytes
        searched = 0
        while (end := pending.find(b"\n", searched)) < 0:
            searched = len(pending)
            if searched > _LONGEST:
                raise self._refuse(f"a reply of more than {_LONGEST >> 20} MiB")
            try:
                chunk = await self._reader.read(_CHUNK)
            except ConnectionError:
                # Closed by someone who had not read all that was sent; closed all the same.
                chunk = b""
            self.received += len(chunk)
            if not chunk:
                if not pending:
                    raise EOFError
                raise self._refuse("a reply that breaks off")
            pending += chunk
        line = bytes(pending[: end + 1])
        del pending[: end + 1]
        self._last = line[-_SHOWN:]
        return line

    def _refuse(self, fault: str) -> ProtocolError:
        self.fault = fault
        return ProtocolError(fault)


@final
class _Session:
    """One process and what it was asked.

    :ivar done: whether it was asked everything.
    """

    def __init__(
        self, binary: str, process: asyncio.subprocess.Process, monitor: socket.socket
    ) -> None:
        self.exchanges: list[Exchange] = []
        self.done = False
        self._binary = binary
        self._process = process
        self._monitor = monitor
        self._waiting = "the greeting"
        self._output = b""
        self._client = _Client()
        self._reading = asyncio.create_task(self._read_output())

    @classmethod
    async def start(cls, binary: str, accelerators: str) -> _Session:
        """Start a process.

        :raises ProbeError: when that fails.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                process = await asyncio.create_subprocess_exec(
                    *arguments(binary, accelerators, theirs.fileno()),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.STDOUT,
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,
                    env={
                        "LC_ALL": "C",
                        **{name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
                    },
                )
            except BaseException as error:
                ours.close()
                if not isinstance(error, OSError):
                    raise
                raise ProbeError(
                    f"Failed to start QEMU binary {binary} for probing: {error.strerror}"
                ) from error
        return cls(binary, process, ours)

    async def lead(self, conversation: Generator[list[Command], list[Reply], T]) -> T:
        """Connect and lead the conversation to its end."""
        try:
            await self._client.connect(self._monitor)
        except AssertionError as error:
            # qemu.qmp asserts that the connection still stands; nonsense that comes together
            # with the reply of the negotiation has ended it by then.
            raise EOFError("the connection broke off at once") from error
        try:
            batch = next(conversation)
            while True:
                self._waiting = ", ".join(dict.fromkeys(c["execute"] for c in batch))
                replies = await self._execute(batch)
                self.exchanges += map(Exchange, batch, replies)
                batch = conversation.send(replies)
        except StopIteration as stop:
            self.done = True
            return cast("T", stop.value)

    async def _execute(self, batch: list[Command]) -> list[Reply]:
        replies = await asyncio.gather(*map(self._execute_one, batch), return_exceptions=True)
        for reply in replies:
            if isinstance(reply, BaseException):
                raise reply
        return cast("list[Reply]", replies)

    async def _execute_one(self, command: Command) -> Reply:
        try:
            result = await self._client.execute(command["execute"], command.get("arguments"))
        except ExecuteError as error:
            return {"error": {"class": error.error_class, "desc": str(error)}}
        return {"return": result}

    async def _read_output(self) -> None:
        stream = self._process.stdout
        while stream is not None and (chunk := await stream.read(_TAIL)):
            self._output = (self._output + chunk)[-_TAIL:]

    async def failed(self, cause: str | Exception) -> ProbeError:
        """Return the error for a conversation that broke off, with all that is known of it."""
        # A process that is ending gets a moment to say why.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                await asyncio.shield(self._reading)
                await self._process.wait()
        status = self._process.returncode
        lost = await self.close()
        if self._client.fault is not None:
            # A process that is not listened to may end for that reason alone.
            cause = self._client.fault
        elif status is not None:
            cause = f"it ended by signal {-status}" if status < 0 else f"it ended with {status}"
        elif isinstance(cause, Exception):
            cause = _describe(lost or cause)
        tail = self._client.tail
        read = f"; read {self._client.received} bytes, ending in: {tail}" if tail else ""
        text = self._output.decode("utf-8", "replace").strip()
        wrote = f"; it wrote: {text}" if text else ""
        return ProbeError(
            f"Failed to start QEMU binary {self._binary} for probing: {cause}"
            f" while waiting for {self._waiting}{read}{wrote}"
        )

    async def close(self) -> Exception | None:
        """Kill the process, if it still runs, and wait for its end.

        Return why the connection had been lost, if it had; only closing tells.
        """
        lost: Exception | None = None
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        try:
            await self._client.disconnect()
        except (QMPError, EOFError, OSError) as error:
            lost = error
        await self._process.wait()
        # A grandchild may keep the pipe open; the process itself is gone.
        self._reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reading
        self._monitor.close()
        return lost


def _describe(error: BaseException) -> str:
    """Return in one line what was wrong, from the innermost of QMP's errors."""
    chain = [error]
    while (cause := chain[-1].__cause__) is not None:
        chain.append(cause)
    said = [each for each in chain if isinstance(each, QMPError)] or chain
    return " ".join(str(said[-1]).split()) or type(said[-1]).__name__
