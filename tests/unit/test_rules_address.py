"""Validation of addresses and names, by libvirt's words."""

import pytest

from hvcore.capabilities import Capabilities
from hvcore.pipeline import Context
from hvcore.pipeline import Pipeline
from hvcore.registry import Registry
from hvcore.rules.address import ADDRESSED
from hvcore.rules.base import Rules
from hvcore_qemu.devices.info import rules

REGISTRY = Registry()
REGISTRY.freeze()
CAPS = Capabilities(names=frozenset({"acpi-index", "zpci", "scsi-disk.channel"}), arch="x86_64")
WATCHDOG = "<watchdog model='i6300esb'>{}</watchdog>"
DISK = "<disk><target dev='sda' bus='{}'/><address type='drive' {}/></disk>"


def issues(devices, *, driver=rules, caps=CAPS, machine="arch='x86_64' machine='pc'"):
    pipeline = Pipeline(REGISTRY, driver)
    domain = pipeline.parse(
        "<domain type='test'><name>a</name><memory>1024</memory><vcpu>1</vcpu><os>"
        f"<type {machine}>hvm</type></os><devices>{devices}</devices></domain>"
    )
    found = pipeline.validate(domain, Context(registry=REGISTRY, caps=caps))
    return [str(issue).removeprefix("unsupported configuration: ") for issue in found]


@pytest.mark.parametrize(
    ("device", "message"),
    [
        (
            WATCHDOG.format("<address type='unassigned'/>"),
            "address of type 'unassigned' is supported only for hostdevs",
        ),
        (
            WATCHDOG.format("<address type='pci' slot='3'><zpci uid='0'/></address>"),
            "XML error: Invalid PCI address uid='0x0000', must be > 0x0000 and <= 0xffff",
        ),
        (
            WATCHDOG.format("<address type='pci' slot='3'><zpci uid='65536'/></address>"),
            "XML error: Invalid PCI address uid='0x10000', must be > 0x0000 and <= 0xffff",
        ),
        (
            WATCHDOG.format("<address type='spapr-vio' reg='100000000'/>"),
            "spapr-vio reg='0x100000000' exceeds maximum possible value (0xffffffff)",
        ),
        (
            WATCHDOG.format("<address type='ccw'/>"),
            "CCW addresses are not supported by machine type 'pc'",
        ),
        (
            WATCHDOG.format("<acpi index='3'/><address type='isa'/>"),
            "ACPI index is only supported for PCI devices",
        ),
        (
            WATCHDOG.format("<rom bar='on'/><address type='isa'/>"),
            "ROM tuning is only supported for PCI devices",
        ),
        (
            DISK.format("ide", "controller='1'"),
            "internal error: Only 1 IDE controller is supported",
        ),
        (DISK.format("ide", "target='1'"), "target must be 0 for ide controller"),
        (
            DISK.format("fdc", "controller='1'"),
            "internal error: Only 1 fdc controller is supported",
        ),
        (DISK.format("fdc", "bus='1'"), "internal error: Only 1 fdc bus is supported"),
        (DISK.format("fdc", "target='1'"), "target must be 0 for controller fdc"),
        (DISK.format("sata", "bus='1'"), "bus must be 0 for sata controller"),
        (DISK.format("sata", "target='1'"), "target must be 0 for sata controller"),
        (DISK.format("scsi", "bus='1'"), "internal error: SCSI controller only supports 1 bus"),
        (
            DISK.format("scsi", "target='1'")
            + "<controller type='scsi' index='0' model='lsilogic'/>",
            "target must be 0 for controller model 'lsilogic'",
        ),
    ],
)
def test_addresses(device, message):
    assert message in issues(device)


@pytest.mark.parametrize(
    ("device", "message"),
    [
        (
            WATCHDOG.format("<address type='pci' slot='3'><zpci uid='1'/></address>"),
            "This QEMU binary doesn't support zPCI",
        ),
        (
            WATCHDOG.format("<acpi index='3'/>"),
            "ACPI index is not supported with this QEMU",
        ),
        (
            DISK.format("scsi", "target='8'")
            + "<controller type='scsi' index='0' model='virtio-scsi'/>",
            "This QEMU doesn't support target greater than 7",
        ),
    ],
)
def test_old_qemu(device, message):
    assert message in issues(device, caps=Capabilities(arch="x86_64"))
    assert message not in issues(device)


def test_channel_addresses_of_s390():
    found = issues(
        WATCHDOG.format("<address type='ccw'/>"),
        machine="arch='s390x' machine='s390-ccw-virtio'",
    )
    assert not [each for each in found if "CCW" in each]


def test_names_are_unique():
    named = "<hub type='usb'><alias name='{}'/></hub>".format
    twice = named("ua-x") + named("ua-x") + named("ua-y") + named("usual") + named("usual")
    found = [each for each in issues(twice, driver=Rules()) if "alias" in each]
    assert found == ["non unique alias detected: ua-x"]


def test_every_addressed_class_is_a_device():
    assert len(ADDRESSED) == len(set(ADDRESSED))
    assert {"Disk", "Controller", "Pstore"} <= {each.__name__ for each in ADDRESSED}
    assert "Graphics" not in {each.__name__ for each in ADDRESSED}
