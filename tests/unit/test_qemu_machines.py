"""Machine types are recognised by name and architecture."""

import pytest

from hvcore_qemu.machines import machine


@pytest.mark.parametrize(
    ("arch", "name", "kind"),
    [
        ("x86_64", "pc-q35-10.0", "q35"),
        ("i686", "pc", "i440fx"),
        ("x86_64", "pc-0.12", "i440fx"),
        ("x86_64", "rhel6.5.0", "i440fx"),
        ("x86_64", "xenfv-4.2", "xenfv"),
        ("s390x", "s390-ccw-virtio-9.1", "s390_ccw"),
        ("aarch64", "virt-6.0", "arm_virt"),
        ("riscv64", "virt", "riscv_virt"),
        ("loongarch64", "virt", "loongarch_virt"),
        ("ppc64le", "pseries-rhel7.6.0", "pseries"),
        ("mipsel", "malta", "malta"),
    ],
)
def test_kind(arch, name, kind):
    kinds = ("q35", "i440fx", "xenfv", "s390_ccw", "arm_virt", "riscv_virt", "loongarch_virt")
    kinds += ("pseries", "malta")
    found = machine(arch, name)
    assert [each for each in kinds if getattr(found, each)] == [kind]


@pytest.mark.parametrize(
    ("arch", "name"), [("aarch64", "q35"), ("armv7b", "virt"), ("ppc", "pseries"), ("", "")]
)
def test_name_of_another_architecture(arch, name):
    found = machine(arch, name)
    assert (found.q35, found.arm_virt, found.pseries) == (False, False, False)


@pytest.mark.parametrize(
    ("arch", "name", "pci", "multibus"),
    [
        ("x86_64", "isapc", True, True),
        ("armv7l", "vexpress-a9", False, False),
        ("aarch64", "versatilepb", True, False),
        ("aarch64", "virt", True, True),
        ("riscv64", "sifive_e", False, False),
        ("sparc64", "sun4u", True, False),
    ],
)
def test_pci(arch, name, pci, multibus):
    found = machine(arch, name)
    assert (found.supports_pci, found.pci_multibus) == (pci, multibus)


def test_devices_on_the_board():
    assert machine("x86_64", "pc").builtin_ide
    assert machine("sparc64", "sun4u").builtin_ide
    assert not machine("x86_64", "q35").builtin_ide
    assert machine("sparc", "SS-5").builtin_esp
    assert machine("mips64", "magnum").builtin_esp
    assert machine("m68k", "q800").builtin_esp
    assert not machine("m68k", "an5206").builtin_esp
