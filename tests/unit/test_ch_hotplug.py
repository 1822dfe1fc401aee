"""Devices that come and go while a guest runs, over the fake: each family, and each ending."""

from __future__ import annotations

import pytest

from hvcore import events
from hvcore.errors import HvError
from hvcore.errors import MonitorError
from tests.unit.ch_lab import Lab
from tests.unit.ch_lab import Taps
from tests.unit.ch_lab import eventually

SHARED = (
    "<memoryBacking><access mode='shared'/></memoryBacking>"
    "<maxMemory slots='2' unit='MiB'>512</maxMemory>"
)

FAMILIES = {
    "disk": (
        "<disk type='file'><source file='{folder}/b.raw'/><target dev='vdb' bus='virtio'/></disk>",
        "disks",
        "virtio-disk1",
    ),
    "disk-vdpa": (
        (
            "<disk type='vhostvdpa'><source dev='/dev/vhost-vdpa-0'/>"
            "<target dev='vdb' bus='virtio'/></disk>"
        ),
        "vdpa",
        "virtio-disk1",
    ),
    "net-vhost-user": (
        (
            "<interface type='vhostuser'><mac address='52:54:00:00:00:01'/>"
            "<source type='unix' path='/run/ovs' mode='client'/><model type='virtio'/></interface>"
        ),
        "net",
        "net0",
    ),
    "net-tap": (
        (
            "<interface type='ethernet'><mac address='52:54:00:00:00:01'/><model type='virtio'/>"
            "</interface>"
        ),
        "net",
        "net0",
    ),
    "net-vdpa": (
        (
            "<interface type='vdpa'><mac address='52:54:00:00:00:01'/>"
            "<source dev='/dev/vhost-vdpa-1'/><model type='virtio'/></interface>"
        ),
        "vdpa",
        "net0",
    ),
    "fs": (
        (
            "<filesystem type='mount'><driver type='virtiofs'/><source socket='/run/fs'/>"
            "<target dir='t'/></filesystem>"
        ),
        "fs",
        "fs0",
    ),
    "pmem": (
        (
            "<memory model='virtio-pmem' access='shared'>"
            "<source><path>{folder}/b.raw</path></source>"
            "<target><size unit='MiB'>2</size></target></memory>"
        ),
        "pmem",
        "virtiopmem0",
    ),
    "vsock": ("<vsock model='virtio'><cid address='7'/></vsock>", "vsock", "vsock0"),
    "hostdev": (
        (
            "<hostdev mode='subsystem' type='pci' managed='no'><source>"
            "<address domain='0' bus='1' slot='0' function='0'/></source></hostdev>"
        ),
        "devices",
        "hostdev0",
    ),
}


@pytest.fixture
def lab(tmp_path):
    lab = Lab(tmp_path)
    lab.faults(files="assume")
    (tmp_path / "root" / "config").mkdir(parents=True, mode=0o700)
    (tmp_path / "root").chmod(0o700)
    settings = tmp_path / "root" / "config" / "ch.toml"
    settings.write_text(f'landlock_paths = ["{tmp_path}", "/dev", "/sys"]\n')
    (tmp_path / "b.raw").write_bytes(bytes(2 << 20))
    return lab


@pytest.fixture(autouse=True)
def taps(monkeypatch):
    return Taps(monkeypatch)


async def started(host, lab):
    return await host.create(lab.document(SHARED))


async def info(domain):
    return await domain._record.runtime.vmm.monitor.call("vm.info")


@pytest.mark.parametrize("family", FAMILIES)
async def test_a_device_comes_and_goes(lab, family):
    xml, member, alias = FAMILIES[family]
    xml = xml.format(folder=lab.folder)
    async with await lab.host() as host:
        domain = await started(host, lab)
        before = await domain.xml()
        stream = host.events([events.DeviceAdded, events.DeviceRemoved])
        await domain.attach_device(xml)
        found = (await info(domain))["config"][member]
        assert (found if isinstance(found, dict) else found[-1])["id"] == alias
        text = await domain.xml()
        assert f"<alias name='{alias}'/>" in text
        device = text[: text.index(f"<alias name='{alias}'/>") + 200]
        assert "<address type='pci' domain='0x0000' bus='0x00' slot=" in device
        assert await domain.detach_device_alias(alias) is True
        assert alias not in (await info(domain))["device_tree"]
        assert await domain.xml() == before
        await domain.attach_device(xml)
        assert await domain.detach_device(xml) is True
        await domain.destroy()
    told = [(type(event).__name__, getattr(event, "alias", None)) async for event in stream]
    assert told[:4] == [("DeviceAdded", alias), ("DeviceRemoved", alias)] * 2


async def test_an_interface_has_the_taps_descriptors(lab, taps):
    async with await lab.host() as host:
        domain = await started(host, lab)
        await domain.attach_device(FAMILIES["net-tap"][0])
        assert "<target dev='vnet7'/>" in await domain.xml()
        assert (await info(domain))["config"]["net"][0]["fds"]
        assert taps.opened
        assert taps.left() == []
        await domain.destroy()


async def test_a_guest_that_keeps_a_device_is_asked_once_and_may_let_it_go_late(lab):
    lab.faults(files="assume", unplug="ignore")
    xml, _, alias = FAMILIES["vsock"]
    async with await lab.host() as host:
        domain = await started(host, lab)
        stream = host.events([events.DeviceRemoved])
        await domain.attach_device(xml)
        assert await domain.detach_device_alias(alias, within=0.1) is False
        assert alias in await domain.xml()
        assert await domain.detach_device_alias(alias, within=0.1) is False
        with pytest.raises(HvError):
            await domain.attach_device(xml)
        await domain.destroy()
    assert [type(event).__name__ async for event in stream] == ["StreamClosed"]


async def test_a_device_that_goes_late_is_told(lab):
    lab.faults(files="assume", guest_delay=0.5)
    xml, _, alias = FAMILIES["vsock"]
    async with await lab.host() as host:
        domain = await started(host, lab)
        stream = host.events([events.DeviceRemoved])
        await domain.attach_device(xml)
        assert await domain.detach_device_alias(alias, within=0.05) is False
        event = await anext(aiter(stream))
        assert event.alias == alias
        assert alias not in await domain.xml()
        await domain.attach_device(xml)
        await domain.destroy()


async def test_a_refusal_leaves_everything_as_it_was(lab):
    xml, _, alias = FAMILIES["disk"]
    xml = xml.format(folder=lab.folder)
    async with await lab.host() as host:
        domain = await started(host, lab)
        before = await domain.xml()
        refused = {"status": 500, "body": ["Error from API", "No", "Because"]}
        lab.faults(files="assume", requests={"vm.add-disk": refused})
        with pytest.raises(MonitorError, match=r"'vm\.add-disk': Because"):
            await domain.attach_device(xml)
        assert await domain.xml() == before
        lab.faults(files="assume", unplug="refuse")
        await domain.attach_device(xml)
        with pytest.raises(MonitorError, match=r"'vm\.remove-device'.*Not allowed to remove"):
            await domain.detach_device_alias(alias)
        assert alias in await domain.xml()
        await domain.destroy()


@pytest.mark.parametrize(
    ("xml", "words"),
    [
        ("<input type='mouse' bus='virtio'/>", "live attach of device 'input' is not supported"),
        (
            (
                "<disk type='file'><driver io='native'/><source file='{folder}/b.raw'/>"
                "<target dev='vdb' bus='virtio'/></disk>"
            ),
            "doesn't support attribute 'io'",
        ),
        (
            "<disk type='file'><source file='/elsewhere'/><target dev='vdb' bus='virtio'/></disk>",
            "confined by Landlock and may not open '/elsewhere'",
        ),
        (
            (
                "<disk type='file'><source file='{folder}/b.raw'/><target dev='vda' bus='virtio'/>"
                "</disk>"
            ),
            "target vda already exists",
        ),
        (
            (
                "<disk type='file'><driver iommu='on'/><source file='{folder}/b.raw'/>"
                "<target dev='vdb' bus='virtio'/></disk>"
            ),
            "needs an <iommu> device",
        ),
    ],
)
async def test_what_cannot_come_is_not_asked_for(lab, xml, words, monkeypatch):
    async with await lab.host() as host:
        domain = await started(host, lab)
        monkeypatch.setattr("hvcore_ch.probe.has_landlock", lambda: True)
        record = domain._record
        record.data = {**record.data, "landlock": [str(lab.folder), "/dev", "/sys"]}
        with pytest.raises(HvError, match=words):
            await domain.attach_device(xml.format(folder=lab.folder))
        await domain.destroy()


async def test_a_guest_that_was_never_booted_gives_devices_back_at_once(lab):
    xml, _, alias = FAMILIES["vsock"]
    async with await lab.host() as host:
        domain = await host.define(lab.document(SHARED))
        await domain.start(paused=True)
        await domain.attach_device(xml)
        assert await domain.detach_device_alias(alias) is True
        await domain.destroy()


async def test_cpus_come_and_go(lab):
    document = lab.document().replace("<vcpu>1</vcpu>", "<vcpu current='1'>4</vcpu>")
    async with await lab.host() as host:
        domain = await host.create(document)
        await domain.set_vcpus(3)
        assert (await info(domain))["config"]["cpus"]["boot_vcpus"] == 3
        await domain.set_vcpus(2)
        assert await domain.vcpu_count() == 2
        with pytest.raises(HvError, match="greater than max allowable"):
            await domain.set_vcpus(5)
        await domain.destroy()


async def test_a_guest_that_keeps_a_cpu_is_told(lab, monkeypatch):
    monkeypatch.setattr("hvcore_ch.tuning.UNPLUG_PATIENCE", 0.2)
    document = lab.document().replace("<vcpu>1</vcpu>", "<vcpu current='1'>4</vcpu>")
    lab.faults(unplug="ignore")
    async with await lab.host() as host:
        domain = await host.create(document)
        await domain.set_vcpus(3)
        with pytest.raises(HvError, match="vcpu unplug request timed out"):
            await domain.set_vcpus(1)
        assert await domain.vcpu_count() == 3
        await domain.destroy()


async def test_a_process_that_dies_while_a_device_comes_is_a_crash(lab):
    xml, _, _ = FAMILIES["vsock"]
    async with await lab.host() as host:
        domain = await host.define(lab.document())
        await domain.start()
        lab.faults(requests={"vm.add-vsock": "die"})
        with pytest.raises(HvError, match="unexpectedly closed the monitor"):
            await domain.attach_device(xml)

        async def stopped():
            return not domain.is_active

        await eventually(stopped)
        assert "crashed" in str((await domain.state())[1])
