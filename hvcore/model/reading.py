"""In which order libvirt reads a document, which is not the order in which it writes one.

A document with several mistakes has a first one; this tells which libvirt would have met first.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from typing import Final

if TYPE_CHECKING:
    from hvcore.errors import Issue

_INDEX: Final = re.compile(r"\[\d+\]")

ORDER: Final = (
    "", "name", "uuid", "genid", "@type", "os/type", "os/type/@arch", "bootloader", "title",
    "description", "seclabel", "memory", "currentMemory", "maxMemory", "memoryBacking",
    "blkiotune", "memtune", "vcpu", "vcpus", "iothreads", "iothreadids", "defaultiothread",
    "cputune", "cpu", "numatune", "resource", "features", "on_reboot", "on_poweroff", "on_crash",
    "on_lockfailure", "pm", "perf", "clock", "os", "os/@firmware", "os/firmware", "os/nvram",
    "os/loader", "os/acpi", "os/boot", "os/bootmenu", "os/bios", "throttlegroups",
    *(
        f"devices/{name}"
        for name in (
            "emulator", "disk", "controller", "lease", "filesystem", "interface", "smartcard",
            "parallel", "serial", "console", "channel", "input", "graphics", "sound", "audio",
            "video", "hostdev", "watchdog", "memballoon", "rng", "crypto", "tpm", "nvram", "hub",
            "redirdev", "redirfilter", "panic", "shmem",
        )
    ),
    "launchSecurity", "devices/memory", "devices/iommu", "devices/vsock", "devices/pstore",
    "idmap", "sysinfo", "os/smbios", "keywrap", "metadata",
)  # fmt: skip
"""Elements and attributes of <domain> in the order of virDomainDefParseXML."""

_RANKS: Final = {f"/domain/{name}".rstrip("/"): rank for rank, name in enumerate(ORDER)}


def rank(issue: Issue) -> int:
    """Return a number by which issues sort into libvirt's order; those without a place first."""
    path = _INDEX.sub("", issue.path or "")
    while path:
        if path in _RANKS:
            return _RANKS[path]
        path = path.rpartition("/")[0]
    return -1
