from __future__ import annotations

import pytest

from hvcore.capabilities import Deferred
from hvcore.hostinfo import GuestFeature
from hvcore_qemu.capabilities import Accelerator
from hvcore_qemu.capabilities import Machine
from hvcore_qemu.capabilities import QemuCapabilities
from hvcore_qemu.guests import default_emulator
from hvcore_qemu.guests import guest_arch
from hvcore_qemu.guests import guest_archs


def caps(*names):
    machines = (
        Machine("pc-9", alias="pc", max_cpus=8),
        Machine("isapc", deprecated=True),
        Machine("pc-q35-9", alias="q35", max_cpus=16, deprecated=True),
    )
    accelerators = {
        "kvm": Accelerator(deferred_machines=Deferred.of(machines)),
        "tcg": Accelerator(deferred_machines=Deferred.of(machines[:1])),
    }
    return QemuCapabilities(
        arch="x86_64", names=frozenset(names), binary="/q", accelerators=accelerators
    )


@pytest.mark.parametrize(
    ("host", "guest", "there", "chosen"),
    [
        ("x86_64", "x86_64", {"qemu-system-x86_64"}, "qemu-system-x86_64"),
        ("x86_64", "i686", {"qemu-system-i386", "qemu-system-x86_64"}, "qemu-system-i386"),
        ("x86_64", "i686", {"qemu-system-x86_64"}, "qemu-system-x86_64"),
        ("x86_64", "aarch64", {"qemu-system-x86_64"}, None),
        ("aarch64", "armv7l", {"qemu-system-arm", "qemu-system-aarch64"}, "qemu-system-aarch64"),
        ("x86_64", "armv7l", {"qemu-system-arm", "qemu-system-aarch64"}, "qemu-system-arm"),
        ("x86_64", "ppc64le", {"qemu-system-ppc64"}, "qemu-system-ppc64"),
        ("ppc64le", "ppc64", {"qemu-system-ppc64"}, "qemu-system-ppc64"),
        ("x86_64", "x86_64", {"/usr/libexec/qemu-kvm"}, "/usr/libexec/qemu-kvm"),
        ("x86_64", "s390x", {"/usr/libexec/qemu-kvm"}, None),
    ],
)
def test_choice_of_a_binary(host, guest, there, chosen):
    assert default_emulator(host, guest, lambda name: name if name in there else None) == chosen


def test_machines_are_those_of_the_best_accelerator_with_their_aliases():
    guest = guest_arch(caps("kvm", "tcg"), "x86_64")
    assert [(m.name, m.canonical, m.max_cpus, m.deprecated) for m in guest.machines] == [
        ("pc-9", None, 8, False),
        ("pc", "pc-9", 8, False),
        ("isapc", None, 0, True),
        ("pc-q35-9", None, 16, True),
        ("q35", "pc-q35-9", 16, True),
    ]
    assert guest.virt_types == ("qemu", "kvm")
    assert (guest.emulator, guest.word_size) == ("/q", 64)
    slow = guest_arch(caps("tcg"), "x86_64")
    assert [machine.name for machine in slow.machines] == ["pc-9", "pc"]
    assert slow.virt_types == ("qemu",)


def test_features_depend_on_the_architecture():
    names = [feature.name for feature in guest_arch(caps(), "i686").features]
    assert names == [
        "pae",
        "nonpae",
        "acpi",
        "apic",
        "cpuselection",
        "deviceboot",
        "disksnapshot",
        "externalSnapshot",
    ]
    assert GuestFeature("acpi", default=True, toggle=True) in guest_arch(caps(), "aarch64").features
    assert names[4:] == [feature.name for feature in guest_arch(caps(), "s390x").features]


def test_only_binaries_that_answer_are_listed():
    there = {"qemu-system-x86_64": "/x", "qemu-system-arm": "/arm"}
    found = guest_archs("x86_64", there.get, lambda path: caps("tcg") if path == "/x" else None)
    assert [guest.arch for guest in found] == ["i686", "x86_64"]
