"""The QMP connection of one QEMU: commands with deadlines, events in order, typed errors.

A thin layer over qemu.qmp that closes its gaps: no command waits for ever, events go to a callback
instead of a queue without bound, and the end of the connection is reported once, with its cause.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING
from typing import Any
from typing import Final
from typing import TypeAlias
from typing import TypeVar

from qemu.qmp import EventListener
from qemu.qmp import ExecInterruptedError
from qemu.qmp import ExecuteError
from qemu.qmp import QMPClient
from qemu.qmp import QMPError
from qemu.qmp import Runstate

from hvcore.errors import ErrorClass
from hvcore.errors import MonitorError
from hvcore.errors import MonitorLost

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Generator
    from collections.abc import Mapping
    from pathlib import Path

    from qemu.qmp import Message

_T = TypeVar("_T")

Command: TypeAlias = "tuple[str, Mapping[str, Any]] | tuple[str, Mapping[str, Any], int | None]"
"""Name, arguments, and a descriptor that goes with them."""

DEADLINE: Final = 60.0
"""Seconds a command may take; the longest that QEMU itself needs is the freeing of huge memory."""

# qemu.qmp logs every lost connection as an error; ours are reported where they can be handled.
logging.getLogger("qemu.qmp").addHandler(logging.NullHandler())


class _Tap(EventListener):
    """Hands events on at once; the base class would collect them for ever."""

    def __init__(self, callback: Callable[[dict[str, Any]], None]) -> None:
        super().__init__()
        self._callback = callback

    async def put(self, event: Message) -> None:
        self._callback(dict(event))


class Monitor:
    """A connection to one QEMU.

    :param name: the domain's, for messages.
    :param on_event: called with each event, in order, before the reply of a later command.
    :param on_lost: called once when the connection ends without :meth:`close`.
    """

    def __init__(
        self,
        name: str,
        *,
        on_event: Callable[[dict[str, Any]], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._name = name
        self._client = QMPClient(f"hvcore:{name}")
        # The default listener cannot be removed, only made deaf.
        self._client.events.event_filter = lambda _: False
        self._client.register_listener(_Tap(on_event))
        self._on_lost = on_lost
        self._watcher: asyncio.Task[None] | None = None
        self._ended = asyncio.Event()

    async def connect(self, path: Path, *, deadline: float) -> None:
        """Connect to a listening QEMU and negotiate.

        :raises MonitorLost: it did not answer, or answered with something else than QMP.
        """
        try:
            async with asyncio.timeout(deadline):
                await self._client.connect(str(path))
        except TimeoutError:
            raise MonitorLost(
                f"QEMU did not answer on its monitor within {deadline:g} s", domain=self._name
            ) from None
        except (QMPError, OSError, EOFError) as error:
            raise self._lost() from error
        self._watcher = asyncio.create_task(self._watch(), name=f"hvcore-monitor-{self._name}")

    async def execute(
        self,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        fd: int | None = None,
        *,
        deadline: float = DEADLINE,
    ) -> Any:
        """Run a command and return what it returns.

        :param fd: a descriptor that QEMU gets a copy of.
        :raises MonitorError: QEMU refused it, or did not answer in time.
        :raises MonitorLost: the connection ended before the answer.
        """
        sent: dict[str, Any] = {"execute": command}
        if arguments:
            sent["arguments"] = dict(arguments)
        try:
            async with asyncio.timeout(deadline):
                if fd is not None:
                    # QEMU keeps it for the next command that asks for one.
                    self._client.send_fd_scm(fd)
                return await self._client.execute(command, sent.get("arguments"))
        except ExecuteError as error:
            raise MonitorError(
                f"unable to execute QEMU command '{command}': {error.error.error.desc}",
                sent=sent,
                received=dict(error.received),
                error_class=error.error_class,
                domain=self._name,
            ) from error
        except TimeoutError:
            raise MonitorError(
                f"QEMU did not answer to '{command}' within {deadline:g} s",
                kind=ErrorClass.OPERATION_TIMEOUT,
                sent=sent,
                domain=self._name,
            ) from None
        except (ExecInterruptedError, QMPError, OSError, EOFError) as error:
            raise self._lost() from error

    async def run(self, steps: Generator[Command, Any, _T]) -> _T:
        """Carry out a conversation written as a generator of commands; a refusal is thrown in.

        :raises MonitorError: QEMU refused a command and the generator did not catch it.
        :raises MonitorLost: the connection ended.
        """
        try:
            command = next(steps)
            while True:
                try:
                    reply = await self.execute(*command)
                except MonitorError as error:
                    command = steps.throw(error)
                else:
                    command = steps.send(reply)
        except StopIteration as end:
            result: _T = end.value
            return result

    async def drained(self, within: float) -> None:
        """Wait until everything that QEMU sent before it went has been handled."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._ended.wait()

    async def close(self) -> None:
        """End the connection; QEMU goes on listening."""
        if self._watcher is not None:
            self._watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watcher
            self._watcher = None
        await self._disconnect()

    async def _watch(self) -> None:
        while self._client.runstate is Runstate.RUNNING:
            await self._client.runstate_changed()
        await self._disconnect()
        self._on_lost()

    async def _disconnect(self) -> None:
        # It raises whatever ended the connection, which has been reported by then.
        with contextlib.suppress(QMPError, OSError, EOFError):
            await self._client.disconnect()
        self._ended.set()

    def _lost(self) -> MonitorLost:
        return MonitorLost(
            f"QEMU unexpectedly closed the monitor (vm='{self._name}')",
            kind=ErrorClass.INTERNAL,
            domain=self._name,
        )
