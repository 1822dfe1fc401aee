"""Documents that say there is no USB, and have some."""

import pytest

from hvcore.errors import ValidationFailed
from hvcore.pipeline import Context
from hvcore.pipeline import Pipeline
from hvcore.registry import Registry

REGISTRY = Registry()
REGISTRY.freeze()
NONE = "<controller type='usb' model='none'/>"


def issues(devices):
    pipeline = Pipeline(REGISTRY)
    domain = pipeline.parse(
        "<domain type='test'><name>a</name><memory>1024</memory><os><type>hvm</type></os>"
        f"<devices>{devices}</devices></domain>"
    )
    try:
        pipeline.post_parse(domain, Context(registry=REGISTRY))
    except ValidationFailed as failed:
        return [str(issue) for issue in failed.issues]
    return []


@pytest.mark.parametrize(
    ("devices", "message"),
    [
        (
            NONE + "<controller type='usb' index='1' model='ehci'/>",
            "Can't add another USB controller: USB is disabled for this domain",
        ),
        (NONE + NONE, "Can't add another USB controller: USB is disabled for this domain"),
        (
            "<controller type='usb' model='ich9-uhci1'/>",
            "No master USB controller specified",
        ),
        (
            NONE + "<input type='tablet' bus='usb'/>",
            "unsupported configuration: Can't add USB input device. USB bus is disabled",
        ),
        (
            NONE + "<hub type='usb'/>",
            "unsupported configuration: Can't add USB hub: USB is disabled for this domain",
        ),
    ],
)
def test_usb_beside_none(devices, message):
    assert issues(devices) == [message]


@pytest.mark.parametrize(
    "devices",
    [
        NONE,
        "",
        NONE + "<input type='mouse' bus='ps2'/>",
        "<controller type='usb' model='ich9-uhci1'/><controller type='usb' model='ich9-ehci1'/>",
    ],
)
def test_consistent_documents(devices):
    assert issues(devices) == []
