"""The QEMU driver keeps the contract of drivers, with a real QEMU whose guest has no system."""

from __future__ import annotations

import pytest

from hvcore.testing.suite import *  # noqa: F403 - as driver authors are told to write it

pytestmark = [pytest.mark.qemu, pytest.mark.timeout(120)]


@pytest.fixture
def driver_uri(qemu, tmp_path):
    return f"qemu:///embed?root={tmp_path}/root"


@pytest.fixture
def guest_xml():
    return (
        "<domain type='qemu'><name>vm</name><memory>65536</memory><vcpu>1</vcpu>"
        "<os><type arch='x86_64' machine='pc'>hvm</type></os>"
        "<features><acpi/></features></domain>"
    )


@pytest.fixture
def broken_xml(guest_xml):
    disk = (
        "<disk type='file'><source file='/nowhere/image'/><target dev='vda' bus='virtio'/></disk>"
    )
    return guest_xml.replace("</os>", f"</os><devices>{disk}</devices>")


@pytest.fixture
def device_xml(tmp_path):
    (tmp_path / "image").write_bytes(bytes(1 << 20))
    return (
        f"<disk type='file'><driver type='raw'/><source file='{tmp_path}/image'/>"
        "<target dev='vdb' bus='virtio'/></disk>"
    )


@pytest.fixture
def guest_obeys():
    return False


@pytest.fixture
def driver_patience():
    return 30.0


@pytest.fixture
def target_uri(qemu, tmp_path):
    return f"qemu:///embed?root={tmp_path}/target"
