"""The life of a real QEMU: start to stop, losses on either side, and who may do what."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from hvcore import connect
from hvcore import events
from hvcore.errors import InvalidState
from hvcore.errors import LaunchError
from hvcore.errors import NoSuchDomain
from hvcore.errors import StateLocked
from hvcore.hookspecs import hookimpl
from hvcore.lifecycle import PausedReason
from hvcore.lifecycle import RunningReason
from hvcore.lifecycle import ShutoffReason
from hvcore.lifecycle import State
from hvcore.registry import Registry
from hvcore.state import process_start
from tests.integration.bare import registry

pytestmark = pytest.mark.qemu
UUID = "00000000-1111-2222-3333-444444444444"


def xml(name="vm", uuid=UUID, extra=""):
    return (
        f"<domain type='qemu'><name>{name}</name><uuid>{uuid}</uuid><memory>65536</memory>"
        f"<vcpu>1</vcpu><os><type arch='x86_64'>hvm</type></os>{extra}</domain>"
    )


@pytest.fixture
async def host(uri):
    async with await connect(uri, registry=registry()) as found:
        yield found


def status_of(domain, tmp_path):
    return json.loads((tmp_path / "root/run" / domain.uuid / "status.json").read_text())


async def until(condition, within=10):
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110 - of files and processes nobody tells
            await asyncio.sleep(0.001)


async def collect(stream, last, within=20):
    """Return the names of events until one of class ``last``."""
    out = []
    async with asyncio.timeout(within):
        async for item in stream:
            out.append(f"{type(item).__name__}({getattr(item, 'reason', '')})")
            if isinstance(item, last):
                return out
    raise AssertionError(out)


async def test_start_pause_resume_reset_destroy(host, tmp_path):
    domain = await host.define(xml())
    stream = host.events()
    await domain.start()
    assert await domain.state() == (State.RUNNING, RunningReason.BOOTED)
    found = status_of(domain, tmp_path)
    assert (found["state"], found["start"]) == ("RUNNING", process_start(found["pid"]))
    await domain.suspend()
    assert await domain.state() == (State.PAUSED, PausedReason.USER)
    assert status_of(domain, tmp_path)["state"] == "PAUSED"
    await domain.resume()
    assert await domain.state() == (State.RUNNING, RunningReason.UNPAUSED)
    await domain.reset()
    info = await domain.info()
    assert (info.state, info.max_memory, info.vcpus) == (State.RUNNING, 65536, 1)
    assert info.cpu_time > 0
    # QEMU tells of a reset when its main loop comes to it.
    assert await collect(stream, events.Rebooted) == [
        "Started(Booted)",
        "Suspended(Paused)",
        "Resumed(Unpaused)",
        "Rebooted()",
    ]
    await domain.destroy()
    assert await domain.state() == (State.SHUTOFF, ShutoffReason.DESTROYED)
    assert await collect(stream, events.Stopped) == ["Stopped(Destroyed)"]
    assert process_start(found["pid"]) is None
    assert list((tmp_path / "root/run").iterdir()) == []


async def test_starting_paused_and_twice(host):
    domain = await host.create(xml(), paused=True)
    assert await domain.state() == (State.PAUSED, PausedReason.USER)
    with pytest.raises(InvalidState, match="domain is already running"):
        await domain.start()
    await domain.resume()
    assert await domain.state() == (State.RUNNING, RunningReason.UNPAUSED)
    await domain.destroy()
    with pytest.raises(NoSuchDomain):
        await domain.state()


async def test_a_qemu_that_does_not_come_up_leaves_nothing(host, tmp_path):
    domain = await host.define(xml(extra="<description>-no-such-option</description>"))
    stream = host.events()
    with pytest.raises(LaunchError) as caught:
        await domain.start()
    message = "internal error: process exited while connecting to monitor: "
    assert str(caught.value).startswith(message)
    assert "-no-such-option: invalid option" in caught.value.log_tail
    assert await domain.state() == (State.SHUTOFF, ShutoffReason.FAILED)
    assert stream.get_nowait() is None
    assert list((tmp_path / "root/run").iterdir()) == []


async def test_a_killed_qemu_is_one_crash(host, tmp_path):
    domain = await host.define(xml())
    await domain.start()
    stream = host.events()
    os.kill(status_of(domain, tmp_path)["pid"], signal.SIGKILL)
    assert await domain.wait_for(State.SHUTOFF, within=10) is State.SHUTOFF
    assert await domain.state() == (State.SHUTOFF, ShutoffReason.CRASHED)
    assert await collect(stream, events.Stopped) == ["Stopped(Crashed)"]
    await asyncio.sleep(0.1)
    assert stream.get_nowait() is None
    await domain.start()
    await domain.destroy()


async def test_a_qemu_ended_by_a_signal_shut_down(host, tmp_path):
    domain = await host.define(xml())
    await domain.start()
    stream = host.events()
    os.kill(status_of(domain, tmp_path)["pid"], signal.SIGTERM)
    assert await collect(stream, events.Stopped) == [
        "Shutdown(Finished after host request)",
        "Stopped(Shutdown)",
    ]
    assert await domain.state() == (State.SHUTOFF, ShutoffReason.SHUTDOWN)


async def test_destroying_does_not_wait_for_other_work(host):
    domain = await host.define(xml())
    await domain.start()
    record = domain._now()
    entered = asyncio.Event()

    async def hold():
        async with record.jobs.job("virDomainSuspend"):
            entered.set()
            await record.runtime.process.wait()

    task = asyncio.create_task(hold())
    await entered.wait()
    await asyncio.wait_for(domain.destroy(), 10)
    await task
    assert await domain.state() == (State.SHUTOFF, ShutoffReason.DESTROYED)


async def test_destroying_what_is_still_starting(host, tmp_path):
    domain = await host.define(xml())
    starting = asyncio.create_task(domain.start())
    await until(lambda: domain.is_active)
    await domain.destroy()
    with pytest.raises(Exception, match=r"destroyed|closed the monitor|exited"):
        await starting
    assert (await domain.state())[0] is State.SHUTOFF
    assert list((tmp_path / "root/run").iterdir()) == []


async def test_the_next_manager_finds_what_runs(uri, tmp_path):
    async with await connect(uri, registry=registry()) as host:
        domain = await host.define(xml())
        await domain.start()
        transient = await host.create(xml("other", UUID.replace("0", "9")), paused=True)
        number, pid = domain.id, status_of(domain, tmp_path)["pid"]
    assert process_start(pid) is not None
    async with await connect(uri, registry=registry()) as host:
        domain = await host.lookup("vm")
        assert (domain.id, await domain.state()) == (
            number,
            (State.RUNNING, RunningReason.BOOTED),
        )
        other = await host.lookup_id(transient.id or number + 1)
        assert (other.name, other.is_persistent) == ("other", False)
        assert await other.state() == (State.PAUSED, PausedReason.USER)
        stream = host.events(domain=domain)
        await domain.suspend()
        os.kill(pid, signal.SIGKILL)
        assert await collect(stream, events.Stopped) == [
            "Suspended(Paused)",
            "Stopped(Crashed)",
        ]
        await other.destroy()


@pytest.mark.parametrize(
    ("number", "reason"),
    [(signal.SIGKILL, ShutoffReason.CRASHED), (signal.SIGTERM, ShutoffReason.SHUTDOWN)],
)
async def test_what_ended_without_a_manager(uri, tmp_path, number, reason):
    async with await connect(uri, registry=registry()) as host:
        domain = await host.define(xml())
        await domain.start()
        pid = status_of(domain, tmp_path)["pid"]
    os.kill(pid, number)
    await until(lambda: process_start(pid) is None)
    async with await connect(uri, registry=registry()) as host:
        domain = await host.lookup("vm")
        assert await domain.state() == (State.SHUTOFF, reason)
        assert list((tmp_path / "root/run").iterdir()) == []
        await domain.start()
        await domain.destroy()


class Notes:
    """A plugin with something to remember of each running domain."""

    def __init__(self, note):
        self.note = note
        self.found = []

    @hookimpl
    def hv_state_save(self, domain):
        return {"note": self.note, "of": domain}

    @hookimpl
    def hv_state_load(self, domain, blob):
        self.found.append((domain, blob))


async def test_a_plugin_finds_what_it_saved_and_not_what_others_did(uri):
    async with await connect(uri, registry=registry(mine=Notes(1), other=Notes(2))) as host:
        domain = await host.define(xml())
        await domain.start()
    mine = Notes(3)
    async with await connect(uri, registry=registry(mine=mine)) as host:
        assert mine.found == [(UUID, {"note": 1, "of": UUID})]
        await (await host.lookup("vm")).destroy()


MANAGER = """
    import asyncio, os, signal, sys
    sys.path.insert(0, sys.argv[3])
    from hvcore import connect
    from tests.integration.bare import registry

    async def main():
        host = await connect(sys.argv[1], registry=registry())
        domain = await host.define(sys.argv[2])
        await domain.start()
        print("started", flush=True)
        await asyncio.sleep(60)

    asyncio.run(main())
"""


@pytest.fixture
def manager(uri):
    """Run another process that owns the state and starts a domain."""
    command = [sys.executable, "-c", textwrap.dedent(MANAGER), uri, xml()]
    command.append(str(Path(__file__).parents[2]))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "started\n"
        yield process
        process.kill()


async def test_a_second_process_looks_on_and_is_told_who_owns(uri, manager, tmp_path):
    async with await connect(uri, registry=registry()) as host:
        assert host.read_only
        domain = await host.lookup("vm")
        assert await domain.state() == (State.RUNNING, RunningReason.BOOTED)
        assert "<name>vm</name>" in await domain.xml()
        for change in (domain.destroy, lambda: host.define(xml())):
            with pytest.raises(StateLocked) as caught:
                await change()
            assert (caught.value.pid, caught.value.program) == (
                manager.pid,
                Path(sys.executable).name,
            )
            assert f"owned by process {manager.pid} (" in str(caught.value)
        with pytest.raises(StateLocked):
            host.events()
        # The owner cannot notice, since it is stopped; the view does.
        manager.send_signal(signal.SIGSTOP)
        os.kill(status_of(domain, tmp_path)["pid"], signal.SIGKILL)
        await until(lambda: not domain.is_active)
        assert await domain.state() == (State.SHUTOFF, ShutoffReason.UNKNOWN)


async def test_a_killed_manager_loses_nothing(uri, manager, tmp_path):
    manager.kill()
    manager.wait()
    async with await connect(uri, registry=registry()) as host:
        assert not host.read_only
        domain = await host.lookup("vm")
        assert await domain.state() == (State.RUNNING, RunningReason.BOOTED)
        await domain.suspend()
        await domain.resume()
        await domain.destroy()


async def test_the_view_takes_over_when_the_owner_is_gone(uri, manager):
    async with await connect(uri, registry=registry()) as host:
        domain = await host.lookup("vm")
        assert host.read_only
        manager.kill()
        manager.wait()
        await domain.destroy()
        assert not host.read_only
        assert await domain.state() == (State.SHUTOFF, ShutoffReason.DESTROYED)


async def test_a_deep_root_and_a_hostile_name(qemu, tmp_path):
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    async with await connect(f"qemu:///embed?root={deep}", registry=registry()) as host:
        domain = await host.define(xml("a b,c=d'$(x)"))
        await domain.start()
        await domain.destroy()
        await domain.undefine()
    assert {path.stat().st_mode & 0o077 for path in deep.rglob("*")} == {0}


def test_looking_loads_no_qmp(uri):
    code = (
        "import sys, asyncio, hvcore.host; from hvcore_qemu import driver; "
        "print([m for m in sys.modules if m.startswith('qemu')])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout == "[]\n"
    assert isinstance(registry(), Registry)
