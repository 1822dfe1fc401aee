"""What processes, interfaces and images of this host use, asked from the kernel."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Final

from hvcore.errors import DriverError
from hvcore.errors import ErrorClass
from hvcore.errors import Unsupported
from hvcore.model.types import NodeSet
from hvcore.statistics import BlockInfo
from hvcore.statistics import CpuStats
from hvcore.statistics import InterfaceStats
from hvcore.statistics import VcpuInfo
from hvcore.statistics import VcpuState

if TYPE_CHECKING:
    from hvcore.model.devices.disk import Disk
    from hvcore.model.devices.interface import Interface

_NANOSECONDS: Final = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
"""In one tick of the kernel's clock."""

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_NETWORKS: Final = Path("/sys/class/net")

_SHARES_VIEW: Final = ("direct",)
"""Interfaces whose device is the guest's end; what it receives the guest receives."""

_QCOW2: Final = b"QFI\xfb"


def cpu_stats(pid: int) -> CpuStats:
    """Return a process's CPU time; the kernel keeps none for each of the host's CPUs."""
    user, system = _times(f"/proc/{pid}/stat")
    return CpuStats(cpu_time=user + system, user_time=user, system_time=system)


def resident(pid: int) -> int:
    """Return how much of a process is in memory, in KiB; 0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE // 1024
    except OSError:
        return 0


def work(pid: int) -> tuple[object, ...]:
    """Return what changes while a process computes, reads or writes; nothing when it is gone."""
    try:
        moved = Path(f"/proc/{pid}/io").read_text()
    except OSError:
        moved = ""
    return (*_times(f"/proc/{pid}/stat"), moved)


def vcpu_info(number: int, pid: int, tid: int) -> VcpuInfo:
    """Return what the kernel tells of the thread of a virtual CPU."""
    path = f"/proc/{pid}/task/{tid}/stat"
    try:
        affinity = NodeSet(os.sched_getaffinity(tid))
        place = int(_fields(path)[36])
    except (OSError, IndexError):
        affinity, place = None, -1
    return VcpuInfo(
        number=number,
        state=VcpuState.RUNNING,
        cpu_time=sum(_times(path)),
        cpu=place,
        affinity=affinity,
    )


def interface_stats(interface: Interface) -> InterfaceStats:
    """Return the kernel's counters of an interface's device, as the guest sees them.

    :raises HvError: it has none.
    """
    if interface.target is None:
        raise Unsupported("Interface stats not supported", kind=ErrorClass.OPERATION_UNSUPPORTED)
    ways = ("rx", "tx") if interface.type in _SHARES_VIEW else ("tx", "rx")
    folder = _NETWORKS / interface.target / "statistics"
    names = {"bytes": "bytes", "packets": "packets", "errs": "errors", "drop": "dropped"}
    try:
        values = {
            f"{way}_{name}": int((folder / f"{theirs}_{file}").read_text())
            for way, theirs in zip(("rx", "tx"), ways, strict=True)
            for name, file in names.items()
        }
    except OSError as error:
        raise DriverError(
            f"/proc/net/dev: Interface '{interface.target}' not found", kind=ErrorClass.INTERNAL
        ) from error
    return InterfaceStats(**values)


def image_info(disk: Disk) -> BlockInfo:
    """Return the sizes of an image, as it says itself and as the host has it.

    :raises HvError: it cannot be looked at.
    """
    path = getattr(disk.source, "path", None)
    if path is None:
        raise Unsupported(
            f"size of disk '{disk.target}' is not known", kind=ErrorClass.OPERATION_UNSUPPORTED
        )
    try:
        status = os.stat(path)  # noqa: PTH116 - beside the other calls of os
        with open(path, "rb") as file:  # noqa: PTH123 - as above
            head = file.read(32)
    except OSError as error:
        raise DriverError(
            f"cannot stat file '{path}': {error.strerror}", kind=ErrorClass.SYSTEM
        ) from error
    physical = capacity = size(path)
    if head[:4] == _QCOW2 and disk.format == "qcow2":
        capacity = int.from_bytes(head[24:32], "big")
    used = status.st_blocks * 512 if disk.type == "file" else physical
    return BlockInfo(capacity=capacity, allocation=used, physical=physical)


def size(path: str | None) -> int:
    """Return how large a file or device is, in bytes; 0 where nobody can tell."""
    if path is None:
        return 0
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - as above
            return file.seek(0, os.SEEK_END)
    except OSError:
        return 0


def _fields(path: str) -> list[bytes]:
    """Return the fields of a ``stat`` file from the third on."""
    text = Path(path).read_bytes()
    return text[text.rindex(b")") + 2 :].split()


def _times(path: str) -> tuple[int, int]:
    """Return the CPU time of a process or thread, its own and the kernel's, in nanoseconds."""
    try:
        fields = _fields(path)
    except OSError:
        return 0, 0
    return int(fields[11]) * _NANOSECONDS, int(fields[12]) * _NANOSECONDS
