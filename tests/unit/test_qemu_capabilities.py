from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

from hvcore.errors import ProbeError
from hvcore_qemu.capabilities import Gic
from hvcore_qemu.capabilities import QemuCapabilities
from hvcore_qemu.capabilities import is_native
from hvcore_qemu.flags import UNASKED
from hvcore_qemu.flags import flags

XML = """<qemuCaps>
  <emulator>/usr/bin/qemu-system-x86_64</emulator>
  <qemuctime>7</qemuctime>
  <selfctime>0</selfctime>
  <selfvers>0</selfvers>
  <flag name='kvm'/>
  <flag name='tcg'/>
  <version>8002000</version>
  <microcodeVersion>0</microcodeVersion>
  <package>a &lt;b&gt;</package>
  <cpudata arch='x86'>
    <cpuid eax_in='0x00000000' ecx_in='0x00000000'/>
  </cpudata>
  <arch>x86_64</arch>
  <hostCPU type='kvm' model='base' migratability='yes'>
    <property name='vendor' type='string' value='It&apos;s'/>
    <property name='family' type='number' value='-6'/>
    <property name='lahf-lm' type='boolean' value='true' migratable='yes'/>
    <property name='invtsc' type='boolean' value='true' migratable='no'/>
    <deprecatedFeatures>
      <property name='te'/>
    </deprecatedFeatures>
  </hostCPU>
  <cpu type='kvm' name='qemu64' typename='qemu64-x86_64-cpu' usable='no' deprecated='yes'>
    <blocker name='pclmulqdq'/>
  </cpu>
  <cpu type='kvm' name='max' typename='max-x86_64-cpu' usable='yes'/>
  <machine type='kvm' name='pc-i440fx-8.2' alias='pc' hotplugCpus='yes' maxCpus='255' \
default='yes' defaultCPU='qemu64-x86_64-cpu' defaultRAMid='pc.ram' acpi='yes'/>
  <machine type='kvm' name='isapc' maxCpus='1' numaMemSupported='yes' deprecated='yes' acpi='no'/>
  <machine type='kvm' name='pc-q35-8.2' alias='q35' maxCpus='1024'/>
  <machine type='tcg' name='pc-i440fx-8.2' alias='pc' maxCpus='200'/>
  <gic version='3' kernel='yes' emulated='no'/>
  <hypervCapabilities supported='yes'>
    <cap name='relaxed'/>
  </hypervCapabilities>
  <kvmSupportsNesting/>
</qemuCaps>
"""


def load(text=XML):
    return QemuCapabilities.load(text.encode())


def recorded():
    folder = os.environ.get("HVCORE_CONFORMANCE_DATA")
    roots = [Path(folder)] if folder else []
    for parent in Path(__file__).resolve().parents:
        roots += [parent / "shared" / "libvirt-11.3.0"]
    for root in roots:
        found = sorted((root / "qemucapabilities" / "data").glob("*.xml"))
        if found:
            return found
    return []


def test_reading_and_writing_gives_the_same_text():
    assert load().to_xml() == XML


@pytest.mark.skipif(not recorded(), reason="libvirt's recorded capabilities are not there")
def test_every_recorded_file_is_written_as_it_was_read():
    for path in recorded():
        caps = QemuCapabilities.load(path)
        assert caps.to_xml() == path.read_text(), path.name
        assert QemuCapabilities.from_sections(caps.to_sections()) == caps, path.name


def test_facts():
    caps = load()
    assert (caps.arch, caps.version, caps.binary) == (
        "x86_64",
        8_002_000,
        "/usr/bin/qemu-system-x86_64",
    )
    assert caps.package == "a <b>"
    assert caps.kvm_supports_nesting
    assert not caps.kvm_supports_secure_guest
    assert caps.hyperv == ("relaxed",)
    assert caps.binary_ctime == 7


def test_machines_answer_for_their_accelerator():
    caps = load()
    assert caps.default_machine("kvm") == "pc-i440fx-8.2"
    assert caps.canonical_machine("kvm", "q35") == "pc-q35-8.2"
    assert caps.canonical_machine("qemu", "q35") == "q35"
    assert caps.canonical_machine("kvm", "pc-q35-8.2") == "pc-q35-8.2"
    assert caps.is_machine_supported("kvm", "isapc")
    assert not caps.is_machine_supported("kvm", "pc")
    assert not caps.is_machine_supported("qemu", "isapc")
    assert caps.machine_max_cpus("kvm", "pc-i440fx-8.2") == 255
    assert caps.machine_max_cpus("qemu", "pc-i440fx-8.2") == 200
    assert caps.machine_max_cpus("xen", "pc-i440fx-8.2") == 200
    assert caps.machine_max_cpus("hvf", "pc-i440fx-8.2") == 0
    assert caps.default_machine("hvf") is None


def test_machine_properties():
    caps = load()
    assert caps.machine_hotplug_cpus("kvm", "pc-i440fx-8.2")
    assert not caps.machine_hotplug_cpus("kvm", "isapc")
    assert caps.machine_numa_mem_supported("kvm", "isapc")
    assert not caps.machine_numa_mem_supported("kvm", "absent")
    assert caps.is_machine_deprecated("kvm", "isapc")
    assert caps.machine_default_ram_id("kvm", "pc-i440fx-8.2") == "pc.ram"
    assert caps.machine_default_ram_id("kvm", "isapc") is None
    assert caps.machine_default_cpu("kvm", "pc-i440fx-8.2") == "qemu64"
    assert caps.machine_default_cpu("kvm", "isapc") is None
    assert caps.machine_default_cpu("qemu", "pc-i440fx-8.2") is None
    acpi = [caps.machine_acpi("kvm", name) for name in ("pc-i440fx-8.2", "isapc", "pc-q35-8.2")]
    assert acpi == [True, False, None]


def test_stripping_aliases_keeps_places_and_the_default():
    caps = load()
    stripped = caps.strip_machine_aliases()
    machines = stripped.accelerator("kvm").machines
    assert [m.name for m in machines] == ["pc", "isapc", "q35", "pc-i440fx-8.2", "pc-q35-8.2"]
    assert [m.qemu_default for m in machines] == [True, False, False, False, False]
    assert all(m.alias is None for m in machines)
    assert stripped.canonical_machine("kvm", "pc") == "pc"
    assert stripped.machine_max_cpus("kvm", "pc") == 255
    assert stripped.machine_default_cpu("kvm", "pc") == "qemu64"
    assert [m.name for m in stripped.accelerator("qemu").machines] == ["pc", "pc-i440fx-8.2"]
    assert caps.canonical_machine("kvm", "pc") == "pc-i440fx-8.2"
    assert stripped.strip_machine_aliases() == stripped


def test_virtualization_types_need_their_flag():
    caps = load()
    assert [t for t in ("kvm", "qemu", "hvf", "xen", "tcg") if caps.supports_virt_type(t)] == [
        "kvm",
        "qemu",
    ]
    assert caps.virt_type == "kvm"
    assert caps.replace(remove=["kvm"]).virt_type == "qemu"
    assert caps.replace(remove=["kvm"], add=["hvf"]).virt_type == "hvf"
    assert caps.replace(remove=["kvm", "tcg"]).virt_type is None


def test_architectures():
    assert load().supports_arch("x86_64")
    assert load().supports_arch("i686")
    assert not load().supports_arch("aarch64")
    assert is_native("x86_64", "i686")
    assert not is_native("i686", "x86_64")
    assert is_native("ppc64le", "ppc64")


def test_cpu_models_and_blockers_in_libvirts_spelling():
    caps = load()
    model = caps.cpu_model("kvm", "qemu64")
    assert model is not None
    assert (model.usable, model.deprecated, model.blockers) == (False, True, ("pclmuldq",))
    assert caps.cpu_model("qemu", "qemu64") is None
    assert caps.accelerator("qemu").cpus is None


def test_cpu_features():
    caps = load()
    assert caps.cpu_features("kvm", migratable=False) == (
        "vendor",
        "family",
        "lahf_lm",
        "invtsc",
    )
    assert caps.cpu_features("kvm", migratable=True) == ("vendor", "family", "lahf_lm")
    assert caps.cpu_features("qemu", migratable=True) is None
    host = caps.accelerator("kvm").host_cpu
    assert host is not None
    assert [p.value for p in host.properties] == ["It's", -6, True, True]
    assert host.deprecated == ("te",)


def test_cpu_modes():
    caps = load()
    assert caps.supports_cpu_mode("x86_64", "kvm", "host-passthrough")
    assert not caps.supports_cpu_mode("x86_64", "qemu", "host-passthrough")
    assert not caps.supports_cpu_mode("aarch64", "kvm", "host-passthrough")
    assert caps.supports_cpu_mode("x86_64", "kvm", "host-model")
    assert not caps.supports_cpu_mode("x86_64", "qemu", "host-model")
    assert caps.supports_cpu_mode("x86_64", "kvm", "custom")
    assert not caps.supports_cpu_mode("x86_64", "qemu", "custom")
    assert not caps.supports_cpu_mode("x86_64", "kvm", "maximum")
    assert caps.replace(add=["cpu-max"]).supports_cpu_mode("x86_64", "kvm", "maximum")


def test_old_s390_machines_only_pass_the_host_cpu_through():
    caps = load(XML.replace("<arch>x86_64", "<arch>s390x"))
    assert not caps.supports_cpu_mode("s390x", "kvm", "custom", "s390-ccw-virtio-2.7")
    assert caps.supports_cpu_mode("s390x", "kvm", "custom", "s390-ccw-virtio-2.8")
    assert caps.supports_cpu_mode("s390x", "kvm", "host-passthrough", "s390-ccw-virtio-2.7")


def test_gic():
    caps = load()
    assert caps.supports_gic("kvm", 3)
    assert not caps.supports_gic("qemu", 3)
    both = caps.with_gic([2, 3])
    assert both.gic == (Gic(2, kernel=True, emulated=True), Gic(3, kernel=True, emulated=True))
    assert both.supports_gic("qemu", 2)
    assert not both.with_gic([]).supports_gic("kvm", 3)


def test_sev_is_kept():
    text = XML.replace(
        "  <flag name='tcg'/>\n",
        "  <flag name='sev-guest'/>\n  <flag name='tcg'/>\n",
    ).replace(
        "  <hyperv",
        "  <sev>\n    <cbitpos>51</cbitpos>\n    <reducedPhysBits>1</reducedPhysBits>\n"
        "    <pdh>AA==</pdh>\n    <certChain>BB==</certChain>\n  </sev>\n  <hyperv",
    )
    caps = load(text)
    assert caps.to_xml() == text
    assert QemuCapabilities.from_sections(caps.to_sections()) == caps


def test_names_of_plugins_follow_libvirts():
    assert load().replace(add=["aaa-plugin"]).to_xml() == XML.replace(
        "  <version>", "  <flag name='aaa-plugin'/>\n  <version>"
    )


def test_value_pickles():
    caps = load()
    assert pickle.loads(pickle.dumps(caps)) == caps


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("<emulator>/usr/bin/qemu-system-x86_64</emulator>", "", "missing emulator"),
        ("<arch>x86_64</arch>", "", "missing arch"),
        ("<version>8002000", "<version>eight", "missing version"),
        ("<selfctime>0</selfctime>", "", "missing selfctime"),
        ("<flag name='kvm'/>", "<flag name='kwm'/>", "Unknown qemu capabilities flag kwm"),
        ("<flag name='kvm'/>", "<flag/>", "missing flag name"),
        ("<flag name='kvm'/>", "<flag name='sev-guest'/>", "missing SEV platform data"),
        ("<flag name='kvm'/>", "<flag name='sgx-epc'/>", "missing SGX platform data"),
        ("qemuCaps>", "capsQemu>", "unexpected root element"),
        ("</qemuCaps>", "", "QEMU capabilities XML"),
        ("kernel='yes'", "", "malformed QEMU capabilities XML"),
    ],
)
def test_documents_that_are_not_capabilities_are_refused(old, new, message):
    with pytest.raises(ProbeError, match=message):
        load(XML.replace(old, new))


def test_a_malformed_machine_is_reported_when_it_is_looked_at():
    caps = load(XML.replace("maxCpus='255'", "maxCpus='many'"))
    with pytest.raises(ProbeError, match="malformed QEMU capabilities XML"):
        caps.default_machine("kvm")


def test_flag_table_is_complete():
    table = flags()
    assert len(table) == 476
    assert next(iter(table)) == "vnc-colon"
    assert list(table)[-1] == "virtio-scsi.iothread-mapping"
    kinds = {way.kind for ways in table.values() for way in ways}
    assert kinds - UNASKED == {
        "type", "device", "object", "machine", "schema", "option", "migration", "tpm-model",
        "tpm-type",
    }  # fmt: skip
    assert all(way.subjects for ways in table.values() for way in ways if way.kind not in UNASKED)
