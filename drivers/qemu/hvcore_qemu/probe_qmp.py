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
from qemu.qmp import QMPClient
from qemu.qmp import QMPError

from hvcore.errors import ProbeError
from hvcore_qemu.detect import ask
from hvcore_qemu.detect import ask_tcg

if TYPE_CHECKING:
    from collections.abc import Generator
    from collections.abc import Mapping

    from hvcore_qemu.capabilities import QemuCapabilities
    from hvcore_qemu.detect import Command
    from hvcore_qemu.detect import Reply

T = TypeVar("T")

#: how much of what the binary writes is kept for the error
_TAIL: Final = 4096
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


async def interrogate(binary: str, facts: Mapping[str, Any], seconds: float) -> QemuCapabilities:
    """Ask a binary everything, once with the accelerator it chooses and once with TCG alone.

    :param facts: `hvcore.hostinfo.circumstances` of this host.
    :param seconds: time for each of the two.
    :raises ProbeError: see the module.
    """
    caps = await _converse(binary, "kvm:tcg", ask(binary), seconds)
    if "kvm" in caps.names:
        if "tcg" in caps.names:
            caps = await _converse(binary, "tcg", ask_tcg(caps), seconds)
        caps = attrs.evolve(
            caps,
            kernel_version=facts.get("kernel"),
            microcode_version=facts.get("microcode") or 0,
            host_cpu_signature=facts.get("cpu"),
            kvm_supports_nesting=bool(facts.get("nesting")),
        )
    return caps


async def _converse(
    binary: str,
    accelerators: str,
    conversation: Generator[list[Command], list[Reply], T],
    seconds: float,
) -> T:
    """Start a process and lead a conversation with it."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        try:
            process = await asyncio.create_subprocess_exec(
                *_argv(binary, accelerators, theirs.fileno()),
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
        except OSError as error:
            raise ProbeError(
                f"Failed to start QEMU binary {binary} for probing: {error.strerror}"
            ) from error
        theirs.close()
        session = _Session(binary, process)
        try:
            async with asyncio.timeout(seconds):
                return await session.run(ours, conversation)
        except TimeoutError as error:
            raise await session.failed(f"no answer within {seconds:g} s") from error
        except (QMPError, EOFError, OSError) as error:
            raise await session.failed(error) from error
        finally:
            await session.close()


def _argv(binary: str, accelerators: str, descriptor: int) -> list[str]:
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
class _Session:
    """One process and what it was asked."""

    def __init__(self, binary: str, process: asyncio.subprocess.Process) -> None:
        self._binary = binary
        self._process = process
        self._waiting = "the greeting"
        self._output = b""
        self._client = QMPClient("probe")
        self._reading = asyncio.create_task(self._read_output())

    async def run(
        self, monitor: socket.socket, conversation: Generator[list[Command], list[Reply], T]
    ) -> T:
        """Connect and lead the conversation to its end."""
        # The client's own log entries of failures would repeat what the error says.
        self._client.logger.disabled = True
        try:
            await self._client.connect(monitor)
        except AssertionError as error:
            # qemu.qmp asserts that the connection still stands; nonsense that comes together
            # with the reply of the negotiation has ended it by then.
            raise EOFError("the connection broke off at once") from error
        try:
            batch = next(conversation)
            while True:
                self._waiting = ", ".join(dict.fromkeys(c["execute"] for c in batch))
                batch = conversation.send(await self._execute(batch))
        except StopIteration as stop:
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
        if status is not None:
            cause = f"it ended by signal {-status}" if status < 0 else f"it ended with {status}"
        elif isinstance(cause, Exception):
            cause = _describe(lost or cause)
        text = self._output.decode("utf-8", "replace").strip()
        wrote = f"; it wrote: {text}" if text else ""
        return ProbeError(
            f"Failed to start QEMU binary {self._binary} for probing: {cause}"
            f" while waiting for {self._waiting}{wrote}"
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
        return lost


def _describe(error: BaseException) -> str:
    """Return in one line what was wrong, from the innermost of QMP's errors."""
    chain = [error]
    while (cause := chain[-1].__cause__) is not None:
        chain.append(cause)
    said = [each for each in chain if isinstance(each, QMPError)] or chain
    return " ".join(str(said[-1]).split()) or type(said[-1]).__name__
