"""Addresses and names of devices as documents have them."""

import pytest
from lxml import etree

from hvcore.errors import ValidationFailed
from hvcore.model.devices.base import CcwAddress
from hvcore.model.devices.base import PciAddress
from hvcore.pipeline import Context
from hvcore.pipeline import Definition
from hvcore.pipeline import Pipeline
from hvcore.registry import Registry


@pytest.fixture(scope="module")
def registry():
    made = Registry()
    made.freeze()
    return made


def parse(registry, address, **rest):
    more = rest.get("more", "")
    domain = Pipeline(registry).parse(
        "<domain type='test'><name>a</name><memory>1</memory><os><type>hvm</type></os>"
        f"<devices><watchdog model='i6300esb'>{more}{address}</watchdog></devices></domain>"
    )
    return domain, domain.devices.watchdogs[0]


@pytest.mark.parametrize(
    ("written", "rewritten"),
    [
        ("type='pci' bus='1'", "type='pci' domain='0x0000' bus='0x01' slot='0x00' function='0x0'"),
        (
            "type='pci' slot='0x11' function='0x7' multifunction='on'",
            "type='pci' domain='0x0000' bus='0x00' slot='0x11' function='0x7' multifunction='on'",
        ),
        ("type='pci' domain='0' bus='0' slot='0' function='0'", "type='pci'"),
        (
            "type='ccw' cssid='254' ssid='0' devno='7'",
            "type='ccw' cssid='0xfe' ssid='0x0' devno='0x0007'",
        ),
        ("type='ccw'", "type='ccw'"),
        ("type='usb' bus='1' port='1.2.3.4'", "type='usb' bus='1' port='1.2.3.4'"),
        ("type='spapr-vio' reg='30000000'", "type='spapr-vio' reg='0x30000000'"),
        ("type='drive' unit='1'", "type='drive' controller='0' bus='0' target='0' unit='1'"),
        ("type='dimm' base='0x0'", "type='dimm' slot='0'"),
        ("type='unassigned'", "type='unassigned'"),
    ],
)
def test_addresses_are_written_in_full(registry, written, rewritten):
    domain, _ = parse(registry, f"<address {written}/>")
    address = etree.fromstring(Definition(domain, registry).xml()).find(".//address")
    assert " ".join(f"{name}='{value}'" for name, value in address.items()) == rewritten


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("type='pci' bus='256'", "XML error: Invalid PCI address bus='0x100', must be <= 0xFF"),
        ("type='pci' slot='32'", "XML error: Invalid PCI address slot='0x20', must be <= 0x1F"),
        (
            "type='pci' bus='1' function='8'",
            "XML error: Invalid PCI address function=0x8, must be <= 7",
        ),
        (
            "type='ccw' cssid='0xff' ssid='0' devno='1'",
            (
                "internal error: Invalid specification for virtio ccw address: cssid='0xff'"
                " ssid='0x0' devno='0x0001'"
            ),
        ),
        (
            "type='ccw' cssid='0xfe'",
            "internal error: Invalid partial specification for virtio ccw address",
        ),
        (
            "type='usb' port='1.x'",
            "internal error: Cannot parse <address> 'port' attribute",
        ),
        (
            "type='usb' port='1.1.1.1.1'",
            "internal error: Cannot parse <address> 'port' attribute",
        ),
        ("type='virtio-s390'", "XML error: virtio-s390 bus doesn't have an address"),
    ],
)
def test_impossible_address_has_libvirts_words(registry, address, message):
    with pytest.raises(ValidationFailed) as caught:
        parse(registry, f"<address {address}/>")
    assert str(caught.value) == message
    assert caught.value.line == 1


def test_unassigned_parts_are_none(registry):
    _, device = parse(registry, "<address type='pci'/>")
    assert device.address == PciAddress()
    _, device = parse(registry, "<address type='ccw'/>")
    assert device.address == CcwAddress()


@pytest.mark.parametrize(
    ("alias", "active", "kept"),
    [
        ("ua-mine_1", False, "ua-mine_1"),
        ("ua-with space", False, None),
        ("watchdog0", False, None),
        ("watchdog0", True, "watchdog0"),
    ],
)
def test_only_users_names_outlive_a_run(registry, alias, active, kept):
    domain, device = parse(registry, "", more=f"<alias name='{alias}'/>")
    Pipeline(registry).post_parse(domain, Context(registry=registry, active=active))
    assert device.alias == kept
