"""Hosts of the mock driver: from libvirt's files, and with recorded capabilities of a real QEMU."""

from __future__ import annotations

import json
import lzma

import pytest

from hvcore import connect
from hvcore.errors import HvError
from hvcore.errors import NoSuchDomain
from hvcore.errors import ProbeError
from hvcore.hostinfo import HostInfo
from hvcore.hostinfo import NodeInfo
from hvcore.hostxml import read_host
from hvcore.lifecycle import State
from hvcore.operations import Op
from hvcore_qemu import recordings

NODE = """<node>
  <domain file='one.xml'/>
  <domain type='test' xmlns:test='http://libvirt.org/schemas/domain/test/1.0'>
    <test:runstate>3</test:runstate><test:transient/>
    <name>two</name><memory>2048</memory><os><type>hvm</type></os></domain>
  <domain type='test' xmlns:test='http://libvirt.org/schemas/domain/test/1.0'>
    <test:runstate>5</test:runstate><test:hasmanagedsave/>
    <name>three</name><memory>2048</memory><os><type>hvm</type></os></domain>
  <network><name>later</name></network>
  <cpu><mhz>6000</mhz><model>i986</model><active>50</active><nodes>4</nodes><sockets>4</sockets>
    <cores>4</cores><threads>2</threads></cpu>
  <memory>8192000</memory>
</node>"""
ONE = "<domain type='test'><name>one</name><memory>1024</memory><os><type>hvm</type></os></domain>"


@pytest.fixture
def node(tmp_path):
    (tmp_path / "node.xml").write_text(NODE)
    (tmp_path / "one.xml").write_text(ONE)
    return tmp_path / "node.xml"


# -- libvirt's files ---------------------------------------------------------------------


async def test_a_file_says_what_there_is(node):
    async with await connect(f"test://{node}") as host:
        found = {each.name: (await each.state())[0] for each in await host.domains()}
        assert found == {"one": State.RUNNING, "two": State.PAUSED, "three": State.SHUTOFF}
        assert [(await host.lookup(name)).id for name in found] == [1, None, 2]
        two = await host.lookup("two")
        assert not two.is_persistent
        assert "runstate" not in await two.xml()
        assert await host.nodeinfo() == NodeInfo(
            model="i986", memory=8192000, cpus=50, mhz=6000, cells=4, sockets=4, cores=4, threads=2
        )
        await two.destroy()
        with pytest.raises(NoSuchDomain):
            await two.state()


async def test_what_a_file_leaves_out_is_as_in_libvirt(tmp_path):
    (tmp_path / "node.xml").write_text("<node/>")
    async with await connect(f"test://{tmp_path}/node.xml") as host:
        assert await host.domains() == []
        bare = await host.nodeinfo()
    async with await connect("test:///default") as host:
        assert await host.nodeinfo() == bare
        assert (bare.model, bare.cpus, bare.memory) == ("i686", 16, 3145728)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("<node>", "<knot>", "Opening and ending tag mismatch"),
        ("file='one.xml'", "file='none.xml'", "none.xml': No such file or directory"),
        (">3<", ">x<", "XML error: invalid runstate"),
        (">3<", ">8<", "XML error: runstate '8' out of range'"),
        (">3<", ">5<", "XML error: transient domain cannot have runstate 'shutoff'"),
        (">5<", ">1<", "XML error: domain with managedsave data can only have runstate 'shutoff'"),
        ("6000", "fast", "XML error: invalid node cpu mhz value"),
        ("8192000", "much", "XML error: invalid node memory value"),
    ],
)
async def test_words_of_wrong_files(node, old, new, message):
    node.write_text(NODE.replace(old, new))
    with pytest.raises(HvError) as caught:
        await connect(f"test://{node}")
    assert message in str(caught.value)
    # Nothing of the failed host is left in the way of a correct one.
    node.write_text(NODE)
    async with await connect(f"test://{node}") as host:
        assert len(await host.domains()) == 3


# -- recorded capabilities ---------------------------------------------------------------

RECORDED = "test:///?caps=qemu-10.0.0-x86_64"
DISK = "<disk type='file'><source file='/c'/><target dev='{}' bus='{}'/></disk>"


def guest(devices="", type_="kvm", **how):
    machine = how.get("machine", "pc")
    return (
        f"<domain type='{type_}'><name>vm</name><memory>1048576</memory><vcpu>2</vcpu>"
        f"<os><type arch='x86_64' machine='{machine}'>hvm</type></os>"
        f"<devices>{devices}</devices></domain>"
    )


@pytest.fixture
async def host():
    async with await connect(RECORDED) as found:
        yield found


async def test_a_recorded_qemu_shows_what_it_would_run(host):
    assert await host.domains() == []
    assert await host.version() == 10_000_002
    assert {Op.LOWER, Op.DOMAIN_CAPABILITIES} <= host.operations
    text = await host.lower(guest(DISK.format("vda", "virtio")))
    assert "/usr/bin/qemu-system-x86_64 -name guest=vm,debug-threads=on -S " in text
    vm = await host.define(guest(DISK.format("vda", "virtio")))
    await vm.start()
    argv = host.test.argv(vm)
    assert argv[0] == "/usr/bin/qemu-system-x86_64"
    assert any("virtio-blk-pci" in word and "virtio-disk0" in word for word in argv)
    assert "<alias name='virtio-disk0'/>" in await vm.xml()
    assert (await host.domain_capabilities(virt_type="kvm")).arch == "x86_64"


async def test_a_recorded_qemu_refuses_what_it_would_refuse(host):
    for document, message in (
        (guest(type_="test"), "does not support virt type 'test'"),
        (guest("<watchdog model='itco'/>"), "itco model of watchdog is only part of q35 machine"),
        (guest("<memory model='dimm'><target><size>1</size></target></memory>"), "maxMemory"),
    ):
        with pytest.raises(HvError) as caught:
            await host.define(document)
        assert message in str(caught.value)
    with pytest.raises(HvError, match="could not find capabilities for arch=aarch64"):
        await host.define(guest().replace("x86_64", "aarch64"))


async def test_devices_are_plugged_as_into_that_qemu(host):
    vm = await host.define(
        guest(
            "<interface type='user'><mac address='52:54:00:00:00:01'/>"
            "<model type='virtio'/></interface>"
        )
    )
    await vm.start()
    disk = DISK.format("vdb", "virtio")
    await vm.attach_device(disk, live=True, config=True)
    *_, last = host.test.history(vm)
    command = json.loads(last)
    assert (command["execute"], command["arguments"]["id"]) == ("device_add", "virtio-disk1")
    assert await vm.detach_device(disk, live=True, config=True)
    assert "vdb" not in await vm.xml()
    await vm.update_device(
        "<interface type='user'><mac address='52:54:00:00:00:01'/>"
        "<model type='virtio'/><link state='down'/></interface>"
    )
    assert json.loads(host.test.history(vm)[-1]) == {
        "execute": "set_link",
        "arguments": {"name": "net0", "up": False},
    }
    before = await vm.xml()
    for xml, message in (
        (DISK.format("hdb", "ide"), "disk bus 'ide' cannot be hotplugged."),
        ("<watchdog model='ib700' action='reset'/>", "hotplug of watchdog model 'ib700'"),
        ("<memory model='dimm'><target><size>1024</size></target></memory>", "maxMemory"),
        ("<serial type='pty'/>", "'device_add': Bus 'isa.0' does not support hotplugging"),
        (
            (
                "<channel type='pty'><target type='guestfwd' address='10.0.2.1' port='1'/>"
                "<address type='virtio-serial' controller='0' bus='0' port='1'/></channel>"
            ),
            "Unsupported address type for character device",
        ),
    ):
        with pytest.raises(HvError) as caught:
            await vm.attach_device(xml)
        assert message in str(caught.value)
    with pytest.raises(HvError, match="cannot modify network device model"):
        await vm.update_device(
            "<interface type='user'><mac address='52:54:00:00:00:01'/>"
            "<model type='e1000'/></interface>"
        )
    assert await vm.xml() == before


async def test_faults_go_with_recordings(host):
    vm = await host.define(guest())
    await vm.start()
    host.test.faults.before("attach", HvError("no"))
    with pytest.raises(HvError, match="no"):
        await vm.attach_device(DISK.format("vdb", "virtio"))
    assert [entry.what for entry in host.test.faults.log] == ["HvError"]


async def test_a_recording_may_be_a_file(tmp_path):
    [(name, packed)] = recordings.shipped().items()
    assert name == "qemu-10.0.2-x86_64"
    path = tmp_path / "caps.xml"
    document = lzma.decompress(packed)
    path.write_bytes(document.replace(b"<flag name='acpi-generic-initiator'/>", b""))
    assert "acpi-generic-initiator" in recordings.load(name).names
    assert "acpi-generic-initiator" not in recordings.load(str(path)).names
    async with await connect(f"test:///?caps={path}") as host:
        assert "-machine" in await host.lower(guest())
    path.write_text("<qemuCaps>")
    with pytest.raises(ProbeError):
        await connect(f"test:///?caps={path}")


@pytest.mark.parametrize(
    ("caps", "message"),
    [
        ("qemu-1.2.3-x86_64", "there is no recording called 'qemu-1.2.3-x86_64'"),
        ("/nonexistent/caps.xml", "cannot read '/nonexistent/caps.xml'"),
        ("nosuch-1", "no connection driver available for nosuch"),
        ("test-1", "not supported by the connection driver: rehearse"),
    ],
)
async def test_words_of_recordings_that_are_not_there(caps, message):
    with pytest.raises(HvError) as caught:
        await connect(f"test:///?caps={caps}")
    assert message in str(caught.value)


async def test_the_host_may_be_that_of_a_file(tmp_path):
    path = tmp_path / "host.xml"
    path.write_text(recordings.host_of(recordings.load("qemu-10.0.2-x86_64")).to_xml())
    async with await connect(f"{RECORDED}&host={path}") as host:
        info = await host.nodeinfo()
        assert (info.model, info.cpus, info.cells, info.memory) == ("x86_64", 16, 2, 64 << 20)
    with pytest.raises(HvError, match="Failed to open file"):
        await connect("test:///default?host=/nonexistent/nothing.xml")


def test_a_host_is_read_as_it_is_written():
    host = recordings.host_of(recordings.load("qemu-10.0.2-x86_64"))
    assert read_host(host.to_xml()).cells == host.cells
    assert isinstance(read_host(host.to_xml()), HostInfo)
    with pytest.raises(HvError, match="the architecture of the host is missing"):
        read_host("<capabilities><host/></capabilities>")
    with pytest.raises(HvError, match="invalid literal"):
        read_host(host.to_xml().replace("<cell id='0'>", "<cell id='x'>"))


@pytest.mark.parametrize(
    ("os", "model"),
    [
        ("<type>hvm</type>", "cirrus"),
        ("<type>xen</type>", "xen"),
        ("<type>linux</type>", "xen"),
        ("<type arch='ppc64le'>hvm</type>", "vga"),
    ],
)
async def test_displays_have_the_adapters_of_libvirts_driver(os, model):
    async with await connect("test:///default?video") as host:
        domain = await host.define(
            f"<domain type='test'><name>v</name><memory>1</memory><os>{os}</os>"
            "<devices><graphics type='vnc'/></devices></domain>"
        )
        assert f"<model type='{model}'" in await domain.xml()
