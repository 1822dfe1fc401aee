"""<hostdev> and <iommu>: places, duplicates, refusals, and what QEMU is told."""

from __future__ import annotations

import pytest

from hvcore.errors import DriverError
from hvcore.errors import ValidationFailed
from hvcore_qemu.devices import hostdev
from hvcore_qemu.prepare import Preparation
from hvcore_qemu.pretend import PretendHost
from hvcore_qemu.resources import Resources
from hvcore_qemu.resources import UsbDevice
from tests.unit.qemu_family import Family

SOURCES = {
    "pci": "<source><address domain='0x0000' bus='0x03' slot='0x07' function='0x1'/></source>",
    "usb": "<source><vendor id='0x0204'/><product id='0x6025'/></source>",
    "scsi": "<source><adapter name='scsi_host0'/><address bus='0' target='0' unit='0'/></source>",
    "scsi_host": "<source protocol='vhost' wwpn='naa.5123456789abcde0'/>",
    "mdev": "<source><address uuid='53764d0e-85a0-42b4-af5c-2046b460b1dc'/></source>",
}


@pytest.fixture
def family():
    return Family("hostdev", "iommu", caps=("vfio-pci", "intel-iommu"))


def device(kind, attributes="", inside=None):
    inside = SOURCES[kind] if inside is None else inside
    return f"<hostdev mode='subsystem' type='{kind}' managed='no'{attributes}>{inside}</hostdev>"


@pytest.mark.parametrize("kind", ["pci", "usb", "scsi_host"])
def test_devices_are_written_as_they_are_read(family, kind):
    assert family.rewritten(device(kind)) == device(kind)


def test_scsi_devices_get_the_first_free_unit(family):
    second = SOURCES["scsi"].replace("unit='0'", "unit='1'")
    domain, _ = family.read(device("scsi") + device("scsi", inside=second))
    assert [each.address.unit for each in domain.devices.hostdevs] == [0, 1]


def test_a_logical_unit_of_iscsi_is_the_first_unless_named(family):
    source = "<source protocol='iscsi' name='iqn.x:y'><host name='h'/></source>"
    domain, _ = family.read(device("scsi", inside=source))
    assert domain.devices.hostdevs[0].source.name == "iqn.x:y/0"


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        (device("usb", inside=""), "XML error: Missing <source> element in hostdev device"),
        (
            device("usb", inside="<source><vendor id='0x1'/></source>"),
            "internal error: missing product",
        ),
        (
            device("pci", " rawio='yes'"),
            "XML error: rawio is only supported for scsi host device",
        ),
        (
            device("mdev"),
            "XML error: Missing required attribute 'model' in element 'hostdev'",
        ),
        (
            device("scsi_host", inside="<source protocol='vhost' wwpn='5'/>"),
            "XML error: malformed 'wwpn' value",
        ),
    ],
)
def test_what_cannot_be_read_is_refused(family, xml, message):
    with pytest.raises(ValidationFailed) as failure:
        family.read(xml)
    assert str(failure.value) == message


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        (
            device("pci", inside=SOURCES["pci"] + "<teaming type='transient'/>"),
            "missing required persistent attribute in hostdev teaming element",
        ),
        (
            device("usb", inside=SOURCES["usb"] + "<address type='pci'/>"),
            "USB host device must use 'usb' address type",
        ),
        (
            device("scsi_host"),
            "This QEMU doesn't support vhost-scsi devices",
        ),
        (
            device("mdev", " model='vfio-pci' display='on'"),
            "graphics device is needed for attribute value 'display=on' in <hostdev>",
        ),
        (
            "<iommu model='intel'/>",
            "IOMMU device: 'intel' is only supported with Q35 machines",
        ),
    ],
)
def test_what_qemu_cannot_do_is_refused(family, xml, message):
    assert family.checked(xml) == [f"unsupported configuration: {message}"]


def test_a_device_is_given_once(family):
    domain, ctx = family.read(device("pci") * 2)
    rule = family.core[0].domain_checks[0]
    assert [str(issue) for issue in rule(domain, ctx)] == [
        "XML error: Hostdev already exists in the domain configuration"
    ]


def test_mediated_devices_show_nothing_unless_asked(family):
    domain, _ = family.read(device("mdev", " model='vfio-pci'"))
    assert domain.devices.hostdevs[0].display is False


def test_a_pci_device_is_given_through_vfio(family):
    plan = family.plan(
        device("pci", inside=SOURCES["pci"] + "<alias name='ua-card'/>"),
        prepare=[hostdev.prepare, hostdev.prepare_host],
        command=[hostdev.command],
    )
    assert plan.argv[1:] == [
        "-device", '{"driver":"vfio-pci","host":"0000:03:07.1","id":"ua-card"}'
    ]  # fmt: skip


@pytest.mark.parametrize("driver", ["kvm", "xen"])
def test_qemu_has_no_other_way_than_vfio(family, driver):
    xml = device("pci", inside=f"<driver name='{driver}'/>{SOURCES['pci']}")
    with pytest.raises(ValidationFailed, match=f"invalid PCI passthrough type '{driver}'"):
        family.plan(xml, prepare=[hostdev.prepare])


PLUGGED = [UsbDevice(1, 4, 0x0204, 0x6025), UsbDevice(1, 5, 0x0204, 0x6025), UsbDevice(2, 3, 1, 1)]


def plugged_in(family, source):
    """Return the USB device of a guest after the host was asked for it."""
    domain, ctx = family.read(device("usb", inside=source))
    host = PretendHost()
    host.usb_devices = lambda: PLUGGED
    work = Preparation(
        domain=domain,
        caps=family.caps,
        config=ctx.config,
        host=host,
        registry=family.registry,
        resources=Resources(domain_dir="/d"),
    )
    hostdev.prepare_host(work)
    return domain.devices.hostdevs[0].source


@pytest.mark.parametrize(
    ("source", "place"),
    [
        ("<source><vendor id='1'/><product id='1'/></source>", (2, 3)),
        ("<source><address bus='1' device='4'/></source>", (1, 4)),
    ],
)
def test_usb_devices_are_found_by_what_is_known(family, source, place):
    address = plugged_in(family, source).address
    assert (address.bus, address.device) == place


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (SOURCES["usb"], "Multiple USB devices for 204:6025, use <address> to specify one"),
        ("<source><address bus='9' device='4'/></source>", "USB device bus:9 device:4"),
        ("<source><vendor id='9'/><product id='9'/></source>", "USB device 0009:0009"),
    ],
)
def test_usb_devices_that_are_not_there_are_an_error(family, source, message):
    with pytest.raises(DriverError, match=message):
        plugged_in(family, source)


def test_a_guest_can_do_without_an_optional_usb_device(family):
    source = "<source startupPolicy='optional'><vendor id='9'/><product id='9'/></source>"
    assert plugged_in(family, source).missing
