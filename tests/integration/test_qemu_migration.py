"""Real QEMU guests that move from one process to another."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import sys

import pytest

from hvcore import connect
from hvcore import events
from hvcore.errors import DriverError
from hvcore.errors import ErrorClass
from hvcore.errors import InvalidState
from hvcore.errors import NoSuchDomain
from hvcore.jobinfo import JobOperation
from hvcore.jobinfo import JobType
from hvcore.lifecycle import PausedReason
from hvcore.lifecycle import RunningReason
from hvcore.lifecycle import ShutoffReason
from hvcore.lifecycle import State
from hvcore.state import process_start

pytestmark = pytest.mark.qemu
XML = """<domain type='qemu'><name>vm</name><uuid>00000000-1111-2222-3333-444444444444</uuid>
<memory unit='MiB'>{memory}</memory><vcpu current='1'>2</vcpu>
<os><type arch='x86_64' machine='{machine}'>hvm</type></os>
<devices>{devices}<console type='pty'/><memballoon model='virtio'/></devices></domain>"""
DISK = """<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{path}'/>
<target dev='vda' bus='virtio'/></disk>"""


@pytest.fixture
def roots(qemu, tmp_path):
    yield tmp_path / "here", tmp_path / "there"
    for status in tmp_path.glob("*/run/*/status.json"):
        pid = json.loads(status.read_text())["pid"]
        if pid is not None and process_start(pid) is not None:
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
async def here(roots):
    async with await connect(f"qemu:///embed?root={roots[0]}") as found:
        yield found


@pytest.fixture
async def there(roots):
    async with await connect(f"qemu:///embed?root={roots[1]}") as found:
        yield found


@pytest.fixture
async def vm(here):
    # Empty pages are sent as some bytes each: at 1 MiB/s this one takes seconds.
    found = await here.define(XML.format(memory=1024, machine="pc", devices=""))
    await found.start()
    return found


async def monitor(domain, command, **arguments):
    record = domain._engine.refresh(domain._record)
    return await record.runtime.monitor.execute(command, arguments)


async def registers(domain):
    text = await monitor(domain, "human-monitor-command", **{"command-line": "info registers"})
    return text.splitlines()[1:6]


def heard(stream):
    found = []
    while (event := stream.get_nowait()) is not None:
        if isinstance(event, events.LifecycleEvent):
            found.append(f"{type(event).__name__}({event.reason})")
    return found


async def reason(domain):
    return (await domain.state())[1]


async def under_way(vm):
    """Wait until QEMU says that it sends."""
    while not (await vm.job_info()).data_total:  # noqa: ASYNC110 - nobody tells of that
        await asyncio.sleep(0.02)


async def is_gone(host):
    with pytest.raises(NoSuchDomain):
        await host.lookup_name("vm")
    return True


@pytest.mark.parametrize("machine", ["pc", "q35"])
async def test_a_guest_with_a_disk_there_and_back_again(here, there, machine, tmp_path):
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(1 << 20))
    devices = DISK.format(path=image)
    vm = await here.create(XML.format(memory=64, machine=machine, devices=devices), paused=True)
    before = await registers(vm)
    moved = await vm.migrate(there, live=True)
    assert await moved.state() == (State.PAUSED, PausedReason.USER)
    assert await registers(moved) == before
    assert await is_gone(here)
    await moved.resume()
    stream, other = there.events(), here.events()
    back = await moved.migrate(here, live=True, name="other")
    assert await back.state() == (State.RUNNING, RunningReason.MIGRATED)
    assert (await monitor(back, "query-status"))["running"]
    assert heard(stream) == ["Suspended(Migrated)", "Stopped(Migrated)"]
    assert heard(other) == ["Started(Migrated)", "Resumed(Migrated)"]
    await back.destroy()


async def test_definitions_and_statistics(here, there, vm, roots):
    passes = here.events([events.MigrationIteration, events.JobCompleted])
    moved = await vm.migrate(there, persistent=True, undefine_source=True)
    assert moved.is_persistent
    assert await is_gone(here)
    assert isinstance(passes.get_nowait(), events.MigrationIteration)
    info = await moved.job_info(completed=True)
    assert (info.type, info.operation) == (JobType.COMPLETED, JobOperation.MIGRATION_OUT)
    assert info.progress.memory_total > 1 << 30
    assert info.progress.downtime is not None
    folder = roots[1] / "run" / moved.uuid
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert not (folder / "migrate.sock").exists()
    await moved.destroy()


async def test_one_that_is_aborted_goes_on(here, there, vm):
    task = asyncio.create_task(vm.migrate(there, live=True, bandwidth=1))
    await under_way(vm)
    info = await vm.job_info()
    assert (info.type, info.operation) == (JobType.UNBOUNDED, JobOperation.MIGRATION_OUT)
    assert (await (await there.lookup_name("vm")).state())[1] is PausedReason.MIGRATION
    await vm.abort_job()
    with pytest.raises(DriverError, match="job 'migration out' canceled by client") as caught:
        await task
    assert caught.value.kind is ErrorClass.OPERATION_ABORTED
    assert await reason(vm) is RunningReason.BOOTED
    assert (await monitor(vm, "query-status"))["running"]
    assert await is_gone(there)
    await vm.migrate(there, live=True)


async def test_a_destination_that_is_killed(here, there, vm):
    stream = here.events()
    task = asyncio.create_task(vm.migrate(there, bandwidth=1))
    await under_way(vm)
    [status] = there._engine.directory.statuses()
    os.kill(status.pid, signal.SIGKILL)
    with pytest.raises(DriverError):
        await task
    assert await reason(vm) is RunningReason.MIGRATION_CANCELED
    assert heard(stream) == ["Suspended(Migrated)", "Resumed(Migrated)"]
    assert await is_gone(there)


async def test_a_source_that_is_killed(there, here, vm):
    task = asyncio.create_task(vm.migrate(there, live=True, bandwidth=1))
    await under_way(vm)
    [status] = here._engine.directory.statuses()
    os.kill(status.pid, signal.SIGKILL)
    with pytest.raises(DriverError):
        await task
    assert await reason(vm) is ShutoffReason.CRASHED
    assert await is_gone(there)


async def test_one_that_cannot_run_there_goes_on(here, there, vm, monkeypatch):
    driver = there._engine.driver
    finish = driver.migrate_finish

    async def fail(record, cookie, *, paused):
        await finish(record, cookie, paused=True)
        raise DriverError("it does not run")

    monkeypatch.setattr(driver, "migrate_finish", fail)
    stream = here.events()
    with pytest.raises(DriverError, match="it does not run"):
        await vm.migrate(there, live=True)
    assert await reason(vm) is RunningReason.MIGRATION_CANCELED
    assert (await monitor(vm, "query-status"))["running"]
    assert heard(stream) == ["Suspended(Migrated)", "Resumed(Migrated)"]
    assert await is_gone(there)


async def test_the_destination_says_what_it_could_not_read(here, there, vm, monkeypatch):
    # Another machine type is what the comparison of documents would refuse.
    async def completed(definition, _completed=there._engine.driver.completed):
        domain = definition.clone()
        domain.memory = domain.current_memory = 32 << 10
        return await _completed(type(definition)(domain, there._engine.registry, complete=False))

    monkeypatch.setattr(there._engine.driver, "completed", completed)
    with pytest.raises(DriverError) as caught:
        await vm.migrate(there, live=True)
    assert "Message from the destination host: operation failed: job 'migration in' failed" in str(
        caught.value
    )
    assert (await vm.state())[0] is State.RUNNING
    assert await is_gone(there)


async def test_a_guest_that_cannot_be_migrated(here, there):
    shmem = (
        "<shmem name='s' role='peer'><model type='ivshmem-plain'/><size unit='M'>4</size></shmem>"
    )
    vm = await here.create(XML.format(memory=64, machine="pc", devices=shmem))
    with pytest.raises(InvalidState, match=r"cannot migrate|cannot be migrated"):
        await vm.migrate(there, live=True)
    await vm.destroy()


MANAGER = """
import asyncio, os, sys
from hvcore import connect

async def main(here, there, xml, live):
    here, there = await connect(here), await connect(there)
    vm = await here.define(xml)
    await vm.start()
    task = asyncio.create_task(vm.migrate(there, live=bool(live), bandwidth=1))
    while not (await vm.job_info()).data_total:
        await asyncio.sleep(0.02)
    os._exit(7)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("live", ["", "yes"])
async def test_a_manager_that_is_killed_meanwhile(roots, live):
    uris = [f"qemu:///embed?root={root}" for root in roots]
    xml = XML.format(memory=1024, machine="pc", devices="")
    argv = [sys.executable, "-c", MANAGER, *uris, xml, live]
    process = await asyncio.create_subprocess_exec(*argv)
    assert await process.wait() == 7
    [status] = (roots[1] / "run").glob("*/status.json")
    assert json.loads(status.read_text())["data"]["arriving"]
    async with await connect(uris[1]) as there:
        assert await is_gone(there)
    async with await connect(uris[0]) as here:
        vm = await here.lookup_name("vm")
        assert (await vm.state())[0] is State.RUNNING
        assert (await monitor(vm, "query-status"))["running"]
        await vm.destroy()
