"""I/O threads, limits that disks share, sleep, and starts with the host."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from hvcore import connect
from hvcore import events
from hvcore.cli.main import hv
from hvcore.errors import HvError
from hvcore.errors import InvalidState
from hvcore.lifecycle import RunningReason
from hvcore.lifecycle import State

XML = """<domain type='test'><name>vm</name><memory>8192</memory><iothreads>2</iothreads>
<os><type>hvm</type></os>
<throttlegroups><throttlegroup><total_iops_sec>10</total_iops_sec><group_name>used</group_name>
</throttlegroup></throttlegroups>
<devices>
<disk type='file'><driver name='x' iothread='2'/><source file='/a'/>
<target dev='vda' bus='virtio'/></disk>
<disk type='file'><source file='/b'/><target dev='vdb' bus='virtio'/>
<throttlefilters><throttlefilter group='used'/></throttlefilters></disk>
<controller type='scsi' model='virtio-scsi'><driver iothread='1'/></controller>
</devices></domain>"""


@pytest.fixture
async def host():
    async with await connect("test:///default?adjusting") as found:
        yield found


@pytest.fixture
async def domain(host):
    found = await host.define(XML)
    await found.start()
    return found


async def test_io_threads_come_and_go(host, domain):
    await domain.add_iothread(6, live=True, config=True)
    await domain.set_iothread(6, poll_max=100, poll_grow=2, poll_shrink=3, live=True)
    stats = await domain.stats(["iothread"])
    assert stats["iothread.count"] == 3
    polls = ("poll-max-ns", "poll-grow", "poll-shrink")
    assert [stats[f"iothread.6.{name}"] for name in polls] == [100, 2, 3]
    assert [stats[f"iothread.1.{name}"] for name in polls] == [32768, 0, 0]
    assert "<poll max='100' grow='2' shrink='3'/>" in await domain.xml()
    assert "<iothread id='6'/>" in await domain.xml(inactive=True)
    await domain.pin_iothread(6, "0", live=True, config=True)
    await domain.remove_iothread(6, live=True, config=True)
    for inactive in (False, True):
        assert "'6'" not in await domain.xml(inactive=inactive)
    assert host.test.history(domain)[-3:] == (
        "add iothread 6",
        "set iothread 6",
        "remove iothread 6",
    )
    await domain.destroy()
    assert await domain.stats(["iothread"]) == {}


@pytest.mark.parametrize(
    ("verb", "args", "message"),
    [
        ("add_iothread", (0,), "invalid value of 0 for iothread_id"),
        ("add_iothread", (1,), "an IOThread is already using iothread_id '1'"),
        ("remove_iothread", (7,), "cannot find IOThread '7' in iothreadids list"),
        ("remove_iothread", (2,), "cannot remove IOThread 2 since it is being used by disk 'vda'"),
        (
            "remove_iothread",
            (1,),
            "cannot remove IOThread '1' since it is being used by controller",
        ),
        ("set_iothread", (7,), "cannot find IOThread '7' in iothreadids list"),
        ("set_throttle_group", ("g", {"speed": 1}), "parameter 'speed' not supported"),
        (
            "set_throttle_group",
            ("g", {"total_iops_sec": 1, "read_iops_sec": 1}),
            "total and read/write of iops_sec cannot be set at the same time",
        ),
        ("remove_throttle_group", ("g",), "throttle group 'g' not found"),
        (
            "remove_throttle_group",
            ("used",),
            "throttle group 'used' is still being used by disk vdb",
        ),
        ("pm_suspend", ("nap",), "Unknown suspend target: nap"),
    ],
)
@pytest.mark.parametrize("running", [True, False])
async def test_refusals(domain, verb, args, message, running):
    if not running:
        await domain.destroy()
    before = await domain.xml()
    with pytest.raises(HvError) as caught:
        await getattr(domain, verb)(*args)
    assert str(caught.value) == f"invalid argument: {message}"
    assert await domain.xml() == before


async def test_workers_have_a_most_and_a_least(domain):
    await domain.set_iothread(1, thread_pool_min=2, thread_pool_max=4)
    with pytest.raises(HvError, match=r"thread_pool_min \(5\) can't be greater than thread_pool_m"):
        await domain.set_iothread(1, thread_pool_min=5)
    assert "<iothread id='1' thread_pool_min='2' thread_pool_max='4'/>" in await domain.xml()


async def test_limits_are_merged(host, domain):
    async with host.events((events.TunableChanged,)) as stream:
        await domain.set_throttle_group("g", {"total_iops_sec": 5, "total_bytes_sec": 9})
        told = await anext(stream)
    assert (told.name, told.value) == ("blkdeviotune.group_name", "g")
    await domain.set_throttle_group("g", {"read_iops_sec": 3, "total_bytes_sec": 0})
    assert await domain.throttle_groups() == {
        "used": {"total_iops_sec": 10},
        "g": {"read_iops_sec": 3},
    }
    await domain.set_throttle_group("g", {"total_iops_sec": 7}, config=True)
    await domain.set_throttle_group("g", {"total_iops_sec": 8})
    assert (await domain.throttle_groups())["g"] == {"total_iops_sec": 8}
    assert (await domain.throttle_groups(config=True))["g"] == {"total_iops_sec": 7}
    await domain.remove_throttle_group("g", live=True, config=True)
    for config in (False, True):
        assert list(await domain.throttle_groups(config=config)) == ["used"]


async def test_guests_sleep_and_wake_up(host, domain):
    async with host.events(domain=domain) as stream:
        await domain.pm_suspend("mem")
        used = (await domain.info()).cpu_time
        await host.test.clock.advance(60)
        assert (await domain.info()).cpu_time == used
        assert (await domain.state())[0] is State.PMSUSPENDED
        with pytest.raises(InvalidState, match="domain is pmsuspended"):
            await domain.resume()
        await domain.pm_wakeup()
        told = [type(await anext(stream)) for _ in range(3)]
    assert told == [events.PMSuspended, events.PMWakeup, events.Started]
    assert (await domain.state())[1] is RunningReason.WAKEUP
    with pytest.raises(InvalidState, match="guest is not in suspended state"):
        await domain.pm_wakeup()


async def test_a_guest_wakes_up_by_itself(host, domain):
    await domain.pm_suspend("hybrid", seconds=30)
    with pytest.raises(InvalidState, match="domain is not running"):
        await domain.pm_suspend("mem")
    await host.test.clock.advance(29)
    assert (await domain.state())[0] is State.PMSUSPENDED
    await host.test.clock.advance(1)
    assert (await domain.state())[0] is State.RUNNING


async def test_one_that_sleeps_on_disk_is_off_and_stays_off(host, domain):
    async with host.events(domain=domain) as stream:
        await domain.pm_suspend("disk", seconds=30)
        first, second = await anext(stream), await anext(stream)
    assert (first.reason, type(second)) == (events.PMSuspendedDetail.DISK, events.Stopped)
    await domain.start()
    await host.test.clock.advance(60)
    assert (await domain.state())[1] is RunningReason.BOOTED


async def test_the_next_start_of_the_host_alone(host, domain):
    await domain.set_autostart(once=True)
    assert (domain.autostart, domain.autostart_once) == (False, True)
    host.test.faults.reboot_host()
    assert [each.name for each in await host.autostart()] == ["vm"]
    assert not domain.autostart_once
    host.test.faults.reboot_host()
    assert await host.autostart() == []


async def test_the_mark_for_one_start_is_kept_in_files(tmp_path):
    uri = f"qemu:///embed?root={tmp_path}"
    xml = (
        "<domain type='qemu'><name>q</name><memory>8192</memory><os><type>hvm</type></os></domain>"
    )
    try:
        async with await connect(uri) as found:
            await (await found.define(xml)).set_autostart(once=True)
    except HvError as error:
        pytest.skip(f"no QEMU here: {error}")
    async with await connect(uri) as found:
        assert (await found.lookup("q")).autostart_once
        await (await found.lookup("q")).set_autostart(autostart=False, once=True)
    async with await connect(uri) as found:
        assert not (await found.lookup("q")).autostart_once


async def test_memory_of_the_next_start(domain):
    with pytest.raises(InvalidState, match="cannot resize the maximum memory on an active domain"):
        await domain.set_max_memory(4096)
    await domain.set_max_memory(4096, config=True)
    assert "<memory unit='KiB'>8192</memory>" in await domain.xml()
    for tag in ("memory", "currentMemory"):
        assert f"<{tag} unit='KiB'>4096</{tag}>" in await domain.xml(inactive=True)
    with pytest.raises(HvError) as caught:
        await domain.set_max_memory(0)
    assert caught.value.message == "memory in virDomainSetMemoryFlags must not be zero"
    assert caught.value.number == 8


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            "<cpu><numa><cell id='0' cpus='0' memory='8192'/></numa></cpu>",
            "initial memory size of a domain with NUMA nodes cannot be modified with this API",
        ),
        (
            "<maxMemory slots='1'>9000</maxMemory>",
            "cannot set initial memory size greater than the maximum memory size",
        ),
    ],
)
async def test_memory_that_is_given_otherwise(host, more, message):
    found = await host.define(
        "<domain type='test'><name>n</name><memory>8192</memory><os><type>hvm</type></os>"
        f"{more}</domain>"
    )
    with pytest.raises(InvalidState, match=message):
        await found.set_max_memory(10000)


def run(*words, code=0):
    result = CliRunner().invoke(hv, ["-c", "test:///default", *words])
    assert result.exit_code == code, result.output
    return result.output


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("iothreadadd test 4", 0, ""),
        ("iothreadadd test 0", 1, "error: Invalid IOThread id value: '0'"),
        ("iothreaddel test 4", 1, "cannot find IOThread '4' in iothreadids list"),
        ("iothreadset test 4", 1, "error: Not enough arguments passed, nothing to set"),
        ("iothreadset test 4 --poll-grow 2", 1, "cannot find IOThread '4'"),
        ("domthrottlegroupset test g --total-iops-sec 5", 0, "Throttle group set successfully"),
        ("domthrottlegroupset test g --read-bytes-sec x", 2, "Numeric value 'x' for <read-bytes"),
        ("domthrottlegroupdel test g", 1, "error: invalid argument: throttle group 'g' not found"),
        ("domthrottlegroupinfo test g", 0, ""),
        ("domthrottlegrouplist test", 0, "Name"),
        ("dompmsuspend test mem", 0, "Domain 'test' successfully suspended"),
        ("dompmsuspend 1 nap", 1, "error: Invalid target"),
        ("dompmwakeup 1", 1, "error: Domain '1' could not be woken up"),
        ("autostart test --once", 0, "Domain 'test' marked as autostarted on next boot"),
        ("setmaxmem test 1G", 1, "error: Unable to change MaxMemorySize"),
        ("setmaxmem test 1G --config", 0, ""),
        ("setmaxmem test 0", 1, "\nerror: memory in virDomainSetMemoryFlags must not be zero\n"),
        ("setmaxmem test 1XB --config", 2, "invalid argument: unknown suffix 'XB'"),
    ],
)
def test_hv_has_virshs_verbs(words, code, said):
    assert said in run(*words.split(), code=code)
