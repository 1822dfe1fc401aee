"""Where libvirt is installed: what guests can have is told in its words, and refused in them."""

import pytest
from click.testing import CliRunner
from lxml import etree

from hvcore.cli.main import hv

pytestmark = pytest.mark.qemu

ASKED = (
    (),
    ("--machine", "q35"),
    ("--machine", "pc", "--virttype", "qemu"),
    ("--machine", "microvm", "--disable-deprecated-features"),
    ("--arch", "i686"),
    ("--arch", "i686", "--machine", "isapc", "--virttype", "qemu"),
    ("--arch", "i686", "--emulatorbin", "/usr/bin/qemu-system-x86_64"),
    ("--arch", "x86_64", "--emulatorbin", "/usr/bin/qemu-system-i386"),
    ("--arch", "s390x", "--emulatorbin", "/usr/bin/qemu-system-x86_64"),
    ("--arch", "pdp11"),
    ("--virttype", "hvf"),
    ("--virttype", "xen"),
    ("--virttype", "fast"),
    ("--machine", "virt"),
    ("--emulatorbin", "/nowhere/qemu"),
)

NOT_STARTED = (
    "devices/graphics/enum/value[.='rdp']",
    "devices/tpm/enum[@name='backendVersion']",
    "devices/tpm/enum/value[.='emulator' or .='external']",
)
"""What libvirt offers when programs beside QEMU are installed; hvcore starts none of them."""


def comparable(text):
    """Return a document without what is known to differ, as lines."""
    root = etree.fromstring(text)
    for path in NOT_STARTED:
        for element in root.xpath(path):
            element.getparent().remove(element)
    return [line.strip() for line in etree.tostring(root).decode().splitlines()]


def test_what_guests_can_have(libvirt, tmp_path):
    virsh, _ = libvirt
    answered = 0
    for options in ASKED:
        theirs = virsh(" ".join(("domcapabilities", *options)))
        uri = f"qemu:///embed?root={tmp_path}"
        ours = CliRunner().invoke(hv, ["-c", uri, "domcapabilities", *options])
        assert ours.exit_code == theirs.returncode, options
        if theirs.returncode:
            assert ours.stderr.splitlines() == [x for x in theirs.stderr.splitlines() if x]
        else:
            assert comparable(ours.stdout) == comparable(theirs.stdout), options
            answered += 1
    assert answered > 1
