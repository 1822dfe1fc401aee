"""All families of devices that are compared, in libvirt's order."""

from __future__ import annotations

from typing import Final

import attrs

from hvcore.abi.common import differs
from hvcore.abi.common import info
from hvcore.abi.common import unlike
from hvcore.abi.common import virtio
from hvcore.abi.host_side import CHANNEL
from hvcore.abi.host_side import CONSOLE
from hvcore.abi.host_side import CONTROLLER
from hvcore.abi.host_side import DISK
from hvcore.abi.host_side import FILESYSTEM
from hvcore.abi.host_side import HOSTDEV
from hvcore.abi.host_side import INTERFACE
from hvcore.abi.host_side import PARALLEL
from hvcore.abi.host_side import REDIRDEV
from hvcore.abi.host_side import REDIRFILTER
from hvcore.abi.host_side import SERIAL
from hvcore.abi.host_side import host_devices
from hvcore.abi.machine import INPUT
from hvcore.abi.machine import IOMMU
from hvcore.abi.machine import MEMBALLOON
from hvcore.abi.machine import MEMORY
from hvcore.abi.machine import SHMEM
from hvcore.abi.machine import SOUND
from hvcore.abi.machine import TPM
from hvcore.abi.machine import VIDEO
from hvcore.abi.table import ANY
from hvcore.abi.table import Family
from hvcore.abi.table import Table
from hvcore.abi.table import one_of


def _family(name: str, what: str, table: Table, *, most: int | None = None) -> Family:
    """Return a family, counted in the usual words."""
    count = f"Target domain {what} count {{target}} does not match source {{source}}"
    return Family(name, count, table, most)


def _only(name: str, what: str, table: Table) -> Family:
    """Return a family of one, counted without numbers."""
    return Family(name, f"Target domain {what} device count does not match source", table, 1)


FAMILIES: Final = (
    _family("disks", "disk", DISK),
    _family("controllers", "controller", CONTROLLER),
    _family("filesystems", "filesystem", FILESYSTEM),
    _family("interfaces", "net card", INTERFACE),
    _family("inputs", "input device", INPUT),
    _family("sounds", "sound card", SOUND),
    _family("videos", "video card", VIDEO),
    attrs.evolve(_family("hostdevs", "host device", HOSTDEV), find=host_devices),
    _family("smartcards", "smartcard", (info,)),
    _family("serials", "serial port", SERIAL),
    _family("parallels", "parallel port", PARALLEL),
    _family("channels", "channel", CHANNEL),
    _family("consoles", "console", CONSOLE),
    _family("hubs", "hub device", (differs("hub device type", ANY)("type"), info)),
    _family("redirdevs", "redirected devices", REDIRDEV),
    _family("redirfilters", "USB redirection filter", REDIRFILTER, most=1),
    _family("watchdogs", "watchdog device", (differs("watchdog model", ANY)("model"), info)),
    _family("memballoons", "memory balloon", MEMBALLOON, most=1),
    _family("rngs", "RNG device", (unlike("RNG model", "model"), virtio, info)),
    _family("panics", "panic device", (unlike("panic model", "model", one_of("default")), info)),
    _family("shmems", "shared memory device", SHMEM),
    _family("tpms", "TPM device", TPM),
    _family("memories", "memory device", MEMORY),
    _only("iommus", "IOMMU", IOMMU),
    _only(
        "vsocks",
        "vsock",
        (unlike("domain vsock device model", "model", one_of("default")), virtio, info),
    ),
    _only(
        "pstores",
        "pstore",
        (unlike("pstore device backend", "backend"), unlike("pstore size", "size"), info),
    ),
)
"""All families that are compared, in libvirt's order."""
