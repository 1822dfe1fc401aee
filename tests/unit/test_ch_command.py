"""What documents become for cloud-hypervisor: each family's, and what is refused.

The goldens are plans as text. To write them anew: WRITE_GOLDEN=1.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from hvcore.errors import HvError
from hvcore.errors import ValidationFailed
from hvcore.testing import fake_ch
from hvcore_ch.config import ChConfig
from tests.unit.ch_family import Lab
from tests.unit.ch_family import capabilities

GOLDEN = Path(__file__).parents[1] / "golden" / "ch"
NAMES = sorted(path.stem for path in GOLDEN.glob("*.xml"))


@pytest.fixture(scope="module")
def lab():
    return Lab()


@pytest.mark.parametrize("name", NAMES)
def test_a_family_becomes_what_it_became(lab, name):
    plan = lab.plan((GOLDEN / f"{name}.xml").read_text())
    expected = GOLDEN / f"{name}.txt"
    if os.environ.get("WRITE_GOLDEN"):
        expected.write_text(plan.text())
    assert plan.text() == expected.read_text()
    fake_ch.validate_request("PUT", "vm.create", plan.config)
    for call in plan.calls:
        fake_ch.validate_request("PUT", call.endpoint, call.body)


PTY = "<console type='pty'><target type='virtio'/></console>"
DISK = "<disk type='file'>{}<source file='/a'/><target dev='vda' bus='virtio'/>{}</disk>"

REFUSED = [
    ("<input type='tablet' bus='usb'/>", "Cloud-Hypervisor doesn't support 'input' device"),
    ("<graphics type='vnc'/>", "Cloud-Hypervisor doesn't support 'graphics' device"),
    ("<watchdog model='i6300esb'/>", "Cloud-Hypervisor doesn't support 'watchdog' device"),
    (
        "<disk type='file'><source file='/a'/><target dev='sda' bus='scsi'/></disk>",
        "Cloud-Hypervisor doesn't support value 'scsi' of attribute 'bus' in 'target'",
    ),
    (
        DISK.format("<driver io='native'/>", ""),
        "Cloud-Hypervisor doesn't support attribute 'io' in 'driver'",
    ),
    (
        DISK.format("<driver discard_no_unref='off' type='qcow2'/>", ""),
        "Cloud-Hypervisor doesn't support attribute 'discard_no_unref' in 'driver'",
    ),
    (
        DISK.format("<driver type='vmdk'/>", ""),
        "Cloud-Hypervisor doesn't support value 'vmdk' of attribute 'type' in 'driver'",
    ),
    (
        DISK.format("", "<iotune><read_bytes_sec>5</read_bytes_sec></iotune>"),
        "Cloud-Hypervisor doesn't support element 'read_bytes_sec' in 'iotune'",
    ),
    (
        DISK.format("", "<boot order='1'/>"),
        "Cloud-Hypervisor doesn't support attribute 'order' in 'boot'",
    ),
    (
        DISK.format("", "<serial>123456789012345678901</serial>"),
        "Cloud-Hypervisor doesn't support a serial of more than 20 bytes",
    ),
    (
        DISK.format("", "<address type='pci' bus='1' slot='2'/>"),
        "Cloud-Hypervisor doesn't support value '0x01' of attribute 'bus' in 'address'",
    ),
    (
        DISK.format("<driver iommu='on'/>", ""),
        "Cloud-Hypervisor needs an <iommu> device for a device behind it",
    ),
    (
        "<interface type='bridge'><source bridge='b'/><model type='e1000'/></interface>",
        "Cloud-Hypervisor doesn't support value 'e1000' of attribute 'type' in 'model'",
    ),
    (
        (
            "<interface type='bridge'><source bridge='b'/><model type='virtio'/>"
            "<driver><host csum='off'/></driver></interface>"
        ),
        "Cloud-Hypervisor switches 'csum' of host and guest together",
    ),
    (
        (
            "<interface type='bridge'><source bridge='b'/><model type='virtio'/><mtu size='900'/>"
            "</interface>"
        ),
        "Cloud-Hypervisor doesn't support an MTU of less than 1280",
    ),
    (
        (
            "<filesystem type='mount'><driver type='virtiofs'/><source socket='/s'/>"
            "<target dir='t'/></filesystem>"
        ),
        "virtiofs requires shared memory",
    ),
    (
        (
            "<hostdev mode='subsystem' type='pci' managed='yes'><source>"
            "<address domain='0' bus='1' slot='0' function='0'/></source></hostdev>"
        ),
        "Cloud-Hypervisor doesn't support managed host devices",
    ),
    (
        "<memory model='dimm'><target><size unit='MiB'>100</size></target></memory>",
        "Cloud-Hypervisor supports memory modules in multiples of 131072 KiB",
    ),
    (
        (
            "<memory model='dimm' access='shared'><target><size unit='MiB'>128</size></target>"
            "</memory>"
        ),
        "Cloud-Hypervisor has one access mode for all memory",
    ),
    (
        "<serial type='tcp'><source mode='bind' host='h' service='1'/></serial>",
        "Cloud-Hypervisor doesn't support value 'tcp' of attribute 'type' in 'serial'",
    ),
]


@pytest.mark.parametrize(("devices", "message"), REFUSED)
def test_what_a_guest_would_not_have_is_refused(lab, devices, message):
    found = [text for text, _ in lab.refusals(devices)]
    assert any(message in text for text in found), found


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            "<blkiotune><weight>5</weight></blkiotune>",
            "Cloud-Hypervisor doesn't support element 'blkiotune' in 'domain'",
        ),
        (
            "<cpu mode='host-model'/>",
            "Cloud-Hypervisor doesn't support value 'host-model' of attribute 'mode' in 'cpu'",
        ),
        (
            "<clock offset='localtime'/>",
            "Cloud-Hypervisor doesn't support value 'localtime' of attribute 'offset' in 'clock'",
        ),
        (
            "<features><kvm><hidden state='on'/></kvm></features>",
            "Cloud-Hypervisor doesn't support element 'kvm' in 'features'",
        ),
        (
            "<currentMemory unit='MiB'>100</currentMemory>",
            "Cloud-Hypervisor needs a memory balloon device",
        ),
        (
            "<on_crash>coredump-destroy</on_crash>",
            "doesn't support value 'coredump-destroy' of element 'on_crash' in 'domain'",
        ),
        (
            "<memoryBacking><source type='memfd'/></memoryBacking>",
            "supports memory of source 'memfd' with access mode 'shared' only",
        ),
        (
            "<numatune><memory mode='strict' nodeset='0'/></numatune>",
            "Cloud-Hypervisor binds the memory of NUMA cells only",
        ),
        (
            "<vcpus><vcpu id='0' enabled='no'/><vcpu id='1' enabled='yes'/></vcpus>",
            "Cloud-Hypervisor starts with the first vCPUs of a guest",
        ),
    ],
)
def test_so_is_what_its_sections_say(lab, more, message):
    found = [text for text, _ in lab.refusals(more=more)]
    assert any(message in text for text in found), found


def test_refusals_have_their_place(lab):
    with pytest.raises(ValidationFailed) as caught:
        lab.plan(
            "<domain type='kvm'>\n<name>g</name>\n<memory>65536</memory>\n"
            "<os><type>hvm</type><kernel>/k</kernel></os>\n<devices><emulator>/e</emulator>\n"
            "<disk type='file'>\n<driver type='raw' io='native'/>\n<source file='/a'/>\n"
            "<target dev='sda' bus='sata'/>\n</disk>\n</devices>\n</domain>"
        )
    assert [(issue.path, issue.line) for issue in caught.value.issues[:2]] == [
        ("/domain/devices/disk/driver/@io", 7),
        ("/domain/devices/disk/target/@bus", 9),
    ]


@pytest.mark.parametrize(
    ("os", "message"),
    [
        ("", "Kernel image path is not defined. With sev_snp=on, pass an igvm path"),
        ("<kernel>/k</kernel><loader type='rom'>/f</loader>", "boots either a kernel or firmware"),
        ("<loader type='rom'>/f</loader><cmdline>x</cmdline>", "uses cmdline with a kernel only"),
        (
            "<kernel>/k</kernel><boot dev='network'/>",
            "value 'network' of attribute 'dev' in 'boot'",
        ),
    ],
)
def test_there_is_one_thing_to_boot(lab, os, message):
    found = [text for text, _ in lab.refusals(os=os)]
    assert any(message in text for text in found), found


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("type='kvm'", "type='qemu'", "could not find capabilities for domaintype=qemu"),
        (">hvm<", " arch='s390x'>hvm<", "could not find capabilities for arch=s390x"),
        (">hvm<", ">xenpvh<", "could not find capabilities for ostype=xenpvh"),
    ],
)
def test_guests_of_other_kinds_are_not_found(lab, old, new, words):
    text = (GOLDEN / "vsock.xml").read_text().replace(" arch='x86_64'", "").replace(old, new, 1)
    with pytest.raises(HvError, match=f"invalid argument: {words}"):
        lab.plan(text)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "<loader.*</loader>",
            "<kernel>/k</kernel>",
            "Cloud-Hypervisor boots TDX guests from firmware alone",
        ),
        ("<vcpu>2", "<vcpu current='1'>2", "CPU hotplug is not permitted with TDX"),
    ],
)
def test_what_tdx_does_not_allow_is_refused(lab, old, new, words):
    text = re.sub(old, new, (GOLDEN / "tdx.xml").read_text())
    with pytest.raises(ValidationFailed, match=words):
        lab.plan(text)


def test_a_build_without_tdx_refuses_it(lab):
    with pytest.raises(ValidationFailed, match="ch:tdx is not supported by this"):
        lab.plan((GOLDEN / "tdx.xml").read_text(), caps=capabilities().replace(remove={"tdx"}))


def test_a_node_of_nothing_is_refused(lab):
    text = (GOLDEN / "numa.xml").read_text().replace("<acpi nodeset='3'/>", "")
    with pytest.raises(ValidationFailed, match="NUMA cell 3 without CPUs, memory and device"):
        lab.plan(text)


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ("1,3", "NUMA node 1 which has CPUs or memory"),
        ("4", "invalid acpi-generic-initiator NUMA node 4"),
    ],
)
def test_a_device_initiates_for_nodes_of_its_own(lab, nodes, words):
    text = (GOLDEN / "numa.xml").read_text().replace("nodeset='3'", f"nodeset='{nodes}'")
    with pytest.raises(ValidationFailed, match=words):
        lab.plan(text)


def test_an_initiator_can_stand_alone(lab):
    text = (GOLDEN / "numa.xml").read_text()
    text = text.replace(
        "<acpi nodeset='3'/>\n    </hostdev>",
        "</hostdev><acpi-generic-initiator><pci-dev>hostdev0</pci-dev><numa-node>3</numa-node>"
        "</acpi-generic-initiator>",
    )
    assert lab.plan(text).config["numa"][3] == {"guest_numa_id": 3, "device_id": "hostdev0"}


def test_an_older_binary_has_no_initiators(lab):
    caps = capabilities().replace(remove={"numa.device_id"})
    with pytest.raises(ValidationFailed, match="acpi-nodeset is not supported by this hypervisor"):
        lab.plan((GOLDEN / "numa.xml").read_text(), caps=caps)


def test_processes_are_confined_where_the_host_can(lab):
    wide = lab.config(config=ChConfig(landlock_paths=("/srv",)))
    assert {"path": "/srv", "access": "rw"} in wide["landlock_rules"]
    assert "landlock_enable" not in lab.config(caps=capabilities(landlock=False))
    assert "landlock_enable" not in lab.config(config=ChConfig(landlock=False))


def test_an_older_binary_knows_the_identity_under_another_name(lab):
    found = lab.config(caps=capabilities(version="52.0.0"))["platform"]
    assert found == {"uuid": "11111111-2222-3333-4444-555555555555"}


def test_names_of_users_are_kept_and_skipped(lab):
    disks = "".join(
        f"<disk type='file'><source file='/{n}'/><target dev='vd{n}' bus='virtio'/>"
        f"{'<alias name=' + chr(39) + 'ua-x' + chr(39) + '/>' if n == 'a' else ''}</disk>"
        for n in "ab"
    )
    assert [disk["id"] for disk in lab.config(disks)["disks"]] == ["ua-x", "virtio-disk0"]


def test_disks_share_the_limits_of_a_group(lab):
    tune = "<iotune><total_bytes_sec>9</total_bytes_sec><group_name>g</group_name></iotune>"
    disks = "".join(
        f"<disk type='file'><source file='/{n}'/><target dev='vd{n}' bus='virtio'/>{tune}</disk>"
        for n in "ab"
    )
    config = lab.config(disks)
    assert [group["id"] for group in config["rate_limit_groups"]] == ["g"]
    assert [disk["rate_limit_group"] for disk in config["disks"]] == ["g", "g"]
