"""What domains use, on the mock driver and with hv."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from hvcore import connect
from hvcore.cli.main import hv
from hvcore.errors import HvError
from hvcore.errors import InvalidState
from hvcore.statistics import VcpuState

XML = """<domain type='test'><name>vm</name><memory>2048</memory><vcpu>2</vcpu>
<os><type>hvm</type></os><devices><disk type='file' device='cdrom'><target dev='hdc'/></disk>
</devices></domain>"""


@pytest.fixture
async def host():
    async with await connect("test:///default?statistics") as found:
        yield found


@pytest.fixture
async def domain(host):
    return await host.lookup("test")


async def test_numbers_move_with_the_clock_while_the_guest_runs(host, domain):
    async def all_of_it():
        return [
            await domain.block_stats("vda"),
            await domain.interface_stats("aa:bb:cc:dd:ee:ff"),
            await domain.cpu_stats(),
            (await domain.vcpu_info())[0].cpu_time,
        ]

    before = await all_of_it()
    assert await all_of_it() == before
    await host.test.clock.advance(10)
    after = await all_of_it()
    assert after[0].read_bytes > before[0].read_bytes
    assert after[1].rx_bytes > before[1].rx_bytes
    assert after[2].cpu_time - before[2].cpu_time == 20 * 10**9
    assert after[3] - before[3] == 10 * 10**9
    await domain.suspend()
    paused = await all_of_it()
    await host.test.clock.advance(10)
    assert await all_of_it() == paused


async def test_memory_and_cpus(domain):
    memory = await domain.memory_stats()
    assert (memory["actual"], memory["unused"], memory["rss"]) == (2097152, 1048576, 1048576)
    infos = await domain.vcpu_info()
    assert [(info.number, info.state) for info in infos] == [
        (0, VcpuState.RUNNING),
        (1, VcpuState.RUNNING),
    ]
    await domain.pin_vcpu(1, "1")
    assert (await domain.vcpu_info())[1].cpu == 1
    stats = await domain.cpu_stats()
    assert stats.user_time + stats.system_time == stats.cpu_time


async def test_disks_by_target_by_source_and_together(domain):
    assert await domain.block_stats() == await domain.block_stats("vda")
    assert await domain.block_stats("/guest/diskimage1") == await domain.block_stats("vda")
    info = await domain.block_info("vda")
    assert (info.capacity, info.allocation, info.physical) == (
        1099506450432,
        1099511627776,
        1099511627776,
    )


async def test_a_disk_keeps_its_new_size_and_what_is_off_does_nothing(host, domain):
    await domain.resize_disk("vda", 1 << 30)
    assert host.test.history(domain)[-1] == f"resize vda {1 << 30}"
    await domain.destroy()
    assert (await domain.block_info("vda")).capacity == 1 << 30
    still = await host.create(
        "<domain type='test'><name>still</name><memory>2048</memory><os><type>hvm</type></os>"
        "<devices><disk type='file' device='cdrom'><source file='/cd'/><target dev='hda'/></disk>"
        "<interface type='network'><mac address='52:54:00:00:00:01'/><source network='default'/>"
        "<link state='down'/></interface></devices></domain>"
    )
    await host.test.clock.advance(60)
    block = await still.block_stats("hda")
    assert (block.read_requests > 0, block.write_requests, block.write_time) == (True, 0, 0)
    assert (await still.interface_stats("52:54:00:00:00:01")).rx_packets == 0


async def test_words_of_what_is_not_there(host, domain):
    for call, message in (
        (domain.block_stats("vdz"), "invalid path vdz not assigned to domain"),
        (domain.block_info("vdz"), "invalid path vdz not assigned to domain"),
        (domain.interface_stats("eth9"), "'eth9' is not a known interface"),
    ):
        with pytest.raises(HvError) as caught:
            await call
        assert str(caught.value) == f"invalid argument: {message}"
    off = await host.define(XML)
    for name in ("memory_stats", "vcpu_info", "block_stats", "cpu_stats"):
        with pytest.raises(InvalidState, match="domain is not running"):
            await getattr(off, name)()
    with pytest.raises(HvError, match="disk 'hdc' does not currently have a source assigned"):
        await off.block_info("hdc")


async def test_all_statistics_in_one_list(host, domain):
    await host.define(XML)
    found = await host.stats()
    assert list(found) == ["test", "vm"]
    running, off = found["test"], found["vm"]
    assert running["state.state"] == 1
    assert running["vcpu.1.state"] == 1
    assert running["balloon.maximum"] == 8388608
    assert running["block.0.path"] == "/guest/diskimage1"
    assert running["net.count"] == 1
    assert running["net.0.rx.pkts"] == running["net.0.rx.bytes"] // 10
    assert off == {
        "state.state": 5,
        "state.reason": 0,
        "balloon.current": 2048,
        "balloon.maximum": 2048,
        "vcpu.current": 2,
        "vcpu.maximum": 2,
        "block.count": 1,
        "block.0.name": "hdc",
    }
    assert await domain.stats(["state"]) == {"state.state": 1, "state.reason": 0}
    assert list(await host.stats(["state"], active=False)) == ["vm"]


def run(*words):
    return CliRunner().invoke(hv, ["-c", "test:///default", *words])


def test_the_verbs():
    text = run("vcpuinfo", "test").output
    assert text.startswith("VCPU:           0\nCPU:            0\nState:          running\n")
    assert "CPU Affinity:   y" in text
    assert "(out of " in run("vcpuinfo", "test", "--pretty").output
    assert "actual 2097152\nswap_in 0\n" in run("dommemstat", "test").output
    assert "Total:\n\tcpu_time " in run("cpu-stats", "test").output
    assert "Total" not in run("cpu-stats", "test", "--start", "0").output
    assert "vda rd_req " in run("domblkstat", "test", "vda").output
    assert "number of bytes read:" in run("domblkstat", "test", "vda", "--human").output
    assert run("domifstat", "test", "aa:bb:cc:dd:ee:ff").output.startswith("aa:bb:cc:dd:ee:ff rx_")
    assert run("domblkinfo", "test", "vda").output == (
        "Capacity:       1099506450432\n"
        "Allocation:     1099511627776\n"
        "Physical:       1099511627776\n"
    )
    assert "1.000 TiB" in run("domblkinfo", "test", "--all", "--human").output
    assert run("domblkinfo", "test").exit_code == 1
    assert run("domblkinfo", "test", "vda", "--all").exit_code == 2
    assert " vda      /guest/diskimage1" in run("domblklist", "test").output
    assert " file   disk     vda " in run("domblklist", "test", "--details").output
    assert "aa:bb:cc:dd:ee:ff" in run("domiflist", "test").output
    assert run("domstats", "test", "--state").output == (
        "Domain: 'test'\n  state.state=1\n  state.reason=0\n"
    )
    found = json.loads(run("--json", "domstats", "--vcpu").output)
    assert found["test"]["vcpu.maximum"] == 2
    for shown in ("--list-active", "--list-persistent --list-transient", "--list-running"):
        assert list(json.loads(run("--json", "domstats", *shown.split()).output)) == ["test"]
    for hidden in ("--list-inactive", "--list-transient", "--list-paused --list-other", "test"):
        words = f"{hidden} --list-shutoff".split()
        assert json.loads(run("--json", "domstats", *words).output) == {}
    assert run("domstats", "none").stderr == "error: failed to get domain 'none'\n"
    assert run("domblkstat", "test", "vdz").exit_code == 1
    assert run("cpu-stats", "test", "--start", "-1").exit_code == 1
    assert run("cpu-stats", "test", "--count", "-1").exit_code == 1
