"""Sizes over the fake."""

from __future__ import annotations

import pytest

from hvcore.errors import HvError
from hvcore.errors import InvalidState
from hvcore.errors import MonitorError
from tests.unit.ch_lab import Lab

BALLOON = "<memballoon model='virtio'/>"


@pytest.fixture
def lab(tmp_path):
    return Lab(tmp_path)


async def test_the_balloon_takes_memory(lab):
    async with await lab.host() as host:
        domain = await host.create(lab.document(devices=BALLOON))
        await domain.set_memory(100 * 1024)
        assert (await domain.info()).memory == 100 * 1024
        assert "<currentMemory unit='KiB'>102400<" in await domain.xml()
        await domain.set_memory(128 * 1024)
        assert (await domain.info()).memory == 128 * 1024
        await domain.destroy()


async def test_without_a_balloon_nothing_can(lab):
    async with await lab.host() as host:
        domain = await host.create(lab.document())
        with pytest.raises(InvalidState, match="without the balloon device"):
            await domain.set_memory(100 * 1024)
        await domain.destroy()


async def test_a_disk_has_another_size(lab):
    async with await lab.host() as host:
        domain = await host.create(lab.document())
        await domain.resize_disk("vda", 1 << 20)
        assert (lab.folder / "disk.raw").stat().st_size == 1 << 20
        await domain.inject_nmi()
        await domain.destroy()


async def test_a_disk_keeps_its_size_for_a_reason(lab):
    lab.faults(files="assume")
    devices = (
        "<disk type='vhostvdpa'><source dev='/dev/vhost-vdpa-0'/>"
        "<target dev='vdb' bus='virtio'/></disk>"
    )
    async with await lab.host() as host:
        domain = await host.create(lab.document(devices=devices))
        with pytest.raises(HvError, match="block resize is not supported for vhostvdpa disk"):
            await domain.resize_disk("vdb", 1)
        lab.faults(files="assume", requests={"vm.resize-disk": {"body": ["a", "b", "c"]}})
        with pytest.raises(MonitorError, match=r"'vm\.resize-disk': c"):
            await domain.resize_disk("vda", 1)
        await domain.destroy()


MODULE = "<memory model='dimm'><target><size unit='MiB'>{}</size></target></memory>"
ROOM = "<maxMemory slots='2' unit='MiB'>512</maxMemory>"


async def test_modules_come_and_stay(lab):
    async with await lab.host() as host:
        domain = await host.define(lab.document(ROOM))
        await domain.start()
        await domain.attach_device(MODULE.format(128))
        assert (await domain.info()).memory == 256 * 1024
        text = await domain.xml()
        assert "<memory unit='KiB'>262144</memory>" in text
        assert "<alias name='dimm0'/>" in text
        with pytest.raises(HvError, match="multiples of 131072 KiB"):
            await domain.attach_device(MODULE.format(100))
        with pytest.raises(HvError, match="would exceed domain's maxMemory"):
            await domain.attach_device(MODULE.format(384))
        with pytest.raises(HvError, match="live detach of device 'dimm' is not supported"):
            await domain.detach_device_alias("dimm0")
        await domain.reset()
        assert (await domain.info()).memory == 256 * 1024
        await domain.attach_device(MODULE.format(256), config=True)
        await domain.destroy()
        await domain.start()
        assert (await domain.info()).memory == 384 * 1024
        await domain.destroy()


async def test_a_module_that_is_refused_leaves_everything_as_it_was(lab):
    async with await lab.host() as host:
        domain = await host.create(lab.document(ROOM))
        before = await domain.xml()
        lab.faults(requests={"vm.resize": {"status": 500, "body": ["a", "b", "c"]}})
        with pytest.raises(MonitorError, match=r"'vm\.resize': c"):
            await domain.attach_device(MODULE.format(128))
        assert await domain.xml() == before
        await domain.destroy()
