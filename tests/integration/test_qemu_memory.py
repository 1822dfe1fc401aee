"""Where the memory of a real QEMU comes from, and what is known of its memory devices."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import stat

import pytest

from hvcore import connect
from hvcore import events
from hvcore.errors import HvError
from hvcore.errors import MonitorError
from hvcore.lifecycle import State

pytestmark = pytest.mark.qemu

MODULE = "<memory model='dimm'><target><size unit='MiB'>{}</size><node>0</node></target>{}</memory>"

TAKEN = "<address type='dimm' slot='1' base='0x1000'/>"


@pytest.fixture
async def host(uri):
    async with await connect(uri) as found:
        yield found


def xml(backing="<source type='file'/>", devices=""):
    return (
        "<domain type='qemu'><name>pages</name><maxMemory slots='4' unit='GiB'>2</maxMemory>"
        f"<memory unit='MiB'>64</memory><memoryBacking>{backing}</memoryBacking><vcpu>1</vcpu>"
        "<os><type arch='x86_64' machine='q35'>hvm</type></os><features><acpi/></features>"
        "<cpu><numa><cell id='0' cpus='0' memory='64' unit='MiB'/></numa></cpu>"
        f"<devices>{devices}<memballoon model='none'/></devices></domain>"
    )


def files(tmp_path):
    return sorted(path.name for path in tmp_path.glob("root/config/ram/*/*"))


async def test_files_of_memory_come_and_go_with_the_domain(host, tmp_path):
    domain = await host.define(xml())
    await domain.start()
    [folder] = tmp_path.glob("root/config/ram/*")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert files(tmp_path) == ["ram-node0"]
    await domain.attach_device(MODULE.format(64, ""))
    assert files(tmp_path) == ["dimm0", "ram-node0"]
    with pytest.raises(MonitorError, match="device_add"):
        # There is no room for a module at this place.
        await domain.attach_device(
            MODULE.format(64, "<address type='dimm' slot='1' base='0x1000'/>")
        )
    assert files(tmp_path) == ["dimm0", "ram-node0"]
    await domain.destroy()
    assert not folder.exists()


async def test_modules_that_are_plugged_alone_have_files_too(host, tmp_path):
    domain = await host.define(xml("<source type='anonymous'/>"))
    await domain.start()
    assert files(tmp_path) == []
    module = MODULE.replace("<memory ", "<memory access='shared' ").format(64, "")
    await domain.attach_device(module)
    assert files(tmp_path) == ["dimm0"]
    await domain.destroy()
    assert not list(tmp_path.glob("root/config/ram/*"))


async def test_a_later_manager_removes_the_files(uri, tmp_path):
    async with await connect(uri) as host:
        domain = await host.define(xml())
        await domain.start()
        pid = domain._record.process[0]
    assert files(tmp_path) == ["ram-node0"]
    async with await connect(uri) as host:
        domain = await host.lookup("pages")
        assert files(tmp_path) == ["ram-node0"]
        os.kill(pid, signal.SIGKILL)
        await domain.wait_for(State.SHUTOFF)
        await asyncio.sleep(0)
        assert files(tmp_path) == []
        await domain.start()
        pid = domain._record.process[0]
    os.kill(pid, signal.SIGKILL)
    async with await connect(uri) as host:
        assert not (await host.lookup("pages")).is_active
    assert files(tmp_path) == []


async def test_a_qemu_that_does_not_start_leaves_no_files(host, tmp_path):
    nonsense = (
        "<qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>"
        "<qemu:arg value='-nonsense'/></qemu:commandline></domain>"
    )
    domain = await host.define(xml().replace("</domain>", nonsense))
    with pytest.raises(HvError, match="nonsense"):
        await domain.start()
    assert not list(tmp_path.glob("root/config/ram/*"))


async def test_modules_say_where_qemu_put_them(uri):
    virtio = (
        "<memory model='virtio-mem'><target><size unit='MiB'>256</size><node>0</node>"
        "<block unit='MiB'>2</block><requested unit='MiB'>128</requested></target></memory>"
    )
    async with await connect(uri) as host:
        document = xml("<source type='anonymous'/>", virtio).replace("q35", "pc-i440fx-10.0")
        domain = await host.define(document)
        assert "<address base=" not in await domain.xml()
        await domain.start()
        live = await domain.xml()
        assert "<address base='0x" in live
        assert "<current unit='KiB'>0</current>" in live
        await domain.attach_device(MODULE.format(64, ""))
    async with await connect(uri) as host:
        domain = await host.lookup("pages")
        assert re.search("<address type='dimm' slot='0' base='0x[0-9a-f]+'/>", await domain.xml())
        assert "base=" not in await domain.xml(inactive=True)


async def test_the_balloon_is_where_the_guest_moved_it(host):
    document = xml("<source type='anonymous'/>").replace("'none'", "'virtio'")
    domain = await host.define(document)
    await domain.start()
    await domain.set_memory(32 << 10)
    assert "<currentMemory unit='KiB'>32768</currentMemory>" in await domain.xml()
    record = domain._record
    told = {"event": "BALLOON_CHANGE", "data": {"actual": 48 << 20}}
    with host.events(kinds=[events.BalloonChanged]) as stream:
        host._engine.driver._on_event(record, record.runtime, told)
        assert (await stream.get()).actual == 48 << 10
    assert "<currentMemory unit='KiB'>49152</currentMemory>" in await domain.xml()
