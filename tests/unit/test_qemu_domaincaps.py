"""What one QEMU offers: which guests may be asked about, and what their lists depend on."""

from __future__ import annotations

import json
import re

import attrs
import pytest

from hvcore.capabilities import Deferred
from hvcore.cpu.spec import CpuSpec
from hvcore.errors import ErrorClass
from hvcore.errors import HvError
from hvcore.hostinfo import HostInfo
from hvcore_qemu import firmware
from hvcore_qemu.capabilities import Accelerator
from hvcore_qemu.capabilities import CpuModel
from hvcore_qemu.capabilities import CpuProperty
from hvcore_qemu.capabilities import Gic
from hvcore_qemu.capabilities import HostCpu
from hvcore_qemu.capabilities import Machine
from hvcore_qemu.capabilities import QemuCapabilities
from hvcore_qemu.capabilities import Sev
from hvcore_qemu.config import QemuConfig
from hvcore_qemu.domaincaps import check_names
from hvcore_qemu.domaincaps import choose
from hvcore_qemu.domaincaps import describe
from hvcore_qemu.domaincaps import without_deprecated

HOST = HostInfo(arch="x86_64", kvm_max_vcpus=10, cpu_address_bits=46)
CONFIG = QemuConfig(find_firmware=tuple, swtpm_versions=(), qemu_rdp=None)

MACHINES = {
    "x86_64": (Machine("pc-i440fx-9.0", alias="pc", max_cpus=255), Machine("pc-q35-9.0", "q35")),
    "ppc64": (Machine("pseries-9.0", alias="pseries", max_cpus=4),),
    "aarch64": (Machine("virt-9.0", alias="virt", max_cpus=8),),
    "s390x": (Machine("s390-ccw-virtio-9.0", max_cpus=8),),
}


def caps(*names, arch="x86_64", cpus=None, host_cpu=None, **facts):
    accelerator = Accelerator(
        deferred_machines=Deferred.of(MACHINES[arch]),
        deferred_cpus=Deferred.of(cpus),
        deferred_host_cpu=Deferred.of(host_cpu),
    )
    return QemuCapabilities(
        arch=arch,
        names=frozenset({"kvm", "tcg", *names}),
        binary="/q",
        accelerators={"kvm": accelerator, "tcg": accelerator},
        **facts,
    )


def described(found, machine=None, *, arch=None, virt_type=None, host=None, config=CONFIG):
    arch = arch or found.arch
    guest = choose(found, arch=arch, virt_type=virt_type, machine=machine)
    host = host or attrs.evolve(HOST, arch=found.arch)
    return describe(found, guest, host=host, config=config, exists=lambda path: path != "/gone")


# -- which guests ---------------------------------------------------------------------------------


def test_defaults_are_the_best_there_is():
    guest = choose(caps(), arch="x86_64", virt_type=None, machine=None)
    assert (guest.virt_type, guest.machine) == ("kvm", "pc-i440fx-9.0")
    assert choose(caps(), arch="i686", virt_type=None, machine="q35").machine == "pc-q35-9.0"


@pytest.mark.parametrize(
    ("changes", "asked", "said"),
    [
        (
            {},
            {"arch": "s390x"},
            "architecture from emulator 'x86_64' doesn't match given architecture 's390x'",
        ),
        ({}, {"virt_type": "hvf"}, "Emulator '/q' does not support virt type 'hvf'"),
        (
            {"names": frozenset({"tcg"})},
            {"virt_type": "kvm"},
            "the accel 'kvm' is not supported by '/q' on this host",
        ),
        (
            {},
            {"machine": "virt"},
            "the machine 'virt' is not supported by emulator '/q'",
        ),
        ({"arch": "i686"}, {"arch": "x86_64"}, "Emulator '/q' does not support arch 'x86_64'"),
        (
            {"accelerators": {}},
            {},
            "Emulator '/q' does not support machine type '<null>'",
        ),
    ],
)
def test_guests_that_there_are_not(changes, asked, said):
    found = attrs.evolve(caps(), **changes)
    with pytest.raises(HvError, match=re.escape(said)):
        choose(found, **{"arch": found.arch, "virt_type": None, "machine": None, **asked})


def test_words_that_nobody_knows():
    check_names(virt_type="kvm", arch="x86_64")
    check_names(virt_type=None, arch=None)
    with pytest.raises(HvError, match="unknown virttype: fast") as raised:
        check_names(virt_type="fast", arch="pdp11")
    assert raised.value.kind is ErrorClass.INVALID_ARG
    with pytest.raises(HvError, match="unknown architecture: pdp11"):
        check_names(virt_type=None, arch="pdp11")


# -- what they can have ---------------------------------------------------------------------------


def test_cpus_are_limited_by_machine_and_kvm():
    assert described(caps()).max_vcpus == 10
    assert described(caps(), virt_type="qemu").max_vcpus == 255
    assert described(caps(arch="ppc64")).max_vcpus == 4
    assert described(caps(), host=HostInfo(arch="x86_64")).max_vcpus == 255


def test_buses_depend_on_the_machine():
    names = ("ich9-ahci", "usb-storage")
    assert described(caps(*names)).devices.disk.bus == (
        "ide", "fdc", "scsi", "virtio", "usb", "sata",
    )  # fmt: skip
    assert described(caps(*names), "q35").devices.disk.bus == (
        "fdc", "scsi", "virtio", "usb", "sata",
    )  # fmt: skip
    pseries = described(caps(arch="ppc64")).devices
    assert pseries.disk.bus == ("scsi", "virtio")
    assert pseries.disk.disk_device == ("disk", "cdrom", "lun")
    assert pseries.panic.model == ("pseries",)


def test_models_are_those_that_rules_let_through():
    assert described(caps("VGA", "ramfb", "qxl")).devices.video.model_type == (
        "vga", "qxl", "none", "ramfb",
    )  # fmt: skip
    assert described(caps("pvpanic", "pvpanic-pci")).devices.panic.model == (
        "isa", "hyperv", "pvpanic",
    )  # fmt: skip
    assert described(caps(arch="aarch64")).devices.panic.supported is False
    assert described(caps()).devices.rng.model == ()
    rng = described(caps("virtio-rng", "virtio-pci-non-transitional", "rng-egd")).devices.rng
    assert rng.model == ("virtio", "virtio-transitional", "virtio-non-transitional")
    assert rng.backend_model == ("egd",)
    assert described(caps("sev-snp-guest")).features.launch_security.sectype == ("sev-snp",)


def test_programs_beside_qemu_count():
    found = caps("display-dbus", "tpm-tis", "tpm-emulator", "tpm-passthrough")
    devices = described(found).devices
    assert devices.graphics.type == ("dbus",)
    assert devices.tpm.backend_model == ("passthrough",)
    assert devices.tpm.backend_version is None
    config = attrs.evolve(CONFIG, swtpm_versions=("2.0",), qemu_rdp="/usr/bin/qemu-rdp")
    devices = described(found, config=config).devices
    assert devices.graphics.type == ("rdp", "dbus")
    assert devices.tpm.backend_model == ("passthrough", "emulator", "external")
    assert devices.tpm.backend_version == ("2.0",)
    assert described(caps("tpm-emulator"), config=config).devices.tpm.supported is False


def test_host_devices_need_the_host():
    assert described(caps("vfio-pci")).devices.hostdev.pci_backend == ()
    host = attrs.evolve(HOST, vfio=True)
    assert described(caps("vfio-pci"), host=host).devices.hostdev.pci_backend == (
        "default", "vfio",
    )  # fmt: skip
    assert described(caps("qemu-xhci")).devices.hostdev.subsys_type == ("usb", "pci", "scsi")
    assert described(caps(), host=host).devices.hostdev.subsys_type == ("pci", "scsi")


def test_gic_is_that_of_the_accelerator():
    both = caps(arch="aarch64", gic=(Gic(2, kernel=False, emulated=True), Gic(3, True, True)))
    assert described(both, virt_type="qemu").features.gic.version == ("2", "3")
    assert described(both).features.gic.version == ("3",)
    assert described(caps()).features.gic.supported is False


def test_protection_of_s390_needs_kvm():
    names = ("s390-pv-guest", "confidential-guest-support")
    found = caps(*names, arch="s390x")
    assert described(found).features.s390_pv is False
    assert described(attrs.evolve(found, kvm_supports_secure_guest=True)).features.s390_pv
    assert described(caps()).features.s390_pv is None


def test_the_host_says_how_many_guests_sev_protects():
    found = caps("sev-guest", sev=Sev(51, 1, "pdh", "chain"))
    host = attrs.evolve(HOST, sev_guests=59, sev_es_guests=450)
    sev = described(found, host=host).features.sev
    assert sev is not None
    assert (sev.cbitpos, sev.max_guests, sev.max_es_guests) == (51, 59, 450)
    assert described(caps()).features.sev is None


def test_ps2_can_be_left_out_of_pcs():
    assert described(caps("machine-i8042-opt")).features.ps2
    assert described(caps("machine-i8042-opt", arch="aarch64")).features.ps2 is False
    assert described(caps()).features.ps2 is False


def installed(**changes):
    mapping = {
        "device": "flash",
        "executable": {"filename": "/code", "format": "raw"},
        "nvram-template": {"filename": "/vars", "format": "raw"},
    }
    document = {
        "interface-types": ["uefi"],
        "mapping": mapping,
        "targets": [{"architecture": "x86_64", "machines": ["pc-q35-*"]}],
        "features": [],
    } | changes
    found = firmware.parse(json.dumps(document), "f.json")
    assert found is not None
    return found


def test_firmware_that_is_installed():
    some = (
        installed(),
        installed(features=["requires-smm"]),
        installed(**{"interface-types": ["bios", "openfirmware"]}),
        installed(mapping={"device": "memory", "filename": "/gone"}),
        installed(mapping={"device": "kernel", "filename": "/kernel"}),
    )
    config = attrs.evolve(CONFIG, find_firmware=lambda: some, nvram=(("/old", "/v"), ("/gone", "")))
    os = described(caps(), "q35", config=config).os
    assert os.firmware == ("bios", "efi")
    assert os.loader.paths == ("/code",)
    assert os.loader.secure == ("yes", "no")
    os = described(caps(), config=config).os
    assert os.firmware == ()
    assert os.loader.paths == ("/old",)
    assert os.loader.secure == ("no",)


def test_custom_models():
    models = (
        CpuModel("qemu64", usable=True),
        CpuModel("host"),
        CpuModel("Broadwell", usable=False, blockers=("rtm", "hle", "rtm")),
        CpuModel("only-qemu-knows"),
    )
    found = described(caps(cpus=models)).cpu.custom
    assert [model.name for model in found] == ["Broadwell", "qemu64"]
    assert found[0].blockers == ("hle", "rtm")
    assert (found[0].vendor, found[0].canonical) == ("Intel", "Broadwell-v1")
    assert [m.name for m in described(caps(cpus=models, arch="aarch64")).cpu.custom] == [
        "Broadwell", "only-qemu-knows", "qemu64",
    ]  # fmt: skip


def test_cpu_modes_depend_on_the_accelerator():
    cpu = described(caps("cpu-max", "cpu.migratable")).cpu
    assert cpu.host_passthrough == ("on", "off")
    assert cpu.maximum == ("on", "off")
    assert cpu.address_bits == 46
    cpu = described(caps(), virt_type="qemu").cpu
    assert (cpu.host_passthrough, cpu.maximum, cpu.address_bits) == (None, None, 0)
    foreign = described(caps(arch="aarch64"), host=HOST).cpu
    assert (foreign.host_passthrough, foreign.host_model) == (None, None)


def test_a_host_without_a_model_has_no_host_model():
    host = HostInfo(arch="ppc64", cpu=CpuSpec(host=True))
    assert described(caps(arch="ppc64"), host=host).cpu.host_model is None
    host = HostInfo(arch="ppc64", cpu=CpuSpec(model="POWER9", host=True))
    model = described(caps(arch="ppc64"), host=host).cpu.host_model
    assert model is not None
    assert model.model == "POWER9"


def test_features_that_are_advised_against_can_be_turned_off():
    probed = HostCpu(
        "gen15a-base",
        properties=(CpuProperty("bpb", True), CpuProperty("te", True)),
        deprecated=("bpb", "csske"),
    )
    found = caps(arch="s390x", host_cpu=probed)
    before = described(found)
    assert before.cpu.host_model is not None
    assert before.cpu.host_model.features == {"bpb": "require", "te": "require"}
    after = without_deprecated(before, found)
    assert after.cpu.host_model is not None
    assert after.cpu.host_model.features == {
        "bpb": "disable", "te": "require", "csske": "disable",
    }  # fmt: skip
    assert before.cpu.host_model.features["bpb"] == "require"
    assert without_deprecated(described(caps()), caps()).cpu.host_model is None


def test_features_in_msrs_need_a_qemu_that_tells_which_are_unavailable():
    host = attrs.evolve(
        HOST, cpu=CpuSpec(model="Broadwell", features={"ssbd": "require", "mds-no": "require"})
    )
    for names, features in (
        (("cpu-unavailable-features",), {"ssbd", "mds-no"}),
        ((), {"ssbd"}),
    ):
        model = described(caps(*names), host=host).cpu.host_model
        assert model is not None
        assert set(model.features) == features
