"""What hypervisors offer: libvirt's domain capabilities of recorded QEMUs.

The rows of Xen and bhyve are of drivers that hvcore does not have. Their values are written down
here, so what those rows test is that the document can be written for any driver.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from typing import ClassVar
from typing import Final

import attrs

from hvcore.cpu.spec import CpuSpec
from hvcore.domaincaps import Disk
from hvcore.domaincaps import DomainCapabilities
from hvcore.domaincaps import Features
from hvcore.domaincaps import Gic
from hvcore.domaincaps import Graphics
from hvcore.domaincaps import Hostdev
from hvcore.domaincaps import Loader
from hvcore.domaincaps import Os
from hvcore.domaincaps import Video
from hvcore.hostinfo import HostInfo
from hvcore_qemu.capabilities import QemuCapabilities
from hvcore_qemu.domaincaps import Guest
from hvcore_qemu.domaincaps import describe
from tests.conformance.compare import expected_text
from tests.conformance.compare import same_text
from tests.conformance.fakes import config_of
from tests.conformance.suite import Progress
from tests.conformance.suite import Suite

FIRMWARE: Final = ("/obviously/fake/firmware1.fd", "/obviously/fake/firmware2.fd")
XEN_FIRMWARE: Final = ("/usr/lib/xen/boot/hvmloader", "/usr/lib/xen/boot/ovmf.bin")
BHYVE_FIRMWARE: Final = ("/foo/bar", "/foo/baz")

PROTECTED_GUEST: Final = {"confidential-guest-support", "s390-pv-guest"}
"""Flags with which the pretended KVM protects guests of s390x."""

_HOST: Final = HostInfo(
    arch="x86_64",
    kvm_max_vcpus=2**31 - 1,
    vfio=True,
    cpu_address_bits=64,
    sev_guests=59,
    sev_es_guests=450,
)
_UNKNOWN: Final = {"s390x", "s390"}
"""Architectures whose processors do not tell the size of their addresses."""

_NOTHING: Final = Features(gic=Gic(supported=False), vmcoreinfo=False, genid=False)


@functools.cache
def _capabilities(path: Path) -> QemuCapabilities:
    return QemuCapabilities.load(path)


class Cases(Suite):
    """The suite ``domaincaps``."""

    name: ClassVar[str] = "domaincaps"

    def check(self, case: dict[str, Any], progress: Progress) -> None:
        makers: Mapping[str, Callable[[Mapping[str, Any]], DomainCapabilities]] = {
            "none": _blank,
            "qemu": self._qemu,
            "libxl": _xen,
            "bhyve": _bhyve,
        }
        with progress.stage("describe"):
            found = makers[case["kind"]](case)
        with progress.stage("xml"):
            same_text(expected_text(self.folder / "data" / case["expected"]), found.to_xml())

    def _qemu(self, case: Mapping[str, Any]) -> DomainCapabilities:
        folder = self.data / "qemucapabilities" / "data"
        caps = _capabilities(folder / f"{case['caps']}.xml")
        caps = attrs.evolve(caps, binary=case["emulator"])
        if caps.names >= PROTECTED_GUEST:
            caps = attrs.evolve(caps, kvm_supports_secure_guest=True)
        # Machines are those of KVM, whatever the guest is of.
        listed = "kvm" if "kvm" in caps else "qemu"
        machine = case["machine"] or caps.default_machine(listed) or ""
        guest = Guest(
            virt_type=case["virttype"],
            arch=case["arch"],
            machine=caps.canonical_machine(listed, machine),
        )
        config = config_of(self.data / "qemuxmlconf" / "aux", {})
        config = attrs.evolve(config, swtpm_versions=tuple(case["swtpm_versions"]))
        found = describe(
            caps, guest, host=self._host(case["arch"]), config=config, exists=lambda _: False
        )
        return _with_overrides(found)

    def _host(self, arch: str) -> HostInfo:
        rows = json.loads((self.folder / "host_cpus.json").read_text("utf-8"))
        name = rows["domaincaps_by_arch"]["x86" if arch == "x86_64" else arch]
        row = rows["cpus"][name]
        cpu = CpuSpec(
            model=row.get("model"),
            vendor=row.get("vendor"),
            features=dict.fromkeys(row.get("features", ()), "require"),
            host=True,
        )
        bits = 0 if arch in _UNKNOWN else _HOST.cpu_address_bits
        return attrs.evolve(_HOST, arch=arch, cpu=cpu, cpu_address_bits=bits)


def _with_overrides(found: DomainCapabilities) -> DomainCapabilities:
    """Return it with what libvirt's test makes up because it depends on the host."""
    loader = attrs.evolve(found.os.loader, paths=FIRMWARE)
    hostdev = attrs.evolve(found.devices.hostdev, pci_backend=("default", "vfio"))
    return attrs.evolve(
        found,
        os=attrs.evolve(found.os, loader=loader),
        devices=attrs.evolve(found.devices, hostdev=hostdev),
    )


def _blank(case: Mapping[str, Any]) -> DomainCapabilities:
    return DomainCapabilities(
        path=case["emulator"], domain=case["virttype"], machine=case["machine"], arch=case["arch"]
    )


def _xen(case: Mapping[str, Any]) -> DomainCapabilities:
    full = case["machine"] == "xenfv"
    found = attrs.evolve(
        _blank(case),
        max_vcpus=128 if full else 512,
        iothreads=False,
        os=Os(supported=True, loader=Loader(supported=False)),
        features=_NOTHING,
    )
    if full:
        loader = Loader(
            supported=True, paths=XEN_FIRMWARE, type=("rom", "pflash"), readonly=("yes",)
        )
        found = attrs.evolve(found, os=Os(supported=True, loader=loader))
    devices = attrs.evolve(
        found.devices,
        disk=Disk(
            supported=True, disk_device=("disk", "cdrom"), bus=("ide", "scsi", "xen"), model=()
        ),
        graphics=Graphics(supported=True, type=("sdl", "vnc", "spice")),
        video=Video(supported=True, model_type=("vga", "cirrus", "xen")),
        hostdev=Hostdev(
            supported=True,
            mode=("subsystem",),
            startup_policy=("default", "mandatory", "requisite", "optional"),
            subsys_type=("usb", "pci"),
            caps_type=(),
            pci_backend=("xen",),
        ),
    )
    return attrs.evolve(found, devices=devices)


def _bhyve(case: Mapping[str, Any]) -> DomainCapabilities:
    has = case["bhyve_caps"]
    rom, screen = "lpc-bootrom" in has, "fbuf" in has
    loader = Loader(supported=rom, paths=BHYVE_FIRMWARE, type=("pflash",), readonly=("yes",))
    found = attrs.evolve(
        _blank(case), iothreads=False, os=Os(supported=True, loader=loader), features=_NOTHING
    )
    devices = attrs.evolve(
        found.devices,
        disk=Disk(supported=True, disk_device=("disk", "cdrom"), bus=("virtio", "sata"), model=()),
        graphics=Graphics(supported=screen, type=("vnc",)),
        video=Video(supported=screen, model_type=("gop",)),
        hostdev=Hostdev(supported=False),
    )
    return attrs.evolve(found, devices=devices)
