"""What the manager does when hosts, guests and connections fail."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from hvcore import events
from hvcore.errors import DriverError
from hvcore.errors import LaunchError
from hvcore.errors import MonitorLost
from hvcore.testing.faults import Crash
from hvcore.testing.faults import Delay
from hvcore.testing.faults import Hang
from hvcore.testing.faults import RebootHost
from vm_manager import NoHostError
from vm_manager import UncertainError

pytestmark = pytest.mark.faults


@pytest.fixture
def faults(hosts):
    """Return the faults of both hosts; in the end all that were planned have happened."""
    faults = {name: host.test.faults for name, host in hosts.items()}
    yield faults
    for each in faults.values():
        assert not each.pending


def did(report):
    return [(action.what, action.machine, action.host) for action in report.actions]


# -- creating -------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", ["define", "start"])
async def test_a_host_refuses_and_the_other_gets_it(manager, site, faults, where, operation):
    faults["a"].before(operation, LaunchError("no such CPU"))
    assert await manager.create(site.machine()) == "b"
    assert await where() == ("b", "b")


async def test_a_host_without_memory(manager, site, faults, where):
    faults["a"].out_of_memory("start")
    await manager.create(site.machine())
    assert await where() == ("b", "b")


async def test_all_hosts_refuse_and_nothing_is_left(manager, site, faults, where):
    faults["a"].before("start", LaunchError("no such CPU"))
    faults["b"].before("define", DriverError("disk full"))
    with pytest.raises(NoHostError, match=r"a: .*no such CPU; b: .*disk full"):
        await manager.create(site.machine())
    assert await where() == ("", "")
    assert await manager.create(site.machine()) == "a"


async def test_started_but_nobody_learned_so(manager, site, faults, where):
    faults["a"].after("start", MonitorLost)
    await manager.create(site.machine())
    assert await where() == ("b", "b")


async def test_a_host_that_hangs(site, hosts, faults, where):
    faults["a"].before("start", Hang())
    async with site.manager(patience=0.05) as manager:
        await manager.create(site.machine())
    assert await where() == ("b", "b")


async def test_a_slow_host_is_waited_for(manager, site, faults, where):
    faults["a"].before("start", Delay(40))
    assert await manager.create(site.machine()) == "a"


async def test_a_host_restarts_meanwhile(manager, site, faults, where):
    faults["a"].before("start", RebootHost())
    await manager.create(site.machine())
    assert await where() == ("b", "b")


async def test_a_machine_that_may_run_is_not_started_twice(manager, site, hosts, faults, where):
    faults["a"].after("start", DriverError("no answer"))
    faults["a"].before("undefine", DriverError("no answer"))
    with pytest.raises(UncertainError, match="may be on a"):
        await manager.create(site.machine())
    assert (await where())[0] == "a"
    assert did(await manager.reconcile()) == [("started", "web", "a")]
    assert await where() == ("a", "a")


# -- running --------------------------------------------------------------------------------------


async def test_a_crashed_machine_is_started_again(manager, site, faults, where):
    await manager.create(site.machine())
    faults["a"].crash("web")
    assert did(await manager.reconcile()) == [("started", "web", "a")]
    assert await where() == ("a", "a")


async def test_a_machine_that_crashes_here_each_time_runs_elsewhere(manager, site, hosts, where):
    await manager.create(site.machine())
    hosts["a"].test.faults.before("start", Crash(), times=None)
    hosts["a"].test.faults.crash("web")
    assert did(await manager.reconcile()) == [("defined", "web", "b"), ("started", "web", "b")]
    assert await where() == ("b", "b")


async def test_one_that_can_run_nowhere_is_reported_and_tried_again(manager, site, faults, where):
    await manager.create(site.machine())
    faults["a"].crash("web")
    for each in faults.values():
        each.before("start", LaunchError("no such CPU"))
    report = await manager.reconcile()
    assert isinstance(report.problems["web"], NoHostError)
    assert await where() == ("", "")
    await manager.reconcile()
    assert await where() == ("a", "a")


async def test_a_host_restarts_and_nobody_is_told(manager, site, hosts, faults, where):
    for name in ("web", "db", "mail"):
        await manager.create(site.machine(name))
    faults["a"].reboot_host()
    assert await where("web") == ("a", "")
    report = await manager.reconcile()
    assert sorted(did(report)) == [("started", "mail", "a"), ("started", "web", "a")]


async def watched(manager, check):
    """Let the manager run until something is so."""
    running = asyncio.create_task(manager.run(interval=0.02))
    async with asyncio.timeout(5):
        while not await check():  # noqa: ASYNC110 - what is tested is that no event is needed
            await asyncio.sleep(0)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def test_a_lost_event_delays_only(manager, site, faults, where):
    await manager.create(site.machine())
    faults["a"].lose_event(events.Stopped)
    faults["a"].crash("web")

    async def runs():
        return await where() == ("a", "a")

    await watched(manager, runs)


async def test_an_event_that_comes_twice_starts_nothing_twice(manager, site, hosts, faults, where):
    await manager.create(site.machine())
    faults["a"].duplicate_event(events.Stopped)
    with hosts["a"].events((events.Started,)) as stream:
        faults["a"].crash("web")

        async def settled():
            await asyncio.sleep(0.05)
            return await where() == ("a", "a")

        await watched(manager, settled)
    started, _ = [each async for each in stream]  # the last one says that it is over
    assert started.domain.name == "web"


# -- resizing -------------------------------------------------------------------------------------


async def test_a_size_that_the_guest_refuses_comes_with_the_next_start(
    manager, site, hosts, faults
):
    await manager.create(site.machine())
    # The first call is for the next start.
    faults["a"].before("set_vcpus", DriverError("busy"), nth=2, times=2)
    assert not await manager.resize("web", cpus=2)
    domain = await hosts["a"].lookup("web")
    assert await domain.vcpu_count(config=True) == 2
    report = await manager.reconcile()
    assert "busy" in str(report.problems["web"])
    assert await domain.vcpu_count(live=True) == 1
    faults["a"].crash("web")
    assert did(await manager.reconcile()) == [("started", "web", "a")]
    assert await domain.vcpu_count(live=True) == 2


async def test_a_guest_that_was_busy_is_resized_later(manager, site, hosts, faults):
    await manager.create(site.machine())
    faults["a"].before("set_memory", DriverError("busy"), nth=2)
    assert not await manager.resize("web", cpus=2, memory=96)
    assert did(await manager.reconcile()) == [("resized", "web", "a")]
    domain = await hosts["a"].lookup("web")
    assert (await domain.info()).memory == 96 * 1024
    assert did(await manager.reconcile()) == []


async def test_a_machine_that_crashes_while_it_is_resized_has_its_new_size(
    manager, site, hosts, faults
):
    await manager.create(site.machine())
    faults["a"].before("set_vcpus", Crash(), nth=2)
    assert not await manager.resize("web", cpus=2, memory=128)
    assert did(await manager.reconcile()) == [("started", "web", "a")]
    domain = await hosts["a"].lookup("web")
    assert await domain.vcpu_count(live=True) == 2
    assert (await domain.info()).memory == 128 * 1024


# -- losing hosts ---------------------------------------------------------------------------------


async def test_one_machine_that_nobody_takes_keeps_no_other_back(manager, site, faults, where):
    for name in ("web", "db", "mail"):
        await manager.create(site.machine(name))
    faults["a"].reboot_host()
    faults["b"].before("start", LaunchError("no such CPU"), domain="mail")
    report = await manager.host_failed("a")
    assert list(report.problems) == ["mail"]
    assert await where("web") == ("ab", "b")
    assert did(await manager.reconcile()) == [("defined", "mail", "b"), ("started", "mail", "b")]


async def test_the_next_host_fails_too(manager, site, faults, where):
    await manager.create(site.machine())
    faults["a"].reboot_host()
    faults["b"].before("start", RebootHost())
    report = await manager.host_failed("a")
    assert list(report.problems) == ["web"]
    report = await manager.reconcile()
    assert await where() == ("ab", "b")


async def test_no_host_is_left(manager, site, faults, where):
    await manager.create(site.machine())
    faults["a"].reboot_host()
    await manager.host_failed("b")
    report = await manager.host_failed("a")
    assert isinstance(report.problems["web"], NoHostError)
    await manager.host_returned("b")
    await manager.reconcile()
    assert await where() == ("ab", "b")


async def test_a_copy_that_cannot_be_removed_now_is_removed_later(manager, site, faults, where):
    await manager.create(site.machine())
    faults["a"].reboot_host()
    await manager.host_failed("a")
    faults["a"].before("undefine", DriverError("busy"))
    await manager.host_returned("a")
    assert list((await manager.reconcile()).problems) == ["a"]
    assert did(await manager.reconcile()) == [("removed", "web", "a")]
    assert await where() == ("b", "b")


# -- moving ---------------------------------------------------------------------------------------


async def test_a_guest_moves_while_it_runs(manager, site, hosts, faults, where):
    await manager.create(site.machine())
    with hosts["b"].events((events.LifecycleEvent,)) as stream:
        assert did(await manager.drain("a")) == [("moved", "web", "b")]
    happened = [type(each).__name__ async for each in stream]
    assert "Stopped" not in happened
    assert await where() == ("b", "b")


@pytest.mark.parametrize("phase", ["migrate_prepare", "migrate_perform", "migrate_finish"])
@pytest.mark.parametrize("error", [DriverError("no route"), MonitorLost, Crash()], ids=str)
async def test_a_guest_that_cannot_move_is_started_elsewhere(
    manager, site, faults, where, phase, error
):
    await manager.create(site.machine())
    faults["a" if phase == "migrate_perform" else "b"].before(phase, error)
    report = await manager.drain("a")
    assert report.problems == {}
    assert await where() == ("b", "b")


async def test_a_move_that_hangs_is_given_up(site, hosts, faults, where):
    faults["a"].before("migrate_perform", Hang())
    async with site.manager(patience=0.1) as manager:
        await manager.create(site.machine())
        assert did(await manager.drain("a")) == [("defined", "web", "b"), ("started", "web", "b")]
    assert await where() == ("b", "b")


@pytest.mark.parametrize("moved", [True, False])
async def test_the_manager_ends_while_a_guest_moves(site, hosts, where, moved):
    async with site.manager() as manager:
        await manager.create(site.machine())
        manager.inventory.entries["web"].destination = "b"
        manager.inventory.save()
    domain = await hosts["a"].lookup("web")
    if moved:
        await domain.migrate(hosts["b"], live=True, persistent=True, undefine_source=True)
    async with site.manager() as manager:
        assert did(await manager.reconcile()) == []
        assert manager.inventory.entries["web"].host == ("b" if moved else "a")
    assert await where() == (("b", "b") if moved else ("a", "a"))


# -- stopping -------------------------------------------------------------------------------------


async def test_a_guest_that_does_not_shut_down_is_stopped(site, hosts, faults, where):
    faults["a"].before("shutdown", Hang())
    async with site.manager(grace=0.05) as manager:
        await manager.create(site.machine())
        await manager.set_running("web", running=False)
    assert await where() == ("a", "")


async def test_what_could_not_be_removed_is_removed_later(manager, site, faults, where):
    await manager.create(site.machine())
    faults["a"].before("destroy", DriverError("Device or resource busy"))
    with pytest.raises(DriverError, match="busy"):
        await manager.remove("web")
    assert await where() == ("a", "a")
    assert did(await manager.reconcile()) == [("removed", "web", "a")]
    assert await where() == ("", "")


async def test_a_host_that_does_not_let_go_keeps_its_machine(manager, site, faults, where):
    await manager.create(site.machine())
    faults["a"].before("migrate_begin", DriverError("busy"))
    faults["a"].before("undefine", DriverError("busy"))
    report = await manager.drain("a")
    assert isinstance(report.problems["web"], UncertainError)
    assert did(await manager.reconcile()) == [("started", "web", "a")]
    assert await where() == ("a", "a")
