"""The driver, through hvcore's API and found by its entry point only."""

from __future__ import annotations

import asyncio
import json
import os
import signal

import pytest

from hvcore import connect
from hvcore.errors import LaunchError
from hvcore.errors import UnsupportedOperation
from hvcore.errors import ValidationFailed
from hvcore.events import Stopped
from hvcore.events import StoppedDetail
from hvcore.lifecycle import State
from hvcore.operations import Op
from hvcore.registry import Registry


def xml(*command, name="vm"):
    init, *arguments = command
    words = "".join(f"<initarg>{word}</initarg>" for word in arguments)
    return (
        f"<domain type='lxc'><name>{name}</name><memory>65536</memory>"
        f"<os><type>exe</type><init>{init}</init>{words}</os></domain>"
    )


SLEEP = xml("/bin/sleep", "60")


@pytest.fixture
def uri(tmp_path):
    return f"toy:///session?root={tmp_path}"


@pytest.fixture
async def host(uri):
    async with await connect(uri) as found:
        yield found
        for domain in await found.domains(active=True):
            await domain.destroy()


async def stop_of(stream):
    async with asyncio.timeout(10):
        return (await stream.get()).reason


def test_it_is_found_by_its_entry_point():
    registry = Registry.default()
    assert "toy" in registry.schemes()
    assert registry.driver("toy").__module__ == "hvcore_toy.driver"


async def test_a_life(host):
    domain = await host.define(SLEEP)
    await domain.start()
    assert (await domain.info()).memory > 0
    await domain.suspend()
    assert (await domain.state())[0] is State.PAUSED
    await domain.resume()
    await domain.shutdown()
    assert await domain.wait_for(State.SHUTOFF, within=10) is State.SHUTOFF


async def test_a_program_that_ends_stops_its_domain(host):
    stream = host.events([Stopped])
    await host.create(xml("/bin/true"))
    assert await stop_of(stream) is StoppedDetail.SHUTDOWN
    assert await host.domains() == []


async def test_a_program_that_is_killed_has_crashed(host, tmp_path):
    stream = host.events([Stopped])
    await host.create(SLEEP)
    (status,) = tmp_path.rglob("*.json")
    os.kill(json.loads(status.read_text())["pid"], signal.SIGKILL)
    assert await stop_of(stream) is StoppedDetail.CRASHED


async def test_what_runs_is_found_again(uri):
    async with await connect(uri) as first:
        number = (await first.create(SLEEP)).id
    async with await connect(uri) as second:
        (domain,) = await second.domains()
        assert (domain.name, domain.id) == ("vm", number)
        assert (await domain.state())[0] is State.RUNNING
        stream = second.events([Stopped])
        await domain.destroy()
        assert await stop_of(stream) is StoppedDetail.DESTROYED


async def test_a_program_is_required(host):
    with pytest.raises(ValidationFailed, match=r"^XML error: init binary must be specified$"):
        await host.define(
            "<domain type='lxc'><name>x</name><memory>1</memory><os><type>exe</type></os></domain>"
        )


async def test_a_missing_program_leaves_nothing(host):
    domain = await host.define(xml("/nowhere/program"))
    with pytest.raises(LaunchError, match="cannot execute binary /nowhere/program"):
        await domain.start()
    assert (await domain.state())[0] is State.SHUTOFF


async def test_a_verb_it_lacks_is_refused(host):
    domain = await host.create(SLEEP)
    assert Op.REBOOT not in host.operations
    with pytest.raises(UnsupportedOperation, match="not supported by the connection driver"):
        await domain.reboot()


async def test_the_command_line(host):
    assert await host.lower(xml("/bin/echo", "two words")) == "/bin/echo 'two words'\n"
