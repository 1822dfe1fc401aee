"""Names of devices in QEMU."""

import pytest

from hvcore.capabilities import Capabilities
from hvcore.errors import ValidationFailed
from hvcore.pipeline import Pipeline
from hvcore.registry import Registry
from hvcore_qemu import aliases

REGISTRY = Registry()
REGISTRY.freeze()
CAPS = Capabilities(arch="x86_64")


def named(devices, *, arch="x86_64", machine="q35", **how):
    domain = Pipeline(REGISTRY).parse(
        f"<domain type='kvm'><name>guest</name><os><type arch='{arch}' machine='{machine}'>hvm"
        f"</type></os><devices>{devices}</devices></domain>"
    )
    aliases.assign(domain, CAPS, **how)
    return domain.devices


@pytest.mark.parametrize(
    ("controller", "arch", "machine", "alias"),
    [
        ("type='pci' index='0' model='pcie-root'", "x86_64", "q35", "pcie.0"),
        ("type='pci' index='3' model='pcie-root-port'", "x86_64", "q35", "pci.3"),
        ("type='pci' index='0' model='pci-root'", "x86_64", "pc", "pci.0"),
        ("type='pci' index='0' model='pci-root'", "sparc64", "sun4u", "pci"),
        ("type='sata' index='0'", "x86_64", "q35", "ide"),
        ("type='sata' index='1'", "x86_64", "q35", "sata1"),
        ("type='sata' index='0'", "x86_64", "pc", "sata0"),
        ("type='ide' index='0'", "x86_64", "pc", "ide"),
        ("type='ide' index='0'", "x86_64", "q35", "ide0"),
        ("type='usb' index='0' model='qemu-xhci'", "x86_64", "q35", "usb"),
        ("type='usb' index='1' model='qemu-xhci'", "x86_64", "q35", "usb1"),
        ("type='scsi' index='0' model='virtio-scsi'", "x86_64", "q35", "scsi0"),
        ("type='scsi' index='0' model='ncr53c90'", "sparc", "SS-5", "scsi"),
        ("type='virtio-serial' index='0'", "x86_64", "q35", "virtio-serial0"),
        ("type='fdc' index='0'", "x86_64", "pc", "fdc0"),
    ],
)
def test_controllers(controller, arch, machine, alias):
    devices = named(f"<controller {controller}/>", arch=arch, machine=machine)
    assert devices.controllers[0].alias == alias


SCSI = "<controller type='scsi' index='0' model='{}'/>"
DRIVE = "<address type='drive' controller='0' bus='0' target='2' unit='3'/>"


@pytest.mark.parametrize(
    ("disk", "more", "alias", "found"),
    [
        ("<target dev='vdc' bus='virtio'/>", "", "virtio-disk2", "virtio-backend"),
        ("<target dev='sda' bus='usb'/>", "", "usb-disk0", "usb-disk0.0/legacy[0]"),
        (f"<target dev='hdb' bus='ide'/>{DRIVE}", "", "ide0-0-3", "ide0-0-3"),
        (f"<target dev='sdb' bus='sata'/>{DRIVE}", "", "sata0-0-3", "sata0-0-3"),
        (
            f"<target dev='sdb' bus='scsi'/>{DRIVE}",
            SCSI.format("virtio-scsi"),
            "scsi0-0-2-3",
            "scsi0-0-2-3",
        ),
        (
            f"<target dev='sdb' bus='scsi'/>{DRIVE}",
            SCSI.format("lsilogic"),
            "scsi0-0-3",
            "scsi0-0-3",
        ),
    ],
)
def test_disks(disk, more, alias, found):
    devices = named(f"<disk>{disk}</disk>{more}")
    assert devices.disks[0].alias == alias
    assert aliases.disk_object(devices.disks[0]).endswith(found)


def test_sd_card_has_no_object():
    devices = named("<disk><target dev='sda' bus='sd'/></disk>")
    assert devices.disks[0].alias == "sd-disk0"
    assert aliases.disk_object(devices.disks[0]) is None


def test_scsi_disk_without_controller():
    with pytest.raises(ValidationFailed) as caught:
        named(f"<disk><target dev='sdb' bus='scsi'/>{DRIVE}</disk>")
    assert str(caught.value) == "internal error: unable to find a SCSI controller for idx=0"


def test_positions():
    devices = named(
        "<watchdog model='itco'/><watchdog model='i6300esb'/><hub type='usb'/>"
        "<input type='mouse' bus='ps2'/><input type='tablet' bus='usb'/>"
        "<memballoon model='virtio'/><vsock model='virtio'/>"
    )
    found = (*devices.watchdogs, *devices.hubs, *devices.inputs)
    assert [each.alias for each in found] == ["watchdog0", "watchdog1", "hub0", "input0", "input1"]
    assert devices.memballoons[0].alias == "balloon0"
    assert devices.vsocks[0].alias == "vsock0"


def test_a_name_is_kept_and_its_number_not_given_again():
    crypto = "<crypto model='virtio' type='qemu'><backend model='builtin'/>{}</crypto>"
    names = ("<alias name='crypto4'/>", "", "<alias name='ua-mine'/>", "")
    devices = named("".join(map(crypto.format, names)))
    assert [each.alias for each in devices.cryptos] == ["crypto4", "crypto5", "ua-mine", "crypto6"]


def test_no_balloon_has_no_name():
    assert named("<memballoon model='none'/>").memballoons[0].alias is None


@pytest.mark.parametrize(
    ("alias", "number"),
    [("net3", 3), ("net", None), ("net-1", None), ("netx", None), ("scsi0", None), (None, None)],
)
def test_alias_number(alias, number):
    assert aliases.alias_number(alias, "net") == number


HOSTDEV = (
    "<hostdev mode='subsystem' type='pci'><source><address domain='0' bus='6' slot='2'"
    " function='0'/></source></hostdev>"
)
INTERFACE = "<interface type='{}'><source {}/><model type='virtio'/></interface>".format


def test_interfaces_of_host_devices_are_named_like_them():
    networks = {"virtual": "nat", "functions": "hostdev"}.get
    devices = named(
        HOSTDEV
        + INTERFACE("bridge", "bridge='br0'")
        + INTERFACE("network", "network='functions'")
        + INTERFACE("network", "network='virtual'")
        + INTERFACE("network", "network='unknown'"),
        network_forward=networks,
    )
    assert [each.alias for each in devices.interfaces] == ["net0", "hostdev0", "net1", "net2"]
    assert devices.hostdevs[0].alias == "hostdev1"


def test_first_console_is_the_first_serial_port():
    devices = named(
        "<serial type='pty'><target port='0'/></serial>"
        "<console type='pty'><target type='serial' port='0'/></console>"
        "<console type='pty'><target type='virtio' port='1'/></console>"
        "<channel type='pty'><target type='virtio' name='a'/></channel>"
    )
    assert [each.alias for each in devices.consoles] == ["serial0", "console1"]
    assert devices.channels[0].alias == "channel0"
