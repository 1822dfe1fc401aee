"""All rules of the QEMU driver in one table; the order of modules is libvirt's order of rules."""

from __future__ import annotations

from importlib import import_module
from typing import Final

from hvcore.rules.base import Rules

MODULES: Final = (
    # sections
    "sections.base", "sections.machine", "sections.cpu", "sections.iothread", "sections.clock",
    "sections.power", "sections.os", "sections.vcpu", "sections.features", "sections.memory",
    "sections.numa", "sections.sysinfo", "sections.launchsecurity",
    # devices
    "devices.info", "devices.disk", "devices.interface", "devices.sound", "devices.hostdev",
    "devices.video", "devices.controller", "devices.smartcard", "devices.chardev", "devices.input",
    "devices.filesystem", "devices.watchdog", "devices.memballoon", "devices.rng",
    "devices.nvram", "devices.hub", "devices.shmem", "devices.tpm", "devices.panic",
    "devices.memory", "devices.redirdev", "devices.iommu", "devices.vsock", "devices.crypto",
    "devices.pstore", "devices.graphics", "devices.audio", "devices.lease",
)  # fmt: skip

RULES: Final = Rules.merged(import_module(f"hvcore_qemu.{name}").rules for name in MODULES)
