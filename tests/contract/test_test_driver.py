"""The test driver keeps the contract of drivers."""

from __future__ import annotations

import pytest

from hvcore.testing.suite import *  # noqa: F403 - as its authors are told to write it


@pytest.fixture
def driver_uri():
    return "test:///default"


@pytest.fixture
def guest_xml():
    return (
        "<domain type='test'><name>vm</name><memory>65536</memory><vcpu>1</vcpu>"
        "<os><type>hvm</type></os>"
        "<devices><interface type='user'/></devices></domain>"
    )


@pytest.fixture
def device_xml():
    return "<disk type='file'><source file='/image'/><target dev='vdb' bus='virtio'/></disk>"


@pytest.fixture
def target_uri():
    return "test:///default?target"
