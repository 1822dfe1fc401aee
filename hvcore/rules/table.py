"""All rules of the core in one table; the order of modules is libvirt's order of rules."""

from __future__ import annotations

from importlib import import_module
from typing import Final

from hvcore.rules.base import Rules

MODULES: Final = (
    # sections
    "domain", "resource", "usb", "vcpu", "alias", "power", "domain_memory", "os", "clock",
    "cputune", "blkiotune", "numatune", "cpu", "iothread", "sysinfo", "features", "seclabel",
    "launchsecurity",
    # devices
    "address", "disk", "interface", "sound", "hostdev", "video", "controller", "smartcard",
    "chardev", "input", "filesystem", "watchdog", "memballoon", "rng", "nvram", "hub", "shmem",
    "tpm", "panic", "memory", "redirdev", "iommu", "vsock", "crypto", "pstore", "graphics", "audio",
    "lease",
)  # fmt: skip

CORE: Final = Rules.merged(import_module(f"hvcore.rules.{name}").rules for name in MODULES)
