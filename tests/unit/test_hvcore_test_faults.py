"""Faults planned for the mock driver happen when and as often as planned, and are written down."""

from __future__ import annotations

import asyncio
import json

import pytest

from hvcore import connect
from hvcore import events
from hvcore import sync
from hvcore.errors import DomainGone
from hvcore.errors import DriverError
from hvcore.errors import HvError
from hvcore.errors import InvalidState
from hvcore.errors import LaunchError
from hvcore.errors import MonitorError
from hvcore.errors import MonitorLost
from hvcore.errors import NoSuchDomain
from hvcore.errors import UnsupportedOperation
from hvcore.lifecycle import RunningReason
from hvcore.lifecycle import ShutoffReason
from hvcore.lifecycle import State
from hvcore.testing.faults import Crash
from hvcore.testing.faults import Delay
from hvcore.testing.faults import Hang
from hvcore.testing.faults import RebootHost

DISK = "<disk type='file'><source file='/c'/><target dev='vdb' bus='virtio'/></disk>"


def xml(name="vm", extra=""):
    return (
        f"<domain type='test'><name>{name}</name><memory>1024</memory><vcpu>2</vcpu>"
        f"<os><type>hvm</type></os><devices>{extra}</devices></domain>"
    )


@pytest.fixture
async def host():
    async with await connect("test:///default") as found:
        yield found


@pytest.fixture
async def domain(host):
    found = await host.define(xml())
    await found.start()
    return found


def drain(stream):
    return [type(item).__name__ for item in iter(stream.get_nowait, None)]


def told(host):
    return [(entry.where, entry.domain, entry.what) for entry in host.test.faults.log]


# -- operations --------------------------------------------------------------------------


async def test_the_nth_call_fails_and_the_others_do_not(host):
    faults = host.test.faults
    faults.before("start", LaunchError("no"), nth=2, times=2)
    vm = await host.define(xml())
    results = []
    for _ in range(4):
        try:
            await vm.start()
            await vm.destroy()
            results.append("ok")
        except LaunchError as error:
            results.append(error.message)
            assert await vm.state() == (State.SHUTOFF, ShutoffReason.FAILED)
    assert results == ["ok", "no", "no", "ok"]
    assert told(host) == [("before start", "vm", "LaunchError")] * 2
    assert not faults.pending


async def test_only_the_calls_of_a_domain_count(host, domain):
    host.test.faults.before("suspend", MonitorError("not now"), domain="other")
    host.test.faults.before("suspend", MonitorError("not you"), domain=domain, nth=2)
    await domain.suspend()
    await domain.resume()
    with pytest.raises(MonitorError, match="not you"):
        await domain.suspend()
    assert await domain.state() == (State.RUNNING, RunningReason.UNPAUSED)
    assert [plan.domain for plan in host.test.faults.pending] == ["other"]


async def test_an_answer_that_is_lost_leaves_the_operation_done(host, domain):
    host.test.faults.after("attach", DriverError("the answer was lost"))
    with pytest.raises(DriverError, match="the answer was lost"):
        await domain.attach_device(DISK)
    assert "vdb" in await domain.xml()
    host.test.faults.before("detach", DriverError("nothing was done"))
    with pytest.raises(DriverError, match="nothing was done"):
        await domain.detach_device(DISK)
    assert "vdb" in await domain.xml()


async def test_a_lost_monitor_ends_the_machine(host, domain):
    stream = host.events()
    host.test.faults.after("attach", MonitorLost)
    with pytest.raises(MonitorLost):
        await domain.attach_device(DISK)
    assert await domain.state() == (State.SHUTOFF, ShutoffReason.CRASHED)
    assert drain(stream) == ["Stopped"]
    await domain.start()
    assert "vdb" not in await domain.xml()


@pytest.mark.parametrize("phase", ["before", "after"])
@pytest.mark.parametrize("what", [MonitorLost, Crash()])
async def test_a_start_that_loses_its_machine_leaves_nothing(host, phase, what):
    vm = await host.define(xml())
    stream = host.events()
    getattr(host.test.faults, phase)("start", what)
    with pytest.raises(MonitorLost):
        await vm.start()
    assert await vm.state() == (State.SHUTOFF, ShutoffReason.FAILED)
    assert drain(stream) == []
    await vm.start()


async def test_any_error_can_be_raised_and_foreign_ones_are_wrapped(host, domain):
    host.test.faults.before("reset", OSError(5, "Input/output error"))
    with pytest.raises(DriverError, match="Input/output error") as caught:
        await domain.reset()
    assert isinstance(caught.value.__cause__, OSError)
    host.test.faults.before("reset", InvalidState)
    with pytest.raises(InvalidState, match="planned by a test"):
        await domain.reset()
    host.test.faults.before("version", MonitorError, times=None)
    for _ in range(3):
        with pytest.raises(MonitorError):
            await host.version()
    host.test.faults.clear()
    assert await host.version() == 2


async def test_the_books_can_fail_too(host):
    host.test.faults.before("define", HvError("No space left on device"))
    with pytest.raises(HvError, match="No space left"):
        await host.define(xml())
    assert [found.name for found in await host.domains()] == ["test"]
    vm = await host.define(xml())
    host.test.faults.before("virDomainUndefine", HvError("Read-only file system"))
    with pytest.raises(HvError, match="Read-only"):
        await vm.undefine()
    await vm.undefine()
    with pytest.raises(ValueError, match="takes no time"):
        host.test.faults.before("define", Delay(3))
    with pytest.raises(ValueError, match="only fail before"):
        host.test.faults.after("undefine", MonitorLost)


async def test_changes_of_the_next_start_can_fail_too(host):
    vm = await host.define(xml())
    faults = host.test.faults
    faults.before("attach", HvError("Read-only file system"))
    faults.after("attach", Delay(5), DriverError("lost"))
    with pytest.raises(HvError, match="Read-only"):
        await vm.attach_device(DISK)
    assert "vdb" not in await vm.xml()
    with pytest.raises(DriverError, match="lost"):
        await vm.attach_device(DISK, config=True)
    assert "vdb" in await vm.xml()
    assert not faults.pending
    assert [(entry.where, entry.time) for entry in faults.log] == [
        ("before attach_device", 0.0),
        ("after attach_device", 0.0),
        ("after attach_device", 5.0),
    ]
    await vm.start()
    faults.before("detach", MonitorError("once for both"), times=None)
    with pytest.raises(MonitorError):
        await vm.detach_device(DISK, live=True, config=True)
    assert len(faults.log) == 4
    faults.before("set_autostart_once", HvError("not now"))
    await vm.set_autostart()
    with pytest.raises(HvError, match="not now"):
        await vm.set_autostart(once=True)
    assert (vm.autostart, vm.autostart_once) == (True, False)


async def test_short_names_of_operations(host, domain, tmp_path):
    host.test.faults.before("restore", MonitorError("no"))
    await domain.save(str(tmp_path / "saved"))
    with pytest.raises(MonitorError):
        await host.restore(str(tmp_path / "saved"))
    there = await host.restore(str(tmp_path / "saved"))
    host.test.faults.before("migrate", MonitorError("not there"))
    async with await connect("test:///default?elsewhere") as other:
        with pytest.raises(DriverError, match="not there"):
            await there.migrate(other)


async def test_memory_can_run_out(host, domain):
    host.test.faults.out_of_memory("start")
    vm = await host.define(xml("other"))
    with pytest.raises(LaunchError, match="cannot set up guest memory"):
        await vm.start()
    host.test.faults.out_of_memory("attach")
    with pytest.raises(HvError, match=r"^out of memory: Cannot allocate memory$"):
        await domain.attach_device(DISK)


async def test_operations_take_time_on_the_clock(host):
    vm = await host.define(xml())
    clock = host.test.clock
    host.test.faults.before("start", Delay(90))
    await asyncio.wait_for(vm.start(), 5)
    assert clock.now == 90
    clock.hold()
    host.test.faults.before("suspend", Delay(10))
    suspending = asyncio.create_task(vm.suspend())
    await clock.advance(9)
    assert (await vm.state())[0] is State.RUNNING
    await clock.advance(1)
    await suspending
    assert (await vm.state())[0] is State.PAUSED


async def test_what_hangs_ends_with_the_machine(host, domain):
    for end, error in ((domain.destroy, DomainGone), (None, MonitorLost)):
        host.test.faults.before("reset", Hang())
        hanging = asyncio.create_task(domain.reset())
        await host.test.clock.advance(1000)
        assert not hanging.done()
        if end is None:
            host.test.faults.crash(domain)
        else:
            await end()
        with pytest.raises(error):
            await hanging
        await domain.start()


async def test_faults_compose(host, domain):
    faults = host.test.faults
    faults.before("reset", Delay(5), times=None)
    faults.before("reset", MonitorError("busy"))
    with pytest.raises(MonitorError):
        await domain.reset()
    await domain.reset()
    assert told(host) == [
        ("before reset", "vm", "Delay 5"),
        ("before reset", "vm", "MonitorError"),
        ("before reset", "vm", "Delay 5"),
    ]
    assert [entry.time for entry in faults.log] == [0.0, 5.0, 5.0]


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (
            lambda f: f.before("atach", MonitorLost),
            "no operation is called 'atach'; there are abort_job",
        ),
        (lambda f: f.before("attach"), "nothing is to happen before attach_device"),
        (lambda f: f.before("attach", MonitorLost, nth=0), "counted from 1"),
        (lambda f: f.lose_event("Stoped"), "no event is called 'Stoped'"),
        (lambda f: f.unplug("explode"), "a guest does not 'explode' a device"),
    ],
)
async def test_misspelt_faults_are_refused(host, plan, message):
    with pytest.raises(ValueError, match=message):
        plan(host.test.faults)
    assert not host.test.faults.pending


# -- events ------------------------------------------------------------------------------


async def test_events_are_lost_doubled_and_late(host, domain):
    faults = host.test.faults
    faults.lose_event(events.Suspended)
    faults.duplicate_event("Resumed")
    faults.delay_event(events.Rebooted, 10)
    stream = host.events()
    await domain.suspend()
    await domain.resume()
    await domain.reset()
    await domain.suspend()
    assert drain(stream) == ["Resumed", "Resumed", "Suspended"]
    await host.test.clock.advance(10)
    assert drain(stream) == ["Rebooted"]
    assert [entry.what for entry in faults.log] == ["lose", "duplicate", "Delay 10"]


async def test_a_late_event_comes_although_its_domain_is_gone(host):
    vm = await host.create(xml())
    host.test.faults.delay_event(events.Stopped, 10, domain=vm)
    stream = host.events()
    await vm.destroy()
    assert drain(stream) == []
    await host.test.clock.advance(10)
    assert drain(stream) == ["Stopped"]


# -- guests ------------------------------------------------------------------------------


async def test_a_guest_refuses(host, domain):
    await domain.attach_device(DISK)
    stream = host.events()
    host.test.faults.unplug("refuse")
    with pytest.raises(DriverError, match="unplug of device was rejected by the guest"):
        await domain.detach_device(DISK)
    assert "vdb" in await domain.xml()
    assert drain(stream) == ["DeviceRemovalFailed"]
    assert await domain.detach_device(DISK)


async def test_a_guest_never_answers_until_it_is_made_to(host, domain):
    await domain.attach_device(DISK)
    host.test.faults.unplug("ignore", device="virtio-disk1", domain="vm")
    stream = host.events()
    assert not await domain.detach_device(DISK, within=20)
    assert host.test.clock.now == 20
    assert "vdb" in await domain.xml()
    host.test.faults.let_go("vm", "virtio-disk1")
    await host.test.clock.advance(0)
    assert "vdb" not in await domain.xml()
    assert drain(stream) == ["DeviceRemoved"]


async def test_a_guest_takes_its_time(host, domain):
    await domain.attach_device(DISK)
    host.test.faults.unplug(3)
    assert await domain.detach_device(DISK)
    assert host.test.clock.now == 3
    await domain.attach_device(DISK)
    host.test.faults.unplug(60)
    assert not await domain.detach_device(DISK, within=5)
    assert "vdb" in await domain.xml()
    await host.test.clock.advance(60)
    assert "vdb" not in await domain.xml()


async def test_a_guest_that_was_started_again_lets_nothing_go(host, domain):
    await domain.attach_device(DISK, live=True, config=True)
    host.test.faults.unplug(60)
    assert not await domain.detach_device(DISK, within=5)
    await domain.destroy()
    await domain.start()
    await host.test.clock.advance(60)
    assert "vdb" in await domain.xml()


# -- machines and the host ---------------------------------------------------------------


async def test_a_machine_crashes(host, domain):
    stream = host.events()
    host.test.faults.crash("vm")
    assert await domain.state() == (State.SHUTOFF, ShutoffReason.CRASHED)
    assert drain(stream) == ["Stopped"]
    with pytest.raises(KeyError, match="no domain 'vm' runs"):
        host.test.faults.crash("vm")


async def test_the_host_restarts(host, domain):
    transient = await host.create(xml("transient"))
    await domain.set_autostart()
    stream = host.events()
    host.test.faults.reboot_host()
    assert drain(stream) == []
    assert await domain.state() == (State.SHUTOFF, ShutoffReason.UNKNOWN)
    with pytest.raises(NoSuchDomain):
        await transient.state()
    assert [found.name for found in await host.autostart()] == ["vm"]
    assert drain(stream) == ["Started"]


async def test_the_host_restarts_in_the_middle_of_something(host, domain):
    host.test.faults.before("attach", RebootHost())
    with pytest.raises(MonitorLost):
        await domain.attach_device(DISK)
    assert [found.is_active for found in await host.domains()] == [False, False]


async def test_time_moves_statistics(host, domain):
    before = (await domain.info()).cpu_time
    await host.test.clock.advance(10)
    assert (await domain.info()).cpu_time - before == 20_000_000_000
    await domain.suspend()
    before = (await domain.info()).cpu_time
    await host.test.clock.advance(10)
    assert (await domain.info()).cpu_time == before
    await domain.resume()
    await domain.set_vcpus(1, live=True)
    await host.test.clock.advance(10)
    assert (await domain.info()).cpu_time - before == 10_000_000_000


# -- from outside ------------------------------------------------------------------------

SCENARIO = """
faults:
  - before: start
    fail: LaunchError
    message: no such machine
    domain: vm
  - after: attach
    delay: 2
    do: crash
    nth: 2
  - event: Suspended
    do: lose
    times: always
  - event: Resumed
    delay: 5
  - unplug: refuse
    device: virtio-disk1
  - at: 30
    do: crash
    domain: test
  - at: 31
    do: crash
    domain: nobody
  - before: resume
    do: out-of-memory
    domain: vm
"""


async def test_a_file_plans_the_same(host, tmp_path):
    (tmp_path / "faults.yaml").write_text(SCENARIO)
    host.test.faults.load(str(tmp_path / "faults.yaml"))
    vm = await host.define(xml())
    with pytest.raises(LaunchError, match="no such machine"):
        await vm.start()
    await vm.start()
    await vm.attach_device(DISK)
    with pytest.raises(DriverError):
        await vm.detach_device(DISK)
    assert await vm.detach_device(DISK)
    with pytest.raises(MonitorLost):
        await vm.attach_device(DISK)
    await vm.start(paused=True)
    with pytest.raises(HvError, match="out of memory: Cannot allocate memory"):
        await vm.resume()
    await host.test.clock.advance(40)
    assert not (await host.lookup("test")).is_active
    assert told(host)[-1] == ("at 31", None, "nothing: no domain 'nobody' runs")


@pytest.mark.parametrize(
    ("faults", "message"),
    [
        ({"x": 1}, "there must be one list, called 'faults'"),
        ({"faults": ["start"]}, "fault 1 must have keys and values"),
        ({"faults": [{"fail": "MonitorLost"}]}, "fault 1 must have one of before, after, event"),
        ({"faults": [{"before": "start", "boom": 1}]}, "fault 1: 'before' knows no 'boom'"),
        ({"faults": [{"before": "start", "do": "boom"}]}, "'boom' is none of crash, hang"),
        ({"faults": [{"before": "start", "fail": "Boom"}]}, "no error is called 'Boom'"),
        ({"faults": [{"before": "strt", "do": "hang"}]}, "no operation is called 'strt'"),
        ({"faults": [{"after": "start", "do": "out-of-memory"}]}, "is none of crash, hang"),
        (
            {"faults": [{"before": "start", "do": "out-of-memory", "delay": 1}]},
            "nothing else can be done when memory is out",
        ),
        ({"faults": [{"event": "Stopped"}]}, "an event needs either 'do' or 'delay'"),
        ({"faults": [{"at": 3, "do": "crash"}]}, "'crash' needs a domain"),
    ],
)
async def test_a_wrong_file_is_refused(host, tmp_path, faults, message):
    path = tmp_path / "faults.json"
    path.write_text(json.dumps(faults))
    with pytest.raises(HvError, match=r"^configuration file syntax error: ") as caught:
        host.test.faults.load(str(path))
    assert message in str(caught.value)
    assert not host.test.faults.pending


async def test_a_file_that_is_none(host, tmp_path):
    with pytest.raises(HvError, match="No such file or directory"):
        host.test.faults.load(str(tmp_path / "nothing.yaml"))
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "broken.yaml").write_text("a: [")
    for name in ("broken.json", "broken.yaml"):
        with pytest.raises(HvError, match="configuration file syntax error"):
            host.test.faults.load(str(tmp_path / name))


# -- elsewhere ---------------------------------------------------------------------------


async def test_a_real_host_has_no_such_controls(tmp_path):
    async with await connect(f"qemu:///embed?root={tmp_path}") as real:
        with pytest.raises(UnsupportedOperation):
            _ = real.test


def test_blocking_programs_have_them_too():
    with sync.connect("test:///default") as host:
        vm = host.define(xml())
        vm.start()
        host.test.faults.before("suspend", MonitorError("no"), domain=vm)
        with pytest.raises(MonitorError):
            vm.suspend()
        before = vm.info().cpu_time
        host.test.clock.advance(5)
        assert vm.info().cpu_time - before == 10_000_000_000
        host.test.faults.crash(vm)
        assert not vm.is_active
        assert [entry.what for entry in host.test.faults.log] == ["MonitorError", "Crash"]


async def test_a_verb_that_uses_another_is_one_call(host, domain, tmp_path):
    host.test.faults.before("start", MonitorError("not this"))
    await domain.save(str(tmp_path / "saved"))
    await host.restore(str(tmp_path / "saved"))
    with pytest.raises(MonitorError, match="not this"):
        await host.create(xml("other"))
