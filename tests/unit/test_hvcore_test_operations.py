"""What the test driver says it can do beside libvirt's: each is really done."""

from __future__ import annotations

import asyncio
import importlib.util
import json
from pathlib import Path

import pytest

from hvcore import connect
from hvcore.domain import Domain
from hvcore.errors import HvError
from hvcore.events import BlockJobStatus
from hvcore.host import Host
from hvcore.lifecycle import RunningReason
from hvcore.lifecycle import ShutoffReason
from hvcore.lifecycle import State
from hvcore_test.operations import OPERATIONS

ROOT = Path(__file__).parents[2]
XML = """<domain type='test'><name>vm</name><memory unit='MiB'>4096</memory>
<vcpu current='1'>2</vcpu><os><type>hvm</type></os><devices>
<disk type='file'><driver name='qemu' type='qcow2'/>
<source file='/top'/><backingStore type='file'><format type='raw'/><source file='/base'/>
<backingStore/></backingStore><target dev='vda' bus='virtio'/></disk></devices></domain>"""
DISK = "<disk type='file'><source file='/x'/><target dev='vdb' bus='virtio'/></disk>"
AGENT = "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
COPY = "<disk type='file'><driver type='qcow2'/><source file='/copy'/></disk>"


@pytest.fixture
async def host():
    async with await connect("test:///default?operations") as found:
        yield found


@pytest.fixture
async def vm(host):
    domain = await host.define(XML)
    await domain.start()
    return domain


async def attach_device(host, vm, folder):
    await vm.attach_device(DISK, live=True, config=True)
    for inactive in (False, True):
        assert "/x" in await vm.xml(inactive=inactive)


async def detach_device(host, vm, folder):
    await vm.attach_device(DISK, live=True, config=True)
    assert await vm.detach_device(DISK, live=True, config=True)
    for inactive in (False, True):
        assert "/x" not in await vm.xml(inactive=inactive)


async def save(host, vm, folder):
    other = (await vm.xml()).replace("<name>vm</name>", "<name>vm</name><title>saved</title>")
    await vm.save(f"{folder}/vm", xml=other, running=False)
    assert (await vm.state())[1] is ShutoffReason.SAVED
    assert "<title>saved</title>" in await host.save_image_xml(f"{folder}/vm")


async def restore(host, vm, folder):
    await vm.save(f"{folder}/vm")
    back = await host.restore(f"{folder}/vm", running=False)
    assert (await back.state())[0] is State.PAUSED


async def managed_save_xml(host, vm, folder):
    await vm.managed_save()
    assert "<name>vm</name>" in await vm.managed_save_xml()


async def managed_save_define(host, vm, folder):
    await vm.managed_save()
    document = await vm.managed_save_xml()
    await vm.managed_save_define(document.replace("<vcpu", "<title>t</title><vcpu", 1))
    assert "<title>t</title>" in await vm.managed_save_xml()
    await vm.start()
    assert (await vm.state())[1] is RunningReason.RESTORED


async def set_vcpu(host, vm, folder):
    await vm.set_vcpu("1", enabled=True)
    assert await vm.vcpu_count() == 2


async def resize_disk(host, vm, folder):
    await vm.resize_disk("vda", 1 << 33)
    assert (await vm.block_info("vda")).capacity == 1 << 33


async def block_stats(host, vm, folder):
    before = await vm.block_stats("vda")
    await host.test.clock.advance(10)
    after = await vm.block_stats("vda")
    assert after.flush_requests > before.flush_requests


async def block_pull(host, vm, folder):
    await vm.block_pull("vda")
    assert await vm.wait_for_block_job("vda") is BlockJobStatus.COMPLETED
    assert "/base" not in await vm.xml()


async def block_commit(host, vm, folder):
    await vm.block_commit("vda", active=True)
    await vm.wait_for_block_job("vda")
    await vm.abort_block_job("vda", pivot=True)
    assert "/top" not in await vm.xml()


async def block_copy(host, vm, folder):
    await vm.block_copy("vda", COPY, transient=True)
    assert await vm.wait_for_block_job("vda") is BlockJobStatus.READY
    assert "<mirror" in await vm.xml()


async def block_job(host, vm, folder):
    host.test.clock.hold()
    await vm.block_pull("vda", bandwidth=1 << 20)
    await host.test.clock.advance(3)
    assert (await vm.block_job("vda")).cur == 3 << 20


async def set_block_job_speed(host, vm, folder):
    host.test.clock.hold()
    await vm.block_pull("vda", bandwidth=1 << 20)
    await vm.set_block_job_speed("vda", 2 << 20)
    await host.test.clock.advance(3)
    assert (await vm.block_job("vda")).cur == 6 << 20


async def abort_block_job(host, vm, folder):
    host.test.clock.hold()
    await vm.block_pull("vda")
    await vm.abort_block_job("vda")
    assert await vm.block_job("vda") is None
    assert "/base" in await vm.xml()


async def migrate(host, vm, folder):
    async with await connect("test:///default?operations-there") as there:
        moved = await vm.migrate(there, live=True)
        assert (await moved.state())[1] is RunningReason.MIGRATED
        assert (await vm.state())[1] is ShutoffReason.MIGRATED


async def _migrating(host, vm, there):
    """Begin a migration, and return when it is on its way."""
    host.test.clock.hold()
    moving = asyncio.ensure_future(vm.migrate(there, live=True, bandwidth=32))
    await host.test.clock.advance(1)
    return moving


async def job_info(host, vm, folder):
    async with await connect("test:///default?operations-there") as there:
        moving = await _migrating(host, vm, there)
        info = await vm.job_info()
        assert 0 < info.data_processed < info.data_total
        await vm.abort_job()
        with pytest.raises(HvError):
            await moving


async def abort_job(host, vm, folder):
    async with await connect("test:///default?operations-there") as there:
        moving = await _migrating(host, vm, there)
        await vm.abort_job()
        with pytest.raises(HvError):
            await moving
        assert (await vm.state())[0] is State.RUNNING
        assert [each.name for each in await there.domains()] == ["test"]


async def guest_info(host, vm, folder):
    await vm.attach_device(AGENT)
    assert "hostname" in await vm.guest_info(["hostname"])


async def agent_command(host, vm, folder):
    await vm.attach_device(AGENT)
    assert json.loads(await vm.agent_command('{"execute": "guest-ping"}')) == {"return": {}}


async def pm_suspend(host, vm, folder):
    await vm.pm_suspend("mem")
    assert (await vm.state())[0] is State.PMSUSPENDED


async def pm_wakeup(host, vm, folder):
    await vm.pm_suspend("mem")
    await vm.pm_wakeup()
    assert (await vm.state())[1] is RunningReason.WAKEUP


async def set_throttle_group(host, vm, folder):
    await vm.set_throttle_group("slow", {"total_iops_sec": 9})
    assert await vm.throttle_groups() == {"slow": {"total_iops_sec": 9}}


async def remove_throttle_group(host, vm, folder):
    await vm.set_throttle_group("slow", {"total_iops_sec": 9})
    await vm.remove_throttle_group("slow")
    assert await vm.throttle_groups() == {}


async def set_autostart(host, vm, folder):
    await vm.set_autostart(once=True)
    host.test.faults.reboot_host()
    assert await host.autostart() == [vm]


async def autostart_once(host, vm, folder):
    assert not vm.autostart_once
    await vm.set_autostart(once=True)
    assert vm.autostart_once


async def lower(host, vm, folder):
    uri = "test:///?caps=qemu-10.0.2-x86_64&operations"
    async with await connect(uri) as recorded:
        text = await recorded.lower(XML.replace("'test'", "'qemu'"))
    assert "-blockdev" in text


CALLS = {
    call.__name__: call
    for call in (
        attach_device, detach_device, save, restore, managed_save_xml, managed_save_define,
        set_vcpu, resize_disk, block_stats, block_pull, block_commit, block_copy, block_job,
        set_block_job_speed, abort_block_job, migrate, job_info, abort_job, guest_info,
        agent_command, pm_suspend, pm_wakeup,
        set_throttle_group, remove_throttle_group, set_autostart, autostart_once, lower,
    )
}  # fmt: skip
WORKING = [each.ours for each in OPERATIONS if each.ours]


@pytest.mark.parametrize("ours", WORKING)
async def test_what_is_said_to_work_does(host, vm, tmp_path, ours):
    owner, _, name = ours.partition(".")
    assert hasattr({"Domain": Domain, "Host": Host}[owner], name)
    await CALLS[name](host, vm, tmp_path)


def test_everything_works_or_has_a_reason():
    assert sorted(CALLS) == sorted(name.partition(".")[2] for name in WORKING)
    assert [each.names for each in OPERATIONS if not (each.ours or each.reason)] == []
    names = [name for each in OPERATIONS for name in each.names]
    assert len(names) == len(set(names))


def test_the_documentation_says_so():
    path = ROOT / "tools" / "generate_test_docs.py"
    spec = importlib.util.spec_from_file_location("generate_test_docs", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.generate() == (ROOT / "docs" / "test-operations.inc").read_text()
