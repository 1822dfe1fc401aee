"""Talking to the agent in a QEMU guest, which is played by a server on a socket."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest

from hvcore.errors import DriverError
from hvcore.errors import ErrorClass
from hvcore_qemu import agent
from hvcore_qemu.agent import connected


@contextlib.asynccontextmanager
async def playing(path, answer):
    """Serve connections with a coroutine that is given what was read, and a writer."""

    async def serve(reader, writer):
        try:
            while line := await reader.readline():
                await answer(line, writer)
        finally:
            writer.close()

    server = await asyncio.start_unix_server(serve, path)
    async with server:
        yield


async def obey(line, writer):
    command = json.loads(line.lstrip(b"\xff"))
    if command["execute"] == "guest-sync-delimited":
        # Answers to somebody else come first.
        writer.write(b'{"return": "old"}\n\xff{"return": 1}\n')
        writer.write(b"\xff" + json.dumps({"return": command["arguments"]["id"]}).encode() + b"\n")
    else:
        writer.write(json.dumps({"return": command["execute"]}).encode() + b"\n")


async def ask(path, wait=1):
    async with connected(str(path)) as conversation:
        await conversation.synchronise(wait)
        return await conversation.exchange({"execute": "guest-ping"})


async def test_it_finds_its_place_and_answers(tmp_path):
    path = tmp_path / "agent.sock"
    async with playing(path, obey):
        assert await ask(path) == {"return": "guest-ping"}
        assert await ask(path) == {"return": "guest-ping"}


@pytest.mark.parametrize(
    ("said", "message", "kind"),
    [
        (b"", "Guest agent disappeared while executing command", ErrorClass.AGENT_UNRESPONSIVE),
        (b"{", "Guest agent disappeared while executing command", ErrorClass.AGENT_UNRESPONSIVE),
        (b"[1]\n", r"Parsed JSON reply '\[1\]' isn't an object", ErrorClass.INTERNAL),
        (b"nonsense\n", "Parsed JSON reply 'nonsense' isn't an object", ErrorClass.INTERNAL),
        (b"[" * 100_000 + b"\n", "Parsed JSON reply", ErrorClass.INTERNAL),
        (b"x" * 5000, "No complete agent response found in 4096 bytes", ErrorClass.INTERNAL),
    ],
)
async def test_answers_that_make_no_sense(tmp_path, monkeypatch, said, message, kind):
    if message.startswith("No complete"):
        monkeypatch.setattr(agent, "LIMIT", 4096)

    async def answer(line, writer):
        if b"guest-sync" in line:
            await obey(line, writer)
        else:
            writer.write(said)
            await writer.drain()
            writer.close()

    path = tmp_path / "agent.sock"
    async with playing(path, answer):
        with pytest.raises(DriverError, match=message) as caught:
            await ask(path)
    assert caught.value.kind is kind


async def test_one_that_does_not_find_its_place(tmp_path):
    async def answer(line, writer):
        del line
        writer.write(b'\xff{"return": -1}\n')

    path = tmp_path / "agent.sock"
    async with playing(path, answer):
        with pytest.raises(DriverError) as caught:
            await ask(path, wait=0.1)
    assert str(caught.value) == (
        "Guest agent is not responding: guest agent didn't respond to synchronization within '0' "
        "seconds"
    )


async def test_nobody_there(tmp_path):
    with pytest.raises(DriverError, match="failed to connect to agent socket: No such file"):
        await ask(tmp_path / "agent.sock")
