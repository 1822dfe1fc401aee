"""The agent in guests of the mock driver: what it is asked for, and what goes wrong."""

from __future__ import annotations

import asyncio
import json

import pytest
from click.testing import CliRunner

from hvcore import connect
from hvcore import events
from hvcore import sync
from hvcore.agent import checked
from hvcore.agent import disk_at
from hvcore.cli.main import hv
from hvcore.driver import Record
from hvcore.errors import AgentRefused
from hvcore.errors import DomainGone
from hvcore.errors import DriverError
from hvcore.errors import ErrorClass
from hvcore.errors import HvError
from hvcore.errors import InvalidState
from hvcore.errors import UnsupportedOperation
from hvcore.lifecycle import State
from hvcore.pipeline import Pipeline
from hvcore.registry import Registry
from hvcore.testing.faults import Delay
from hvcore.testing.faults import Hang

CHANNEL = "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
XML = """<domain type='test'><name>vm</name><memory unit='GiB'>1</memory><vcpu>2</vcpu>
<os><type>hvm</type></os><devices>
<disk type='file'><source file='/d/one'/><target dev='vda' bus='virtio'/><serial>S1</serial>
  <address type='pci' domain='0' bus='0' slot='5' function='0'/></disk>
<disk type='file'><source file='/d/two'/><target dev='vdb' bus='virtio'/>
  <address type='pci' domain='0' bus='0' slot='6' function='0'/></disk>
<disk type='file' device='cdrom'><target dev='sda' bus='sata'/></disk>
<interface type='user'><mac address='52:54:00:00:00:01'/></interface>
{channel}</devices></domain>"""


@pytest.fixture
async def host():
    async with await connect("test:///default?agent") as found:
        yield found


@pytest.fixture
async def vm(host):
    domain = await host.define(XML.format(channel=CHANNEL))
    await domain.start()
    return domain


# -- what it knows ---------------------------------------------------------------------------------


async def test_file_systems_with_the_disks_they_are_on(vm):
    found = await vm.filesystems()
    assert [(each.mountpoint, each.name, each.type, each.disks) for each in found] == [
        ("/", "vda1", "ext4", ("vda",)),
        ("/mnt/vdb", "vdb1", "ext4", ("vdb",)),
    ]
    assert (found[0].total, found[0].used) == (10 << 30, 5 << 30)


async def test_addresses(host, vm):
    found = await vm.guest_interfaces()
    assert [each.name for each in found] == ["lo", "eth0"]
    assert found[1].mac == "52:54:00:00:00:01"
    [address] = found[1].addresses
    assert (address.type, address.prefix) == ("ipv4", 24)
    assert [each.type for each in found[0].addresses] == ["ipv4", "ipv6"]
    async with await connect("test:///default?agent-there") as there:
        moved = await vm.migrate(there)
        assert await moved.guest_interfaces() == found


async def test_names_and_other_facts(vm):
    assert await vm.hostname() == "vm"
    facts = await vm.guest_info()
    assert {name.partition(".")[0] for name in facts} == {
        "user", "os", "timezone", "hostname", "fs", "disk", "if", "load"
    }  # fmt: skip
    assert facts["fs.0.disk.0.alias"] == facts["disk.0.alias"] == "vda"
    assert facts["fs.0.disk.0.serial"] == "S1"
    assert (facts["disk.1.partition"], facts["disk.1.dependency.0.name"]) == (True, "/dev/vda")
    assert (facts["load.1m"], facts["if.1.addr.0.prefix"]) == (2.0, 24)
    assert await vm.guest_info(["hostname", "timezone"]) == {
        "timezone.name": "UTC", "timezone.offset": 0, "hostname": "vm"
    }  # fmt: skip
    with pytest.raises(
        HvError, match=r"^invalid argument: unsupported guest information types 'x'"
    ):
        await vm.guest_info(["x"])


async def test_commands_by_hand(vm):
    assert await vm.agent_command('{"execute": "guest-ping"}') == '{"return":{}}'
    answer = await vm.agent_command('{"execute":"guest-sync","arguments":{"id":7}}')
    assert json.loads(answer) == {"return": 7}
    with pytest.raises(AgentRefused) as caught:
        await vm.agent_command('{"execute": "guest-dance"}')
    assert str(caught.value) == (
        "guest agent command failed: unable to execute QEMU agent command 'guest-dance': The "
        "command guest-dance has not been found"
    )
    assert caught.value.number == 113
    for nonsense in ("{", "[]", "{}"):
        with pytest.raises(HvError):
            await vm.agent_command(nonsense)


# -- what it does ----------------------------------------------------------------------------------


async def test_file_systems_that_stand_still(vm):
    assert await vm.freeze() == 2
    assert "frozen" in await vm.agent_command('{"execute":"guest-fsfreeze-status"}')
    with pytest.raises(AgentRefused, match="guest-fsfreeze-freeze has been disabled"):
        await vm.freeze()
    with pytest.raises(AgentRefused, match=r"guest-shutdown has been disabled|not been found"):
        await vm.shutdown(mode="agent")
    assert await vm.thaw() == 2
    assert await vm.thaw() == 0
    assert await vm.freeze(["/mnt/vdb", "/nowhere"]) == 1
    assert "thaw" in await vm.agent_command('{"execute":"guest-info"}')


async def test_trimming_and_passwords(vm):
    await vm.trim(minimum=4096)
    await vm.set_user_password("root", "secret")
    machine = vm._now().runtime
    assert machine.passwords == {"root": "c2VjcmV0"}
    with pytest.raises(AgentRefused, match="user 'nobody' does not exist"):
        await vm.set_user_password("nobody", "x")


@pytest.mark.parametrize(
    ("mode", "told"),
    [("agent", ["agent guest-shutdown", "powerdown"]), ("acpi", ["powerdown"]), (None, None)],
)
async def test_shutting_down(vm, mode, told):
    history = vm._now().runtime.history
    await vm.shutdown(mode=mode)
    assert (await vm.state())[0] is State.SHUTOFF
    wanted = ["agent guest-shutdown", "powerdown"] if told is None else told
    assert [each for each in history if each != "quit"] == wanted


async def test_rebooting(host, vm):
    stream = host.events([events.Rebooted])
    history = vm._now().runtime.history
    await vm.reboot(mode="agent")
    await vm.reboot(mode="acpi")
    assert (await vm.state())[0] is State.RUNNING
    assert history.count("agent guest-shutdown") == 1
    assert stream.get_nowait() is not None


async def test_the_button_where_the_agent_fails(host, vm):
    host.test.faults.before("agent_command", DriverError("no"))
    await vm.shutdown()
    assert (await vm.state())[0] is State.SHUTOFF
    await vm.start()
    host.test.faults.before("agent_command", DriverError("no"))
    with pytest.raises(DriverError, match="no"):
        await vm.shutdown(mode="agent")
    assert vm.is_active


async def test_an_agent_that_obeys_without_a_word(host, vm):
    host.test.faults.before("agent_command", Hang())
    await vm.shutdown(mode="agent")
    assert host.test.clock.now == 1


async def test_a_snapshot_of_disks_that_stand_still(host, vm):
    history = vm._now().runtime.history
    document = "<domainsnapshot><name>x</name></domainsnapshot>"
    with pytest.raises(HvError, match="SNAPSHOT_CREATE_DISK_ONLY' is required by flag"):
        await vm.create_snapshot(document, quiesce=True)
    await vm.create_snapshot(document, disk_only=True, quiesce=True)
    assert history == ["agent guest-fsfreeze-freeze", "agent guest-fsfreeze-thaw"]
    host.test.faults.before("snapshot_create", DriverError("no room"))
    with pytest.raises(DriverError, match="no room"):
        await vm.create_snapshot(document.replace("x<", "y<"), disk_only=True, quiesce=True)
    assert vm._now().runtime.frozen is None
    host.test.faults.stop_agent(vm)
    with pytest.raises(HvError, match="QEMU guest agent is not connected"):
        await vm.create_snapshot(document.replace("x<", "z<"), disk_only=True, quiesce=True)
    assert [info.name for info in await vm.snapshots()] == ["x"]


# -- what goes wrong -------------------------------------------------------------------------------

VERBS = [
    lambda d: d.agent_command('{"execute":"guest-ping"}'),
    lambda d: d.filesystems(),
    lambda d: d.freeze(),
    lambda d: d.thaw(),
    lambda d: d.trim(),
    lambda d: d.guest_interfaces(),
    lambda d: d.hostname(),
    lambda d: d.set_user_password("root", "x"),
    lambda d: d.guest_info(),
    lambda d: d.shutdown(mode="agent"),
    lambda d: d.reboot(mode="agent"),
]


@pytest.mark.parametrize("verb", VERBS)
async def test_domains_without_an_agent(host, vm, verb):
    without = await host.create(XML.format(channel="").replace("<name>vm", "<name>other"))
    with pytest.raises(HvError) as caught:
        await verb(without)
    assert str(caught.value) == "argument unsupported: QEMU guest agent is not configured"
    host.test.faults.stop_agent("vm")
    with pytest.raises(HvError) as caught:
        await verb(vm)
    assert str(caught.value) == ("Guest agent is not responding: QEMU guest agent is not connected")
    host.test.faults.start_agent("vm")
    await vm.suspend()
    with pytest.raises(InvalidState, match="domain is not running"):
        await verb(vm)
    await vm.destroy()
    with pytest.raises(InvalidState, match="domain is not running"):
        await verb(vm)


async def test_an_agent_that_comes_and_goes(host, vm):
    stream = host.events([events.AgentChanged])
    assert "state='connected'" in await vm.xml()
    assert "state='connected'" not in await vm.xml(inactive=True)
    host.test.faults.stop_agent(vm)
    assert "state='disconnected'" in await vm.xml()
    host.test.faults.start_agent(vm)
    told = [(str(e.state), str(e.reason)) for e in (stream.get_nowait(), stream.get_nowait())]
    assert told == [("disconnected", "channel event"), ("connected", "channel event")]
    host.test.faults.stop_agent("test")
    assert stream.get_nowait() is None  # it has no channel


async def test_one_that_does_not_answer_in_time(host, vm):
    host.test.faults.before("agent_command", Delay(10))
    with pytest.raises(DriverError) as caught:
        await vm.agent_command('{"execute":"guest-ping"}')
    assert str(caught.value) == (
        "guest agent command timed out: guest agent didn't respond to command within '5' seconds"
    )
    assert host.test.clock.now == 5
    assert caught.value.kind is ErrorClass.AGENT_COMMAND_TIMEOUT
    host.test.faults.before("agent_command", Delay(10))
    assert await vm.agent_command('{"execute":"guest-ping"}', within=None) == '{"return":{}}'


async def test_a_domain_that_is_destroyed_meanwhile(host, vm):
    host.test.faults.before("agent_command", Hang())
    task = asyncio.create_task(vm.hostname())
    await asyncio.sleep(0.01)
    await vm.destroy()
    with pytest.raises(DomainGone):
        await task


async def test_the_agent_is_asked_one_thing_at_a_time_beside_other_jobs(host, vm):
    host.test.faults.before("agent_command", Delay(3))
    host.test.clock.hold()
    slow = asyncio.create_task(vm.hostname())
    await host.test.clock.advance(1)
    quick = asyncio.create_task(vm.filesystems())
    await vm.set_memory(512 << 10)
    assert not quick.done()
    host.test.clock.release()
    assert await slow == "vm"
    assert len(await quick) == 2


def test_answers_that_make_no_sense():
    record = Record(name="vm", uuid="x")
    with pytest.raises(DriverError, match="'guest-ping' returned neither error nor success"):
        checked("guest-ping", {}, record)


@pytest.mark.parametrize(
    ("device", "target"),
    [
        ({"pci-controller": {"slot": 5}}, "vda"),
        ({"pci-controller": {"slot": 7}, "bus": 0, "target": 1, "unit": 2}, "sda"),
        ({"pci-controller": {"slot": 7}, "bus": 0, "target": 1, "unit": 3}, None),
        ({}, None),
    ],
)
def test_disks_by_the_addresses_that_guests_see(device, target):
    xml = """<domain type='test'><name>vm</name><memory>1</memory><os><type>hvm</type></os><devices>
    <disk type='file'><target dev='vda' bus='virtio'/><address type='pci' slot='5'/></disk>
    <disk type='file'><target dev='sda' bus='scsi'/>
      <address type='drive' controller='1' bus='0' target='1' unit='2'/></disk>
    <controller type='scsi' index='1'><address type='pci' slot='7'/></controller>
    </devices></domain>"""
    assert disk_at(Pipeline(Registry.default()).parse(xml), device) == target


async def test_a_driver_without_it(host, vm, monkeypatch):
    driver = type(host._engine.driver)
    monkeypatch.setattr(driver, "operations", classmethod(lambda cls: frozenset()))
    with pytest.raises(UnsupportedOperation, match="virDomainQemuAgentCommand"):
        await vm.hostname()
    await vm.shutdown()


# -- the other ways in -----------------------------------------------------------------------------


def test_the_blocking_api():
    with sync.connect("test:///default?agent-sync") as host:
        vm = host.create(XML.format(channel=CHANNEL))
        assert vm.hostname() == "vm"
        assert vm.filesystems()[0].mountpoint == "/"
        host.test.faults.stop_agent("vm")
        with pytest.raises(HvError, match="not connected"):
            vm.freeze()


@pytest.fixture
def hv_with_agent(tmp_path, monkeypatch):
    """Return a function that runs hv on a host whose domain has an agent."""
    channel = CHANNEL.replace("/>", "/>")
    node = tmp_path / "node.xml"
    node.write_text(f"<node>{XML.format(channel=channel)}</node>")

    def run(*args):
        return CliRunner().invoke(hv, ["-c", f"test://{node}", *args])

    return run


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("domhostname", "vm"), "vm\n"),
        (("domfsfreeze", "vm"), "Froze 2 filesystem(s)\n"),
        (("domfsfreeze", "vm", "--mountpoint", "/"), "Froze 1 filesystem(s)\n"),
        (("domfsthaw", "vm"), "Thawed 0 filesystem(s)\n"),
        (("domfstrim", "vm"), "\n"),
        (("set-user-password", "vm", "root", "x"), "Password set successfully for root in vm\n"),
        (("qemu-agent-command", "vm", '{"execute":"guest-ping"}'), '{"return":{}}\n\n'),
        (("guestinfo", "vm", "--hostname"), "hostname            : vm\n\n"),
        (("guestinfo", "vm", "--load"), None),
        (("shutdown", "vm", "--mode", "agent"), "Domain 'vm' is being shutdown\n"),
        (("reboot", "vm", "--mode", "acpi,agent"), "Domain 'vm' is being rebooted\n"),
        (
            ("domfsinfo", "vm"),
            " Mountpoint   Name   Type   Target\n" + "-" * 37 + "\n"
            " /            vda1   ext4   vda\n /mnt/vdb     vdb1   ext4   vdb\n",
        ),
    ],
)
def test_hv(hv_with_agent, args, said):
    result = hv_with_agent(*args)
    assert result.exit_code == 0, result.stderr
    if said is not None:
        assert result.stdout == said


def test_hv_shows_addresses(hv_with_agent):
    lines = hv_with_agent("domifaddr", "vm").stdout.splitlines()
    assert lines[0] == " Name       MAC address          Protocol     Address"
    assert lines[2] == " lo         00:00:00:00:00:00    ipv4         127.0.0.1/8"
    assert lines[3] == " -          -                    ipv6         ::1/128"
    full = hv_with_agent("domifaddr", "vm", "lo", "--full").stdout.splitlines()
    assert full[3] == " lo         00:00:00:00:00:00    ipv6         ::1/128"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("domhostname", "vm", "--source", "x"), "error: Unknown data source 'x'\n"),
        (
            ("domifaddr", "vm", "--source", "lease"),
            "error: data source 'lease' is not supported, only 'agent'\n",
        ),
        (
            ("shutdown", "vm", "--mode", "x"),
            (
                "error: Unknown mode x value, expecting 'acpi', 'agent', 'initctl', 'signal', or "
                "'paravirt'\n"
            ),
        ),
        (
            ("reboot", "vm", "--mode", "signal"),
            "error: mode 'signal' is not supported, only 'acpi' and 'agent'\n",
        ),
        (
            ("domfstrim", "vm", "--mountpoint", "/"),
            "error: Specifying mount point is not supported for now\n",
        ),
        (
            ("qemu-agent-command", "vm", "{}", "--timeout", "0"),
            "error: timeout must be positive\n",
        ),
    ],
)
def test_hv_refuses(hv_with_agent, args, said):
    result = hv_with_agent(*args)
    assert (result.exit_code, result.stderr) == (1, said)


def test_hv_says_what_failed():
    result = CliRunner().invoke(hv, ["-c", "test:///default", "domfsinfo", "test"])
    assert result.stderr == (
        "error: Unable to get filesystem information\n"
        "error: argument unsupported: QEMU guest agent is not configured\n"
    )
