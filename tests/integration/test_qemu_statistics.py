"""What real QEMU guests use."""

from __future__ import annotations

import json
import os
import signal

import pytest

from hvcore import connect
from hvcore.errors import HvError
from hvcore.registry import Registry
from hvcore.state import process_start

pytestmark = pytest.mark.qemu
MIB = 1024 * 1024


@pytest.fixture
async def host(qemu, tmp_path):
    uri = f"qemu:///embed?root={tmp_path}/root"
    async with await connect(uri, registry=Registry.default()) as found:
        yield found
        for domain in await found.domains(active=True):
            await domain.destroy()
    for status in tmp_path.glob("root/run/*/status.json"):
        pid = json.loads(status.read_text())["pid"]
        if pid is not None and process_start(pid) is not None:
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "disk.raw"
    path.write_bytes(b"\x55\xaa" * 256)
    os.truncate(path, 8 * MIB)
    return path


@pytest.fixture
async def domain(host, image):
    return await host.define(
        f"""<domain type='qemu'><name>vm</name><memory unit='MiB'>32</memory><vcpu>2</vcpu>
        <os><type arch='x86_64' machine='pc'>hvm</type></os><devices>
        <disk type='file' device='disk'><driver name='qemu' type='raw'/>
        <source file='{image}'/><target dev='vda' bus='virtio'/></disk>
        <interface type='user'><mac address='52:54:00:00:00:01'/></interface>
        <memballoon model='virtio'/></devices></domain>"""
    )


async def test_what_a_guest_uses(host, domain):
    await domain.start()
    memory = await domain.memory_stats()
    assert memory["actual"] == 32 * 1024
    assert memory["rss"] > 1024
    infos = await domain.vcpu_info()
    assert [info.number for info in infos] == [0, 1]
    assert infos[0].cpu >= 0
    assert infos[0].affinity is not None
    cpu = await domain.cpu_stats()
    assert cpu.cpu_time == cpu.user_time + cpu.system_time > 0
    assert (await domain.block_stats("vda")).read_requests >= 0
    with pytest.raises(HvError, match="Interface stats not supported"):
        await domain.interface_stats("52:54:00:00:00:01")
    stats = await domain.stats()
    assert stats["block.0.capacity"] == 8 * MIB
    assert stats["net.count"] == 1
    assert stats["vcpu.current"] == 2
    assert "net.0.rx.bytes" not in stats


async def test_sizes_of_disks_whether_it_runs_or_not(domain, image):
    off = await domain.block_info("vda")
    assert (off.capacity, off.physical) == (8 * MIB, 8 * MIB)
    assert off.allocation == image.stat().st_blocks * 512
    await domain.start()
    on = await domain.block_info("vda")
    assert (on.capacity, on.physical) == (8 * MIB, 8 * MIB)
