"""Guests that move between two hosts of one machine, over the fake."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from hvcore import events
from hvcore.errors import DriverError
from hvcore.errors import HvError
from hvcore.errors import InvalidState
from hvcore.errors import MonitorError
from hvcore.errors import Unsupported
from hvcore.lifecycle import PausedReason
from hvcore.lifecycle import RunningReason
from hvcore.lifecycle import ShutoffReason
from hvcore.lifecycle import State
from hvcore_ch import relay
from tests.unit.ch_lab import Lab
from tests.unit.ch_lab import eventually
from tests.unit.ch_lab import leftovers
from tests.unit.ch_lab import processes
from tests.unit.ch_lab import until

VSOCK = "<vsock model='virtio'><cid auto='no' address='7'/></vsock>"
FAILS = {"status": 500, "body": ["Error from API", "It failed", "Because"]}


@pytest.fixture
def lab(tmp_path):
    return Lab(tmp_path)


async def vm_info(domain):
    return await domain._record.runtime.vmm.monitor.call("vm.info")


async def check_only(lab, domain, moved):
    """Check that there is one guest, and nothing of a migration."""

    async def alone():
        return len(processes(lab)) == 1

    await eventually(alone)
    here, there = (domain, moved) if domain.is_active else (moved, domain)
    assert leftovers(there) == []
    assert not list(lab.folder.rglob("migration.sock"))
    assert relay._RELAYS == {}
    assert here.is_active


@pytest.mark.parametrize("live", [True, False])
async def test_a_guest_moves(lab, live):
    async with await lab.host() as source, await lab.host("other") as target:
        domain = await source.define(lab.document(devices=VSOCK))
        await domain.start()
        here, there = source.events(), target.events()
        moved = await domain.migrate(target, live=live)
        assert (await domain.state())[1] is ShutoffReason.MIGRATED
        assert (await moved.state())[1] is RunningReason.MIGRATED
        assert (await vm_info(moved))["state"] == "Running"
        await check_only(lab, domain, moved)
        # Where the host has things is where this host has them.
        socket = (await vm_info(moved))["config"]["vsock"]["socket"]
        assert str(lab.folder / "other") in socket or socket.startswith("/tmp/")
        assert "<source path='/dev/pts/" in await moved.xml()
        assert await moved.console() in await moved.xml()
        await moved.suspend()
        await moved.destroy()
        await domain.start()
        await domain.destroy()
    told = [type(event).__name__ async for event in here]
    assert told[:3] == ["Suspended", "Stopped", "JobCompleted"]
    told = [type(event).__name__ async for event in there]
    assert told[:2] == ["Started", "Resumed"]


async def test_one_that_stands_still_arrives_so_and_may_go_on(lab):
    async with await lab.host() as source, await lab.host("other") as target:
        domain = await source.create(lab.document())
        await domain.suspend()
        moved = await domain.migrate(target, live=True)
        assert (await moved.state())[1] is PausedReason.USER
        assert (await vm_info(moved))["state"] == "Paused"
        await moved.resume()
        back = await moved.migrate(source, live=True, paused=True)
        assert (await back.state())[1] is PausedReason.USER
        assert (await vm_info(back))["state"] == "Paused"
        await back.destroy()


async def test_one_that_was_not_booted_is_booted_where_it_is_resumed(lab):
    async with await lab.host() as source, await lab.host("other") as target:
        domain = await source.define(lab.document(devices=VSOCK))
        await domain.start(paused=True)
        moved = await domain.migrate(target, live=True)
        await check_only(lab, domain, moved)
        assert (await vm_info(moved))["state"] == "Created"
        await moved.resume()
        assert (await vm_info(moved))["state"] == "Running"
        await moved.destroy()


async def test_devices_keep_their_names(lab):
    (lab.folder / "b.raw").write_bytes(bytes(4096))
    disk = (
        f"<disk type='file'><source file='{lab.folder}/b.raw'/>"
        "<target dev='vdb' bus='virtio'/></disk>"
    )
    async with await lab.host() as source, await lab.host("other") as target:
        domain = await source.create(lab.document())
        domain._record.data = {**domain._record.data, "landlock": None}
        await domain.attach_device(disk)
        await domain.detach_device_alias("virtio-disk0")
        moved = await domain.migrate(target, live=True)
        assert "<alias name='virtio-disk1'/>" in await moved.xml()
        assert await moved.detach_device_alias("virtio-disk1") is True
        await moved.destroy()


async def test_a_process_that_sends_is_not_taken_for_one_that_crashed(lab):
    """The request returns at once, and in the end the process is gone by itself."""
    lab.faults(migration_seconds=0.3)
    async with await lab.host() as source, await lab.host("other") as target:
        domain = await source.define(lab.document())
        await domain.start()
        stream = source.events([events.Stopped, events.Shutdown])
        moving = asyncio.create_task(domain.migrate(target, live=True))

        async def under_way():
            return domain._record.runtime.leaving_by is not None

        await eventually(under_way)
        assert (await domain.state())[0] is State.RUNNING
        info = await domain.job_info()
        assert info.progress.memory_total == 128 << 20
        with pytest.raises(InvalidState, match="another migration job"):
            await domain.migrate(target, live=True)
        moved = await moving
        assert (await domain.state())[1] is ShutoffReason.MIGRATED
        assert (await domain.job_info(completed=True)).data_processed > 0
        await moved.destroy()
    told = [(type(event).__name__, str(getattr(event, "reason", ""))) async for event in stream]
    assert told[0] == ("Stopped", "Migrated")
    assert [name for name, _ in told].count("Stopped") == 1


@pytest.mark.parametrize("live", [True, False])
async def test_a_migration_can_be_aborted(lab, live):
    lab.faults(migration="hang")
    async with await lab.host() as source, await lab.host("other") as target:
        domain = await source.create(lab.document())
        moving = asyncio.create_task(domain.migrate(target, live=live))

        async def under_way():
            way = domain._record.runtime.leaving_by
            return way is not None and way.passed > 0

        await eventually(under_way)
        await domain.abort_job()
        with pytest.raises(DriverError, match="migration out"):
            await moving
        await check_stays(lab, domain, target, live=live)


async def check_stays(lab, domain, target, *, live):
    """Check that a guest that was not sent is what it was before."""
    assert (await domain.state())[0] is State.RUNNING
    assert (await vm_info(domain))["state"] == "Running"
    assert await target.domains() == []
    assert len(processes(lab)) == 1
    assert not list(lab.folder.rglob("migration.sock"))
    await domain.suspend()
    await domain.resume()
    await domain.destroy()


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize(
    "faults",
    [
        {"migration": "fail"},
        {"requests": {"vm.send-migration": FAILS}},
        {"requests": {"vm.send-migration": "close"}},
        {"requests": {"vm.receive-migration": FAILS}},
        {"requests": {"vm.receive-migration": "die"}},
    ],
)
async def test_a_guest_that_does_not_go_stays(lab, faults, live):
    async with await lab.host() as source, await lab.host("other") as target:
        domain = await source.create(lab.document())
        lab.faults(**faults)
        with pytest.raises(HvError):
            await domain.migrate(target, live=live)
        lab.faults()
        await check_stays(lab, domain, target, live=live)


async def test_the_other_host_says_why_it_does_not_take_a_guest(lab):
    async with await lab.host() as source, await lab.host("other") as target:
        domain = await source.create(lab.document())
        lab.faults(requests={"vm.receive-migration": FAILS})
        with pytest.raises(MonitorError, match="Because"):
            await domain.migrate(target, live=True)
        await domain.destroy()


@pytest.mark.parametrize("live", [True, False])
async def test_one_whose_other_process_dies_at_the_last_moment_stays(lab, live, monkeypatch):
    original = relay.Relay.release

    async def release(self, *, run):
        os.kill(victim(), signal.SIGKILL)
        await original(self, run=run)

    monkeypatch.setattr(relay.Relay, "release", release)
    async with await lab.host() as source, await lab.host("other") as target:
        domain = await source.create(lab.document())

        def victim():
            mine = lab.pid(domain)
            return next(int(pid) for pid in processes(lab) if int(pid) != mine)

        with pytest.raises(HvError):
            await domain.migrate(target, live=live)
        await check_stays(lab, domain, target, live=live)


@pytest.mark.parametrize("which", ["source", "target"])
async def test_a_manager_that_ends_leaves_the_guest_where_it_was(lab, which):
    lab.faults(migration="hang")
    source, target = await lab.host(), await lab.host("other")
    domain = await source.create(lab.document())
    moving = asyncio.create_task(domain.migrate(target, live=which == "source"))

    async def under_way():
        way = domain._record.runtime.leaving_by
        return way is not None and way.passed > 0

    await eventually(under_way)
    moving.cancel()
    await asyncio.gather(moving, return_exceptions=True)
    await target.close()
    await source.close()
    async with await lab.host() as source, await lab.host("other") as target:
        domain = await source.lookup_name("guest")
        await until(domain, (await domain.state())[1])
        await check_stays(lab, domain, target, live=True)


@pytest.mark.parametrize(
    ("devices", "words"),
    [
        (
            (
                "<hostdev mode='subsystem' type='pci' managed='no'><source>"
                "<address domain='0' bus='1' slot='0' function='0'/></source></hostdev>"
            ),
            "cannot migrate a domain with <hostdev mode='subsystem' type='pci'>",
        ),
        (
            (
                "<interface type='vdpa'><mac address='52:54:00:00:00:01'/>"
                "<source dev='/dev/vhost-vdpa-1'/><model type='virtio'/></interface>"
            ),
            "cannot migrate a domain with <interface type='vdpa'>",
        ),
    ],
)
async def test_what_is_of_this_host_alone_stays(lab, devices, words):
    lab.faults(files="assume")
    async with await lab.host() as source, await lab.host("other") as target:
        domain = await source.create(lab.document(devices=devices))
        with pytest.raises(InvalidState, match=words):
            await domain.migrate(target, live=True)
        await domain.destroy()


async def test_an_older_binary_does_not_migrate(lab):
    lab.faults(version="52.0.0")
    async with await lab.host() as source, await lab.host("other") as target:
        domain = await source.create(lab.document())
        with pytest.raises(Unsupported, match="not supported by this Cloud-Hypervisor binary"):
            await domain.migrate(target, live=True)
        await domain.destroy()


async def test_a_file_cannot_be_aborted(lab):
    async with await lab.host() as host:
        domain = await host.create(lab.document())
        with pytest.raises(InvalidState, match="no job is active"):
            await domain.abort_job()
        await domain.destroy()
