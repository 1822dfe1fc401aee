"""Guests that go into files and come out of them, over the fake."""

from __future__ import annotations

import re
import tarfile

import pytest

from hvcore.errors import HvError
from hvcore.errors import InvalidState
from hvcore.errors import MonitorError
from hvcore.lifecycle import PausedReason
from hvcore.lifecycle import RunningReason
from hvcore.lifecycle import ShutoffReason
from tests.unit.ch_lab import Lab
from tests.unit.ch_lab import Taps
from tests.unit.ch_lab import processes

VSOCK = "<vsock model='virtio'><cid auto='no' address='7'/></vsock>"
TAP = (
    "<interface type='ethernet'><mac address='52:54:00:00:00:01'/><model type='virtio'/>"
    "</interface>"
)


@pytest.fixture
def lab(tmp_path):
    return Lab(tmp_path)


@pytest.fixture(autouse=True)
def taps(monkeypatch):
    return Taps(monkeypatch)


def passing(lab):
    """Return what is left of states on their way."""
    states = lab.folder / "root" / "config" / "states"
    return [path for path in states.rglob("*") if path.is_file()]


def without_numbers(text):
    """Return a live document without the numbers that the host gives out."""
    return re.sub(r" id='\d+'|/dev/pts/\d+", "", text)


async def test_a_guest_is_saved_and_goes_on_where_it_was(lab):
    async with await lab.host() as host:
        domain = await host.define(lab.document(devices=VSOCK + TAP))
        await domain.start()
        before = await domain.xml()
        await domain.save(str(lab.folder / "saved"))
        assert (await domain.state())[1] is ShutoffReason.SAVED
        assert processes(lab) == []
        await host.restore(str(lab.folder / "saved"))
        assert (await domain.state())[1] is RunningReason.RESTORED
        after = await domain.xml()
        assert without_numbers(after) == without_numbers(before)
        net = (await domain._record.runtime.vmm.monitor.call("vm.info"))["config"]["net"]
        assert len(net[0]["fds"]) == 1
        assert passing(lab) == []
        await domain.destroy()
        assert not (lab.folder / "root" / "config" / "states" / domain.uuid).exists()


async def test_devices_keep_the_names_that_they_had(lab):
    async with await lab.host() as host:
        domain = await host.define(lab.document())
        await domain.start()
        (lab.folder / "b.raw").write_bytes(bytes(4096))
        disk = (
            f"<disk type='file'><source file='{lab.folder}/b.raw'/>"
            "<target dev='vd{}' bus='virtio'/></disk>"
        )
        record = domain._record
        record.data = {**record.data, "landlock": None}
        await domain.attach_device(disk.format("b"))
        await domain.detach_device_alias("virtio-disk0")
        await domain.save(str(lab.folder / "saved"))
        await host.restore(str(lab.folder / "saved"))
        assert "<alias name='virtio-disk1'/>" in await domain.xml()
        assert await domain.detach_device_alias("virtio-disk1") is True
        await domain.destroy()


async def test_the_next_start_takes_a_managed_save(lab):
    async with await lab.host() as host:
        domain = await host.define(lab.document())
        await domain.start()
        await domain.suspend()
        await domain.managed_save()
        assert domain.has_managed_save
    async with await lab.host() as host:
        domain = await host.lookup_name("guest")
        await domain.start()
        assert (await domain.state())[1] is PausedReason.MIGRATION
        await domain.resume()
        assert not domain.has_managed_save
        await domain.destroy()


async def test_what_was_not_booted_has_no_state(lab):
    lab.faults(features=["io_uring", "kvm", "guest_debug"])
    async with await lab.host() as host:
        domain = await host.define(lab.document())
        await domain.start(paused=True)
        for call in (domain.save(str(lab.folder / "saved")), domain.dump(str(lab.folder / "core"))):
            with pytest.raises(InvalidState, match="was not booted so far"):
                await call
        assert (await domain.state())[1] is PausedReason.USER
        assert not (lab.folder / "saved").exists()
        await domain.resume()
        await domain.destroy()


async def test_an_image_may_have_moved(lab):
    async with await lab.host() as host:
        domain = await host.define(lab.document())
        await domain.start()
        await domain.save(str(lab.folder / "saved"))
        xml = await host.save_image_xml(str(lab.folder / "saved"))
        (lab.folder / "disk.raw").rename(lab.folder / "moved.raw")
        await host.restore(
            str(lab.folder / "saved"), xml=xml.replace("disk.raw", "moved.raw"), running=True
        )
        config = (await domain._record.runtime.vmm.monitor.call("vm.info"))["config"]
        assert config["disks"][0]["path"] == str(lab.folder / "moved.raw")
        await domain.destroy()


async def test_a_guest_that_cannot_be_saved_goes_on(lab):
    refused = {"status": 500, "body": ["Error from API", "No", "Because"]}
    async with await lab.host() as host:
        domain = await host.define(lab.document())
        await domain.start()
        lab.faults(requests={"vm.snapshot": refused})
        with pytest.raises(MonitorError, match=r"'vm\.snapshot': Because"):
            await domain.save(str(lab.folder / "saved"))
        assert (await domain.state())[1] is RunningReason.SAVE_CANCELED
        assert passing(lab) == []
        assert not (lab.folder / "saved").exists()
        await domain.destroy()


@pytest.mark.parametrize("fault", ["die", {"status": 500, "body": ["a", "b", "c"]}])
async def test_a_restore_that_fails_leaves_nothing(lab, fault):
    async with await lab.host() as host:
        domain = await host.define(lab.document())
        await domain.start()
        await domain.save(str(lab.folder / "saved"))
        lab.faults(requests={"vm.restore": fault})
        with pytest.raises(HvError):
            await host.restore(str(lab.folder / "saved"))
        assert (await domain.state())[1] is ShutoffReason.FAILED
        assert processes(lab) == []
        assert passing(lab) == []
        lab.faults()
        await host.restore(str(lab.folder / "saved"))
        await domain.destroy()


async def test_a_file_of_something_else_is_refused(lab, tmp_path):
    from hvcore_ch import snapshot

    with (tmp_path / "x").open("w+b") as file:
        with tarfile.open(fileobj=file, mode="w|") as archive:
            archive.add(lab.folder / "kernel", arcname="../config.json")
        file.seek(0)
        with pytest.raises(HvError, match="failed to read domain state: it is incomplete"):
            snapshot.unpack(file.fileno(), tmp_path)
        file.seek(0)
        file.write(b"no archive at all")
        file.seek(0)
        with pytest.raises(HvError, match="failed to read domain state"):
            snapshot.unpack(file.fileno(), tmp_path)
    assert not (tmp_path.parent / "config.json").exists()


async def test_a_core_is_dumped(lab):
    lab.faults(features=["kvm", "guest_debug"])
    async with await lab.host() as host:
        domain = await host.define(lab.document())
        await domain.start()
        await domain.dump(str(lab.folder / "core"))
        assert (lab.folder / "core").read_bytes() == b"\x7fELF"
        assert (await domain.state())[1] is RunningReason.UNPAUSED
        await domain.dump(str(lab.folder / "core2"), kind="elf", reset=True)
        with pytest.raises(HvError, match="unsupported dumpformat 'kdump-zlib'"):
            await domain.dump(str(lab.folder / "core3"), kind="kdump-zlib")
        with pytest.raises(HvError, match="doesn't support dumping a running guest"):
            await domain.dump(str(lab.folder / "core3"), live=True)
        assert (await domain.state())[0].name == "RUNNING"
        await domain.dump(str(lab.folder / "core4"), crash=True)
        assert (await domain.state())[1] is ShutoffReason.CRASHED


async def test_a_build_without_dumps_refuses_them(lab):
    async with await lab.host() as host:
        domain = await host.define(lab.document())
        await domain.start()
        with pytest.raises(HvError, match="unsupported dumpformat 'elf'"):
            await domain.dump(str(lab.folder / "core"))
        await domain.destroy()
