"""The mock driver behaves as libvirt's test:///default: states, reasons, events, words."""

from __future__ import annotations

import asyncio

import pytest

from hvcore import connect
from hvcore.errors import DomainExists
from hvcore.errors import DomainGone
from hvcore.errors import HvError
from hvcore.errors import InvalidState
from hvcore.errors import NoSuchDomain
from hvcore.errors import UnsupportedOperation
from hvcore.lifecycle import PausedReason
from hvcore.lifecycle import RunningReason
from hvcore.lifecycle import ShutoffReason
from hvcore.lifecycle import State
from hvcore.operations import Op

UUID = "00000000-1111-2222-3333-444444444444"


def xml(name="vm", uuid=UUID, extra=""):
    return (
        f"<domain type='test'><name>{name}</name><uuid>{uuid}</uuid><memory>1024</memory>"
        f"<vcpu>1</vcpu><os><type>hvm</type></os>{extra}</domain>"
    )


@pytest.fixture
async def host():
    async with await connect("test:///default") as found:
        yield found


def drain(stream):
    out = []
    while (item := stream.get_nowait()) is not None:
        out.append((type(item).__name__, str(getattr(item, "reason", ""))))
    return out


async def test_there_is_one_running_domain(host):
    [domain] = await host.domains()
    assert (domain.name, domain.uuid, domain.id) == (
        "test",
        "6695eb01-f6a4-8304-79aa-97f2502e193f",
        1,
    )
    assert await domain.state() == (State.RUNNING, RunningReason.UNKNOWN)
    info = await domain.info()
    assert (info.max_memory, info.memory, info.vcpus) == (8388608, 2097152, 2)
    assert info.cpu_time > 0


async def test_a_life(host):
    stream = host.events()
    domain = await host.define(xml())
    assert not domain.is_active
    assert await domain.state() == (State.SHUTOFF, ShutoffReason.UNKNOWN)
    await domain.start()
    assert (domain.id, await domain.state()) == (2, (State.RUNNING, RunningReason.BOOTED))
    await domain.suspend()
    assert await domain.state() == (State.PAUSED, PausedReason.USER)
    await domain.suspend()
    await domain.resume()
    assert await domain.state() == (State.RUNNING, RunningReason.UNPAUSED)
    await domain.reset()
    await domain.reboot()
    assert domain.is_active
    await domain.shutdown()
    assert await domain.state() == (State.SHUTOFF, ShutoffReason.SHUTDOWN)
    await domain.start(paused=True)
    assert await domain.state() == (State.PAUSED, PausedReason.USER)
    await domain.destroy()
    assert await domain.state() == (State.SHUTOFF, ShutoffReason.DESTROYED)
    assert domain.id is None
    await domain.undefine()
    with pytest.raises(NoSuchDomain) as caught:
        await domain.state()
    assert str(caught.value) == (f"Domain not found: no domain with matching uuid '{UUID}' (vm)")
    assert drain(stream) == [
        ("Defined", "Added"),
        ("Started", "Booted"),
        ("Suspended", "Paused"),
        ("Resumed", "Unpaused"),
        ("Rebooted", ""),
        ("Rebooted", ""),
        ("Stopped", "Shutdown"),
        ("Started", "Booted"),
        ("Suspended", "Paused"),
        ("Stopped", "Destroyed"),
        ("Undefined", "Removed"),
    ]


async def test_a_transient_domain_vanishes_when_it_stops(host):
    domain = await host.create(xml())
    assert (domain.is_active, domain.is_persistent) == (True, False)
    waiting = asyncio.create_task(domain.wait_for(State.SHUTOFF, within=5))
    await asyncio.sleep(0)
    await domain.destroy()
    assert await waiting is State.SHUTOFF
    with pytest.raises(NoSuchDomain):
        await host.lookup_uuid(UUID)
    with pytest.raises(DomainGone):
        await domain.wait_for(State.RUNNING, within=5)


async def test_undefining_what_runs_makes_it_transient(host):
    domain = await host.define(xml())
    await domain.start()
    await domain.undefine()
    assert (domain.is_active, domain.is_persistent) == (True, False)
    with pytest.raises(InvalidState, match="cannot undefine transient domain"):
        await domain.undefine()
    with pytest.raises(InvalidState, match="cannot set autostart for transient domain"):
        await domain.set_autostart()
    await domain.destroy()
    assert [found.name for found in await host.domains()] == ["test"]


async def test_redefining_what_runs_changes_only_the_next_start(host):
    domain = await host.define(xml())
    await domain.start()
    stream = host.events()
    await host.define(xml(extra="<title>later</title>"))
    assert drain(stream) == [("Defined", "Updated")]
    assert "later" not in await domain.xml()
    assert "later" in await domain.xml(inactive=True)
    await domain.destroy()
    assert "later" in await domain.xml()


@pytest.mark.parametrize(
    ("name", "uuid", "message"),
    [
        (
            "vm",
            UUID.replace("0", "9"),
            f"operation failed: domain 'vm' already exists with uuid {UUID}",
        ),
        (
            "other",
            UUID,
            f"operation failed: domain 'vm' is already defined with uuid {UUID}",
        ),
    ],
)
async def test_a_name_or_uuid_of_another_is_refused_and_changes_nothing(host, name, uuid, message):
    await host.define(xml())
    with pytest.raises(DomainExists) as caught:
        await host.define(xml(name, uuid))
    assert str(caught.value) == message
    assert [domain.name for domain in await host.domains()] == ["test", "vm"]


async def test_words_of_wrong_states(host):
    domain = await host.define(xml())
    for verb in ("destroy", "shutdown", "reboot", "reset", "suspend", "resume", "console"):
        with pytest.raises(InvalidState) as caught:
            await getattr(domain, verb)()
        assert str(caught.value) == "Requested operation is not valid: domain is not running", verb
    await domain.start()
    for verb in ("start", "resume"):
        with pytest.raises(InvalidState) as caught:
            await getattr(domain, verb)()
        assert str(caught.value) == "Requested operation is not valid: domain is already running"
    with pytest.raises(InvalidState) as caught:
        await host.create(xml())
    assert str(caught.value) == "Requested operation is not valid: domain 'vm' is already active"


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("nobody", "Domain not found: no domain with matching name 'nobody'"),
        (77, "Domain not found: no domain with matching id 77"),
        (UUID, f"Domain not found: no domain with matching name '{UUID}'"),
    ],
)
async def test_words_of_what_is_not_there(host, key, message):
    with pytest.raises(NoSuchDomain) as caught:
        await host.lookup(key)
    assert str(caught.value) == message


async def test_lookup_takes_what_virsh_takes(host):
    [domain] = await host.domains()
    for key in (1, "1", "test", domain.uuid, domain.uuid.upper()):
        assert await host.lookup(key) == domain


async def test_numbers_are_of_what_runs(host):
    domain = await host.define(xml(name="1"))
    assert (await host.lookup("1")).name == "test"
    await (await host.lookup_name("test")).destroy()
    assert await host.lookup("1") == domain
    await domain.start()
    assert [await host.lookup(2), await host.lookup_id(2)] == [domain, domain]
    for gone in ("3", "9" * 5000):
        with pytest.raises(NoSuchDomain):
            await host.lookup(gone)
    with pytest.raises(NoSuchDomain, match="no domain with matching id 1"):
        await host.lookup_id(1)


async def test_a_missing_verb_refuses_by_itself(host):
    [domain] = await host.domains()
    assert not domain.supports(Op.CONSOLE)
    assert domain.supports(Op.RESET)
    with pytest.raises(UnsupportedOperation) as caught:
        await domain.console()
    assert str(caught.value) == (
        "this function is not supported by the connection driver: virDomainOpenConsole"
    )


async def test_a_program_sees_one_set_of_domains(host):
    async with await connect("test:///default") as other:
        await other.define(xml())
        assert [domain.name for domain in await host.domains()] == ["test", "vm"]
    assert [domain.name for domain in await host.domains()] == ["test", "vm"]


async def test_the_last_connection_takes_it_all_along():
    async with await connect("test:///default") as host:
        await host.define(xml())
    async with await connect("test:///default") as host:
        assert [domain.name for domain in await host.domains()] == ["test"]


async def test_closing_ends_the_streams(host):
    async with await connect("test:///default") as other:
        stream = other.events()
    assert drain(stream) == []
    await host.close()
    assert [type(item).__name__ for item in [item async for item in stream]] == ["StreamClosed"]


async def test_autostart_starts_what_is_marked(host):
    domain = await host.define(xml())
    assert await host.autostart() == []
    await domain.set_autostart()
    assert domain.autostart
    assert await host.autostart() == [domain]
    assert domain.is_active


async def test_poweroff_may_mean_restart(host):
    domain = await host.define(xml(extra="<on_poweroff>restart</on_poweroff>"))
    await domain.start()
    await domain.shutdown()
    assert await domain.state() == (State.RUNNING, RunningReason.BOOTED)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("test:///", "invalid argument: testOpen: supply a path or use test:///default"),
        ("nosuch:///x", "no connection driver available for nosuch"),
        ("qemu:///system?x=1", "invalid argument: Unexpected URI parameter 'x'"),
        ("test:///default?fautls=x", "invalid argument: Unexpected URI parameter 'fautls'"),
        ("test:///default?faults=/nonexistent.yaml", "cannot read '/nonexistent.yaml'"),
    ],
)
async def test_words_of_wrong_uris(uri, message):
    with pytest.raises(HvError) as caught:
        await connect(uri)
    assert str(caught.value).startswith(message)


async def test_info_and_waiting_have_words_for_running_late(host):
    domain = await host.define(xml())
    with pytest.raises(HvError, match=r"Timed out during operation: domain 'vm' is not running"):
        await domain.wait_for(State.RUNNING, within=0.01)


async def test_a_parameter_without_a_value_makes_it_another_host(host):
    async with await connect("test:///default?other") as other:
        await other.define(xml())
        assert [domain.name for domain in await host.domains()] == ["test"]
