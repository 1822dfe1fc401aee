"""<controller>: numbering, what exists without being named, and refusals."""

from __future__ import annotations

import pytest
from lxml import etree

from hvcore.model.devices.controller import Controller
from hvcore.model.domain import Domain
from hvcore.pipeline import Context
from hvcore.registry import Registry
from hvcore.rules.controller import rules
from hvcore.xml.context import ParseContext


def domain_with(*devices):
    xml = (
        "<domain type='test'><name>n</name><os><type>hvm</type></os>"
        f"<devices>{''.join(devices)}</devices></domain>"
    )
    ctx = ParseContext()
    registry = Registry()
    registry.freeze()
    domain = registry.binding.parse(Domain, etree.fromstring(xml), ctx)
    return domain, Context(registry=registry), [str(issue) for issue in ctx.issues]


def run(stage, domain, ctx):
    return [str(issue) for rule in stage for issue in rule(domain, ctx) or ()]


def test_controllers_are_sorted_and_the_lowest_free_index_is_taken():
    domain, ctx, _ = domain_with(
        "<controller type='scsi' index='2' model='virtio-scsi'/>",
        "<controller type='scsi' model='virtio-scsi'/>",
        "<controller type='scsi' index='0' model='virtio-scsi'/>",
        "<controller type='scsi' model='virtio-scsi'/>",
    )
    run(rules.early, domain, ctx)
    assert sorted(c.index for c in domain.devices.controllers) == [0, 1, 2, 3]


def test_usb2_companions_share_the_index_of_their_master():
    domain, ctx, _ = domain_with(
        "<controller type='usb' index='0' model='piix3-uhci'/>",
        "<controller type='usb' model='ich9-ehci1'/>",
        "<controller type='usb' model='ich9-uhci1'/>",
        "<controller type='usb' model='ich9-uhci2'/>",
        "<controller type='usb' model='ich9-uhci1'/>",
    )
    run(rules.early, domain, ctx)
    found = [(c.model, c.index, c.master_startport) for c in domain.devices.controllers]
    assert found == [
        ("piix3-uhci", 0, None),
        ("ich9-ehci1", 1, None),
        ("ich9-uhci1", 1, 0),
        ("ich9-uhci2", 1, 2),
        ("ich9-uhci1", 2, 0),
    ]


def test_two_controllers_with_one_index_are_refused_except_for_usb():
    domain, ctx, _ = domain_with("<controller type='usb' index='0'/>" * 2)
    assert run(rules.late, domain, ctx) == []
    domain, ctx, _ = domain_with("<controller type='fdc' index='0'/>" * 2)
    assert run(rules.late, domain, ctx) == ["XML error: Multiple 'fdc' controllers with index '0'"]


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        (
            "<controller type='usb' index='0' model='fast'/>",
            "unsupported configuration: Unknown model type 'fast'",
        ),
        (
            "<controller type='pci' index='0' model='pci-root'><target/><target/></controller>",
            "XML error: Multiple <target> elements in controller definition not allowed",
        ),
        (
            "<controller type='ide' index='-1'/>",
            (
                "XML error: Invalid value for attribute 'index' in element 'controller': '-1'."
                " Expected non-negative value"
            ),
        ),
    ],
)
def test_what_cannot_be_read_is_refused(xml, message):
    assert domain_with(xml)[2] == [message]


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ("chassisNr='256'", "PCI controller chassisNr '256' out of range - must be 1-255"),
        ("port='0x100'", "PCI controller port '256' out of range - must be 0-255"),
        (
            "index='0'",
            "Only the PCI controller with index 0 can have target index 0, and vice versa",
        ),
    ],
)
def test_numbers_of_pci_controllers_have_limits(attributes, message):
    domain, ctx, _ = domain_with(
        f"<controller type='pci' index='1' model='pci-bridge'><target {attributes}/></controller>"
    )
    device = domain.devices.controllers[0]
    issues = [
        str(issue) for rule in rules.checks[Controller] for issue in rule(domain, device, ctx) or ()
    ]
    assert issues == [f"unsupported configuration: {message}"]
