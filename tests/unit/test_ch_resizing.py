"""Sizes and counters over the fake."""

from __future__ import annotations

import json
import threading

import pytest
from click.testing import CliRunner

from hvcore.cli.main import hv
from hvcore.errors import HvError
from hvcore.errors import InvalidState
from hvcore.errors import MonitorError
from hvcore.statistics import BlockStats
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


async def test_a_disk_has_another_size_and_counters(lab):
    async with await lab.host() as host:
        domain = await host.create(lab.document())
        await domain.resize_disk("vda", 1 << 20)
        assert (lab.folder / "disk.raw").stat().st_size == 1 << 20
        counted = await domain.block_stats("vda")
        assert counted == BlockStats(read_requests=0, read_bytes=0, write_requests=0, write_bytes=0)
        await domain.inject_nmi()
        await domain.destroy()


async def test_who_works_elsewhere_is_not_counted(lab):
    lab.faults(files="assume")
    devices = (
        "<disk type='vhostvdpa'><source dev='/dev/vhost-vdpa-0'/>"
        "<target dev='vdb' bus='virtio'/></disk>"
    )
    async with await lab.host() as host:
        domain = await host.create(lab.document(devices=devices))
        with pytest.raises(HvError, match="missing statistics of device 'virtio-disk1'"):
            await domain.block_stats("vdb")
        with pytest.raises(HvError, match="block resize is not supported for vhostvdpa disk"):
            await domain.resize_disk("vdb", 1)
        lab.faults(files="assume", requests={"vm.counters": {"status": 200, "body": ["x"]}})
        with pytest.raises(HvError, match=r"missing statistics|another schema"):
            await domain.block_stats("vda")
        lab.faults(files="assume", requests={"vm.resize-disk": {"body": ["a", "b", "c"]}})
        with pytest.raises(MonitorError, match=r"'vm\.resize-disk': c"):
            await domain.resize_disk("vda", 1)
        await domain.destroy()


async def test_hv_shows_what_is_counted(lab):
    async with await lab.host() as host:
        await host.create(lab.document())
    uri = f"ch:///embed?root={lab.folder}/root"

    def run(*args):
        results = []
        thread = threading.Thread(
            target=lambda: results.append(CliRunner().invoke(hv, ["-c", uri, *args]))
        )
        thread.start()
        thread.join()
        assert results[0].exit_code == 0, results[0].output
        return results[0].output

    assert run("domblkstat", "guest", "vda") == (
        "vda rd_req 0\nvda rd_bytes 0\nvda wr_req 0\nvda wr_bytes 0\n"
    )
    assert json.loads(run("--json", "domblkstat", "guest", "vda"))["read_requests"] == 0
    assert run("blockresize", "guest", "vda", "2M") == "Block device 'vda' is resized\n"
    assert (lab.folder / "disk.raw").stat().st_size == 2 << 20
    run("destroy", "guest")
