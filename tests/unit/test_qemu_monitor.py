"""The monitor against a QMP server that says what a test makes it say."""

from __future__ import annotations

import asyncio
import json

import pytest

from hvcore.errors import ErrorClass
from hvcore.errors import MonitorError
from hvcore.errors import MonitorLost
from hvcore_qemu.monitor import Monitor

GREETING = {"QMP": {"version": {"qemu": {"major": 10, "minor": 0, "micro": 2}, "package": ""}}}
GREETING["QMP"]["capabilities"] = []


class Server:
    """Answers each command by the reply of that name, and sends events when told to."""

    def __init__(self, path):
        self.path = path
        self.replies = {"qmp_capabilities": {"return": {}}}
        self.seen = []
        self.writer = None
        self.progress = asyncio.Event()

    async def until(self, command):
        while command not in self.seen:
            self.progress.clear()
            await self.progress.wait()

    async def __aenter__(self):
        self.server = await asyncio.start_unix_server(self.serve, self.path)
        return self

    async def __aexit__(self, *error):
        self.hang_up()
        self.server.close()

    def send(self, message):
        self.writer.write(json.dumps(message).encode() + b"\n")

    def hang_up(self):
        if self.writer is not None:
            self.writer.close()

    async def serve(self, reader, writer):
        self.writer = writer
        self.send(GREETING)
        # QMP's messages need no newline between them; no test sends more than one at a time.
        while data := await reader.read(65536):
            message = json.loads(data)
            self.seen.append(message["execute"])
            self.progress.set()
            reply = self.replies.get(message["execute"], {"return": {}})
            if reply is not None:
                self.send({**reply, "id": message.get("id")})


@pytest.fixture
async def server(tmp_path):
    async with Server(str(tmp_path / "qmp")) as found:
        yield found


@pytest.fixture
async def monitor(server):
    events, lost = [], asyncio.Event()
    found = Monitor("vm", on_event=events.append, on_lost=lost.set)
    found.events, found.lost = events, lost
    await found.connect(server.path, deadline=5)
    yield found
    await found.close()


async def test_a_command_returns_what_qemu_returns(server, monitor):
    server.replies["query-status"] = {"return": {"running": True}}
    assert await monitor.execute("query-status") == {"running": True}


async def test_a_refusal_carries_both_sides(server, monitor):
    server.replies["device_del"] = {"error": {"class": "DeviceNotFound", "desc": "no such thing"}}
    with pytest.raises(MonitorError) as caught:
        await monitor.execute("device_del", {"id": "x"})
    error = caught.value
    assert str(error) == (
        "internal error: unable to execute QEMU command 'device_del': no such thing"
    )
    assert error.error_class == "DeviceNotFound"
    assert error.sent == {"execute": "device_del", "arguments": {"id": "x"}}
    assert error.received["error"]["desc"] == "no such thing"


async def test_a_silent_qemu_is_not_waited_for_and_stays_usable(server, monitor):
    server.replies["stop"] = None
    with pytest.raises(MonitorError) as caught:
        await monitor.execute("stop", deadline=0.05)
    assert caught.value.kind is ErrorClass.OPERATION_TIMEOUT
    assert await monitor.execute("cont") == {}


async def test_events_come_in_order_and_before_a_later_reply(server, monitor):
    for name in ("STOP", "RESUME", "RESET"):
        server.send({"event": name, "data": {}, "timestamp": {"seconds": 0, "microseconds": 0}})
    await monitor.execute("query-status")
    assert [event["event"] for event in monitor.events] == ["STOP", "RESUME", "RESET"]


async def test_a_lost_connection_ends_what_waits_and_is_told_once(server, monitor):
    server.replies["stop"] = None
    waiting = asyncio.create_task(monitor.execute("stop"))
    await server.until("stop")
    server.hang_up()
    with pytest.raises(MonitorLost, match=r"QEMU unexpectedly closed the monitor \(vm='vm'\)"):
        await waiting
    await asyncio.wait_for(monitor.lost.wait(), 5)
    await asyncio.wait_for(monitor.drained(5), 1)
    with pytest.raises(MonitorLost):
        await monitor.execute("cont")


async def test_closing_is_not_losing(server, monitor):
    await monitor.close()
    await asyncio.sleep(0)
    assert not monitor.lost.is_set()


async def test_nobody_there(tmp_path):
    monitor = Monitor("vm", on_event=print, on_lost=print)
    with pytest.raises(MonitorLost):
        await monitor.connect(tmp_path / "nothing", deadline=5)


async def test_a_conversation_can_answer_a_refusal(server, monitor):
    server.replies["first"] = {"error": {"class": "GenericError", "desc": "no"}}

    def steps():
        try:
            yield "first", {}
        except MonitorError:
            yield "undo", {}
        return "done"

    assert await monitor.run(steps()) == "done"
    assert server.seen[-2:] == ["first", "undo"]
