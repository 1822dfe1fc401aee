"""Devices are plugged into a real QEMU, out of it, and changed; definitions follow."""

from __future__ import annotations

import asyncio
import os
import re
import stat
import subprocess
import sys

import pytest

from hvcore import connect
from hvcore import events
from hvcore.errors import HvError
from hvcore.errors import Issue
from hvcore.errors import MonitorError
from hvcore.hookspecs import hookimpl
from hvcore.registry import Registry

pytestmark = pytest.mark.qemu

MDEV = "53764d0e-85a0-42b4-af5c-2046b460b1dc"
NIC = (
    "<interface type='user'><mac address='52:54:00:00:00:0{0}'/><model type='virtio'/>"
    "<alias name='ua-nic{0}'/></interface>"
)


@pytest.fixture
async def host(uri):
    async with await connect(uri) as found:
        yield found


@pytest.fixture
def image(tmp_path):
    def make(name, size="1M"):
        path = tmp_path / name
        with path.open("wb") as file:
            file.truncate(1 << 20)
        return path

    return make


def xml(name="plugged", devices="", sections="", ports=6):
    more = "".join(
        f"<controller type='pci' model='pcie-root-port' index='{n}'/>" for n in range(1, ports + 1)
    )
    return (
        f"<domain type='qemu'><name>{name}</name><memory>131072</memory><vcpu>1</vcpu>{sections}"
        "<os><type arch='x86_64' machine='q35'>hvm</type></os><features><acpi/></features>"
        "<devices><controller type='pci' model='pcie-root' index='0'/>"
        f"{more}<controller type='usb' model='qemu-xhci'/><controller type='virtio-serial'/>"
        f"<controller type='scsi' model='virtio-scsi'/>{devices}<memballoon model='none'/>"
        "</devices></domain>"
    )


def disk_of(path, target, bus):
    return f"<disk type='file'><source file='{path}'/><target dev='{target}' bus='{bus}'/></disk>"


async def running(host, document=None):
    domain = await host.define(document or xml())
    await domain.start()
    return domain


async def asked(domain, command, **arguments):
    return await domain._record.runtime.monitor.execute(command, arguments or None)


async def peripherals(domain):
    return {each["name"] for each in await asked(domain, "qom-list", path="/machine/peripheral")}


async def nodes(domain):
    return {each["node-name"] for each in await asked(domain, "query-named-block-nodes")}


async def live(domain):
    return await domain.xml()


async def test_a_scsi_disk_comes_and_goes(host, image):
    domain = await running(host)
    disk = disk_of(image("a.raw"), "sda", "scsi")
    before = await live(domain)
    await domain.attach_device(disk)
    assert "scsi0-0-0-0" in await peripherals(domain)
    assert "<alias name='scsi0-0-0-0'/>" in await live(domain)
    assert "libvirt-1-storage" in await nodes(domain)
    assert await domain.detach_device(disk)
    assert "scsi0-0-0-0" not in await peripherals(domain)
    assert await nodes(domain) == set()
    assert await live(domain) == before


async def test_missing_controllers_come_first_and_stay(host, image):
    domain = await running(host)
    disk = (
        f"<disk type='file'><source file='{image('a.raw')}'/><target dev='sdz' bus='scsi'/>"
        "<address type='drive' controller='2' bus='0' target='0' unit='3'/></disk>"
    )
    await domain.attach_device(disk)
    assert {"scsi1", "scsi2", "scsi2-0-0-3"} <= await peripherals(domain)
    assert await domain.detach_device(disk)
    assert {"scsi1", "scsi2"} <= await peripherals(domain)
    assert "<alias name='scsi2'/>" in await live(domain)


async def test_devices_of_many_families_come(host, image, tmp_path):
    domain = await running(
        host, xml(devices="<controller type='pci' model='pcie-to-pci-bridge' index='7'/>")
    )
    wanted = {
        "ua-nic1": NIC.format(1),
        "ua-rng": "<rng model='virtio'><backend model='random'>/dev/urandom</backend>"
        "<alias name='ua-rng'/></rng>",
        "ua-agent": "<channel type='unix'><source mode='bind'/><target type='virtio' "
        "name='org.qemu.guest_agent.0'/><alias name='ua-agent'/></channel>",
        "ua-log": f"<channel type='file'><source path='{tmp_path}/log'/><target type='virtio' "
        "name='log'/><alias name='ua-log'/></channel>",
        "ua-tablet": "<input type='tablet' bus='usb'><alias name='ua-tablet'/></input>",
        "ua-shm": "<shmem name='hvcore-test'><model type='ivshmem-plain'/><size unit='M'>1</size>"
        "<alias name='ua-shm'/></shmem>",
        "ua-dog": "<watchdog model='i6300esb' action='reset'><alias name='ua-dog'/></watchdog>",
    }
    for document in wanted.values():
        await domain.attach_device(document)
    assert set(wanted) <= await peripherals(domain)
    (place,) = re.findall(r"path='(.*org.qemu.guest_agent.0)'", await live(domain))
    assert stat.filemode(os.lstat(place).st_mode) == "srw-------"
    for alias in ("ua-agent", "ua-log", "ua-tablet"):
        assert await domain.detach_device_alias(alias), alias
    assert not {"ua-agent", "ua-log", "ua-tablet"} & await peripherals(domain)
    labels = {each["label"] for each in await asked(domain, "query-chardev")}
    assert not {"charua-agent", "charua-log"} & labels
    assert await asked(domain, "query-fdsets") == []


async def test_what_qemu_refuses_is_taken_back(host, image):
    domain = await running(host)
    before = await live(domain)
    disk = (
        f"<disk type='file'><source file='{image('a.raw')}'/><target dev='vda' bus='virtio'/>"
        "<blockio logical_block_size='4096' physical_block_size='512'/></disk>"
    )
    with pytest.raises(MonitorError, match="logical_block_size"):
        await domain.attach_device(disk)
    assert await nodes(domain) == set()
    assert await live(domain) == before
    await domain.attach_device(NIC.format(1))


async def test_a_device_that_the_guest_keeps_goes_at_its_reset(host, image):
    domain = await running(host, xml(devices=NIC.format(1)))
    path = image("a.raw")
    disk = disk_of(path, "vda", "virtio")
    await domain.attach_device(disk, live=True, config=True)
    async with host.events() as stream:
        assert not await domain.detach_device(disk, live=True, within=0.2)
        assert "virtio-disk0" in await peripherals(domain)
        assert "virtio-disk0" in await live(domain)
        await domain.reset()
        async with asyncio.timeout(20):
            async for event in stream:
                if isinstance(event, events.DeviceRemoved):
                    break
    assert event.alias == "virtio-disk0"
    assert "virtio-disk0" not in await live(domain)
    assert await nodes(domain) == set()
    assert str(path) in await domain.xml(inactive=True)


async def test_a_later_manager_cleans_up(uri, image):
    disk = disk_of(image("a.raw"), "sda", "scsi")
    more = disk_of(image("b.raw"), "sdb", "scsi")
    async with await connect(uri) as host:
        domain = await running(host, xml(devices=disk))
        await domain.attach_device(more)
    async with await connect(uri) as host:
        domain = await host.lookup("plugged")
        for document in (disk, more):
            assert await domain.detach_device(document)
        assert await nodes(domain) == set()
        await domain.attach_device(more)
        assert await nodes(domain) == {"libvirt-3-storage"}
        await domain.destroy()


GENERIC = (
    "<cpu><numa><cell id='0' cpus='0' memory='131072'/><cell id='1' memory='0'/>"
    "<cell id='2' memory='0'/></numa></cpu>"
)
INITIATORS = "".join(
    f"<acpi-generic-initiator><alias name='gi{n}'/><pci-dev>ua-nic1</pci-dev>"
    f"<numa-node>{n}</numa-node></acpi-generic-initiator>"
    for n in (1, 2)
)


async def test_generic_initiators_go_before_their_device(host):
    domain = await running(host, xml(devices=NIC.format(1) + INITIATORS, sections=GENERIC))
    with pytest.raises(HvError) as refusal:
        await domain.detach_device(NIC.format(1), config=True)
    assert str(refusal.value) == (
        "Requested operation is not valid: device 'ua-nic1' is used by acpi-generic-initiator 'gi1'"
    )
    async with host.events() as stream:
        await domain.detach_device(NIC.format(1), live=True, within=0.2)
        objects = {each["name"] for each in await asked(domain, "qom-list", path="/objects")}
        assert not {"gi1", "gi2"} & objects
        await domain.reset()
        async with asyncio.timeout(20):
            async for event in stream:
                if isinstance(event, events.DeviceRemoved):
                    break
    assert "acpi-generic-initiator" not in await live(domain)
    assert "acpi-generic-initiator" in await domain.xml(inactive=True)
    await domain.reset()
    # QEMU ends at this point when an initiator has lost its device.
    await asyncio.sleep(0.5)
    assert (await asked(domain, "query-status"))["running"]


async def test_initiators_of_a_device_that_stays_come_back(host):
    domain = await running(host, xml(devices=NIC.format(1) + INITIATORS, sections=GENERIC))
    guest = domain._record.runtime
    asking = asyncio.create_task(domain.detach_device(NIC.format(1), live=True, within=10))
    while "ua-nic1" not in guest.leaving:  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0.01)
    # No guest at hand refuses by itself.
    guest.tell_departure("ua-nic1", gone=False)
    with pytest.raises(HvError, match="unplug of device was rejected by the guest"):
        await asking
    objects = {each["name"] for each in await asked(domain, "qom-list", path="/objects")}
    assert {"gi1", "gi2"} <= objects
    assert (await live(domain)).count("<acpi-generic-initiator>") == 2


async def test_a_medium_is_changed(host, image, tmp_path):
    one, two = image("one.iso"), image("two.iso")

    def cdrom(path):
        source = f"<source file='{path}'/>" if path else ""
        return (
            f"<disk type='file' device='cdrom'>{source}<target dev='sda' bus='sata'/>"
            "<readonly/></disk>"
        )

    domain = await running(host, xml(devices=cdrom(one)))
    await domain.update_device(cdrom(two), live=True, config=True)
    assert str(two) in await live(domain)
    assert str(two) in await domain.xml(inactive=True)
    (drive,) = await asked(domain, "query-block")
    assert drive["inserted"]["image"]["filename"] == str(two)
    assert not drive["tray_open"]
    assert len(await nodes(domain)) == 1
    await domain.update_device(cdrom(None), live=True)
    assert await nodes(domain) == set()
    await domain.attach_device(cdrom(one), live=True)
    assert str(one) in await live(domain)


async def test_a_link_goes_down(host):
    domain = await running(host, xml(devices=NIC.format(1)))
    down = NIC.format(1).replace("</interface>", "<link state='down'/></interface>")
    await domain.update_device(down)
    assert "<link state='down'/>" in await live(domain)
    with pytest.raises(HvError, match="cannot modify network device model from virtio to e1000"):
        await domain.update_device(NIC.format(1).replace("virtio", "e1000"))


REFUSALS = {
    "mdev-off": f"<hostdev mode='subsystem' type='mdev' model='vfio-pci'><source><address "
    f"uuid='{MDEV}'/></source></hostdev>",
    "mdev-on-nogfx": "<hostdev mode='subsystem' type='mdev' model='vfio-pci' display='on'><source>"
    f"<address uuid='{MDEV}'/></source></hostdev>",
    "mdev-ramfb": "<hostdev mode='subsystem' type='mdev' model='vfio-pci' ramfb='on'><source>"
    f"<address uuid='{MDEV}'/></source></hostdev>",
    "mdev-auto": "<hostdev mode='subsystem' type='mdev' model='vfio-pci' display='auto'><source>"
    f"<address uuid='{MDEV}'/></source></hostdev>",
    "gi": "<acpi-generic-initiator><pci-dev>ua-nic1</pci-dev><numa-node>0</numa-node>"
    "</acpi-generic-initiator>",
    "nodeset": "<hostdev mode='subsystem' type='pci'><source><address domain='9' bus='2' slot='0' "
    "function='0'/></source><acpi nodeset='0'/></hostdev>",
    "audio": "<audio id='2' type='none'/>",
    "sound": "<sound model='ich6'/>",
    "pci": "<hostdev mode='subsystem' type='pci'><source><address domain='9' bus='1' slot='0' "
    "function='0'/></source></hostdev>",
    "graphics": "<graphics type='egl-headless'/>",
    "nothing": "<gadget/>",
}
NEEDS_GRAPHICS = (
    "unsupported configuration: graphics device is needed for attribute value 'display=on' in "
    "<hostdev>"
)
NO_AUTO = "XML error: Invalid value for attribute 'display' in element 'hostdev': 'auto'."
NO_LIVE_UPDATE = "unsupported configuration: live update of device '{}' is not supported"
NO_UPDATE = "Operation not supported: persistent update of device '{}' is not supported"
NO_LIVE = "Operation not supported: live {} of device '{}' is not supported"
NO_CONFIG = "Operation not supported: persistent {} of device '{}' is not supported"
GONE = f"device not found: mediated device '{MDEV}' not found"
ABSENT = "device not found: device not present in domain configuration"


def initiator(verb):
    name = "acpi-generic-initiator"
    live = NO_LIVE_UPDATE.format(name) if verb == "update" else NO_LIVE.format(verb, name)
    return live, NO_CONFIG.format(verb, name)


ANSWERS = {
    # document, verb: what is said of the running domain, and of the next start; None for nothing
    ("mdev-off", "attach"): (
        "unsupported configuration: Mediated host device assignment requires VFIO support",
        None,
    ),
    ("mdev-off", "update"): (NO_LIVE_UPDATE.format("hostdev"), NO_UPDATE.format("hostdev")),
    ("mdev-off", "detach"): (GONE, None),
    ("mdev-on-nogfx", "attach"): (NEEDS_GRAPHICS,) * 2,
    ("mdev-on-nogfx", "update"): (NEEDS_GRAPHICS,) * 2,
    ("mdev-on-nogfx", "detach"): (GONE, ABSENT),
    # Here libvirt asks QEMU, which refuses later.
    ("mdev-ramfb", "attach"): (
        "unsupported configuration: ramfb is not supported for hotplugged devices",
        None,
    ),
    ("mdev-ramfb", "update"): (NO_LIVE_UPDATE.format("hostdev"), NO_UPDATE.format("hostdev")),
    ("mdev-ramfb", "detach"): (GONE, None),
    ("mdev-auto", "attach"): (NO_AUTO,) * 2,
    ("mdev-auto", "update"): (NO_AUTO,) * 2,
    ("mdev-auto", "detach"): (NO_AUTO,) * 2,
    ("gi", "attach"): initiator("attach"),
    ("gi", "update"): initiator("update"),
    ("gi", "detach"): initiator("detach"),
    ("nodeset", "attach"): (
        "unsupported configuration: hotplug of a device with ACPI nodeset is not supported",
        None,
    ),
    ("audio", "attach"): (NO_LIVE.format("attach", "audio"), NO_CONFIG.format("attach", "audio")),
    ("audio", "update"): (NO_LIVE_UPDATE.format("audio"), NO_UPDATE.format("audio")),
    ("audio", "detach"): (NO_LIVE.format("detach", "audio"), NO_CONFIG.format("detach", "audio")),
    ("sound", "attach"): (NO_LIVE.format("attach", "sound"), None),
    ("sound", "update"): (NO_LIVE_UPDATE.format("sound"), NO_UPDATE.format("sound")),
    ("sound", "detach"): (NO_LIVE.format("detach", "sound"), None),
    ("pci", "attach"): (
        "unsupported configuration: host doesn't support passthrough of host PCI devices",
        None,
    ),
    ("pci", "update"): (NO_LIVE_UPDATE.format("hostdev"), NO_UPDATE.format("hostdev")),
    ("pci", "detach"): ("device not found: host pci device 0009:01:00.0 not found", None),
    ("graphics", "attach"): (
        NO_LIVE.format("attach", "graphics"),
        NO_CONFIG.format("attach", "graphics"),
    ),
    ("graphics", "update"): (
        "device not found: cannot find existing graphics device to modify of type 'egl-headless'",
        "invalid argument: cannot find existing graphics type 'egl-headless' device to modify",
    ),
    ("graphics", "detach"): (
        NO_LIVE.format("detach", "graphics"),
        NO_CONFIG.format("detach", "graphics"),
    ),
    ("nothing", "attach"): ("unsupported configuration: unknown device type 'gadget'",) * 2,
}


async def test_refusals_are_those_of_libvirt(host):
    domain = await running(host, xml(devices=NIC.format(1)))
    said = {}
    for name, verb in ANSWERS:
        act = getattr(domain, f"{verb}_device")
        answers = []
        for scope in ("live", "config"):
            try:
                await act(REFUSALS[name], **{scope: True})
            except HvError as error:
                answers.append(str(error))
            else:
                answers.append(None)
        said[name, verb] = tuple(answers)
    assert said == ANSWERS


async def test_the_definition_of_the_next_start(host, image):
    domain = await host.define(xml())
    disk = disk_of(image("a.raw"), "vda", "virtio")
    async with host.events() as stream:
        await domain.attach_device(disk)
        assert isinstance(await anext(stream), events.Defined)
    with pytest.raises(HvError) as refusal:
        await domain.attach_device(disk)
    assert str(refusal.value) == "Requested operation is not valid: target vda already exists"
    await domain.start()
    assert "virtio-disk0" in await peripherals(domain)
    await domain.detach_device(disk, config=True)
    with pytest.raises(HvError) as refusal:
        await domain.detach_device(disk, config=True)
    assert str(refusal.value) == "device not found: no target device vda"


async def test_nothing_is_plugged_where_there_is_no_room(host):
    domain = await running(host, xml(ports=4))
    await domain.attach_device(NIC.format(1))
    before = await live(domain)
    with pytest.raises(HvError) as refusal:
        await domain.attach_device(NIC.format(2))
    assert str(refusal.value) == "internal error: No more available PCI slots"
    assert await live(domain) == before


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (
            "bus='0' slot='3'",
            (
                "XML error: The device at PCI address 0000:00:03.0 requires hotplug capability, but"
                " the PCI controller with index='0' doesn't support hotplug"
            ),
        ),
        (
            "bus='6'",
            (
                "XML error: The device at PCI address 0000:06:00.0 requires hotplug capability, but"
                " the PCI controller with index='6' doesn't support hotplug"
            ),
        ),
        (
            "bus='27'",
            "XML error: Invalid PCI address 0000:1b:00.0. Only PCI buses up to 6 are available",
        ),
        (
            "bus='5' function='1'",
            "internal error: Only PCI device addresses with function=0 are supported",
        ),
    ],
)
async def test_places_that_a_running_guest_cannot_use(host, place, words):
    document = xml().replace("index='6'/>", "index='6'><target hotplug='off'/></controller>")
    domain = await running(host, document)
    before = await live(domain)
    with pytest.raises(HvError) as refusal:
        await domain.attach_device(
            NIC.format(1).replace("<alias", f"<address type='pci' {place}/><alias")
        )
    assert str(refusal.value) == words
    assert await live(domain) == before


async def test_a_controller_for_serial_ports_comes(host):
    domain = await running(host)
    with pytest.raises(HvError, match="operation failed: target virtio-serial:0 already exists"):
        await domain.attach_device("<controller type='virtio-serial' index='0'/>")
    await domain.attach_device("<controller type='virtio-serial'/>")
    assert "virtio-serial1" in await peripherals(domain)
    with pytest.raises(HvError, match="'virtio-serial' controller cannot be hot unplugged"):
        await domain.detach_device("<controller type='virtio-serial' index='1'/>")


async def test_character_devices_that_qemu_has_from_the_start_only(host):
    domain = await running(host)
    pipe = "<channel type='pipe'><source path='/p'/><target type='virtio' name='p'/></channel>"
    with pytest.raises(HvError) as refusal:
        await domain.attach_device(pipe)
    words = "operation failed: Hotplug unsupported for char device type 'pipe'"
    assert str(refusal.value) == words


def test_hv_attaches_and_detaches(uri, image, tmp_path, hv):
    disk = tmp_path / "disk.xml"
    disk.write_text(disk_of(image("a.raw"), "sda", "scsi"))
    document = tmp_path / "domain.xml"
    document.write_text(xml())
    assert hv("define", document).returncode == 0
    attached = hv("attach-device", "plugged", disk, "--config")
    assert attached.stdout == "Device attached successfully\n\n", attached.stderr
    assert str(image("a.raw")) in hv("dumpxml", "plugged").stdout
    assert hv("detach-device", "plugged", disk).stdout == "Device detached successfully\n\n"
    refused = hv("detach-device", "plugged", disk)
    assert refused.returncode == 1
    assert "device not found: no target device sda" in refused.stderr


@pytest.fixture
def hv(uri):
    def run(*words):
        argv = [sys.executable, "-m", "hvcore.cli", "-c", uri, *map(str, words)]
        return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)

    return run


class Amender:
    """A plugin that has a say in what is plugged and unplugged."""

    def __init__(self):
        self.seen = []

    @hookimpl
    def hv_amend_attach(self, driver, domain, device, plan):
        self.seen.append((driver, domain.name, device.alias, plan.alias))
        props = {"qom-type": "rng-builtin", "id": f"beside-{plan.alias}"}
        plan.add("object-add", props, undo=("object-del", {"id": props["id"]}))

    @hookimpl
    def hv_validate_detach(self, domain, device, live):
        if not live and device.alias == "ua-nic1":
            yield Issue.unsupported("it stays")


async def test_plugins_amend_what_is_plugged(uri):
    plugin = Amender()
    registry = Registry()
    registry.load_entry_points()
    registry.register(plugin, name="amender")
    registry.freeze()
    async with await connect(uri, registry=registry) as host:
        domain = await running(host)
        disk = "<rng model='virtio'><backend model='builtin'/><alias name='ua-rng'/></rng>"
        await domain.attach_device(disk)
        assert plugin.seen == [("qemu", "plugged", "ua-rng", "ua-rng")]
        objects = {each["name"] for each in await asked(domain, "qom-list", path="/objects")}
        assert {"beside-ua-rng", "objua-rng"} <= objects
        await domain.attach_device(NIC.format(1), config=True)
        with pytest.raises(HvError, match="it stays"):
            await domain.detach_device(NIC.format(1), config=True)
        await domain.destroy()
