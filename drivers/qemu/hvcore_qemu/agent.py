"""The agent in a QEMU guest, at the other end of a unix socket.

QEMU listens on the channel's socket and lets one manager in at a time. Each command has a
connection of its own, and begins by asking the agent to repeat a number: what is read before is the
answer to somebody who did not wait for it. What an agent says is the guest's to choose, so it is
read up to a limit, and never trusted to be what was asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from typing import TYPE_CHECKING
from typing import Any
from typing import Final

import attrs

from hvcore import events
from hvcore.agent import NAME
from hvcore.driver import Driver
from hvcore.errors import DriverError
from hvcore.errors import ErrorClass
from hvcore.errors import StateError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from collections.abc import Mapping

    from hvcore.driver import Record
    from hvcore.model.devices.chardev import Channel
    from hvcore_qemu.guest import Guest

LIMIT: Final = 10 << 20
"""Bytes of the longest answer that is read; libvirt's figure."""
SYNC_WAIT: Final = 5
"""Seconds that an agent has to find its place; libvirt's figure."""
_SENTINEL: Final = b"\xff"
"""What no JSON has in it: the agent forgets what it has read of a command when it reads this."""


class Agent(Driver):
    """The part of the QEMU driver that talks to guests."""

    async def agent_connected(self, record: Record, channel: Channel) -> bool:
        """Ask QEMU whether the guest has opened the channel."""
        guest: Guest = record.runtime
        label = f"char{channel.alias}"
        for chardev in await guest.monitor.execute("query-chardev"):
            if chardev["label"] == label:
                return bool(chardev["frontend-open"])
        return False

    async def agent_command(
        self, record: Record, channel: Channel, command: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """Send a command through the channel's socket, and return the answer.

        :raises DriverError: the agent does not find its place, or goes away.
        """
        path = getattr(channel.source, "path", None)
        if path is None:
            raise DriverError(
                "QEMU guest agent is not connected",
                kind=ErrorClass.AGENT_UNRESPONSIVE,
                domain=record.name,
            )
        async with connected(path) as conversation:
            await conversation.synchronise(SYNC_WAIT)
            return await conversation.exchange(command)

    async def port_changed(self, record: Record, alias: str, *, connected: bool) -> None:
        """Write down that the guest has opened or closed a channel, and say so of the agent's."""
        number, state = record.id, "connected" if connected else "disconnected"
        with contextlib.suppress(StateError):
            async with record.jobs.job("VSERPORT_CHANGE", check=record.check_active):
                if record.id != number or record.live is None:
                    return
                domain = record.live.clone()
                for channel in domain.devices.channels:
                    if channel.alias == alias and channel.target_type == "virtio":
                        channel.state = "connected" if connected else "disconnected"
                        record.live = attrs.evolve(record.live, domain=domain)
                        self.reports.save(record)
                        if channel.target_name == NAME:
                            told = events.AgentState[state.upper()]
                            happened = events.AgentChanged(domain=record.ref(), state=told)
                            self.reports.publish(record, happened)


class Conversation:
    """One connection to an agent."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def synchronise(self, seconds: float) -> None:
        """Wait until the agent repeats a number, and forget what it says before.

        :raises DriverError: it does not in time, or goes away.
        """
        number = secrets.randbelow(1 << 31)
        wanted = {"execute": "guest-sync-delimited", "arguments": {"id": number}}
        try:
            async with asyncio.timeout(seconds):
                await self._send(_SENTINEL + _line(wanted))
                while (await self._read(_SENTINEL)).get("return") != number:
                    pass
        except TimeoutError:
            raise DriverError(
                f"guest agent didn't respond to synchronization within '{seconds:.0f}' seconds",
                kind=ErrorClass.AGENT_UNRESPONSIVE,
            ) from None

    async def exchange(self, command: Mapping[str, Any]) -> Mapping[str, Any]:
        """Send a command, and return its answer.

        :raises DriverError: the agent goes away, or answers nonsense.
        """
        await self._send(_line(command))
        return await self._read()

    async def _send(self, data: bytes) -> None:
        try:
            self._writer.write(data)
            await self._writer.drain()
        except OSError as error:
            raise _gone() from error

    async def _read(self, after: bytes | None = None) -> Mapping[str, Any]:
        """Return the next object.

        :param after: it stands behind this; what is before is dropped.
        """
        try:
            if after is not None:
                await self._reader.readuntil(after)
            line = await self._reader.readuntil(b"\n")
        except asyncio.LimitOverrunError:
            raise DriverError(
                f"No complete agent response found in {LIMIT} bytes", kind=ErrorClass.INTERNAL
            ) from None
        except (asyncio.IncompleteReadError, OSError) as error:
            raise _gone() from error
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise _nonsense(line) from error
        if not isinstance(found, dict):
            raise _nonsense(line)
        return found


@contextlib.asynccontextmanager
async def connected(path: str) -> AsyncIterator[Conversation]:
    """Connect to the agent behind a socket.

    :raises DriverError: nobody listens there, or another manager is connected.
    """
    try:
        reader, writer = await asyncio.open_unix_connection(path, limit=LIMIT)
    except OSError as error:
        raise DriverError(
            f"failed to connect to agent socket: {error.strerror}",
            kind=ErrorClass.AGENT_UNRESPONSIVE,
        ) from error
    try:
        yield Conversation(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def _line(command: Mapping[str, Any]) -> bytes:
    return json.dumps(command).encode() + b"\n"


def _gone() -> DriverError:
    return DriverError(
        "Guest agent disappeared while executing command", kind=ErrorClass.AGENT_UNRESPONSIVE
    )


def _nonsense(line: bytes) -> DriverError:
    shown = line[:80].decode(errors="replace").strip()
    return DriverError(f"Parsed JSON reply '{shown}' isn't an object", kind=ErrorClass.INTERNAL)
