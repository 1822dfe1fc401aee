"""The document of what guests can have: what is written, and what is left out."""

from __future__ import annotations

import json

import attrs
import pytest
from lxml import etree

from hvcore.cpu.names import canonical_of
from hvcore.cpu.names import model_names
from hvcore.cpu.names import vendor_of
from hvcore.cpu.spec import CpuSpec
from hvcore.domaincaps import Cpu
from hvcore.domaincaps import CpuModel
from hvcore.domaincaps import Disk
from hvcore.domaincaps import DomainCapabilities
from hvcore.domaincaps import Features
from hvcore.domaincaps import Hyperv
from hvcore.domaincaps import Loader
from hvcore.domaincaps import Os
from hvcore.domaincaps import Sev
from hvcore.domaincaps import Sgx

BLANK = DomainCapabilities(path="/q", domain="kvm", machine="pc", arch="x86_64")


def part(found, path):
    [element] = etree.fromstring(found.to_xml()).xpath(path)
    return etree.tostring(element, with_tail=False).decode()


def test_what_is_not_known_is_not_written():
    root = etree.fromstring(BLANK.to_xml())
    assert [child.tag for child in root] == [
        "path", "domain", "machine", "arch", "cpu", "devices", "features",
    ]  # fmt: skip
    assert len(root.find("devices")) == 0
    assert [child.tag for child in root.find("features")] == ["sev", "sgx"]


def test_a_list_without_values_is_not_one_that_is_missing():
    disk = Disk(supported=True, bus=(), model=("virtio",))
    devices = attrs.evolve(BLANK.devices, disk=disk)
    text = part(attrs.evolve(BLANK, devices=devices), "devices/disk")
    assert "<enum name='bus'/>" in text.replace('"', "'")
    assert "diskDevice" not in text
    assert "<value>virtio</value>" in text


def test_what_cannot_be_had_has_no_lists():
    devices = attrs.evolve(BLANK.devices, disk=Disk(supported=False, bus=("ide",)))
    assert part(attrs.evolve(BLANK, devices=devices), "devices/disk") == '<disk supported="no"/>'


def test_text_is_escaped():
    loader = Loader(supported=True, paths=("/a&'b",))
    found = attrs.evolve(
        BLANK, path="/q<1>", machine='"m"', os=Os(supported=True, firmware=("efi",), loader=loader)
    )
    root = etree.fromstring(found.to_xml())
    assert root.findtext("path") == "/q<1>"
    assert root.findtext("machine") == '"m"'
    assert root.findtext("os/loader/value") == "/a&'b"
    assert "&apos;b" in found.to_xml()


def test_cpu_modes():
    model = CpuSpec(model="EPYC", vendor="AMD", features={"svm": "disable"}, fallback="forbid")
    cpu = Cpu(
        host_passthrough=("on", "off"),
        host_model=model,
        address_bits=46,
        custom=(
            CpuModel(name="486", usable=True, canonical="486-v1"),
            CpuModel(name="old", deprecated=True, vendor="Intel", usable=False, blockers=("x",)),
            CpuModel(name="what"),
        ),
    )
    text = attrs.evolve(BLANK, cpu=cpu).to_xml()
    assert "<mode name='maximum' supported='no'/>" in text
    assert "<maxphysaddr mode='passthrough' limit='46'/>" in text
    assert "<feature policy='disable' name='svm'/>" in text
    assert "<model usable='yes' vendor='unknown' canonical='486-v1'>486</model>" in text
    assert "<model usable='no' deprecated='yes' vendor='Intel'>old</model>" in text
    assert "<model usable='unknown' vendor='unknown'>what</model>" in text
    assert text.count("<blockers") == 1


def test_confidential_computing():
    features = Features(
        async_teardown=True,
        s390_pv=False,
        sev=Sev(cbitpos=47, reduced_phys_bits=1, max_guests=59, max_es_guests=450, cpu0_id="QUJD"),
        sgx=Sgx(flc=False, sgx1=True, sgx2=False, section_size=1024, sections=((0, 1024),)),
        hyperv=Hyperv(supported=True, features=("relaxed",)),
    )
    text = attrs.evolve(BLANK, features=features).to_xml()
    root = etree.fromstring(text).find("features")
    assert [child.tag for child in root] == ["async-teardown", "s390-pv", "sev", "sgx", "hyperv"]
    assert root.findtext("sev/maxESGuests") == "450"
    assert root.findtext("sev/cpu0Id") == "QUJD"
    assert "<section node='0' size='1024' unit='KiB'/>" in text
    assert root.findtext("sgx/sgx1") == "yes"


def test_json_has_the_same_facts():
    found = attrs.evolve(BLANK, max_vcpus=8, os=Os(supported=True, firmware=("efi",)))
    copy = json.loads(json.dumps(found.to_json()))
    assert copy["max_vcpus"] == 8
    assert copy["os"]["firmware"] == ["efi"]
    assert copy["devices"]["disk"] == {
        "supported": None, "disk_device": None, "bus": None, "model": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arch", "name", "vendor", "canonical"),
    [
        ("x86_64", "EPYC-IBPB", "AMD", "EPYC-v2"),
        ("i686", "EPYC-v2", "AMD", None),
        ("x86_64", "qemu64", None, "qemu64-v1"),
        ("x86_64", "nobody's", None, None),
        ("ppc64", "POWER9", "IBM", None),
        ("ppc64le", "POWERPC_e5500", "Freescale", None),
        ("s390x", "gen15a-base", "IBM", None),
        ("s390x", "qemu", None, None),
        ("aarch64", "max", None, None),
    ],
)
def test_what_is_known_of_models(arch, name, vendor, canonical):
    assert vendor_of(arch, name) == vendor
    assert canonical_of(arch, name) == canonical


def test_models_that_may_be_named():
    assert "Broadwell" in (model_names("i686") or ())
    assert "POWER10" in (model_names("ppc64") or ())
    assert model_names("riscv64") is None
    assert model_names("sparc") == ()
