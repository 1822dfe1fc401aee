"""Rules on how many devices of a kind a domain has, and on what they must say."""

import pytest

from hvcore.errors import HvError
from hvcore.pipeline import Context
from hvcore.pipeline import Definition
from hvcore.pipeline import Pipeline
from hvcore.registry import Registry


@pytest.fixture(scope="module")
def load():
    registry = Registry()
    registry.freeze()
    pipeline = Pipeline(registry)

    def load_devices(devices):
        document = (
            "<domain type='test'><name>d</name><memory>1024</memory><os><type>hvm</type></os>"
            f"<devices>{devices}</devices></domain>"
        )
        domain = pipeline.load(document, Context(registry=registry, driver="test"))
        return Definition(domain, registry).xml()

    return load_devices


@pytest.mark.parametrize(
    ("device", "words"),
    [
        ("<memballoon model='none'/>", "internal error: only a single memory balloon"),
        ("<nvram/>", "internal error: only a single nvram"),
        ("<iommu model='intel'/>", "XML error: only a single IOMMU"),
        ("<vsock model='virtio'/>", "XML error: only a single vsock"),
        (
            "<pstore backend='acpi-erst'><path>/p</path><size>4</size></pstore>",
            "XML error: only a single pstore",
        ),
    ],
)
def test_there_is_at_most_one(load, device, words):
    with pytest.raises(HvError) as refused:
        load(device * 2)
    assert str(refused.value).startswith(f"{words} device is supported")


def test_audio_of_a_sound_device_needs_its_id(load):
    with pytest.raises(HvError, match="Missing required attribute 'id' in element 'audio'"):
        load("<sound model='ich6'><audio/></sound>")


def test_a_companion_whose_port_is_not_said_has_the_first(load):
    xml = load("<controller type='usb' index='0' model='ich9-uhci3'><master/></controller>"
               "<controller type='usb' index='0' model='ich9-ehci1'/>")  # fmt: skip
    assert "<master startport='0'/>" in xml


@pytest.mark.parametrize(("value", "expected"), [("", "integer"), ("-1", "non-negative")])
def test_numbers_of_buses_are_refused_in_the_right_words(load, value, expected):
    target = f"<target busNr='{value}'/>"
    with pytest.raises(HvError, match=f"Expected {expected} value"):
        load(f"<controller type='pci' model='pci-expander-bus' index='1'>{target}</controller>")
