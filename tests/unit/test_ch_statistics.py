"""What guests use, over the fake: its counters, and the kernel's of the process."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

from hvcore.cli.main import hv
from hvcore.errors import HvError
from hvcore.errors import MonitorError
from hvcore.errors import Unsupported
from hvcore.statistics import BlockInfo
from hvcore.statistics import BlockStats
from hvcore.statistics import InterfaceStats
from hvcore.statistics import VcpuState
from tests.unit.ch_lab import Lab

BALLOON = "<memballoon model='virtio'/>"
VDPA = "<disk type='vhostvdpa'><source dev='/dev/vdpa-0'/><target dev='vdb' bus='virtio'/></disk>"
VHOST_USER = (
    "<interface type='vhostuser'><mac address='52:54:00:00:00:01'/>"
    "<source type='unix' path='/run/ovs' mode='client'/><model type='virtio'/></interface>"
)
SHARED = "<memoryBacking><access mode='shared'/></memoryBacking>"
COUNTERS = {
    "virtio-disk0": {
        "read_bytes": 4096,
        "write_bytes": 512,
        "read_ops": 2,
        "write_ops": 1,
        "read_latency_avg": 17,
    },
    "net0": {"rx_bytes": 60, "rx_frames": 1, "tx_bytes": 120, "tx_frames": 2},
}


@pytest.fixture
def lab(tmp_path):
    return Lab(tmp_path)


async def test_disks_and_interfaces_have_what_cloud_hypervisor_counted(lab):
    lab.faults(files="assume")
    async with await lab.host() as host:
        domain = await host.create(lab.document(SHARED, VHOST_USER))
        nothing = BlockStats(read_requests=0, read_bytes=0, write_requests=0, write_bytes=0)
        assert await domain.block_stats("vda") == nothing
        counted = {"vm.counters": {"status": 200, "body": COUNTERS}}
        lab.faults(files="assume", requests=counted)
        assert await domain.block_stats("vda") == BlockStats(
            read_requests=2, read_bytes=4096, write_requests=1, write_bytes=512
        )
        assert await domain.interface_stats("net0") == InterfaceStats(
            rx_bytes=60, rx_packets=1, tx_bytes=120, tx_packets=2
        )
        found = await domain.stats(["block", "interface"])
        assert (found["block.0.rd.bytes"], found["net.0.tx.pkts"]) == (4096, 2)
        assert "block.0.rd.times" not in found
        await domain.destroy()


async def test_memory_cpus_and_time_are_those_of_the_process(lab):
    document = lab.document(devices=BALLOON).replace("<vcpu>1</vcpu>", "<vcpu current='2'>3</vcpu>")
    async with await lab.host() as host:
        domain = await host.create(document)
        await domain.set_memory(100 * 1024)
        memory = await domain.memory_stats()
        assert memory["actual"] == 100 * 1024
        statm = await asyncio.to_thread(Path(f"/proc/{lab.pid(domain)}/statm").read_text)
        pages = int(statm.split()[1])
        # The process goes on meanwhile.
        assert memory["rss"] == pytest.approx(pages * os.sysconf("SC_PAGE_SIZE") // 1024, rel=0.2)
        await domain.pin_vcpu(1, "0")
        infos = await domain.vcpu_info()
        assert [(info.number, info.state) for info in infos] == [
            (0, VcpuState.RUNNING),
            (1, VcpuState.RUNNING),
        ]
        assert str(infos[1].affinity) == "0"
        cpu = await domain.cpu_stats()
        assert cpu.cpu_time == cpu.user_time + cpu.system_time > 0
        found = await domain.stats()
        assert found["balloon.current"] == 100 * 1024
        assert found["vcpu.current"] == 2
        assert "vcpu.1.time" in found
        assert found["cpu.time"] >= cpu.cpu_time
        await domain.destroy()


async def test_sizes_are_those_of_the_image(lab):
    head = b"QFI\xfb" + bytes(20) + (1 << 30).to_bytes(8, "big") + bytes(4064)
    (lab.folder / "c.qcow2").write_bytes(head)
    qcow2 = (
        f"<disk type='file'><driver type='qcow2'/><source file='{lab.folder}/c.qcow2'/>"
        "<target dev='vdb' bus='virtio'/></disk>"
    )
    async with await lab.host() as host:
        domain = await host.define(lab.document(devices=qcow2))
        assert (await domain.block_info("vdb")).capacity == 1 << 30
        await domain.start()
        await domain.resize_disk("vda", 1 << 20)
        found = await domain.block_info("vda")
        assert found == BlockInfo(capacity=1 << 20, allocation=found.allocation, physical=1 << 20)
        assert (await domain.stats(["block"]))["block.1.capacity"] == 1 << 30
        await domain.destroy()
        (lab.folder / "c.qcow2").unlink()
        with pytest.raises(HvError, match="cannot stat file"):
            await domain.block_info("vdb")
        assert "block.1.capacity" not in await domain.stats(["block"])


async def test_who_works_elsewhere_is_not_counted(lab):
    lab.faults(files="assume")
    async with await lab.host() as host:
        domain = await host.create(lab.document(devices=VDPA))
        with pytest.raises(Unsupported, match="missing statistics of device 'virtio-disk1'"):
            await domain.block_stats("vdb")
        found = await domain.stats(["block"])
        assert found["block.1.name"] == "vdb"
        assert "block.0.rd.bytes" in found
        assert "block.1.rd.bytes" not in found
        await domain.destroy()


async def test_a_guest_that_was_not_booted_has_done_nothing(lab):
    async with await lab.host() as host:
        domain = await host.define(lab.document())
        await domain.start(paused=True)
        assert (await domain.block_stats("vda")).read_requests == 0
        assert await domain.vcpu_info() == []
        assert (await domain.stats())["block.0.wr.bytes"] == 0
        await domain.destroy()


@pytest.mark.parametrize(
    ("requests", "words"),
    [
        ({"vm.counters": {"status": 200, "body": ["x"]}}, "another schema"),
        ({"vm.counters": {"status": 200, "body": {"virtio-disk0": {}}}}, "another schema"),
        ({"vm.counters": {"body": ["a", "b", "c"]}}, r"'vm\.counters': c"),
    ],
)
async def test_an_answer_that_says_something_else_is_told(lab, requests, words):
    async with await lab.host() as host:
        domain = await host.create(lab.document())
        lab.faults(requests=requests)
        with pytest.raises(MonitorError, match=words):
            await domain.block_stats("vda")
        with pytest.raises(MonitorError, match=words):
            await domain.stats()
        lab.faults(requests={"vm.info": {"status": 200, "body": {"memory_actual_size": "?"}}})
        with pytest.raises(MonitorError, match="another schema"):
            await domain.memory_stats()
        lab.faults()
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
    assert "  cpu.time=" in run("domstats", "guest")
    assert "rss " in run("dommemstat", "guest")
    assert "Capacity: " in run("domblkinfo", "guest", "vda")
    assert run("blockresize", "guest", "vda", "2M") == "Block device 'vda' is resized\n"
    assert (lab.folder / "disk.raw").stat().st_size == 2 << 20
    run("destroy", "guest")
