"""Devices of the mock driver's domains come, go and change, live and for the next start."""

from __future__ import annotations

import re

import pytest

from hvcore import connect
from hvcore import events
from hvcore.errors import HvError
from hvcore.operations import Op

DOMAIN = """
<domain type='test'><name>vm</name><uuid>00000000-1111-2222-3333-444444444444</uuid>
  <maxMemory slots='4' unit='KiB'>8388608</maxMemory><memory>1048576</memory><vcpu>2</vcpu>
  <cpu><numa><cell id='0' cpus='0-1' memory='1048576'/></numa></cpu>
  <os><type>hvm</type></os>
  <devices>
    <disk type='file' device='disk'><source file='/a'/><target dev='vda' bus='virtio'/></disk>
    <disk type='file' device='cdrom'><source file='/b.iso'/><target dev='hda' bus='ide'/></disk>
    <controller type='usb' index='0'/>
    <controller type='scsi' index='0' model='virtio-scsi'/>
    <controller type='virtio-serial' index='0'/>
    <interface type='network'><mac address='52:54:00:00:00:01'/><source network='default'/>
      <model type='virtio'/></interface>
    <serial type='pty'/><console type='pty'/>
    <graphics type='vnc' port='5901'/>
    <video><model type='vga'/></video>
  </devices>
</domain>
"""

PLUGGED = {
    "disk": "<disk type='file'><source file='/c'/><target dev='vdb' bus='virtio'/></disk>",
    "scsi disk": "<disk type='file'><source file='/c'/><target dev='sda' bus='scsi'/></disk>",
    "interface": "<interface type='network'><mac address='52:54:00:00:00:02'/>"
    "<source network='default'/></interface>",
    "hostdev": "<hostdev mode='subsystem' type='pci' managed='yes'><source>"
    "<address domain='0' bus='6' slot='2' function='0'/></source></hostdev>",
    "controller": "<controller type='scsi' index='4' model='virtio-scsi'/>",
    "lease": "<lease><lockspace>l</lockspace><key>k</key><target path='/x'/></lease>",
    "redirdev": "<redirdev bus='usb' type='spicevmc'/>",
    "channel": "<channel type='pty'><target type='virtio' name='org.example'/></channel>",
    "rng": "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>",
    "memory": "<memory model='dimm'><target><size unit='KiB'>524288</size><node>0</node></target>"
    "</memory>",
    "shmem": "<shmem name='s'><model type='ivshmem-plain'/><size unit='M'>4</size></shmem>",
    "watchdog": "<watchdog model='i6300esb' action='reset'/>",
    "input": "<input type='tablet' bus='usb'/>",
    "vsock": "<vsock model='virtio'><cid auto='no' address='4'/></vsock>",
    "filesystem": "<filesystem type='mount'><driver type='virtiofs'/><source dir='/d'/>"
    "<target dir='t'/></filesystem>",
}


@pytest.fixture
async def host():
    async with await connect("test:///default") as found:
        yield found


@pytest.fixture
async def domain(host):
    found = await host.define(DOMAIN)
    await found.start()
    return found


def drain(stream):
    return list(iter(stream.get_nowait, None))


def count(text, tag):
    return len(re.findall(f"<{tag}[ >]", text))


@pytest.mark.parametrize("name", PLUGGED)
async def test_every_family_comes_and_goes(host, domain, name):
    xml = PLUGGED[name]
    tag = re.match("<([a-z]+)", xml)[1]
    stream = host.events()
    live, config = await domain.xml(), await domain.xml(inactive=True)
    await domain.attach_device(xml, live=True, config=True)
    assert count(await domain.xml(), tag) == count(live, tag) + 1
    assert count(await domain.xml(inactive=True), tag) == count(config, tag) + 1
    assert await domain.detach_device(xml, live=True, config=True)
    assert await domain.xml() == live
    assert count(await domain.xml(inactive=True), tag) == count(config, tag)
    kinds = [type(item) for item in drain(stream)]
    expected = [events.Defined, events.DeviceAdded, events.Defined, events.DeviceRemoved]
    if name == "lease":
        expected = [events.Defined] * 2  # it has no name to be announced by
    assert kinds == expected


async def test_only_what_is_meant_changes(domain):
    await domain.attach_device(PLUGGED["disk"])
    assert "vdb" in await domain.xml()
    assert "vdb" not in await domain.xml(inactive=True)
    await domain.attach_device(PLUGGED["interface"], config=True)
    assert "00:00:02" not in await domain.xml()
    assert "00:00:02" in await domain.xml(inactive=True)


async def test_running_devices_have_names(domain):
    live = await domain.xml()
    names = re.findall("<alias name='([^']+)'/>", live)
    assert {"virtio-disk0", "ide0-0-0", "net0", "serial0", "usb0", "scsi0", "video0"} <= {*names}
    assert "alias" not in await domain.xml(inactive=True)
    await domain.attach_device(PLUGGED["interface"])
    assert "<alias name='net1'/>" in await domain.xml()
    await domain.attach_device(PLUGGED["rng"].replace("</rng>", "<alias name='ua-r'/></rng>"))
    assert await domain.detach_device_alias("ua-r")
    assert await domain.detach_device_alias("net0")
    assert "00:00:01" not in await domain.xml()


async def test_controllers_of_running_domains_are_numbered(domain):
    for number in (0, 1):
        await domain.attach_device("<controller type='virtio-serial'/>", live=True)
        assert f"<controller type='virtio-serial' index='{number}'" in await domain.xml()


async def test_a_drive_gets_another_medium(domain):
    cd = "<disk type='file' device='cdrom'>{}<target dev='hda' bus='ide'/></disk>"
    await domain.update_device(cd.format("<source file='/new.iso'/>"), live=True, config=True)
    for text in (await domain.xml(), await domain.xml(inactive=True)):
        assert "/new.iso" in text
        assert "/b.iso" not in text
    await domain.attach_device(cd.format("<source file='/third.iso'/>"))
    assert "/third.iso" in await domain.xml()
    await domain.update_device(cd.format(""))
    assert ".iso" not in await domain.xml()
    assert "<alias name='ide0-0-0'/>" in await domain.xml()


async def test_interfaces_and_screens_change(domain):
    await domain.update_device(
        "<interface type='network'><mac address='52:54:00:00:00:01'/><source network='default'/>"
        "<model type='virtio'/><link state='down'/></interface>"
    )
    assert "<link state='down'/>" in await domain.xml()
    await domain.update_device("<graphics type='vnc' port='5901' passwd='s3'/>")
    assert "passwd='s3'" in await domain.xml(secure=True)


@pytest.mark.parametrize(
    ("verb", "xml", "message"),
    [
        (
            "attach",
            "<disk type='file'><source file='/c'/><target dev='hdc' bus='ide'/></disk>",
            "Operation not supported: disk bus 'ide' cannot be hotplugged.",
        ),
        (
            "attach",
            "<disk type='file'><source file='/c'/><target dev='vda' bus='virtio'/></disk>",
            "XML error: target 'vda' duplicated for disk sources '/a' and '/c'",
        ),
        (
            "attach",
            "<disk device='floppy' type='file'><source file='/c'/><target dev='fda'/></disk>",
            "Operation not supported: floppy device hotplug isn't supported",
        ),
        (
            "attach",
            "<controller type='sata' index='1'/>",
            "Operation not supported: 'sata' controller cannot be hot plugged.",
        ),
        (
            "attach",
            "<sound model='ich6'/>",
            "Operation not supported: live attach of device 'sound' is not supported",
        ),
        (
            "detach",
            "<video><model type='vga'/></video>",
            "Operation not supported: live detach of device 'video' is not supported",
        ),
        (
            "detach",
            "<disk type='file'><source file='/c'/><target dev='vdz' bus='virtio'/></disk>",
            "device not found: disk vdz not found",
        ),
        (
            "detach",
            "<disk type='file' device='cdrom'><target dev='hda' bus='ide'/></disk>",
            "Operation not supported: This type of disk cannot be hot unplugged",
        ),
        (
            "detach",
            "<controller type='usb' index='0'/>",
            "Operation not supported: 'usb' controller cannot be hot unplugged.",
        ),
        (
            "update",
            "<rng model='virtio'><backend model='random'>/dev/random</backend></rng>",
            "unsupported configuration: live update of device 'rng' is not supported",
        ),
    ],
)
async def test_words_of_what_cannot_be_done(domain, verb, xml, message):
    before = await domain.xml()
    with pytest.raises(HvError) as caught:
        await getattr(domain, f"{verb}_device")(xml)
    assert str(caught.value) == message
    assert await domain.xml() == before


async def test_the_verbs_are_there(host):
    assert {Op.ATTACH_DEVICE, Op.DETACH_DEVICE, Op.UPDATE_DEVICE} <= host.operations
