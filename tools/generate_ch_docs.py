"""Writes docs/ch-tables.inc: what libvirt's driver for cloud-hypervisor has, and what ours has.

``python tools/generate_ch_docs.py`` rewrites the file; a test checks that doing so changes
nothing. What ours has is asked of the registry and of the driver's tables; what libvirt's has was
read in its source (src/ch of 11.3).
"""

from __future__ import annotations

import sys
from pathlib import Path

from hvcore.model.devices import Devices
from hvcore.operations import Op
from hvcore.registry import Registry
from hvcore.xml.fields import FieldSpec
from hvcore.xml.fields import fields_of
from hvcore_ch.accepts import table
from hvcore_ch.endpoints import UNUSED
from hvcore_ch.endpoints import USED
from hvcore_ch.plugging import FAMILIES

TARGET = Path(__file__).parents[1] / "docs" / "ch-tables.inc"

THEIRS = frozenset(
    {
        Op.START, Op.DESTROY, Op.SHUTDOWN, Op.REBOOT, Op.SUSPEND, Op.RESUME, Op.INFO, Op.CONSOLE,
        Op.VERSION, Op.CAPABILITIES, Op.PIN_VCPU, Op.PIN_EMULATOR, Op.SET_NUMATUNE, Op.SAVE,
        Op.RESTORE,
    }
)  # fmt: skip
"""Operations in chHypervisorDriver of ch_driver.c."""

THEIR_DEVICES = {
    "disk": "images in files",
    "interface": "ethernet, bridge, network",
    "hostdev": "PCI",
    "serial": "pty, unix",
    "console": "pty",
    "controller": "accepted",
    "memory": "accepted, then ignored",
    "vsock": "accepted, then ignored",
}
"""Families that chValidateDomainDeviceDef of ch_domain.c lets pass; none can be plugged."""

THEIR_ENDPOINTS = frozenset(
    {
        "vm.create", "vm.delete", "vm.boot", "vm.shutdown", "vm.reboot", "vm.pause", "vm.resume",
        "vm.info", "vm.snapshot", "vm.restore", "vmm.shutdown", "vm.add-net",
    }
)  # fmt: skip
"""Endpoints that ch_monitor.c asks."""

OUR_DEVICES = {
    "disk": "files, block devices, vhost-user, vDPA; formats, limits, queues",
    "interface": "ethernet, bridge, macvtap, vhost-user, vDPA, PCI",
    "hostdev": "PCI, mediated devices",
    "serial": "pty, file, unix, stdio, null; firmware's messages",
    "console": "pty, file, stdio, null",
    "filesystem": "virtiofs with a socket",
    "memory": "virtio-pmem, dimm",
    "vsock": "yes",
    "rng": "random, builtin",
    "memballoon": "yes",
    "tpm": "external",
    "iommu": "virtio",
    "panic": "pvpanic",
    "controller": "the root of PCI",
}
"""What the tables of our families take, in words."""


def rows(title: tuple[str, ...], lines: list[tuple[str, ...]]) -> list[str]:
    """Return a table in reStructuredText."""
    out = [".. list-table::", "   :header-rows: 1", ""]
    for line in (title, *lines):
        for number, cell in enumerate(line):
            out.append(f"   {'*' if number == 0 else ' '} - {cell}".rstrip())
    return [*out, ""]


def devices() -> list[tuple[str, ...]]:
    """Return a line for each family of devices that either has."""

    def classes(spec: FieldSpec) -> list[type]:
        return list(spec.classes().values()) if spec.kind == "choice" else [spec.element_class()]

    found = []
    for name, spec in fields_of(Devices):
        if spec.kind not in ("children", "choice"):
            continue
        tag = spec.steps[-1]
        ours = any(cls in table() for cls in classes(spec))
        assert ours == (tag in OUR_DEVICES), tag
        plugged = "yes" if name in FAMILIES else "no"
        if ours or tag in THEIR_DEVICES:
            theirs = THEIR_DEVICES.get(tag, "refused")
            found.append((f"``<{tag}>``", theirs, OUR_DEVICES.get(tag, "refused"), plugged))
    return found


def generate() -> str:
    """Return the file."""
    operations = Registry.default().driver("ch").operations()
    verbs = [
        (op.api, "yes" if op in THEIRS else "no", "yes" if op in operations else "no")
        for op in Op
        if op in THEIRS or op in operations
    ]
    endpoints = [
        (f"``{name}``", "yes" if name in THEIR_ENDPOINTS else "no", USED.get(name, "no"))
        for name in sorted({**USED, **UNUSED})
    ]
    unused = [(f"``{name}``", UNUSED[name]) for name in sorted(UNUSED)]
    lines = [
        ".. Written by tools/generate_ch_docs.py.",
        "",
        *rows(("Operation", "libvirt 11.3", "hvcore"), verbs),
        *rows(("Device", "libvirt 11.3", "hvcore", "plugged while it runs"), devices()),
        f"Of {len(endpoints)} endpoints libvirt's uses {len(THEIR_ENDPOINTS)}, ours {len(USED)}:",
        "",
        *rows(("Endpoint", "libvirt 11.3", "hvcore"), endpoints),
        "Why the others are not used:",
        "",
        *rows(("Endpoint", "reason"), unused),
    ]
    return "\n".join(lines)


def main() -> int:
    """Rewrite the file."""
    TARGET.write_text(generate())
    sys.stdout.write(f"wrote {TARGET.relative_to(TARGET.parents[1])}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
