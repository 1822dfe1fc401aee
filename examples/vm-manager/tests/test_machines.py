"""What the manager does on every kind of host."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from hvcore.lifecycle import State
from vm_manager import NoHostError


async def sizes(hosts, name="web"):
    """Return the CPUs that a running machine has and those of its next start."""
    for host in hosts.values():
        for domain in await host.domains():
            if domain.name == name:
                return await domain.vcpu_count(live=True), await domain.vcpu_count(config=True)
    return None


def actions(report):
    assert report.problems == {}
    return [tuple(action) for action in report.actions]


async def test_a_machine_runs_on_one_host(manager, site, where):
    assert await manager.create(site.machine()) == "a"
    assert await where() == ("a", "a")
    assert actions(await manager.reconcile()) == []


async def test_machines_are_spread(manager, site, where):
    for name in ("one", "two"):
        await manager.create(site.machine(name))
    assert (await where("one"), await where("two")) == (("a", "a"), ("b", "b"))


async def test_a_machine_is_wanted_once(manager, site):
    await manager.create(site.machine())
    with pytest.raises(ValueError, match="already"):
        await manager.create(site.machine())


async def test_what_no_host_takes_is_on_none(manager, site, where):
    wrong = site.machine()
    wrong.disks["no target\n"] = "/nowhere"
    with pytest.raises(NoHostError) as caught:
        await manager.create(wrong)
    assert set(caught.value.causes) == {"a", "b"}
    assert await where() == ("", "")
    assert manager.inventory.entries == {}


async def test_a_machine_grows_while_it_runs(manager, site, hosts):
    await manager.create(site.machine())
    assert await manager.resize("web", cpus=2, memory=96)
    assert await sizes(hosts) == (2, 2)
    domain = await hosts["a"].lookup("web")
    assert "<currentMemory unit='KiB'>98304</currentMemory>" in await domain.xml()
    assert actions(await manager.reconcile()) == []


async def test_a_machine_cannot_outgrow_its_maximum(manager, site, hosts):
    await manager.create(site.machine())
    with pytest.raises(ValueError, match="3 of 2 CPUs"):
        await manager.resize("web", cpus=3)
    assert await sizes(hosts) == (1, 1)


async def test_stopped_and_started(manager, site, where):
    await manager.create(site.machine())
    await manager.set_running("web", running=False)
    assert await where() == ("a", "")
    assert actions(await manager.reconcile()) == []
    await manager.resize("web", memory=128)
    await manager.set_running("web", running=True)
    assert await where() == ("a", "a")


async def test_removed(manager, site, where):
    await manager.create(site.machine())
    await manager.remove("web")
    assert await where() == ("", "")


@pytest.mark.parametrize("verb", ["destroy", "suspend", "undefine"])
async def test_what_somebody_did_by_hand_is_put_right(manager, site, hosts, where, verb):
    await manager.create(site.machine())
    domain = await hosts["a"].lookup("web")
    await getattr(domain, verb)()
    done = {"destroy": "started", "suspend": "resumed", "undefine": "defined"}[verb]
    assert actions(await manager.reconcile()) == [(done, "web", "a")]
    domain = await hosts["a"].lookup("web")
    assert domain.is_persistent
    assert (await domain.state())[0] is State.RUNNING
    assert await where() == ("a", "a")


async def test_another_definition_is_put_right(manager, site, hosts):
    await manager.create(site.machine())
    domain = await hosts["a"].lookup("web")
    await domain.set_vcpus(2, config=True)
    assert actions(await manager.reconcile()) == [("defined", "web", "a")]
    assert await sizes(hosts) == (1, 1)


async def test_strangers_are_left_alone(manager, site, hosts, where):
    stranger = site.template.document(site.machine("stranger"))
    uuid = site.machine("stranger").uuid
    domain = await hosts["a"].define(stranger.replace(uuid, "11111111-2222-3333-4444-555555555555"))
    await domain.start()
    assert actions(await manager.reconcile()) == []
    assert await where("stranger") == ("a", "a")
    await domain.destroy()


async def test_a_host_that_failed_loses_its_machines_to_another(manager, site, hosts, where):
    for name in ("web", "db", "mail"):
        await manager.create(site.machine(name))
    before = await (await hosts["a"].lookup("web")).xml(inactive=True)
    await site.cut_power("a", hosts["a"])
    report = await manager.host_failed("a")
    assert sorted(actions(report)) == [
        (what, name, "b") for what in ("defined", "started") for name in ("mail", "web")
    ]
    assert await where("web") == ("ab", "b")
    assert await (await hosts["b"].lookup("web")).xml(inactive=True) == before

    await manager.host_returned("a")
    assert sorted(actions(await manager.reconcile())) == [
        ("removed", "mail", "a"),
        ("removed", "web", "a"),
    ]
    assert await where("web") == ("b", "b")


async def test_a_host_is_drained(manager, site, where):
    await manager.create(site.machine())
    done = actions(await manager.drain("a"))
    # Whether guests can move while they run depends on the host.
    assert done in ([("moved", "web", "b")], [("defined", "web", "b"), ("started", "web", "b")])
    assert await where() == ("b", "b")
    assert actions(await manager.reconcile()) == []
    assert [await manager.create(site.machine(name)) for name in ("db", "mail")] == ["b", "b"]
    await manager.host_returned("a")
    assert await manager.create(site.machine("new")) == "a"


async def test_a_manager_goes_on_where_the_last_one_ended(site, hosts, where):
    async with site.manager() as manager:
        await manager.create(site.machine())
    assert await where() == ("a", "a")
    await (await hosts["a"].lookup("web")).destroy()
    async with site.manager() as manager:
        assert actions(await manager.reconcile()) == [("started", "web", "a")]


async def test_a_machine_that_ends_is_started_again_without_being_asked(
    manager, site, hosts, where
):
    await manager.create(site.machine())
    running = asyncio.create_task(manager.run())
    domain = await hosts["a"].lookup("web")
    number = domain.id
    await domain.destroy()
    await domain.wait_for(State.RUNNING, within=10)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    assert domain.id != number
    assert await where() == ("a", "a")
